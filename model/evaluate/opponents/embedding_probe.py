"""A linear probe: what of [Fe/H] can be read off the embedding by a straight line."""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.opponents.own_model import OwnModel, TrainedHere
from msacat.model.evaluate.regimes import cases, fe_h_of

RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # of the mean diagonal


class EmbeddingProbe(Method):
    """Ridge regression of [Fe/H] on the embedding of stars masked as the regime masks them."""

    name = "msacat:probe"
    per_regime = True
    imputes = False
    labels = True

    def __init__(self, own: OwnModel | TrainedHere):
        self.own = own

    def settings(self) -> dict:
        return self.own.settings() | {"ridges": RIDGES}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.own.fit(train, calibrate, features, regime, seed)
        (x, y), (x_choose, y_choose) = (
            self._known(part, features, regime, seed) for part in (train, calibrate)
        )
        gram, moment = x.T @ x, x.T @ y
        size = np.trace(gram) / len(gram)
        weights = [np.linalg.solve(gram + ridge * size * np.eye(len(gram)), moment) for ridge in RIDGES]
        off = [np.abs(x_choose @ w - y_choose).mean() for w in weights]
        self.weights = weights[int(np.argmin(off))]

    def predict(self, block: StarBlock) -> Guess:
        nothing = np.full(block.mag_BM.shape, np.nan), np.full(block.xp_BK.shape, np.nan)
        return Guess(*nothing, fe_h_B=self._design(block) @ self.weights)

    def _known(self, stars: StarBlock, features: StarFeatures, regime: str, seed: int):
        (case,) = cases(stars, features, regime, seed)
        return self._design(case.block), fe_h_of(stars.take(case.row_B), features)[0]

    def _design(self, block: StarBlock) -> np.ndarray:
        embedding = self.own.embedding(block)
        return np.concatenate([embedding, np.ones((len(embedding), 1))], axis=1)
