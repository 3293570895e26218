"""One star by its id, the stars in a cone: enriched.stars without paying the planner for every question.

The view joins all surveys; planning that takes tens of times longer than looking a star up. A prepared statement is
planned once a connection. A cone only gives the ids, from one table: where it is wide, its plan needs its numbers.
"""

from __future__ import annotations

from psycopg import Connection, Cursor, sql

from msacat.catalog.errors import InputRejected
from msacat.catalog.query.query_stars import QueryResult, columns_of_result, reading
from msacat.catalog.server.q3c import cone, cone_asked_for, cone_parameters

BY_ID = "SELECT * FROM enriched.stars WHERE source_id = %s::bigint"
WIDE_DEG = 1.0  # from this radius on a cone is planned with its numbers
BY_IDS = "SELECT * FROM enriched.stars WHERE source_id = ANY (%s::bigint[])"


def find_star(conn: Connection, source_id: int, timeout_s: float = 60.0) -> QueryResult:
    """Every column of enriched.stars for one star; no row if the store does not hold it.

    Raises InputRejected on timeout or while no run is published.
    """
    with reading(conn, timeout_s, keep_plans=True):
        found = conn.execute(BY_ID, [source_id], prepare=True)
    return _result(found)


def find_cone(
    conn: Connection,
    ra_deg: float,
    dec_deg: float,
    radius_arcmin: float,
    max_rows: int,
    timeout_s: float = 60.0,
) -> QueryResult:
    """Every column of enriched.stars inside a cone, the nearest `max_rows` first.

    Raises UsageError for a cone that is not on the sky, InputRejected on timeout or while no run is published.
    """
    ra, dec, radius_deg = cone_parameters(ra_deg, dec_deg, radius_arcmin / 60)
    with reading(conn, timeout_s, keep_plans=True):
        row = conn.execute(
            "SELECT name, spec->'position' FROM msacat.surveys WHERE role = 'reference'", prepare=True
        ).fetchone()
        if row is None:
            raise InputRejected("no run is published yet", next_step="msacat enrich")
        table = sql.Identifier("survey", row[0])
        # In the views these are ra and dec; in the table they are called as its survey file says.
        ra_column, dec_column = (sql.Identifier(row[1][name]) for name in ("ra", "dec"))
        text = sql.SQL("SELECT source_id FROM {} WHERE {} ORDER BY q3c_dist({}, {}, %s, %s), 1 LIMIT %s")
        order = [ra, dec, max_rows + 1]
        if radius_deg < WIDE_DEG:
            conn.execute(
                "SELECT set_config('enable_seqscan', 'off', true), "
                "set_config('max_parallel_workers_per_gather', '0', true)"
            )
            asked = text.format(table, cone_asked_for(ra_column, dec_column), ra_column, dec_column)
            near = conn.execute(asked, [ra, dec, radius_deg, *order], prepare=True).fetchall()
        else:
            inside = cone(ra_column, dec_column, ra, dec, radius_deg)
            asked = text.format(table, inside, ra_column, dec_column)
            near = conn.execute(asked, order, prepare=False).fetchall()
        ids = [source_id for (source_id,) in near[:max_rows]]
        found = conn.execute(BY_IDS, [ids], prepare=True)
    result = _result(found)
    place = result.columns.index("source_id")
    rows = {row[place]: row for row in result.rows}
    return QueryResult(
        result.columns,
        result.types,
        [rows[i] for i in ids if i in rows],
        len(near) > max_rows,
        result.origins,
    )


def _result(cursor: Cursor) -> QueryResult:
    rows = cursor.fetchall()
    names, types, origins = columns_of_result(cursor)
    return QueryResult(names, types, rows, False, origins)
