"""Numbers in single precision, as models read them and runs hold them.

PostgreSQL itself refuses a double that is too small or too large for a real, and with it the query over all stars.
"""

from __future__ import annotations

from collections.abc import Callable

from psycopg import Connection, sql


def as_real(value: sql.Composable) -> sql.Composed:
    """A double as a real: 0 where it is too small, NULL where it is too large or no number."""
    return sql.SQL("(CASE WHEN abs({v}) < 1e-37 THEN 0 WHEN abs({v}) <= 1e38 THEN {v} END)::real").format(
        v=value
    )


def reals_of_stars(conn: Connection) -> Callable[[str], sql.Composable]:
    """`real(name)`: that column of matched.stars, alias s, as a real."""
    doubles = {
        name
        for (name,) in conn.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('matched.stars') AND attnum > 0 "
            "AND atttypid = 'double precision'::regtype"
        )
    }

    def real(name: str) -> sql.Composable:
        column = sql.Identifier("s", name)
        return as_real(column) if name in doubles else sql.SQL("{}::real").format(column)

    return real
