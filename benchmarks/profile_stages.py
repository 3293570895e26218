"""Where the time goes: one run of msacat's side of each stage, its processor seconds on both ends of the wire.

`python benchmarks/profile_stages.py` writes results/profile.json: the machine's limits (limits.py), and for each stage
the limit that rules it, the seconds it would take at that limit, and the seconds it took.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cpu_accounts import Account, account
from harness import RESULTS, Took, commit, machine, write_json
from limits import MB, limits
from sizes import N_CELLS, mixture_size
from temporary_server import TemporaryServer, temporary_server

ROWS = {"ingest_numeric": 1_000_000, "ingest_published": 100_000, "ingest_xp": 3_000, "crossmatch": 1_000_000,
        "stream": 200_000, "train": 20_000, "enrich": 200_000, "query": 200_000}  # fmt: skip
TEXT_BYTES_A_ROW = {"ingest_published": 1930, "ingest_xp": 39_000}
STREAM_BYTES_A_STAR = 1100
#: times the network's forward pass; the prior has no backward pass
PASSES = {"train": 3, "enrich": 1}


def ideal(stage: str, rows: int, spent: Account, able: dict[str, float]) -> tuple[str, float]:
    """(the limit that rules the stage, seconds the stage would take at it)."""
    mine = (spent.client_cpu_s or 0.0), (spent.server_cpu_s or 0.0)
    ways: dict[str, Callable[[], tuple[str, float]]] = {
        "ingest_numeric": lambda: ("its own server process, never waiting", mine[1]),
        "ingest_published": lambda: ("inflate", rows * TEXT_BYTES_A_ROW[stage] / MB / able["inflate_mb_s"]),
        "ingest_xp": lambda: ("inflate", rows * TEXT_BYTES_A_ROW[stage] / MB / able["inflate_mb_s"]),
        "crossmatch": lambda: ("its own work, both processors busy", sum(mine) / 2),
        "stream": lambda: (
            "wire: a Unix socket",
            rows * 0.7 * STREAM_BYTES_A_STAR / MB / able["socket_mb_s"],
        ),
        "train": lambda: ("FLOPs, float32", rows * gflop_a_star(stage) / able["matmul_gflop_s"]),
        "enrich": lambda: ("FLOPs, float32", rows * gflop_a_star(stage) / able["matmul_gflop_s"]),
        "query": lambda: ("round trips and one plan", 5 * 30e-6),
    }
    return ways[stage]()


def gflop_a_star(stage: str) -> float:
    prior, network = forward_gflop()
    return prior + PASSES[stage] * network


def forward_gflop(cells: int = N_CELLS) -> tuple[float, float]:
    """Of one star: the prior's matrix products (twice: once more after an outlier was dropped) and the network's."""
    components, latent = mixture_size()
    pairs = latent * (latent + 1) // 2
    prior = components * (2 * 2 * cells * pairs + 3 * 2 * cells * latent + latent**3)
    network = 2 * (
        6 * cells * 384 + 8 * 384 * 384 + 2 * 384 * 64 + 384 * 2 * cells + 6 * cells * 256 + 4 * 256 * 256
    )
    return 2 * prior / 1e9, network / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--stage", action="append", choices=ROWS)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual rows")
    parser.add_argument("--note", default="", help="a sentence on the conditions, for the page")
    parser.add_argument("--out", type=Path, default=RESULTS / "profile.json")
    asked = parser.parse_args()
    stages: list[dict[str, Any]] = []
    with temporary_server(asked.folder) as server, tempfile.TemporaryDirectory(dir=server.folder) as files:
        Path(files).chmod(0o755)
        able = limits(Path(files))
        for stage in asked.stage or ROWS:
            rows = max(100, int(asked.scale * ROWS[stage]))
            spent = profile(server, stage, rows, Path(files))
            limit, seconds = ideal(stage, rows, spent, able)
            stages.append(
                {"stage": stage, "rows": rows, "limit": limit, "at_limit_s": seconds, **asdict(spent)}
            )
            print(stages[-1], file=sys.stderr, flush=True)
    found = {"machine": machine(), "note": asked.note, "commit": commit(), "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
             "limits": able, "stages": stages}  # fmt: skip
    write_json(asked.out, found)
    return 0


def profile(server: TemporaryServer, stage: str, rows: int, folder: Path) -> Account:
    """The second of two runs: caches and plans are warm. Both are checked."""
    side = importlib.import_module(stage).ours(server, rows, folder)
    for _ in range(2):
        if side.before is not None:
            side.before()
        results: list[Any] = []
        spent = account(server, lambda found=results: found.append(side.run()))
        took = results[0]
        side.check(took.result if isinstance(took, Took) else took)
    if not isinstance(took, Took):
        return spent
    return replace(spent, seconds=took.seconds, client_cpu_s=None, server_cpu_s=None, written_mb=None, top=[])


if __name__ == "__main__":
    sys.exit(main())
