"""docs/scale.md: what a store of all Gaia stars takes, extrapolated from what was measured. `python benchmarks/scale_page.py`.

Bytes: pg_total_relation_size of a store whose every star has 18 bands and an XP spectrum (results/store.json).
Hours: seconds of the clock on two processors, of results/speed.json; packing is not in it: processor seconds of its largest
run (results/growth.json), as if nothing of it overlapped.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from harness import REPOSITORY, RESULTS

XP_STARS, ALL_STARS = 220_000_000, 1_800_000_000
PROCESSORS = (2, 16, 64)  # the first: of the machine that was timed
STARS_A_PARTITION = 10_000_000
#: share of all stars with a row: XP spectra, and surveys by their overlap with Gaia
SHARE_OF_ALL = {"survey.xp_continuous": XP_STARS / ALL_STARS}
STAGES = {
    "ingest_published": "ingest gaia_source, csv.gz",
    "ingest_xp": "ingest XP spectra, csv.gz",
    "crossmatch": "crossmatch one survey",
    "pack": "pack the training stream",
    "stream": "read one epoch",
    "train": "train one epoch",
    "enrich": "enrich, verify, index, publish",
}


def main() -> int:
    store = json.loads((RESULTS / "store.json").read_text())
    growth = json.loads((RESULTS / "growth.json").read_text())
    speed = json.loads((RESULTS / "speed.json").read_text())
    (REPOSITORY / "docs" / "scale.md").write_text(page(store, growth, speed))
    return 0


def page(store: list[dict[str, Any]], growth: dict[str, Any], speed: list[dict[str, Any]]) -> str:
    tables = {
        _name(t["table"]): (t["total_bytes"] / t["stars"], t["index_bytes"] / t["stars"])
        for t in store
        if t["rows"] == t["stars"] or "blocks" in t["table"]  # labels are few: they do not count
    }
    lines = [
        "# The store at survey scale",
        "",
        "Made by `python benchmarks/scale_page.py`; extrapolated from measurement, not measured: no store of this size was",
        f"built. Bytes are `pg_total_relation_size` a row of a store of {store[0]['stars']:,} stars, each with 18 bands and an",
        "XP spectrum; seconds are those that each stage took by the clock on two processors ([speed](speed.md)), taken to grow",
        "in proportion to the stars.",
        "",
        "## Disk",
        "",
        "TB for the 220 million stars with XP spectra, and for all 1.8 billion, of which 220 million have a spectrum. A",
        "survey is counted as if it held every star: an upper bound.",
        "",
        "| table | bytes a row | of these index | TB, 220 million | TB, 1.8 billion |",
        "|---|---|---|---|---|",
    ]
    sums = [0.0, 0.0, 0.0]
    for table, (total, index) in tables.items():
        all_rows = ALL_STARS * SHARE_OF_ALL.get(table, 1.0)
        small, large = total * XP_STARS / 1e12, total * all_rows / 1e12
        sums = [sums[0] + small, sums[1] + large, sums[2] + index * all_rows / 1e12]
        lines.append(f"| `{table}` | {total:.0f} | {index:.0f} | {small:.3f} | {large:.2f} |")
    lines += [
        f"| together | | | {sums[0]:.2f} | {sums[1]:.1f} |",
        "",
        f"Indexes: {sums[2]:.2f} TB of the {sums[1]:.1f}. `learned.blocks` is the training stream: it lasts as long as a model",
        "trains and may cover a sample (`--where`).",
        "",
        "## Hours",
        "",
        f"A process of msacat and its server's, on {PROCESSORS[0]} processors: what was timed (`crossmatch`: two workers). On more: so many such pairs, each on its own",
        "chunks, as long as the server's disk keeps up (below). `crossmatch` and `enrich` have `--workers`; ingest is parallel by",
        "starting several `msacat ingest` on different files. Packing and `msacat train` are one process: for more than two",
        "processors their columns, and those of reading, are what the work would take ([model](model.md) says how to train in",
        "several). Packing was not timed on an idle machine: its seconds are the sum of its processors'.",
        "",
        _later_files(speed),
        "",
        "| stage | s a million | of rows | "
        + " | ".join(
            f"{n / 1e9:g} billion, {p} processors" for n in (XP_STARS, ALL_STARS) for p in PROCESSORS
        )
        + " |",
        "|---|---|---|" + "---|" * (2 * len(PROCESSORS)),
    ]
    for stage, words in STAGES.items():
        seconds, rows = _largest(growth, stage) if stage == "pack" else _timed(speed, stage)
        hours = []
        for n in (XP_STARS, ALL_STARS):
            n = min(n, XP_STARS) if stage == "ingest_xp" else n
            hours += [f"{seconds / rows * n * PROCESSORS[0] / p / 3600:.3g}" for p in PROCESSORS]
        lines.append(f"| {words} | {seconds / rows * 1e6:.3g} | {rows:,} | " + " | ".join(hours) + " |")
    enriched = sum(total for name, (total, _) in tables.items() if name.startswith("enriched."))
    gaia = tables.get("survey.gaia_source", (0.0, 0.0))
    lines += [
        "",
        "## Partitions",
        "",
        f"By ranges of source_id, which are patches of sky ([design](design.md)): {STARS_A_PARTITION // 10**6} million stars a partition are 192",
        "partitions of HEALPix level 2 for all stars, 22 for those with spectra. One partition of `survey.gaia_source` is then",
        f"{gaia[0] * STARS_A_PARTITION / 1e9:.1f} GB, its indexes {gaia[1] * STARS_A_PARTITION / 1e9:.1f} GB; one of the widest run tables together",
        f"{enriched * STARS_A_PARTITION / 1e9:.0f} GB. Keys and Q3C indexes of one partition fit a server with 16 GB of memory; those of all",
        f"({sums[2]:.2f} TB) fit none, so work goes partition by partition: archive files, crossmatch stripes, chunks of enrichment",
        "and splits all follow source_id.",
        "",
        "## What runs out first",
        "",
        f"1. **Disk.** {sums[1]:.1f} TB for all stars and surveys with one enrichment run; a second published run beside it adds",
        f"   {enriched * ALL_STARS / 1e12:.1f} TB. Spectra in `real[55]` are the largest part: {2 * 55 * 2 * 4:,} bytes of numbers a star, written twice",
        "   where a run passes published coefficients through.",
        "2. **One server's write rate** in enrichment: a server process takes some 15 microseconds a star for real[] alone, so one",
        "   server saturates at as many writing workers as it has processors. Then: ranges of source_id on several servers.",
        "3. **Training on everything.** An epoch of all stars costs the hours above in reading alone, and far more in steps: train",
        "   on a sample, which `--where` draws; the model's size does not ask for more.",
        "4. Memory does not: every stage works in blocks, and its peak does not depend on the number of stars.",
        "",
        "Not measured: tables larger than memory on a spinning disk, TCP between worker and server, more than two processors.",
        "",
    ]
    return "\n".join(lines)


def _largest(growth: dict[str, Any], stage: str) -> tuple[float, int]:
    """(processor seconds, rows) of the largest run."""
    point = max((p for p in growth["points"] if p["stage"] == stage), key=lambda p: p["rows"])
    return point["cpu_s"], point["rows"]


def _timed(speed: list[dict[str, Any]], stage: str) -> tuple[float, int]:
    """(seconds by the clock, rows) of msacat's side; of training with the default batch, in bfloat16 where it was."""
    mine = [r for r in speed if r["stage"] == stage.replace("_", "-")]
    if stage == "stream":
        mine = [r for r in mine if r["work"].startswith("an epoch")]
    record = min(mine, key=lambda r: (r["rows"], "float32" in r["work"]))
    return record["ours_s"], record["rows"]


def _later_files(speed: list[dict[str, Any]]) -> str:
    found = next((r for r in speed if r["work"].startswith("next file")), None)
    each = (
        "1.25 to 1.45 times as long, by hand, of 200,000 rows"
        if found is None
        else f"{1 / found['ratio']:.2f} times as long, of {found['rows']:,} rows"
    )
    return (
        "Ingest was timed of the first file of an empty store. Later ones write a log and find indexes there: a Parquet file of\n"
        f"gaia_source took {each}; the hours of ingest are without it."
    )


def _name(table: str) -> str:
    """Runs and models are numbered; what they are called is not."""
    return re.sub(r"blocks_\d+", "blocks", re.sub(r"enriched\.r\d+_", "enriched.", table))


if __name__ == "__main__":
    sys.exit(main())
