"""Run the benchmarks: `python benchmarks/run_benchmarks.py --size full`, one stage or all (`make bench`).

Results go to benchmarks/results/speed.json, of which speed_page.py makes docs/speed.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it; read when torch is loaded

from bars import bar_of
from harness import RESULTS, Record, write_records
from sizes import SIZES
from temporary_server import temporary_server

STAGES = (
    "ingest_numeric",
    "ingest_published",
    "ingest_xp",
    "crossmatch",
    "stream",
    "train",
    "enrich",
    "query",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--stage", choices=STAGES, action="append", help="may be repeated; default all")
    parser.add_argument(
        "--out",
        type=Path,
        help="a file of records, of which the stages asked for are replaced; default of full size: results/speed.json",
    )
    parser.add_argument("--folder", type=Path, help="where the temporary server lies; default: TMPDIR")
    asked = parser.parse_args(arguments)
    if asked.out is None and asked.size != "full":
        parser.error(f"--size {asked.size} needs --out: results/speed.json holds full sizes only")
    out = asked.out or RESULTS / "speed.json"
    with temporary_server(asked.folder) as server, tempfile.TemporaryDirectory(dir=server.folder) as files:
        Path(files).chmod(0o755)
        for stage in asked.stage or STAGES:
            began = time.monotonic()
            records = importlib.import_module(stage).run(server, SIZES[asked.size], Path(files))
            write_records(records, out)
            for record in records:
                print(_line(record), flush=True)
            print(f"  ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    return 0


def _line(record: Record) -> str:
    bar = bar_of(record.stage, record.peer)
    aim = "" if bar is None else f" (bar {bar:.3g}{'' if record.ratio >= bar else ', missed'})"
    return (
        f"{record.stage}: {record.ratio:.2f}{aim}: {record.ours_s:.4g} s against {record.peer_s:.4g} s, "
        f"{record.peer}; {record.work}; {record.rows} rows; {record.peak_mb:.0f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
