"""query: a cone of 1 arcmin and a star by its id in a large store; the nearest stars in the embedding.

The cone and the star come from enriched.stars with all its columns, through the functions behind `msacat query`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
from harness import Record, Side, compare, within
from made_up_files import MadeUpStars, made_up_stars
from made_up_store import MadeUpStore, made_up_store
from psycopg import sql
from sizes import Size
from stream import started_model
from temporary_server import TemporaryServer

from msacat.catalog.enrich.enriched_tables import EMBEDDING_WIDTH, bands_of, columns_of, run_table
from msacat.catalog.enrich.publish_enriched import publish_run, verify_run
from msacat.catalog.enrich.write_enriched import RunRequest, start_run
from msacat.catalog.query.find_stars import find_cone, find_star
from msacat.catalog.query.nearest_stars import read_embeddings
from msacat.catalog.server.connect import connect

STAGE = "query"
Answer = tuple[int, list[int]]  # the star asked about, and its neighbours
KINDS = ["magnitudes", "embeddings", "metallicities"]
RADIUS_ARCMIN = 1.0
CONE_LIMIT_S, STAR_LIMIT_S = 0.005, 0.001
NEIGHBOURS = 10
MOST_ROWS = 100_000
AT_EDGE = 1e-8  # arcmin
JUDGED = 10  # answers of every side: the judge takes longer than the contestants


def ours(server: TemporaryServer, n: int, folder: Path) -> Side:
    return EnrichedStore(made_up_store(server, n, wide=False)).star()


def run(server: TemporaryServer, size: Size, folder: Path) -> list[Record]:
    large = EnrichedStore(made_up_store(server, size.query_stars, wide=False))
    n = size.query_stars
    records = [
        within(
            STAGE,
            f"cone of {RADIUS_ARCMIN:g} arcmin, every column",
            n,
            large.cone(),
            CONE_LIMIT_S,
            size.repeats,
        ),
        within(STAGE, "star by source_id, every column", n, large.star(), STAR_LIMIT_S, size.repeats),
    ]
    return records + _nearest(large, size)


class EnrichedStore:
    """A store whose stars have a published run with made-up values, and a connection that asks it."""

    def __init__(self, store: MadeUpStore) -> None:
        self.store = store
        with connect(store.dsn) as conn:
            _publish_made_up_run(conn, started_model(store, "asked")[0])
        with psycopg.connect(store.dsn, autocommit=True) as admin:
            admin.execute("VACUUM ANALYZE")
        self.conn = connect(store.dsn, autocommit=True, read_only=True)
        self.rng = np.random.default_rng(8)
        self.sky = InMemory(made_up_stars(store.n_stars))

    def cone(self) -> Side:
        ra, dec = self._positions(1000)
        turn = _counter(1000)

        def ask():
            i = turn()
            return i, find_cone(self.conn, ra[i], dec[i], RADIUS_ARCMIN, MOST_ROWS)

        def check(answer) -> None:
            i, result = answer
            column = result.columns.index("source_id")
            self.sky.check_cone(ra[i], dec[i], [row[column] for row in result.rows])

        return Side("msacat", ask, check)

    def star(self) -> Side:
        ids = self.rng.choice(self.store.source_id, 1000).tolist()
        turn = _counter(len(ids))

        def ask():
            i = turn()
            return ids[i], find_star(self.conn, ids[i])

        def check(answer) -> None:
            asked, result = answer
            assert len(result.rows) == 1, f"{len(result.rows)} stars of one id"
            found = dict(zip(result.columns, result.rows[0], strict=True))
            place = found["source_id"], found["ra"], found["dec"]
            assert place == self.sky.star(asked), f"{place} for {asked}"

        return Side("msacat", ask, check)

    def _positions(self, n: int) -> tuple[list[float], list[float]]:
        rows = self.conn.execute(
            "SELECT ra, dec FROM survey.gaia_source WHERE source_id = ANY (%s)",
            [self.rng.choice(self.store.source_id, n, replace=False).tolist()],
        ).fetchall()
        return [r[0] for r in rows], [r[1] for r in rows]


class InMemory:
    """The stars that the store was filled with: what every cone and every star is judged by."""

    def __init__(self, stars: MadeUpStars) -> None:
        self.source_id, self.ra, self.dec = (stars.columns[name] for name in ("source_id", "ra", "dec"))
        self.by_dec = np.argsort(self.dec)

    def star(self, source_id: int) -> tuple[int, float, float]:
        i = int(np.searchsorted(self.source_id, source_id))
        return int(self.source_id[i]), float(self.ra[i]), float(self.dec[i])

    def check_cone(self, ra: float, dec: float, found: list[int]) -> None:
        """Every star inside, none outside; AT_EDGE either way nobody knows."""
        away = self._around(ra, dec)
        inside = {star for star, arcmin in away.items() if arcmin < RADIUS_ARCMIN - AT_EDGE}
        perhaps = {star for star, arcmin in away.items() if arcmin < RADIUS_ARCMIN + AT_EDGE}
        assert len(found) == len(set(found)) and inside <= set(found) <= perhaps, (
            f"{len(found)} stars of {len(inside)} within {RADIUS_ARCMIN:g} arcmin of {ra}, {dec}"
        )

    def _around(self, ra: float, dec: float) -> dict[int, float]:
        """Distances (arcmin) of the stars in a band of declinations that holds the cone."""
        band = np.array([-1.5, 1.5]) * RADIUS_ARCMIN / 60 + dec
        low, high = np.searchsorted(self.dec, band, sorter=self.by_dec)
        rows = self.by_dec[low:high]
        d1, d2, east = np.radians(dec), np.radians(self.dec[rows]), np.radians(self.ra[rows] - ra)
        haversine = np.sin((d2 - d1) / 2) ** 2 + np.cos(d1) * np.cos(d2) * np.sin(east / 2) ** 2
        arcmin = np.degrees(2 * np.arcsin(np.sqrt(haversine))) * 60
        return dict(zip(self.source_id[rows].tolist(), arcmin.tolist(), strict=True))


def _publish_made_up_run(conn: psycopg.Connection, model_id: int) -> None:
    """Random numbers for every star, made by the server."""
    run_id = start_run(conn, model_id, RunRequest(), KINDS)
    made_up = {"bigint": sql.SQL("0"), "boolean": sql.SQL("true"), "real": sql.SQL("(10 + 10 * random())::real"),
               "real[]": sql.SQL("ARRAY[{}]::real[]").format(
                   sql.SQL(", ").join([sql.SQL("random() - 0.5")] * EMBEDDING_WIDTH))}  # fmt: skip
    for kind in KINDS:
        values = [made_up[c.type] for c in columns_of(kind, bands_of(conn))[2:]]
        conn.execute(
            sql.SQL("INSERT INTO {} SELECT source_id, {}, {} FROM survey.gaia_source").format(
                run_table(run_id, kind), run_id, sql.SQL(", ").join(values)
            )
        )
    conn.execute("UPDATE msacat.run_chunks SET done = true WHERE run_id = %s", [run_id])
    verify_run(conn, run_id)
    publish_run(conn, run_id)


def _nearest(large: EnrichedStore, size: Size) -> list[Record]:
    """Exact search: msacat's against numpy over the same matrix, and SQL's beside it."""
    embeddings = read_embeddings(
        large.store.dsn, where=f"source_id <= {large.store.source_id[size.stars - 1]}"
    )
    n = len(embeddings.source_id)
    assert n == size.stars, f"{n} embeddings of {size.stars}"
    matrix = embeddings.embedding
    squares = np.einsum("ij,ij->i", matrix, matrix)
    turn = _counter(n)

    def expected(i: int) -> list[int]:
        away = np.linalg.norm(matrix.astype(np.float64) - matrix[i], axis=1)
        return embeddings.source_id[np.lexsort((embeddings.source_id, away))[:NEIGHBOURS]].tolist()

    def numpy_search() -> Answer:
        i = 7919 * turn() % n
        squared = squares - 2 * (matrix @ matrix[i])
        nearest = np.argpartition(squared, NEIGHBOURS)[:NEIGHBOURS]
        return i, embeddings.source_id[nearest[np.argsort(squared[nearest])]].tolist()

    def ours() -> Answer:
        i = 7919 * turn() % n
        return i, embeddings.nearest(embeddings.source_id[i], NEIGHBOURS)[0].tolist()

    work = f"nearest {NEIGHBOURS} in embedding among stars in memory"
    mine = Side("msacat", ours, judge(expected))
    # Its float32 may put two stars that are all but equally far the wrong way round.
    numpy = Side("numpy over the same matrix", numpy_search, judge(expected, ordered=False))
    records = compare(STAGE, work, n, mine, [numpy], min(size.repeats, 50))

    def in_sql() -> Answer:
        i = 7919 * turn() % n
        rows = large.conn.execute(
            "SELECT b.source_id FROM enriched.embeddings a, enriched.embeddings b WHERE a.source_id = %s "
            "AND b.source_id <= %s ORDER BY enriched.embedding_distance(a.embedding, b.embedding), 1 LIMIT %s",
            [int(embeddings.source_id[i]), int(embeddings.source_id[-1]), NEIGHBOURS],
        ).fetchall()
        return i, [row[0] for row in rows]

    work = f"nearest {NEIGHBOURS} in embedding, in SQL"
    beside = Side("in memory, numpy over the same matrix", numpy_search, judge(expected, ordered=False))
    return records + compare(STAGE, work, n, Side("msacat", in_sql, judge(expected)), [beside], 1)


def judge(expected: Callable[[int], list[int]], ordered: bool = True) -> Callable[[Answer], None]:
    """Of one side: its first JUDGED answers."""
    seen: list[int] = []

    def check(answer: Answer) -> None:
        star, found = answer
        if len(seen) < JUDGED:
            seen.append(star)
            right = expected(star)
            same = found == right if ordered else sorted(found) == sorted(right)
            assert same, f"other neighbours of star {star}"

    return check


def _counter(n: int) -> Callable[[], int]:
    state = {"next": 0}

    def turn() -> int:
        state["next"] += 1
        return state["next"] % n

    return turn
