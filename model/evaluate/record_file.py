"""The records on disk: a JSON array, one record a line; what it holds need not be computed again."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from msacat.catalog.errors import InputRejected

FIELDS = (
    "dataset", "regime", "quantity", "g_bin", "method", "against", "n", "bias", "nmad", "nmad_lo", "nmad_hi", "mae",
    "rmse", "outliers", "coverage68", "coverage95", "crps",
    "hallucinated", "seed", "stars", "commit", "date", "seconds", "key",
)  # fmt: skip
BY_BRIGHTNESS = ("msacat", "mfa", "mfa-robust", "mfa-background")
_DIGITS = 5


class Records:
    """Records in memory: of a dataset, regime, method and seed the latest stand."""

    def __init__(self, records: list[dict]):
        self.records = records
        self.keys = {r["key"] for r in records}

    def has(self, key: str) -> bool:
        return key in self.keys

    def add(self, records: list[dict]) -> None:
        """Append; records of the same dataset, regime, method and seed with another key are outdated and go."""
        same = {_place(r) for r in records}
        self.records = [r for r in self.records if _place(r) not in same]
        self.records += [{name: _rounded(r[name]) for name in FIELDS} for r in records]
        self.keys = {r["key"] for r in self.records}

    def adopt(self, records: list[dict]) -> None:
        """Take in what was recorded elsewhere, unless it is known here."""
        by_key: dict[str, list[dict]] = {}
        for r in records:
            by_key.setdefault(r["key"], []).append(r)
        known = {_place(r) for r in self.records}
        for of_key in by_key.values():
            if _place(of_key[0]) not in known:
                self.add(of_key)


class RecordFile(Records):
    """Rewritten whole, through a file beside it, whenever records come: never half-written. `None` keeps them in memory."""

    def __init__(self, path: Path | None):
        super().__init__(read_records(path) if path is not None and path.exists() else [])
        self.path = path

    def add(self, records: list[dict]) -> None:
        super().add(records)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
            lines = ",\n".join(json.dumps(r) for r in self.records if is_published(r))
            partial.write_text(f"[\n{lines}\n]\n", "utf-8")
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


def is_published(record: dict) -> bool:
    """By G only our own and the mixtures: the file would be ten times as large (the store's table holds all)."""
    return record["g_bin"] == "all" or record["method"].split(":")[0] in BY_BRIGHTNESS


def _place(record: dict) -> tuple:
    return record["dataset"].split(":")[0], record["regime"], record["method"], record["seed"]


def _rounded(value: object) -> object:
    """None for what has no end, the score of an endless interval: JSON has no word for it."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value
