"""The product's own model as a method: what `msacat enrich` would write, intervals included."""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess
from msacat.model.evaluate.metrics import ONE_68, ONE_95
from msacat.model.predict_stars import StarModel


class OwnModel:
    """A trained model; fit() only re-maps it to the store's bands.

    identity   sha256 of the model's manifest: another training is another method to the records
    """

    per_regime = partial = conventional = False

    def __init__(self, model: StarModel, identity: str, name: str = "msacat"):
        self.model, self.identity, self.name = model, identity, name

    def settings(self) -> dict:
        return {"model": self.identity}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.model = self.model.remap(features)

    def predict(self, block: StarBlock) -> Guess:
        found = self.model.predict(block)
        xp_err = found.xp_err_BK.astype(np.float64)
        return Guess(
            found.mag_BM.astype(np.float64),
            found.xp_BK.astype(np.float64),
            found.err68_BM.astype(np.float64),
            found.err95_BM.astype(np.float64),
            xp_err,
            xp_err * ONE_95 / ONE_68,
        )
