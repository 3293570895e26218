"""The colour locus: every other colour as a cubic in BP − G, RP − G and G."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.scaled_table import ScaledTable

DEGREE = 3
CLIP_SIGMA, CLIPPINGS = 4.0, 3
MAX_INPUT = 4.0  # robust widths: a cubic runs away beyond the stars it was fitted to


class ColourLocus(Method):
    """Least squares with clipped outliers; a hidden BP or RP is taken at its median."""

    name = "colour_locus"

    def settings(self) -> dict:
        return {"degree": DEGREE}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.table = ScaledTable.fit(train, features)
        scaling = self.table.scaling
        survey = features.bands[scaling.reference].survey
        self.inputs = [m for m, band in enumerate(features.bands) if band.survey == survey]
        values, _ = self.table.encode(train)
        design = self._design(values)
        complete = np.isfinite(values[:, self.inputs]).all(1)
        self.weights = np.zeros((design.shape[1], values.shape[1]))
        for column in range(values.shape[1]):
            use = complete & np.isfinite(values[:, column])
            if use.sum() > 3 * design.shape[1]:
                self.weights[:, column] = _clipped_fit(design[use], values[use, column])

    def predict(self, block: StarBlock) -> Guess:
        values, norm = self.table.encode(block)
        return Guess(*self.table.decode(self._design(values) @ self.weights, norm))

    def _design(self, values: np.ndarray) -> np.ndarray:
        x = np.clip(np.nan_to_num(values[:, self.inputs]), -MAX_INPUT, MAX_INPUT)
        columns = [np.ones(len(x))]
        for degree in range(1, DEGREE + 1):
            for chosen in combinations_with_replacement(range(x.shape[1]), degree):
                columns.append(np.prod(x[:, chosen], axis=1))
        return np.stack(columns, axis=1)


def _clipped_fit(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    use = np.ones(len(target), bool)
    weights = np.zeros(design.shape[1])
    for _ in range(CLIPPINGS):
        weights = np.linalg.lstsq(design[use], target[use], rcond=1e-8)[0]
        residual = np.abs(target - design @ weights)
        use = residual <= CLIP_SIGMA * 1.4826 * np.median(residual) + 1e-12
    return weights
