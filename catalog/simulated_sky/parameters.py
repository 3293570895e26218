"""The one committed file of numbers behind the simulated sky, and its fingerprint."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "parameters.toml"


@dataclass(frozen=True)
class Parameters:
    """parameters.toml: its tables by name, and the sha256 of the file that a sky quotes."""

    values: dict[str, Any]
    sha256: str

    def __getitem__(self, table: str) -> Any:
        return self.values[table]


def pair(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The two numbers of a range, or of a mean and its sigma, to unpack into a random generator's arguments."""
    first, second = values
    return float(first), float(second)


@cache
def load_parameters() -> Parameters:
    raw = FILE.read_bytes()
    return Parameters(tomllib.loads(raw.decode()), hashlib.sha256(raw).hexdigest())
