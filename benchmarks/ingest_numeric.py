"""ingest-numeric: 13 numbers a star from Parquet into survey.gaia_source, against the server's own COPY.

The peers' table has the same 13 columns, a primary key and a Q3C index, made after the rows are in, as one would by
hand. msacat's has its 13 columns filled among 43, plus quality bits and the file's number, and a ledger; it reads the
file twice, the first time for its checksum.
"""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import numpy as np
import psycopg
from harness import Record, Side, compare, peak_mb
from made_up_files import MadeUpStars, made_up_stars, write_parquet
from sizes import Size
from temporary_server import TemporaryServer

from msacat.catalog.ingest.ingest_files import run_ingest
from msacat.catalog.ingest.plan_ingest import plan_ingest
from msacat.catalog.server.connect import connect

STAGE, WORK = "ingest-numeric", "gaia_source, 13 columns, Parquet to table with primary key and Q3C index"
INDEX = (
    "ALTER TABLE plain ADD PRIMARY KEY (source_id)",
    "CREATE INDEX ON plain (q3c_ang2ipix(ra, dec))",
    "ANALYZE plain",
)
#: COPY's binary form of a table: a signature, flags and an empty extension; in the end -1 for a row's number of columns
COPY_BEGINS, COPY_ENDS = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
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
    _psql(server, peer_store, _create(stars), f"\\copy plain from '{text_file}' csv")
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
            for statement in INDEX:
                conn.execute(statement)

    def copy_csv() -> None:
        _psql(server, peer_store, _create(stars), f"\\copy plain from '{text_file}' csv", *INDEX)

    peers = [
        Side("COPY FROM of a binary file by the server", copy_binary, check, empty_table),
        Side("\\copy of CSV by psql", copy_csv, check, empty_table),
    ]
    records = compare(STAGE, WORK, size.numeric, mine.side(), peers, size.rounds, mine.peak_mb(size))
    return records + _next_file(server, stars, size, folder)


def _next_file(server: TemporaryServer, stars: MadeUpStars, size: Size, folder: Path) -> list[Record]:
    """A file into a store that holds the one before it: the log is written and the indexes are there.

    As Gaia's own files, each holds one range of source_id.
    """
    middle = len(stars) // 2
    halves = [stars.take(slice(None, middle)), stars.take(slice(middle, None))]
    paths = [folder / f"numeric_half_{i}.parquet" for i in range(2)]
    for half, path in zip(halves, paths, strict=True):
        write_parquet(half, path)
    first = Ours(server, "gaia_source", paths[0], halves[0])
    after = Ours(server, "gaia_source", paths[1], stars)

    def with_first_file() -> None:
        after.new_store()
        ingest(after.dsn, "gaia_source", paths[0])

    peer = Side(
        "msacat's own first file into an empty store", first.side().run, first.side().check, first.new_store
    )
    mine = Side("msacat", after.side().run, after.side().check, with_first_file)
    return compare(STAGE, f"next file: {WORK}", len(halves[1]), mine, [peer], size.rounds)


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
    """Every row once, every number of it bit by bit: what COPY gives of the table is compared with what was written."""
    row = np.dtype([("columns", ">i2")] + [
        field for name, values in stars.columns.items()
        for field in ((f"length of {name}", ">i4"), (name, values.dtype.newbyteorder(">")))
    ])  # fmt: skip
    wanted = ", ".join(f"{name}::{type_of(name)}" for name in stars.columns)
    with (
        psycopg.connect(str(dsn)) as conn,
        conn.cursor() as cursor,
        cursor.copy(
            f"COPY (SELECT {wanted} FROM {table} ORDER BY source_id) TO STDOUT (FORMAT BINARY)"
        ) as copy,
    ):
        stream = b"".join(copy)
    # a null would be shorter than a number
    body = len(stream) - len(COPY_BEGINS) - len(COPY_ENDS)
    assert body == len(stars) * row.itemsize, f"{table}: {body / row.itemsize:.2f} rows of {len(stars)}"
    found = np.frombuffer(stream, row, len(stars), len(COPY_BEGINS))
    for name, values in stars.columns.items():
        bits = f"u{values.dtype.itemsize}"
        other = np.flatnonzero(found[name].astype(values.dtype).view(bits) != values.view(bits))
        assert not len(other), f"{table}: {len(other)} rows with another {name}"


def type_of(name: str) -> str:
    return TYPES.get(name, "double precision")


def _create(stars: MadeUpStars) -> str:
    return "CREATE TABLE plain (" + ", ".join(f"{n} {type_of(n)}" for n in stars.columns) + ")"


def _psql(server: TemporaryServer, dsn: str, *commands: str) -> None:
    """In one transaction: rows of a table that is made in it need no write-ahead log."""
    asked = [word for command in commands for word in ("-c", command)]
    subprocess.run(
        [server.psql, "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", dsn, *asked],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _write_csv(stars: MadeUpStars, path: Path) -> None:
    with path.open("w", newline="") as file:
        # tolist: Python's shortest exact form of float64; float32 through its own repr
        columns = [v.tolist() if v.dtype.itemsize == 8 else list(map(str, v)) for v in stars.columns.values()]
        csv.writer(file).writerows(zip(*columns, strict=True))
