"""ingest-numeric: 13 numbers a star from Parquet into survey.gaia_source, against the server's own COPY.

The peers' table has the same 13 columns, a primary key and a Q3C index, made after the rows are in, as one would by
hand. msacat's has its 13 columns filled among 43, plus quality bits and the file's number, and a ledger; it reads the
file twice, the first time for its checksum.
"""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import psycopg
from harness import Record, Side, compare, peak_mb
from made_up_files import MadeUpStars, made_up_stars, write_parquet
from sizes import Size
from temporary_server import TemporaryServer

from msacat.catalog.ingest.ingest_files import run_ingest
from msacat.catalog.ingest.plan_ingest import plan_ingest
from msacat.catalog.server.connect import connect

STAGE, WORK = "ingest-numeric", "gaia_source, 13 columns, Parquet to table with primary key and Q3C index"
TYPES = {"source_id": "bigint", "random_index": "bigint", "parallax_error": "real", "ruwe": "real",
         "phot_g_mean_mag": "real", "phot_bp_mean_mag": "real", "phot_rp_mean_mag": "real"}  # fmt: skip


def ours(server: TemporaryServer, n: int, folder: Path) -> Side:
    return _ours(server, n, folder).side()


def run(server: TemporaryServer, size: Size, folder: Path) -> list[Record]:
    mine = _ours(server, size.numeric, folder)
    stars = mine.stars
    peer_store = server.new_store()
    text_file, binary_file = folder / "numeric.csv", server.files / "numeric.bin"
    _write_csv(stars, text_file)
    with psycopg.connect(peer_store) as conn:
        conn.execute(_create(stars))
    _copy_csv(server, peer_store, text_file)
    with psycopg.connect(peer_store, autocommit=True) as conn:
        conn.execute(f"COPY plain TO '{binary_file}' (FORMAT BINARY)")

    def check(_: object) -> None:
        check_stars(peer_store, "plain", stars)

    def empty_table() -> None:
        with psycopg.connect(peer_store, autocommit=True) as conn:
            conn.execute("DROP TABLE IF EXISTS plain")
            conn.execute("CHECKPOINT")

    def copy_binary() -> None:
        with psycopg.connect(peer_store) as conn:
            conn.execute(_create(stars))
            conn.execute(f"COPY plain FROM '{binary_file}' (FORMAT BINARY)")
            _index(conn)

    def copy_csv() -> None:
        with psycopg.connect(peer_store) as conn:
            conn.execute(_create(stars))
        _copy_csv(server, peer_store, text_file)
        with psycopg.connect(peer_store) as conn:
            _index(conn)

    peers = [
        Side("COPY FROM of a binary file by the server", copy_binary, check, empty_table),
        Side("\\copy of CSV by psql", copy_csv, check, empty_table),
    ]
    return compare(STAGE, WORK, size.numeric, mine.side(), peers, size.rounds, mine.peak_mb(size))


def _ours(server: TemporaryServer, n: int, folder: Path) -> Ours:
    stars = made_up_stars(n)
    parquet = folder / f"numeric_{n}.parquet"
    write_parquet(stars, parquet)
    return Ours(server, "gaia_source", parquet, stars)


class Ours:
    """`msacat ingest` of one file of stars into a new store each time."""

    def __init__(self, server: TemporaryServer, dataset: str, path: Path, stars: MadeUpStars) -> None:
        self.server, self.dataset, self.path, self.stars = server, dataset, path, stars
        self.dsn: str | None = None

    def new_store(self) -> None:
        if self.dsn is not None:
            self.server.drop_store(self.dsn)
        self.dsn = self.server.new_store()
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            conn.execute("CHECKPOINT")

    def peak_mb(self, size: Size) -> float:
        if not size.measure_memory:
            return 0.0
        self.new_store()
        return peak_mb(ingest, self.dsn, self.dataset, self.path)

    def side(self) -> Side:
        return Side(
            "msacat",
            lambda: ingest(self.dsn, self.dataset, self.path),
            lambda _: check_stars(self.dsn, f"survey.{self.dataset}", self.stars),
            self.new_store,
        )


def ingest(dsn: str | None, dataset: str, path: Path) -> None:
    with connect(dsn) as conn:
        run_ingest(conn, plan_ingest(conn, dataset, [path]))


def check_stars(dsn: str | None, table: str, stars: MadeUpStars) -> None:
    """Every row once, every column's sum as it was written."""
    sums = ", ".join(
        f"sum({name}::numeric)::text" if values.dtype.kind == "i" else f"sum({name}::double precision)"
        for name, values in stars.columns.items()
    )
    with psycopg.connect(str(dsn)) as conn:
        row = conn.execute(f"SELECT count(*), count(DISTINCT source_id), {sums} FROM {table}").fetchone()
    assert row is not None and row[:2] == (len(stars), len(stars)), (
        f"{table}: {row and row[:2]} of {len(stars)}"
    )
    for (name, values), found in zip(stars.columns.items(), row[2:], strict=True):
        if values.dtype.kind == "i":
            assert int(found) == sum(map(int, values)), name
        else:
            expected, scale = values.astype(float).sum(), abs(values.astype(float)).sum()
            assert abs(found - expected) <= 1e-11 * scale, name


def _create(stars: MadeUpStars) -> str:
    return (
        "CREATE TABLE plain ("
        + ", ".join(f"{n} {TYPES.get(n, 'double precision')}" for n in stars.columns)
        + ")"
    )


def _index(conn: psycopg.Connection) -> None:
    conn.execute("ALTER TABLE plain ADD PRIMARY KEY (source_id)")
    conn.execute("CREATE INDEX ON plain (q3c_ang2ipix(ra, dec))")
    conn.execute("ANALYZE plain")


def _copy_csv(server: TemporaryServer, dsn: str, path: Path) -> None:
    subprocess.run(
        [
            server.psql,
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            dsn,
            "-c",
            f"\\copy plain from '{path}' csv",
        ],
        check=True,
    )


def _write_csv(stars: MadeUpStars, path: Path) -> None:
    with path.open("w", newline="") as file:
        # tolist: Python's shortest exact form of float64; float32 through its own repr
        columns = [v.tolist() if v.dtype.itemsize == 8 else list(map(str, v)) for v in stars.columns.values()]
        csv.writer(file).writerows(zip(*columns, strict=True))
