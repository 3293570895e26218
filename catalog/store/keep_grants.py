"""Who may do what with a table or view, so that one made anew under its name can be given to the same roles."""

from __future__ import annotations

from psycopg import Connection, sql

from msacat.catalog.store.star_view import view_columns

#: role, None for PUBLIC; privilege; may be passed on; column, None for the whole relation
Grant = tuple[str | None, str, bool, str | None]


def grants_on(conn: Connection, schema: str, name: str) -> list[Grant]:
    """What others than the owner may; nothing where there is no such relation."""
    return conn.execute(
        "SELECT (SELECT rolname FROM pg_roles WHERE oid = grantee), privilege_type, is_grantable, attname FROM ("
        " SELECT relowner, NULL::text AS attname, (aclexplode(relacl)).* FROM pg_class WHERE oid = to_regclass(%(name)s)"
        " UNION ALL SELECT relowner, attname, (aclexplode(attacl)).* FROM pg_class c "
        " JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.oid = to_regclass(%(name)s) AND NOT attisdropped"
        ") g WHERE grantee <> relowner",
        {"name": sql.Identifier(schema, name).as_string(conn)},
    ).fetchall()


def grant_again(conn: Connection, schema: str, name: str, grants: list[Grant]) -> None:
    """What `grants_on` found, on the relation made anew; of columns that it still has."""
    columns = view_columns(conn, schema, name)
    for grantee, privilege, passed_on, column in grants if columns else ():
        if column is not None and column not in columns:
            continue
        role: sql.Composable = sql.SQL("PUBLIC") if grantee is None else sql.Identifier(grantee)
        conn.execute(
            sql.SQL("GRANT {}{} ON {} TO {}{}").format(
                sql.SQL(privilege), sql.SQL("({})").format(sql.Identifier(column)) if column else sql.SQL(""),
                sql.Identifier(schema, name), role, sql.SQL(" WITH GRANT OPTION" if passed_on else ""),
            )
        )  # fmt: skip
