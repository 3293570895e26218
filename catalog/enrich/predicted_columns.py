"""What a model says of a block of stars, as the columns of a run's tables."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from msacat.catalog.enrich.enriched_tables import BandInfo, columns_of
from msacat.catalog.surveys.error_units import ONE_95
from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures

HALF = K // 2


class Predicted(Protocol):
    """What a model says of a block of stars (see model/predict_stars.py); arrays in the order of the features."""

    mag_BM: np.ndarray
    err68_BM: np.ndarray
    err95_BM: np.ndarray
    observed_BM: np.ndarray
    suspect_BM: np.ndarray
    no_support_BM: np.ndarray
    through_xp_BM: np.ndarray
    xp_BK: np.ndarray
    xp_err_BK: np.ndarray
    bp_observed_B: np.ndarray
    rp_observed_B: np.ndarray
    embedding_BE: np.ndarray
    has_input_B: np.ndarray
    fe_h_B: np.ndarray
    fe_h_lo_B: np.ndarray
    fe_h_hi_B: np.ndarray
    teff_B: np.ndarray
    teff_err_B: np.ndarray
    logg_B: np.ndarray
    logg_err_B: np.ndarray
    label_suspect_B: np.ndarray


def predicted_columns(
    kind: str,
    bands: list[BandInfo],
    run_id: int,
    block: StarBlock,
    shared_BM: np.ndarray,
    p: Predicted,
    features: StarFeatures,
) -> dict[str, np.ndarray]:
    """Every column of the run's table of this kind, in its order; NaN where the table has NULL.

    A measurement that the star shares with others (`shared_BM`), unknown to the model, is what it is, and suspect.
    """
    n = len(block)
    values: dict[str, np.ndarray] = {
        "source_id": np.asarray(block.source_id_B, np.int64),
        "run_id": np.full(n, run_id, np.int64),
    }
    if kind == "magnitudes":
        place = {name: i for i, name in enumerate(features.band_names)}
        for band in bands:
            i = place[band.name]
            for name, predicted, measured in (
                (band.name, p.mag_BM, block.mag_BM[:, i]),
                (f"{band.name}_err", p.err68_BM, block.mag_err_BM[:, i]),
                (f"{band.name}_err95", p.err95_BM, ONE_95 * block.mag_err_BM[:, i]),
            ):
                values[name] = _real(np.where(shared_BM[:, i], measured, predicted[:, i]))
        bit_of = {band.name: band.bit for band in bands}
        bits = [bit_of[name] for name in features.band_names]
        values["observed"] = _bits(p.observed_BM | shared_BM, bits)
        values["suspect"] = _bits(p.suspect_BM | shared_BM, bits)
        values["no_support"] = _bits(p.no_support_BM & ~shared_BM, bits)
        values["through_xp"] = _bits(p.through_xp_BM & ~shared_BM, bits)
        values["has_input"] = np.asarray(p.has_input_B, bool)
    elif kind == "xp_coefficients":
        for half, part in (("bp", slice(0, HALF)), ("rp", slice(HALF, K))):
            values[f"{half}_coefficients"] = _real(p.xp_BK[:, part])
            values[f"{half}_coefficient_errors"] = _real(p.xp_err_BK[:, part])
        values["bp_observed"] = np.asarray(p.bp_observed_B, bool)
        values["rp_observed"] = np.asarray(p.rp_observed_B, bool)
    elif kind == "embeddings":
        values["embedding"] = _real(p.embedding_BE)
    else:
        for name in ("fe_h", "fe_h_lo", "fe_h_hi", "teff", "teff_err", "logg", "logg_err"):
            values[name] = _real(getattr(p, f"{name}_B"))
        values["suspect"] = np.asarray(p.label_suspect_B, bool)
    return {column.name: values[column.name] for column in columns_of(kind, bands)}


def _real(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def _bits(flags_BM: np.ndarray, bits: list[int]) -> np.ndarray:
    return flags_BM @ np.left_shift(np.int64(1), np.asarray(bits, np.int64))
