"""One star, the stars in a cone, the stars alike: the quick ways give what plain SQL gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.query.find_stars import find_cone, find_star
from msacat.catalog.query.nearest_stars import read_embeddings
from msacat.catalog.query.query_stars import described, query
from msacat.catalog.server.connect import connect


@pytest.fixture
def reader(trained_once: str) -> Iterator[psycopg.Connection]:
    with connect(trained_once, read_only=True) as conn:
        yield conn


@pytest.fixture
def source_ids(reader: psycopg.Connection) -> list[int]:
    return [
        row[0] for row in reader.execute("SELECT source_id FROM survey.gaia_source ORDER BY 1").fetchall()
    ]


def test_a_star_is_what_sql_says(reader, source_ids):
    for source_id in source_ids[:8]:  # often enough for a plan to be kept
        plain = query(reader, f"SELECT * FROM enriched.stars WHERE source_id = {source_id}", 10, 60)
        found = find_star(reader, source_id)
        assert found == plain and len(found.rows) == 1
        assert described(reader, found)["source_id"].ucd == "meta.id;meta.main"


def test_a_star_in_one_round_trip_is_the_same(trained_once, reader, source_ids):
    with connect(trained_once) as idle:
        for source_id in source_ids[:8]:
            alone = find_star(idle, source_id)
            assert idle.info.transaction_status == psycopg.pq.TransactionStatus.IDLE and not idle.autocommit
            assert alone == find_star(reader, source_id)
        with pytest.raises(UsageError, match="bigint out of range"):
            find_star(idle, 2**63)
        with pytest.raises(InputRejected, match=r"longer than 0\.001 s"):
            find_cone(idle, 180.0, 0.0, 10_800.0, 100_000, timeout_s=0.001)
        assert find_star(idle, source_ids[0]).rows, "an error ends the transaction, not the connection"
        ended = (
            idle.execute("SHOW transaction_read_only").fetchone(),
            idle.execute("SHOW statement_timeout").fetchone(),
        )
        assert ended == (("off",), ("0",)), "the settings of the question end with it"


def test_no_such_star(reader):
    assert find_star(reader, 1).rows == []
    with pytest.raises(UsageError, match="bigint out of range"):  # not compared as numeric, without the index
        find_star(reader, 2**63)


@pytest.mark.parametrize("radius_arcmin", [0.5, 59.9, 60.0, 10_000.0])  # planned once; with its numbers
def test_a_cone_is_what_sql_says(reader, source_ids, radius_arcmin):
    ra, dec = reader.execute(
        "SELECT ra, dec FROM survey.gaia_source WHERE source_id = %s", [source_ids[100]]
    ).fetchone()
    found = find_cone(reader, ra, dec, radius_arcmin, 100_000)
    plain = query(
        reader,
        f"SELECT * FROM enriched.stars WHERE q3c_radial_query(ra, dec, {ra}, {dec}, {radius_arcmin / 60}) "
        f"ORDER BY q3c_dist(ra, dec, {ra}, {dec}), source_id",
        100_000,
        60,
    )
    assert found == plain and source_ids[100] == found.rows[0][found.columns.index("source_id")]


def test_a_cone_round_a_position_of_another_name(trained):
    """A survey file may call the reference's coordinates as it likes; in the views they are ra and dec."""
    with connect(trained) as conn:
        ra, dec = conn.execute("SELECT ra, dec FROM matched.stars LIMIT 1").fetchone()
        conn.commit()
        before = [find_cone(conn, ra, dec, radius_arcmin, 100) for radius_arcmin in (30.0, 600.0)]
        for name in ("ra", "dec"):
            conn.execute(f"ALTER TABLE survey.gaia_source RENAME {name} TO {name}_icrs")
            conn.execute(
                "UPDATE msacat.surveys SET spec = jsonb_set(spec, %s, to_jsonb(%s::text)) WHERE role = 'reference'",
                [["position", name], f"{name}_icrs"],
            )
        conn.commit()
        assert [find_cone(conn, ra, dec, radius_arcmin, 100) for radius_arcmin in (30.0, 600.0)] == before
    assert all(found.rows for found in before)


def test_a_narrow_cone_is_planned_once(reader, source_ids):
    """However large the table: by its index, whatever the planner believes of a radius it does not know."""
    for star in source_ids[:8]:
        ra, dec = reader.execute(
            "SELECT ra, dec FROM survey.gaia_source WHERE source_id = %s", [star]
        ).fetchone()
        assert find_cone(reader, ra, dec, 1.0, 100).rows
    plans = reader.execute(
        "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%q3c_radial_query%'"
    ).fetchall()
    assert len(plans) == 1 and plans[0][0] >= 2 and plans[0][1] == 0


def test_a_cone_says_that_there_are_more(reader, source_ids):
    found = find_cone(reader, 180.0, 0.0, 10_800.0, 7)
    assert len(found.rows) == 7 and found.truncated


def test_a_cone_that_is_not_on_the_sky(reader):
    with pytest.raises(UsageError, match="declination"):
        find_cone(reader, 10.0, 91.0, 1.0, 10)


def test_nearest_in_embedding_is_what_sql_says(trained_once, reader):
    embeddings = read_embeddings(trained_once)
    star = int(embeddings.source_id[17])
    ids, distances = embeddings.nearest(star, 12)
    rows = reader.execute(
        "SELECT b.source_id, enriched.embedding_distance(a.embedding, b.embedding) FROM enriched.embeddings a, "
        "enriched.embeddings b WHERE a.source_id = %s AND b.embedding IS NOT NULL ORDER BY 2, 1 LIMIT 12",
        [star],
    ).fetchall()
    assert ids.tolist() == [row[0] for row in rows] and ids[0] == star
    assert distances == pytest.approx([row[1] for row in rows], abs=1e-6)
    np.testing.assert_array_equal(embeddings.nearest(embeddings.of(star), 12)[0], ids)


def test_nearest_of_a_part(trained_once, source_ids):
    part = read_embeddings(trained_once, where=f"source_id <= {source_ids[40]}")
    assert 0 < len(part) <= 41 and part.source_id.max() <= source_ids[40]
    assert len(part.nearest(int(part.source_id[0]), 1000)[0]) == len(part)


def test_what_cannot_be_searched_is_refused(trained_once, store):
    embeddings = read_embeddings(trained_once)
    with pytest.raises(UsageError, match="no embedding of this star"):
        embeddings.nearest(1)
    for where in (
        "no_such_column > 1",
        "source_id",
        "source_id LIKE '4%'",
        "sum(source_id) > 1",
        "source_id <",
    ):
        with pytest.raises(UsageError, match="where"):
            read_embeddings(trained_once, where=where)
    nobody = read_embeddings(trained_once, where="source_id < 0")
    for found, k in ((nobody, 3), (embeddings, 0), (embeddings, -1)):
        ids, distance = found.nearest(np.zeros(64), k)
        assert len(ids) == len(distance) == 0
    with pytest.raises(InputRejected, match="no run"):
        read_embeddings(store)


@pytest.mark.parametrize(
    ("text", "columns"),
    [("SELECT 1 AS a WHERE false; -- nothing", ["a"]), ("SELECT ';' AS a WHERE false", ["a"]),
     ("SELECT 2 AS b WHERE false;", ["b"])],
)  # fmt: skip
def test_no_rows_have_columns_all_the_same(reader, text, columns):
    found = query(reader, text, 10, 60)
    assert (found.columns, found.rows) == (columns, [])


def test_the_longest_timeout(reader):
    for seconds in (1e9, float("inf")):
        assert query(reader, "SELECT 1::numeric(3,1) AS a", 10, seconds).types == ["numeric"]


def test_a_query_cut_short_still_says_what_its_columns_mean(reader):
    """Closing the stream cancels the query, and with it the transaction: comments are asked for afterwards."""
    for _ in range(20):  # whether the server had sent everything by then is a matter of luck
        found = query(reader, "SELECT * FROM enriched.stars", 1, 60)
        assert found.truncated and described(reader, found)["source_id"].ucd == "meta.id;meta.main"
    assert reader.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
