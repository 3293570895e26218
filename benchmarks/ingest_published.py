"""ingest-published: gaia_source as Gaia publishes it, against decompressing and parsing the same columns only."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
from gunzip import gunzip
from harness import Record, Side, compare
from ingest_numeric import Ours
from made_up_files import made_up_stars, write_published
from sizes import Size
from temporary_server import TemporaryServer

STAGE, WORK = "ingest-published", "gaia_source, ECSV in gzip, 152 columns, some 20 of them stored"


def ours(server: TemporaryServer, n: int, folder: Path) -> Side:
    return _ours(server, n, folder).side()


def run(server: TemporaryServer, size: Size, folder: Path) -> list[Record]:
    mine = _ours(server, size.published, folder)
    stars, path = mine.stars, mine.path

    def check(table: pa.Table) -> None:
        assert table.column("source_id").to_numpy().tolist() == stars.columns["source_id"].tolist()

    def parse() -> pa.Table:
        text = gunzip(path)
        comments = text[: text.find(b"\ndesignation,")].count(b"\n") + 1
        wanted = [name for name in stars.columns] + [
            f"phot_{band}_mean_{what}" for band in ("g", "bp", "rp") for what in ("flux", "flux_error")
        ]
        return pa_csv.read_csv(
            pa.BufferReader(text),
            read_options=pa_csv.ReadOptions(skip_rows=comments),
            convert_options=pa_csv.ConvertOptions(
                include_columns=wanted, null_values=["null"], column_types={"source_id": pa.int64()}
            ),
        )

    peers = [Side("decompress (isal) and parse (pyarrow) alone", parse, check)]
    return compare(STAGE, WORK, size.published, mine.side(), peers, size.rounds, mine.peak_mb(size))


def _ours(server: TemporaryServer, n: int, folder: Path) -> Ours:
    stars = made_up_stars(n)
    path = folder / f"GaiaSource_{n}.csv.gz"
    if not path.exists():
        write_published(stars, path)
    return Ours(server, "gaia_source", path, stars)
