"""truth.parquet of a simulated sky, in the order of some stars. Read by evaluation and by nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from msacat.catalog.errors import InputRejected
from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures

TRUTH_FILE = "truth.parquet"


@dataclass
class Truth:
    """mag_BM float64 (NaN: no truth for that band), xp_BK, class_B ("star", "quasar", …)."""

    mag_BM: np.ndarray
    xp_BK: np.ndarray
    class_B: np.ndarray

    def take(self, index: np.ndarray) -> Truth:
        """The stars at `index`, in that order."""
        return Truth(self.mag_BM[index], self.xp_BK[index], self.class_B[index])


def truth_of(sky: Path, source_id_B: np.ndarray, features: StarFeatures) -> Truth:
    """The truth behind the stars; InputRejected where the file is missing or lacks one of them."""
    ids, whole = _read(sky, features)
    order = np.argsort(ids)
    at = np.minimum(np.searchsorted(ids[order], source_id_B), len(ids) - 1)
    rows = order[at]
    if len(missing := source_id_B[ids[rows] != source_id_B]):
        raise InputRejected("the truth lacks stars of the store", file=str(sky / TRUTH_FILE), column="source_id",
                            found=f"{len(missing)} are missing, the first {missing[0]}",
                            next_step="give the --sky the store was filled from")  # fmt: skip
    return whole.take(rows)


def noise_free_stars(sky: Path, features: StarFeatures) -> StarBlock:
    """Every star of the sky as if measured without error."""
    ids, truth = _read(sky, features)
    keep = truth.class_B == "star"
    stars = StarBlock.empty(int(keep.sum()), len(features.bands), len(features.scalars), len(features.labels))
    stars.source_id_B[:] = ids[keep]
    stars.mag_BM[:], stars.mag_err_BM[:] = truth.mag_BM[keep], 0.0
    stars.xp_BK[:], stars.xp_err_BK[:] = truth.xp_BK[keep], 0.0
    return stars


def _read(sky: Path, features: StarFeatures) -> tuple[np.ndarray, Truth]:
    path = _truth_file(sky)
    schema = pq.read_schema(path).names
    bands = [name for name in features.band_names if name in schema]
    halves = ["bp_coefficients", "rp_coefficients"]
    table = pq.read_table(path, columns=["source_id", "class", *bands, *halves])
    ids = table["source_id"].to_numpy()
    mag = np.full((len(ids), len(features.bands)), np.nan)
    for m, name in enumerate(features.band_names):
        if name in bands:
            mag[:, m] = table[name].to_numpy()
    xp = [table[half].combine_chunks().flatten().to_numpy().reshape(len(ids), K // 2) for half in halves]
    return ids, Truth(
        mag, np.concatenate(xp, axis=1).astype(np.float64), np.array(table["class"].to_pylist(), object)
    )


def fingerprint(sky: Path) -> str:
    """sha256 of truth.parquet: which sky this is."""
    with open(_truth_file(sky), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _truth_file(sky: Path) -> Path:
    path = sky / TRUTH_FILE
    if not path.is_file():
        raise InputRejected("no truth beside the survey files", file=str(path), expected="a simulated sky's folder",
                            next_step="msacat simulate DIR")  # fmt: skip
    return path
