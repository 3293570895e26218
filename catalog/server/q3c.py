"""Q3C in SQL, with its traps hidden (Koposov & Bartunov 2006, ASP Conf. 351, 735; the extension's README).

The traps: arguments whose order decides whether the index is used; a NaN that aborts the whole query or silently
finds nothing; declinations beyond the poles answered as if they existed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import psycopg
from psycopg import Connection, sql

from msacat.catalog.errors import UsageError

Column = str | sql.Composable


def cone(
    ra_column: Column, dec_column: Column, ra_deg: float, dec_deg: float, radius_deg: float
) -> sql.Composed:
    """Condition: the row's position (the two columns) lies within `radius_deg` of (ra_deg, dec_deg).

    An index on q3c_ang2ipix(ra_column, dec_column) answers it. Raises UsageError for a centre or radius that is not
    on the sky.
    """
    # The planner turns the numbers into index ranges, and knows from them how many rows to expect.
    return _radial_query(ra_column, dec_column, map(_constant, cone_parameters(ra_deg, dec_deg, radius_deg)))


def cone_asked_for(ra_column: Column, dec_column: Column) -> sql.Composed:
    """As `cone`, with parameters (those of `cone_parameters`) in place of numbers: for a prepared statement.

    Its plan is made once and its ranges are found as it runs, which saves the ten times longer planning of a cone with
    numbers; but the plan knows nothing of the radius. Keep it from scanning the table (enable_seqscan).
    """
    return _radial_query(ra_column, dec_column, [sql.SQL("%s::double precision")] * 3)


def cone_parameters(ra_deg: float, dec_deg: float, radius_deg: float) -> tuple[float, float, float]:
    """For `cone_asked_for`; UsageError for a centre or radius that is not on the sky."""
    return *_on_the_sky(ra_deg, dec_deg), _radius(radius_deg)


def q3c_index_sql(schema: str, table: str, ra: str, dec: str, name: str | None = None) -> sql.Composed:
    """The CREATE INDEX that cone searches and joins need; PostgreSQL chooses the name where none is given."""
    return sql.SQL("CREATE INDEX {}ON {} (q3c_ang2ipix({}, {}))").format(
        sql.SQL("{} ").format(sql.Identifier(name)) if name else sql.SQL(""),
        sql.Identifier(schema, table), sql.Identifier(ra), sql.Identifier(dec),
    )  # fmt: skip


def is_q3c_key(conn: Connection, key: str, ra: str, dec: str) -> bool:
    """Is this key of an index, as pg_get_indexdef writes it, q3c_ang2ipix(ra, dec)?

    The schema stands before the function where it is not on the search path.
    """
    wanted = f"q3c_ang2ipix({_quoted(conn, ra)}, {_quoted(conn, dec)})"
    return key == wanted or key.endswith(f".{wanted}")


def has_q3c_index(conn: Connection, schema: str, table: str, ra: str, dec: str) -> bool:
    """True if the table has a valid index on q3c_ang2ipix(ra, dec).

    For a view, True if a table below it has one on any columns: the view may have renamed them.
    """
    keys = conn.execute(
        """WITH RECURSIVE below AS (
               SELECT %s::regclass::oid AS relation, 0 AS depth
               UNION
               SELECT d.refobjid, b.depth + 1
                 FROM below b
                 JOIN pg_rewrite r ON r.ev_class = b.relation
                 JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                  AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> b.relation
                WHERE b.depth < 8)
           SELECT b.depth, pg_get_indexdef(i.indexrelid, 1, true)
             FROM below b JOIN pg_index i ON i.indrelid = b.relation
            WHERE i.indisvalid""",
        [sql.Identifier(schema, table).as_string(conn)],
    ).fetchall()
    return any(
        is_q3c_key(conn, key, ra, dec) if depth == 0 else "q3c_ang2ipix(" in key for depth, key in keys
    )


def mark_parallel_safe(conn: Connection) -> bool:
    """Let joins and cones run in parallel workers; False if the role does not own Q3C's functions.

    Q3C 2.0 leaves its functions PARALLEL UNSAFE, which makes every query that uses one serial. Upstream does not
    vouch for the others (github.com/segasai/q3c, issue 32); a test of ours compares parallel with serial results.
    The selectivity estimators stay as they are: the planner calls them, no worker does. The caller commits.
    """
    unsafe = conn.execute(
        """SELECT n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)
             FROM pg_proc p
             JOIN pg_namespace n ON n.oid = p.pronamespace
             JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
             JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'q3c'
            WHERE p.proparallel <> 's' AND p.proname NOT IN ('q3c_sel', 'q3c_seljoin')"""
    ).fetchall()
    try:
        with conn.transaction():
            for schema, name, arguments in unsafe:
                conn.execute(
                    sql.SQL("ALTER FUNCTION {}({}) PARALLEL SAFE").format(
                        sql.Identifier(schema, name), sql.SQL(arguments)
                    )
                )
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def _radial_query(ra: Column, dec: Column, numbers: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("q3c_radial_query({}, {}, {}, {}, {})").format(_column(ra), _column(dec), *numbers)


def _column(column: Column) -> sql.Composable:
    return sql.Identifier(column) if isinstance(column, str) else column


def _constant(value: float) -> sql.Composed:
    return sql.SQL("{}::double precision").format(sql.Literal(repr(float(value))))


def _quoted(conn: Connection, name: str) -> str:
    row = conn.execute("SELECT quote_ident(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def _on_the_sky(ra_deg: float, dec_deg: float) -> tuple[float, float]:
    if not math.isfinite(ra_deg):
        raise UsageError("not a right ascension", expected="a number of degrees", found=str(ra_deg))
    if not -90 <= dec_deg <= 90:  # false for NaN too
        raise UsageError("not a declination", expected="-90 to 90 deg", found=str(dec_deg))
    return ra_deg % 360.0, float(dec_deg)


def _radius(radius_deg: float) -> float:
    if not 0 < radius_deg <= 180:
        raise UsageError(
            "not a radius on the sky", expected="above 0, at most 180 deg", found=str(radius_deg)
        )
    return float(radius_deg)
