"""crossmatch: stars with proper motions to a survey of another epoch, in a dense strip, 1 arcsec, into a table.

msacat reads both tables from the server, moves every star to each object's epoch, keeps mutual nearest pairs and
writes matched.<survey>. The peers do less: none moves the stars, q3c_join's result is one-sided (nearest star per
object) but written to a table, astropy and LSDB find their catalogues in memory and write nothing. Of msacat's result
every pair is judged; of the peers', which cannot be right about fast stars, only how many pairs there are.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
from harness import Record, Side, compare, peak_mb
from ingest_numeric import ingest
from made_up_files import MadeUpStars, made_up_stars, write_parquet
from psycopg import sql
from sizes import Size
from temporary_server import TemporaryServer

from msacat.catalog.crossmatch.crossmatch_stars import crossmatch
from msacat.catalog.server.connect import connect
from msacat.catalog.server.copy_batches import copy_batches
from msacat.catalog.store.register_survey import register_survey
from msacat.catalog.surveys.load_specs import builtin_specs

STAGE, WORK = (
    "crossmatch",
    "gaia_source to panstarrs1, 1 arcsec, mutual nearest at each object's epoch, to its table",
)
DATASET, EPOCH, RADIUS_ARCSEC = "panstarrs1", 2010.0, 1.0
MOST_FALSE = 0.005 / 2e6  # of the pairs, for every star of the field: chance grows with the density
SEEN_SHARE, SCATTER_ARCSEC = 0.7, 0.1  # objects that are stars of the reference; 1 sigma each way


def ours(server: TemporaryServer, n: int, folder: Path) -> Side:
    return Sky(server, n, n // 2, folder).side()


def run(server: TemporaryServer, size: Size, folder: Path) -> list[Record]:
    sky = Sky(server, size.gaia, size.survey, folder)
    peers = [_q3c(sky), _astropy(sky)]
    if not (lsdb := _lsdb(sky)):
        print("crossmatch: lsdb is not installed (pip install 'msacat[bench]'): left out", file=sys.stderr)
    memory = 0.0
    if size.measure_memory:
        memory = peak_mb(_crossmatch, sky.dsn, workers())
    return compare(STAGE, WORK, size.gaia, sky.side(), peers + lsdb, size.rounds, memory)


class Sky:
    """Stars and a survey's objects, in memory and in a store."""

    def __init__(self, server: TemporaryServer, n_stars: int, n_objects: int, folder: Path) -> None:
        self.stars = made_up_stars(n_stars)
        self.dsn = server.new_store()
        path = folder / f"crossmatch_{n_stars}.parquet"
        write_parquet(self.stars, path)
        ingest(self.dsn, "gaia_source", path)
        self.ra, self.dec, self.counterpart = objects_of(self.stars, n_objects)
        _store_objects(self.dsn, self.ra, self.dec)

    def side(self) -> Side:
        return Side("msacat", lambda: _crossmatch(self.dsn, workers()), self.check, self.forget)

    def forget(self) -> None:
        """As before the first crossmatch."""
        with psycopg.connect(self.dsn) as conn:
            conn.execute(f"TRUNCATE matched.{DATASET}")
            conn.execute("DELETE FROM msacat.crossmatches")

    def check(self, _: object) -> None:
        with psycopg.connect(self.dsn) as conn, conn.cursor(binary=True) as cursor:
            rows = cursor.execute(
                f"SELECT source_id, ps1_id FROM matched.{DATASET} WHERE ps1_id IS NOT NULL"
            ).fetchall()
        found = np.array(rows, np.int64)
        assert len(np.unique(found[:, 1])) == len(found), "an object was given to two stars"
        assert len(np.unique(found[:, 0])) == len(found), "a star was given two objects"
        true = self.counterpart[found[:, 1] - 1]
        right = int((self.stars.columns["source_id"][true] == found[:, 0])[true >= 0].sum())
        # by geometry 0.3 % at full size: objects that are no star, with one nearby by chance in the dense strip
        wrong = len(found) - right
        most = MOST_FALSE * max(len(self.stars), 1e6) * len(found)
        assert wrong <= most, f"{wrong} of {len(found)} pairs are of different things"
        # 0.1 arcsec of scatter and some crowding: almost every counterpart is found
        assert right > 0.985 * (self.counterpart >= 0).sum(), (
            f"{right} of {(self.counterpart >= 0).sum()} counterparts"
        )

    def check_nearest(self, pairs: int) -> None:
        # One-sided and unmoved: chance neighbours added, fast stars lost; the same order of magnitude of pairs.
        assert 0.9 * SEEN_SHARE < pairs / len(self.ra) < 1.0, pairs


def workers() -> int:
    return len(os.sched_getaffinity(0))


def _q3c(sky: Sky) -> Side:
    def join() -> int:
        with psycopg.connect(sky.dsn) as conn:
            conn.execute("SET LOCAL parallel_setup_cost = 0")
            conn.execute("SET LOCAL parallel_tuple_cost = 0")
            return conn.execute(
                "CREATE TABLE nearest AS SELECT DISTINCT ON (p.ps1_id) p.ps1_id, g.source_id, "
                "q3c_dist(p.ra, p.dec, g.ra, g.dec) * 3600 AS separation_arcsec "
                f"FROM survey.{DATASET} p JOIN survey.gaia_source g "
                f"ON q3c_join(p.ra, p.dec, g.ra, g.dec, {RADIUS_ARCSEC} / 3600) ORDER BY 1, 3"
            ).rowcount

    def drop() -> None:
        with psycopg.connect(sky.dsn) as conn:
            conn.execute("DROP TABLE IF EXISTS nearest")

    return Side("q3c_join, nearest, to a table", join, sky.check_nearest, drop)


def _astropy(sky: Sky) -> Side:
    from astropy import units
    from astropy.coordinates import SkyCoord

    def match() -> int:
        gaia = SkyCoord(sky.stars.columns["ra"] * units.deg, sky.stars.columns["dec"] * units.deg)
        survey = SkyCoord(sky.ra * units.deg, sky.dec * units.deg)
        _, distance, _ = survey.match_to_catalog_sky(gaia)
        return int((distance.arcsec <= RADIUS_ARCSEC).sum())

    return Side("astropy match_to_catalog_sky, catalogues in memory", match, sky.check_nearest)


def _lsdb(sky: Sky) -> list[Side]:
    """Its catalogues are made outside the clock; [] where it is not installed."""
    try:
        import lsdb
        import pandas as pd
    except ImportError:
        return []
    frame = pd.DataFrame({name: sky.stars.columns[name] for name in ("source_id", "ra", "dec")})
    gaia = lsdb.from_dataframe(frame, catalog_name="gaia")
    survey = lsdb.from_dataframe(pd.DataFrame({"ra": sky.ra, "dec": sky.dec}), catalog_name="survey")

    def match() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return len(
                survey.crossmatch(gaia, radius_arcsec=RADIUS_ARCSEC, n_neighbors=1).compute(
                    progress_bar=False
                )
            )

    match()  # the first call compiles, and imports for seconds
    return [Side("LSDB crossmatch().compute(), catalogues in memory", match, sky.check_nearest)]


def _crossmatch(dsn: str, workers: int) -> None:
    crossmatch(dsn, DATASET, workers=workers)


def objects_of(stars: MadeUpStars, n: int, seed: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ra, dec (deg, at EPOCH) of n objects, and the index of the star each one is (-1: none)."""
    rng = np.random.default_rng(seed)
    c = stars.columns
    seen = rng.choice(len(stars), min(len(stars), int(SEEN_SHARE * n)), replace=False)
    years = EPOCH - 2016.0
    to_deg = 1 / 3600
    dec = (
        c["dec"][seen] + (c["pmdec"][seen] * years / 1000 + rng.normal(0, SCATTER_ARCSEC, len(seen))) * to_deg
    )
    east = c["pmra"][seen] * years / 1000 + rng.normal(0, SCATTER_ARCSEC, len(seen))
    ra = c["ra"][seen] + east * to_deg / np.cos(np.radians(c["dec"][seen]))
    others = made_up_stars(n - len(seen), seed + 1).columns
    counterpart = np.append(seen, np.full(n - len(seen), -1))
    order = rng.permutation(n)
    return (
        np.append(ra, others["ra"])[order],
        np.append(np.clip(dec, -90, 90), others["dec"])[order],
        counterpart[order],
    )


def _store_objects(dsn: str, ra: np.ndarray, dec: np.ndarray) -> None:
    """Straight into survey.panstarrs1, ps1_id = index + 1, with the ledger row that an ingest leaves."""
    spec, n = builtin_specs()[DATASET], len(ra)
    with connect(dsn) as conn:
        register_survey(conn, spec)
        row = conn.execute(
            "INSERT INTO msacat.files (survey, release, path, content_sha256, rows_read, rows_kept, spec_version, "
            "spec_fingerprint, code_version) VALUES (%s, %s, 'made up', 'made up', %s, %s, 1, '', '') RETURNING file_id",
            [DATASET, spec.release, n, n],
        ).fetchone()
        assert row is not None
        columns = {
            "ps1_id": pa.array(np.arange(1, n + 1)), "ra": pa.array(ra), "dec": pa.array(dec),
            "epoch": pa.array(np.full(n, EPOCH)), "quality": pa.array(np.zeros(n, np.int64)),
            "file_id": pa.array(np.full(n, row[0], np.int32)),
        }  # fmt: skip
        batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        copy_batches(conn, sql.Identifier("survey", DATASET), batch.schema.names, [batch])
        conn.commit()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")
