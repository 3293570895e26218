"""What parallax and proper motion are worth: the stored weights, asked about the same test stars with and without them.

No other method of docs/accuracy.md is given them. The network has seen three stars in ten without, so that it knows how to
do without; one trained without them throughout might do a little better than it does here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.evaluate.accuracy_tables import Summary, summarise
from msacat.model.evaluate.compare_methods import compare_methods
from msacat.model.evaluate.evaluation_data import EvaluationData
from msacat.model.evaluate.opponents.own_model import OwnModel
from msacat.model.predict_stars import StarModel


def astrometry_worth(data: EvaluationData, weights: Path, regimes: Sequence[str]) -> list[dict]:
    """One row a regime: NMAD against the truth and share of truths inside 68 % intervals, of all and without."""
    bare = replace(data, test=without_astrometry(data.test, data.features.scales_with_distance))
    whole, blind = (_summaries(stars, weights, regimes) for stars in (data, bare))
    return [
        {"regime": regime, "nmad": whole[regime].nmad, "nmad_without": blind[regime].nmad,
         "coverage68": whole[regime].coverage68, "coverage68_without": blind[regime].coverage68}
        for regime in regimes if regime in whole
    ]  # fmt: skip


def without_astrometry(stars: StarBlock, angle_S: np.ndarray) -> StarBlock:
    """A copy in which the scalars `angle_S` are not measured."""
    value, err = stars.scalar_BS.copy(), stars.scalar_err_BS.copy()
    value[:, angle_S], err[:, angle_S] = np.nan, np.nan
    return replace(stars, scalar_BS=value, scalar_err_BS=err)


def _summaries(data: EvaluationData, weights: Path, regimes: Sequence[str]) -> dict[str, Summary]:
    model = OwnModel(StarModel.load(weights, "cpu"), "stored")
    records = [
        r | {"seed": data.seed} for found in compare_methods([data], [model], list(regimes)) for r in found
    ]
    return {s.regime: s for s in summarise(records) if s.dataset == data.name}
