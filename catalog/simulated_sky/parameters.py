"""The one committed file of numbers behind the simulated sky, and its fingerprint."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "parameters.toml"


@dataclass(frozen=True)
class Parameters:
    """parameters.toml: its tables by name, and the sha256 of the file that a sky quotes."""

    values: dict[str, Any]
    sha256: str

    def __getitem__(self, table: str) -> Any:
        return self.values[table]


@cache
def load_parameters() -> Parameters:
    raw = FILE.read_bytes()
    return Parameters(tomllib.loads(raw.decode()), hashlib.sha256(raw).hexdigest())
