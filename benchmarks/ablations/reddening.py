"""E(B−V) as the simulated sky has it: the whole column of dust behind each star, as wrong as a map's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from msacat.catalog.healpix import nested_centre_deg
from msacat.catalog.simulated_sky.parameters import load_parameters
from msacat.catalog.simulated_sky.sky_positions import Positions, dust_columns
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import ScalarFeature
from msacat.model.evaluate.evaluation_data import EvaluationData

R_V = 3.1
RELATIVE_ERROR = 0.16  # as of the map of Schlegel, Finkbeiner & Davis
ID_LEVEL, ID_SHIFT = 12, 35  # a source_id begins with its pixel


def with_reddening(data: EvaluationData, sky_seed: int) -> EvaluationData:
    """The same stars with one more scalar, `ebv` (mag)."""
    features = replace(data.features, scalars=(*data.features.scalars, ScalarFeature("ebv", "mag")))
    parts = {part: _add(getattr(data, part), sky_seed) for part in ("train", "calibrate", "test")}
    return replace(data, features=features, **parts)


def _add(block: StarBlock, sky_seed: int) -> StarBlock:
    ra, dec = nested_centre_deg(ID_LEVEL, block.source_id_B >> ID_SHIFT)
    ebv = dust_columns(Positions(block.source_id_B, ra, dec), sky_seed, load_parameters()) / R_V
    wrong_by = np.random.default_rng([sky_seed, len(block)]).standard_normal(len(block))
    ebv = np.maximum(ebv * (1 + RELATIVE_ERROR * wrong_by), 0.0)
    return replace(
        block,
        scalar_BS=np.column_stack([block.scalar_BS, ebv]).astype(np.float32),
        scalar_err_BS=np.column_stack([block.scalar_err_BS, RELATIVE_ERROR * ebv + 1e-3]).astype(np.float32),
    )
