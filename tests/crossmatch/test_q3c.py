"""Q3C through our module: plans that use the index, parallel equal to serial, traps turned into errors."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from psycopg import sql

from msacat.catalog.errors import UsageError
from msacat.catalog.healpix import separation_deg
from msacat.catalog.server import q3c


@pytest.fixture
def sky(conn):
    """20,000 stars over the whole sky, crowded at the poles and at RA 0."""
    rng = np.random.default_rng(3)
    n = 20_000
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    dec[:1000], dec[1000:2000] = 90 - rng.exponential(1, 1000), -90 + rng.exponential(1, 1000)
    ra[2000:4000], dec[2000:4000] = rng.normal(0, 1, 2000) % 360, rng.normal(0, 1, 2000)
    conn.execute("CREATE TABLE survey.sky (n integer, ra double precision, dec double precision)")
    with conn.cursor().copy("COPY survey.sky FROM STDIN") as copy:
        for row in zip(range(n), ra, dec, strict=True):
            copy.write_row([row[0], float(row[1]), float(row[2])])
    conn.execute(q3c.q3c_index_sql("survey", "sky", "ra", "dec"))
    conn.execute("ANALYZE survey.sky")
    return conn, ra, dec


def plan(conn, query) -> str:
    return "\n".join(row[0] for row in conn.execute(sql.SQL("EXPLAIN ") + query))


@pytest.mark.parametrize(
    ("ra", "dec", "radius"),
    [(0, 0, 0.5), (359.999, 0.2, 1.0), (10, 90, 0.7), (200, -89.9, 2.0), (-30, 20, 15.0), (725, 45, 40.0),
     (100, -30, 90.0), (100, 5, 179.0)],
)  # fmt: skip
def test_cone_is_the_great_circle_cone(sky, ra, dec, radius):
    conn, all_ra, all_dec = sky
    query = sql.SQL("SELECT n FROM survey.sky WHERE {}")
    numbers = conn.execute(query.format(q3c.cone("ra", "dec", ra, dec, radius)))
    asked = q3c.cone_asked_for("ra", "dec"), q3c.cone_parameters(ra, dec, radius)
    parameters = conn.execute(query.format(asked[0]), asked[1], prepare=True)
    wanted = set(np.flatnonzero(separation_deg(ra, dec, all_ra, all_dec) <= radius))
    for rows in (numbers, parameters):
        assert {row[0] for row in rows} == wanted


def test_a_cone_uses_the_index(sky):
    conn, *_ = sky
    query = sql.SQL("SELECT n FROM survey.sky WHERE {}").format(q3c.cone("ra", "dec", 10, 20, 0.1))
    assert "sky_q3c_ang2ipix_idx" in plan(conn, query)
    conn.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    conn.execute("SET LOCAL enable_seqscan = off")
    conn.execute(
        "PREPARE cone(float8, float8, float8) AS SELECT n FROM survey.sky WHERE "
        + q3c.cone_asked_for("ra", "dec").as_string(conn).replace("%s", "${}").format(1, 2, 3)
    )
    assert "q3c_radial_query_it($1" in plan(conn, sql.SQL("EXECUTE cone(10, 20, 0.1)"))
    assert "sky_q3c_ang2ipix_idx" in plan(conn, sql.SQL("EXECUTE cone(10, 20, 0.1)"))
    conn.execute("DEALLOCATE cone")


JOIN = sql.SQL(
    "SELECT a.n, b.n FROM survey.sky a JOIN survey.sky b ON q3c_join(a.ra, a.dec, b.ra, b.dec, 60 / 3600::float8) "
    "ORDER BY 1, 2"
)


def test_join_uses_the_index_and_parallel_equals_serial(sky):
    conn, ra, dec = sky
    conn.execute("SET LOCAL enable_seqscan = on")
    conn.execute("SET LOCAL max_parallel_workers_per_gather = 0")
    assert "sky_q3c_ang2ipix_idx" in plan(conn, JOIN)
    serial = conn.execute(JOIN).fetchall()
    near = {
        (i, j)
        for i in range(2000)
        for j in np.flatnonzero(separation_deg(ra[i], dec[i], ra, dec) <= 60 / 3600)
    }
    assert {pair for pair in serial if pair[0] < 2000} == near
    conn.execute("SET LOCAL max_parallel_workers_per_gather = 2")
    for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
        conn.execute(sql.SQL("SET LOCAL {} = 0").format(sql.Identifier(setting)))
    conn.execute("ALTER FUNCTION q3c_join(float8, float8, float8, float8, float8) PARALLEL UNSAFE")
    assert "Gather" not in plan(conn, JOIN)
    assert q3c.mark_parallel_safe(conn)
    assert "Gather" in plan(conn, JOIN)
    assert conn.execute(JOIN).fetchall() == serial
    cone = sql.SQL("SELECT count(*) FROM survey.sky WHERE {}").format(q3c.cone("ra", "dec", 0, 0, 20))
    assert conn.execute(cone).fetchone()[0] == (separation_deg(0, 0, ra, dec) <= 20).sum()


@pytest.mark.parametrize(
    ("ra", "dec", "radius"),
    [(np.nan, 0, 1), (np.inf, 0, 1), (0, 90.001, 1), (0, -95, 1), (0, np.nan, 1), (0, 0, 0), (0, 0, -1), (0, 0, np.nan),
     (0, 0, 181)],
)  # fmt: skip
def test_what_is_not_on_the_sky_is_refused(ra, dec, radius):
    with pytest.raises(UsageError):
        q3c.cone("ra", "dec", ra, dec, radius)
    with pytest.raises(UsageError):
        q3c.cone_parameters(ra, dec, radius)


def test_the_index_is_recognised(sky):
    conn, *_ = sky
    assert q3c.has_q3c_index(conn, "survey", "sky", "ra", "dec")
    assert not q3c.has_q3c_index(conn, "survey", "sky", "dec", "ra")
    conn.execute("CREATE VIEW survey.seen AS SELECT n, ra AS alpha, dec AS delta FROM survey.sky")
    assert q3c.has_q3c_index(conn, "survey", "seen", "alpha", "delta")
    conn.execute('CREATE TABLE survey.bare ("Ra" double precision, dec double precision)')
    assert not q3c.has_q3c_index(conn, "survey", "bare", "Ra", "dec")
    conn.execute(q3c.q3c_index_sql("survey", "bare", "Ra", "dec"))
    assert q3c.has_q3c_index(conn, "survey", "bare", "Ra", "dec")
    conn.execute("SET LOCAL search_path = survey")  # the definition now names the schema of Q3C
    for table, ra, dec in (("bare", "Ra", "dec"), ("sky", "ra", "dec"), ("seen", "alpha", "delta")):
        assert q3c.has_q3c_index(conn, "survey", table, ra, dec)
    assert not q3c.has_q3c_index(conn, "survey", "sky", "dec", "ra")


def test_marking_needs_the_owner_of_the_functions(store):
    with psycopg.connect(store) as conn:
        conn.execute("CREATE ROLE guest_of_q3c")
        conn.execute("ALTER FUNCTION q3c_version() PARALLEL UNSAFE")  # as a server's own Q3C comes
        try:
            conn.execute("SET ROLE guest_of_q3c")
            assert not q3c.mark_parallel_safe(conn)
        finally:
            conn.rollback()
