"""Repeat the published tables of accuracy: `python benchmarks/accuracy.py` (make evaluate, make evaluate-full).

Scores the stored weights on every dataset and seed, into benchmarks/results/accuracy.json and docs/accuracy.md. What
an opponent said is in the records already; with --full whatever is not recorded is trained and asked: hours. Both go
on where they were interrupted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "accuracy.json"
WEIGHTS = REPOSITORY / "benchmarks" / "weights"  # <dataset>-<seed>: a model's folder
PAGE = REPOSITORY / "docs" / "accuracy.md"
SEEDS = (0, 1, 2)
SKIES = {"sky": ["--clean"], "sky-dirty": []}
SKY_STARS, SKY_SEED, LIBRARY_STARS, LIBRARY_SEED = 200_000, 11, 300_000, 12
FLOOR_STARS = 1000  # test stars of the clean sky that the oracle is asked about, and the mixture beside it
MINUTES = {"sky": 50, "sky-dirty": 50, "apogee": 30, "m67": 2}  # of each training


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="train and ask whatever is not recorded")
    parser.add_argument(
        "--work", type=Path, default=REPOSITORY / "build" / "evaluation", help="skies, stars, answers"
    )
    parser.add_argument("--m67", type=Path, help="m67_flat.csv; M67 is left out without it")
    asked = parser.parse_args()
    for name, options in SKIES.items():
        sky = _sky(asked.work / name, SKY_STARS, SKY_SEED, options)
        for seed in SEEDS:
            _evaluate(asked, name, seed, ["--sky", sky])
    if asked.full:
        library = _sky(asked.work / "library", LIBRARY_STARS, LIBRARY_SEED, ["--clean"])
        floor = ["--sky", asked.work / "sky", "--test-stars", FLOOR_STARS, "--oracle", library]
        _evaluate(asked, "sky", 0, floor, "msacat,mfa,oracle")
    _evaluate(asked, "apogee", 0, ["--apogee", asked.work / "apogee"])
    if asked.m67:
        _evaluate(asked, "m67", 0, ["--m67", asked.m67], needs_weights=False)
    return 0


def _sky(folder: Path, stars: int, seed: int, options: list[str]) -> Path:
    if not folder.is_dir():
        _msacat("simulate", folder, "--stars", stars, "--seed", seed, *options)
    return folder


def _evaluate(
    asked: argparse.Namespace,
    dataset: str,
    seed: int,
    stars: list,
    methods: str = "",
    needs_weights: bool = True,
) -> None:
    """One `msacat evaluate`; without --full only our own method, and only with stored weights."""
    weights = WEIGHTS / f"{dataset}-{seed}"
    own = (
        ["--model", weights]
        if weights.is_dir() and needs_weights
        else ["--seed", seed, "--minutes", MINUTES[dataset]]
    )
    if not asked.full:
        if needs_weights and not weights.is_dir():
            print(f"{dataset}, seed {seed}: no weights in {weights}; --full trains them", file=sys.stderr)
            return
        methods = "msacat,msacat:probe" if dataset == "apogee" else "msacat"
    some = ["--methods", methods] if methods else []
    _msacat(
        "evaluate", *stars, *own, *some, "--cache", asked.work / "cache", "--record", RESULTS, "--page", PAGE
    )


def _msacat(*arguments: object) -> None:
    command = [sys.executable, "-m", "msacat", *map(str, arguments)]
    print("+ " + " ".join(command[1:]), file=sys.stderr, flush=True)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())
