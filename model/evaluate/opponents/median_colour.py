"""The least one can do: G plus the median colour of the training stars."""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.scaled_table import ScaledTable


class MedianColour(Method):
    """Scaled cells are centred by their median: the guess is 0 everywhere."""

    name = "median_colour"

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.table = ScaledTable.fit(train, features)

    def predict(self, block: StarBlock) -> Guess:
        values, norm = self.table.encode(block)
        return Guess(*self.table.decode(np.zeros_like(values), norm))
