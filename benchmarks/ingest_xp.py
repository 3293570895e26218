"""ingest-xp: XP spectra as published, with the correlations nobody stores but everybody must read past."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from gunzip import gunzip, pieces
from harness import Record, Side, compare, peak_mb
from ingest_numeric import ingest
from made_up_files import made_up_stars, unpacked, write_xp
from sizes import Size
from temporary_server import TemporaryServer

STAGE, WORK = "ingest-xp", "XpContinuousMeanSpectrum, ECSV in gzip, correlations included"


def ours(server: TemporaryServer, n: int, folder: Path) -> Side:
    return Ours(server, n, folder).side()


def run(server: TemporaryServer, size: Size, folder: Path) -> list[Record]:
    mine = Ours(server, size.xp, folder)
    lines = gunzip(mine.path).count(b"\n")

    def check_lines(found: int) -> None:
        assert found == lines and found > size.xp

    scan = Side("decompress (isal) and count lines alone", lambda: _count_lines(mine.path), check_lines)
    memory = mine.peak_mb() if size.measure_memory else 0.0
    return compare(STAGE, WORK, size.xp, mine.side(), [scan, _gaiaxpy(mine)], size.rounds, memory)


class Ours:
    """`msacat ingest` of one file of spectra into a new store each time."""

    def __init__(self, server: TemporaryServer, n: int, folder: Path) -> None:
        self.server = server
        self.source_id = made_up_stars(n).columns["source_id"]
        self.path = folder / f"XpContinuousMeanSpectrum_{n}.csv.gz"
        self.published = write_xp(self.source_id, self.path)
        self.dsn: str | None = None

    def new_store(self) -> None:
        if self.dsn is not None:
            self.server.drop_store(self.dsn)
        self.dsn = self.server.new_store()

    def side(self) -> Side:
        return Side(
            "msacat", lambda: ingest(self.dsn, "xp_continuous", self.path), self.check, self.new_store
        )

    def peak_mb(self) -> float:
        self.new_store()
        return peak_mb(ingest, self.dsn, "xp_continuous", self.path)

    def check(self, _: object) -> None:
        with psycopg.connect(str(self.dsn)) as conn, conn.cursor(binary=True) as cursor:
            rows = cursor.execute(
                "SELECT source_id, bp_coefficients, rp_coefficients FROM survey.xp_continuous ORDER BY source_id"
            ).fetchall()
        assert [row[0] for row in rows] == self.source_id.tolist()
        for i, half in ((1, "bp"), (2, "rp")):
            assert (np.array([row[i] for row in rows], np.float32) == self.published[half]).all()


def _count_lines(path: Path) -> int:
    return sum(piece.count(b"\n") for piece in pieces(path))


def _gaiaxpy(mine: Ours) -> Side:
    """Its reader of the same file without gzip and header lines, which is easier; it also makes matrices of the correlations."""
    from gaiaxpy import convert
    from gaiaxpy.input_reader.input_reader import InputReader

    bare = mine.path.with_name("gaiaxpy_" + mine.path.with_suffix("").name)
    with unpacked(mine.path).open() as source, bare.open("w") as target:
        target.writelines(line for line in source if not line.startswith("#"))

    def read() -> Any:
        return InputReader(str(bare), convert, False, disable_info=True).read()[0]

    def check(frame: Any) -> None:
        assert frame["source_id"].tolist() == mine.source_id.tolist()
        assert np.allclose(np.stack(frame["bp_coefficients"].tolist()), mine.published["bp"])

    return Side("GaiaXPy's reader, of the file without gzip and header", read, check)
