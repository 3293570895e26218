"""Check the database msacat would use: reachable, new enough, Q3C, rights, schema; and how to mend each fault."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from msacat.catalog.errors import MsacatError
from msacat.catalog.server.check_machine import Check, check_disk, check_machine, check_programs
from msacat.catalog.server.connect import connect, describe_server, is_private, private_server, resolve_dsn
from msacat.catalog.server.postgres_binaries import apt_install
from msacat.catalog.server.require_store import check_revision, hidden_q3c, store_revision

SCHEMAS = ("msacat", "survey", "matched", "learned", "enriched")


def check_all(dsn: str | None = None) -> list[Check]:
    """Every finding about this machine and the server that `dsn` (or the environment) means."""
    return [*check_machine(), *_check_server(dsn)]


def exit_code(checks: list[Check]) -> int:
    """0: nothing wrong (warnings allowed); 3: the database cannot be used; 1: another fault."""
    faults = [check for check in checks if check.state == "fault"]
    if any(check.concerns_server for check in faults):
        return 3
    return 1 if faults else 0


def _check_server(dsn: str | None) -> Iterator[Check]:
    try:
        resolved = resolve_dsn(dsn)
    except MsacatError as error:
        yield from check_programs()
        yield from check_private_server()
        yield _fault("server", error)
        return
    if is_private(resolved):
        yield from check_programs()
        yield from check_private_server()
        yield check_disk("disk of the server", private_server().folder)
    try:
        conn = connect(resolved, autocommit=True, application="msacat doctor")
    except MsacatError as error:
        yield _fault("server", error)
        return
    with conn:
        yield Check("server", "ok", describe_server(conn))
        yield Check("server version", "ok", f"PostgreSQL {conn.info.parameter_status('server_version')}")
        yield check_encoding(conn)
        yield check_q3c(conn)
        yield from check_rights(conn)
        yield check_schema(conn)


def check_private_server() -> Iterator[Check]:
    """What would keep the private server from starting: its path, its folders, its data, a pid file left behind."""
    try:
        private_server().require_startable()
    except MsacatError as error:
        yield _fault("private server", error)


def check_encoding(conn: psycopg.Connection) -> Check:
    """Names and comments hold more than ASCII, and COPY sends UTF-8."""
    encoding = conn.info.parameter_status("server_encoding")
    if encoding == "UTF8":
        return Check("encoding", "ok", "UTF8")
    mend = "createdb --encoding=UTF8 --template=template0 NAME, and name that database"
    return Check("encoding", "fault", f"{encoding}, expected UTF8", mend, True)


def check_q3c(conn: psycopg.Connection) -> Check:
    """Q3C answers in this database, or what installs it (package, superuser, extension)."""
    name, database, major = "q3c", conn.info.dbname, conn.info.server_version // 10000
    if _one(conn, "SELECT to_regproc('q3c_version') IS NOT NULL"):
        return Check(name, "ok", f"Q3C {_one(conn, 'SELECT q3c_version()')}")
    if hidden := hidden_q3c(conn):
        schema, mend = hidden
        return Check(name, "fault", f"in schema {schema!r}, which is not on the search path", mend, True)
    create = f"psql -d {database} -c 'CREATE EXTENSION q3c'"
    if not _one(conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'q3c'"):
        mend = f"on the server: {apt_install(f'postgresql-{major}-q3c')}; then as a superuser: {create}"
        return Check(name, "fault", f"not installed for the server's PostgreSQL {major}", mend, True)
    is_superuser = _one(conn, "SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
    mend = "msacat db upgrade" if is_superuser else f"as a superuser: {create}"
    return Check(name, "fault", f"not in the database {database!r}", mend, True)


def check_rights(conn: psycopg.Connection) -> Iterator[Check]:
    """What ingest, crossmatch and enrich need: make schemas, temporary tables, tables in msacat's schemas."""
    quote = (
        conn.cursor().execute("SELECT quote_ident(current_user), quote_ident(current_database())").fetchone()
    )
    assert quote is not None
    role, database = quote
    for privilege, name in (("CREATE", "right to make schemas"), ("TEMPORARY", "right to temporary tables")):
        if _one(conn, "SELECT has_database_privilege(current_database(), %s)", privilege):
            yield Check(name, "ok", f"role {role}")
        else:
            mend = f"as the owner: psql -d {database} -c 'GRANT {privilege} ON DATABASE {database} TO {role}'"
            yield Check(name, "fault", f"role {role} lacks {privilege} on database {database}", mend, True)
    closed = [
        schema
        for schema in SCHEMAS
        if _one(
            conn,
            "SELECT NOT has_schema_privilege(oid, 'USAGE, CREATE') OR NOT has_schema_privilege(oid, 'CREATE') "
            "FROM pg_namespace WHERE nspname = %s",
            schema,
        )
    ]
    name = "right to make tables"
    if closed:
        mend = f"as their owner: psql -d {database} -c 'GRANT USAGE, CREATE ON SCHEMA {', '.join(closed)} TO {role}'"
        yield Check(name, "fault", f"role {role} lacks CREATE in {', '.join(closed)}", mend, True)
    else:
        yield Check(name, "ok", f"role {role}")
    yield from check_ownership(conn, role, database)
    yield from check_one_owner(conn, database)


def check_ownership(conn: psycopg.Connection, role: str, database: str) -> Iterator[Check]:
    """Ingest, crossmatch, train and enrich write the ledgers and alter the store's tables: their owner's right."""
    if _one(conn, "SELECT current_setting('transaction_read_only')") == "on":
        found = f"role {role} can query only: its transactions are read only (default_transaction_read_only)"
        mend = "to ingest, crossmatch, train or enrich, connect as a role that may write"
        yield Check("right to write the store", "fault", found, mend, True)
        return
    owners = [
        (str(owner), bool(is_superuser))
        for owner, is_superuser in conn.execute(
            "SELECT DISTINCT quote_ident(r.rolname), r.rolsuper FROM pg_class AS c "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_roles AS r ON r.oid = c.relowner "
            "WHERE n.nspname IN ('msacat', 'learned') AND c.relkind IN ('r', 'p') "
            "AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1"
        )
    ]
    if not owners:
        yield Check("right to write the store", "ok", f"role {role}")
        return
    names = ", ".join(owner for owner, _ in owners)
    found = f"role {role} can query only: the store's tables belong to {names}"
    mend = f"to ingest, crossmatch, train or enrich, connect as {names}"
    if not any(is_superuser for _, is_superuser in owners):  # a superuser's rights are not to be given away
        mend += f"; or as a superuser: psql -d {database} -c 'GRANT {names} TO {role}'"
    yield Check("right to write the store", "fault", found, mend, True)


def check_one_owner(conn: psycopg.Connection, database: str) -> Iterator[Check]:
    """What another role made in the store is closed to its owner, and so are the views over it."""
    strays = conn.execute(
        "WITH things AS ("
        " SELECT 'TABLE' AS kind, relnamespace AS schema, relname AS name, relowner AS owner FROM pg_class"
        "  WHERE relkind IN ('r', 'p', 'v', 'm')"
        " UNION ALL SELECT 'STATISTICS', stxnamespace, stxname, stxowner FROM pg_statistic_ext) "
        "SELECT format('ALTER %%s %%I.%%I OWNER TO %%I', t.kind, n.nspname, t.name, o.rolname), "
        " quote_ident(o.rolname), quote_ident(r.rolname) "
        "FROM things AS t JOIN pg_namespace AS n ON n.oid = t.schema JOIN pg_roles AS r ON r.oid = t.owner "
        "JOIN pg_namespace AS m ON m.nspname = 'msacat' JOIN pg_roles AS o ON o.oid = m.nspowner "
        "WHERE n.nspname = ANY(%s) AND t.owner <> m.nspowner ORDER BY n.nspname, t.name, t.kind",
        [list(SCHEMAS)],
    ).fetchall()
    if not strays:
        return
    owner, others = strays[0][1], sorted({other for _, _, other in strays})
    found = f"{len(strays)} tables and views belong to {', '.join(others)}, not to the store's owner {owner}"
    # REASSIGN OWNED would take along what those roles own elsewhere, and refuses the server's first superuser.
    commands = "; ".join(command for command, _, _ in strays)
    yield Check(
        "owner of the store", "fault", found, f"as a superuser: psql -d {database} -c '{commands}'", True
    )


def check_schema(conn: psycopg.Connection) -> Check:
    """The store's revision is the code's."""
    found = store_revision(conn)
    try:
        check_revision(found)
    except MsacatError as error:
        return _fault("schema", error)
    return Check("schema", "ok", f"revision {found}")


def _fault(name: str, error: MsacatError) -> Check:
    detail = f" ({error.found})" if error.found else ""
    return Check(name, "fault", error.message + detail, error.next_step or error.expected, True)


def _one(conn: psycopg.Connection, query: str, *values: object) -> object:
    row = conn.execute(query, values or None).fetchone()  # type: ignore[arg-type]
    return row[0] if row else None
