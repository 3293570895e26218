"""The records on disk: a JSON array, one record a line; what it holds need not be computed again."""

from __future__ import annotations

import json
import os
from pathlib import Path

from msacat.catalog.errors import InputRejected

FIELDS = (
    "dataset", "regime", "quantity", "g_bin", "method", "against", "n", "bias", "nmad", "nmad_lo", "nmad_hi", "mae",
    "rmse", "outliers", "coverage68", "coverage95", "crps",
    "hallucinated", "seed", "stars", "commit", "date", "seconds", "key",
)  # fmt: skip
_DIGITS = 5


class RecordFile:
    """Rewritten whole, through a file beside it, whenever records come: never half-written. `None` keeps them in memory."""

    def __init__(self, path: Path | None):
        self.path = path
        self.records: list[dict] = read_records(path) if path is not None and path.exists() else []
        self.keys = {r["key"] for r in self.records}

    def has(self, key: str) -> bool:
        return key in self.keys

    def add(self, records: list[dict]) -> None:
        """Append; records of the same dataset, regime, method and seed with another key are outdated and go."""
        same = {(r["dataset"], r["regime"], r["method"], r["seed"]) for r in records}
        self.records = [
            r for r in self.records if (r["dataset"], r["regime"], r["method"], r["seed"]) not in same
        ]
        self.records += [{name: _rounded(r[name]) for name in FIELDS} for r in records]
        self.keys = {r["key"] for r in self.records}
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
            partial.write_text("[\n" + ",\n".join(json.dumps(r) for r in self.records) + "\n]\n", "utf-8")
            partial.replace(self.path)


def read_records(path: Path) -> list[dict]:
    """Raises InputRejected for a file that is not a list of records."""
    try:
        records = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise InputRejected("not a file of records", file=str(path), found=str(error)) from None
    if not isinstance(records, list) or not all(
        isinstance(r, dict) and set(FIELDS) <= set(r) for r in records
    ):
        raise InputRejected("not a file of records", file=str(path), expected="a JSON array of " + ", ".join(FIELDS),
                            next_step="name another --record file")  # fmt: skip
    return records


def _rounded(value: object) -> object:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
