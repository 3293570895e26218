"""The real stars of the open cluster M67: one table of six surveys' bands, judged by cross-validation.

A CSV with `gaia_dr2_source_id` and a column and error `e_…` a band, empty where not measured. Its Gaia errors are
placeholders; every error is at least 0.003 mag (Gaia) or 0.01 mag (others).
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np

from msacat.catalog.errors import InputRejected
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import BandFeature, StarFeatures
from msacat.model.evaluate.evaluation_data import EvaluationData

#: band (as the survey files know it; AllWISE stands for CatWISE) -> the table's column
COLUMNS = {
    "gaia_g": "G", "gaia_bp": "BP", "gaia_rp": "RP", "sdss_u": "u_sdss", "sdss_g": "g_sdss", "sdss_r": "r_sdss",
    "sdss_i": "i_sdss", "sdss_z": "z_sdss", "ps1_g": "g_ps1", "ps1_r": "r_ps1", "ps1_i": "i_ps1", "ps1_z": "z_ps1",
    "ps1_y": "y_ps1", "twomass_j": "J", "twomass_h": "H", "twomass_ks": "Ks", "catwise_w1": "W1_allwise",
    "catwise_w2": "W2_allwise",
}  # fmt: skip
FLOOR_GAIA, FLOOR = 0.003, 0.01  # mag
FOLDS = 5
CALIBRATE_SHARE = 0.125  # of a fold's training stars


def m67_folds(path: Path, seed: int) -> list[EvaluationData]:
    """Five folds by hash of the Gaia id; in each, four fifths to learn from (an eighth of them to choose by)."""
    stars, features = _read(path)
    with open(path, "rb") as file:
        fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    u = np.array([_unit_hash(f"{seed}:{source_id}") for source_id in stars.source_id_B.tolist()])
    fold = (u * FOLDS).astype(int)
    chooses = (u * FOLDS) % 1 < CALIBRATE_SHARE
    return [
        EvaluationData(
            "m67", fingerprint, features, stars.take((fold != f) & ~chooses), stars.take((fold != f) & chooses),
            stars.take(fold == f), None, 1, seed,
        )
        for f in range(FOLDS)
    ]  # fmt: skip


def _read(path: Path) -> tuple[StarBlock, StarFeatures]:
    if not path.is_file():
        raise InputRejected("the table of M67 is not here", file=str(path), expected="m67_flat.csv")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = [
        "gaia_dr2_source_id",
        *(name for column in COLUMNS.values() for name in (column, f"e_{column}")),
    ]
    if not rows or (missing := [name for name in wanted if name not in rows[0]]):
        raise InputRejected("not the table of M67", file=str(path), expected=", ".join(wanted),
                            found="no rows" if not rows else f"no {', '.join(missing)}")  # fmt: skip
    first = {row["gaia_dr2_source_id"]: row for row in reversed(rows)}  # a repeated star counts once
    rows = list(reversed(first.values()))
    specs = [(spec.name, band) for spec in builtin_specs().values() for band in spec.bands]
    bands = tuple(
        BandFeature(b.name, survey, b.wavelength_nm, b.typical_err, 0.0)
        for name in COLUMNS
        for survey, b in specs
        if b.name == name
    )
    features = StarFeatures("gaia_g", bands, xp=False)
    stars = StarBlock.empty(len(rows), len(bands), 0, 0)
    stars.source_id_B[:] = [int(row["gaia_dr2_source_id"]) for row in rows]
    for m, (name, column) in enumerate(COLUMNS.items()):
        mag = np.array([float(row[column] or "nan") for row in rows])
        error = np.array([float(row[f"e_{column}"] or "nan") for row in rows])
        stars.mag_BM[:, m] = mag
        floor = FLOOR_GAIA if name.startswith("gaia_") else FLOOR
        stars.mag_err_BM[:, m] = np.where(np.isfinite(mag), np.fmax(error, floor), np.nan)
    return stars, features


def _unit_hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
