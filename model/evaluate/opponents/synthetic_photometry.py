"""GaiaXPy's synthetic magnitude of the star's own spectrum, where it has one and the filter lies inside it."""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.synthetic_bands import SyntheticBands


class SyntheticPhotometry(Method):
    """No fit: a linear map of the coefficients (catalog/xp)."""

    name = "gaiaxpy"
    partial = True  # it answers for too few cells to enter a mean over bands

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.synthetic = SyntheticBands.of(features)

    def predict(self, block: StarBlock) -> Guess:
        mag, _ = self.synthetic.from_spectra(block, self.synthetic.has_row, np.zeros(K))
        return Guess(mag, np.full(block.xp_BK.shape, np.nan))
