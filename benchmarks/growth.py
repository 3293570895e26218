"""How the cost of each stage grows with its work: processor seconds at 10^4 … 10^7 rows, and the fitted exponent.

Processor time of client and server together, not wall time: it means the same on a busy machine. Fixed costs (a
connection, a plan, a schema) bend the small end down, so the exponent of the last step stands beside the fitted one.
`python benchmarks/growth.py` merges its points into results/growth.json. Bytes a star are measured on the way:
results/store.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from cpu_accounts import account
from harness import RESULTS, Side, Took, commit, write_json
from made_up_store import made_up_store
from temporary_server import TemporaryServer, temporary_server

#: rows by stage; 10^7 only where the disk and the minutes allow
SIZES = {
    "ingest_numeric": (10_000, 100_000, 1_000_000, 10_000_000),
    "ingest_published": (10_000, 100_000, 500_000),
    "ingest_xp": (300, 3_000, 15_000),
    "crossmatch": (10_000, 100_000, 1_000_000, 10_000_000),
    "pack": (10_000, 100_000, 500_000),
    "stream": (10_000, 100_000, 500_000),
    "train": (10_000, 30_000),
    "enrich": (10_000, 100_000, 300_000),
    "query": (10_000, 100_000, 1_000_000),
}
QUERIES = 50


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--stage", action="append", choices=SIZES)
    parser.add_argument("--least", type=int, default=0, help="leave out sizes below this")
    parser.add_argument("--most", type=int, default=10_000_000, help="leave out sizes beyond this")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    path = asked.out / "growth.json"
    grown: list[dict[str, Any]] = json.loads(path.read_text())["points"] if path.exists() else []
    for n in sorted({n for sizes in SIZES.values() for n in sizes if asked.least <= n <= asked.most}):
        with (
            temporary_server(asked.folder) as server,
            tempfile.TemporaryDirectory(dir=server.folder) as files,
        ):
            Path(files).chmod(0o755)
            for stage in asked.stage or SIZES:
                if n in SIZES[stage]:
                    point = measure(server, stage, n, Path(files))
                    grown = [g for g in grown if (g["stage"], g["rows"]) != (stage, n)] + [point]
                    print(point, file=sys.stderr, flush=True)
                    write_json(path, summary(sorted(grown, key=lambda g: (g["stage"], g["rows"]))))
            if n == 100_000 and "enrich" in (asked.stage or SIZES):
                write_json(asked.out / "store.json", bytes_a_star(server, n))
    return 0


def measure(server: TemporaryServer, stage: str, n: int, folder: Path) -> dict[str, Any]:
    """One run of msacat's side alone, checked."""
    side = packing(server, n) if stage == "pack" else importlib.import_module(stage).ours(server, n, folder)
    if side.before is not None:
        side.before()
    repeats = QUERIES if stage == "query" else 1
    results: list[Any] = []
    spent = account(server, lambda: results.extend(side.run() for _ in range(repeats)))
    for result in results:
        side.check(result.result if isinstance(result, Took) else result)
    if isinstance(results[0], Took):  # what is to be counted is a part of the run, timed by the side itself
        seconds = results[0].seconds
        return {"stage": stage, "rows": n, "cpu_s": seconds, "wall_s": seconds} | stamp()
    return {"stage": stage, "rows": n, "cpu_s": (spent.client_cpu_s + spent.server_cpu_s) / repeats,
            "wall_s": spent.seconds / repeats} | stamp()  # fmt: skip


def packing(server: TemporaryServer, n: int) -> Side:
    """The shuffled snapshot that training reads: once a model."""
    from stream import pack

    store = made_up_store(server, n)

    def check(stream) -> None:
        assert sum(stream.n_stars(part) for part in ("train", "calibrate", "test")) == n

    return Side("msacat", lambda: pack(store, f"packed anew {n}"), check)


def summary(grown: list[dict[str, Any]]) -> dict[str, Any]:
    stages: dict[str, Any] = {}
    for stage in SIZES:
        points = [(g["rows"], g["cpu_s"]) for g in grown if g["stage"] == stage]
        if len(points) > 1:
            x, y = np.log([p[0] for p in points]), np.log([p[1] for p in points])
            (n1, s1), (n2, s2) = points[-2:]
            stages[stage] = {"exponent": float(np.polyfit(x, y, 1)[0]),
                             "last_exponent": math.log(s2 / s1) / math.log(n2 / n1)}  # fmt: skip
    return {"stages": stages, "points": grown}


def stamp() -> dict[str, str]:
    """Of a point, not of the file: points of several days stand in it."""
    return {"commit": commit(), "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")}


def bytes_a_star(server: TemporaryServer, n: int) -> list[dict[str, Any]]:
    """Table, TOAST and indexes of every relation that grows with the stars, in the store the stages left behind."""
    store = made_up_store(server, n)
    import enrich

    with tempfile.TemporaryDirectory(dir=server.folder) as folder:
        mine = enrich.Ours(store, Path(folder))
        mine.side().run()
    with psycopg.connect(store.dsn, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")
        rows = conn.execute(
            "SELECT n.nspname || '.' || c.relname, c.reltuples::bigint, pg_total_relation_size(c.oid), "
            "pg_indexes_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind = 'r' AND n.nspname IN ('survey', 'matched', 'learned', 'enriched') AND c.reltuples > 0 "
            "AND pg_total_relation_size(c.oid) > 1000000 ORDER BY 3 DESC"
        ).fetchall()
    return [
        {"table": name, "rows": count, "stars": n, "total_bytes": total, "index_bytes": indexes}
        for name, count, total, indexes in rows
    ]


if __name__ == "__main__":
    sys.exit(main())
