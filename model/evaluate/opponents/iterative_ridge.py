"""Iterative conditional regression: scikit-learn's IterativeImputer with BayesianRidge."""

from __future__ import annotations

import warnings

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.scaled_table import ScaledTable

MAX_STARS = 20_000
ROUNDS = 10


class IterativeRidge(Method):
    """Trained on at most 20,000 stars."""

    name = "iterative_ridge"

    def settings(self) -> dict:
        return {"max_stars": MAX_STARS, "rounds": ROUNDS}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401
        from sklearn.impute import IterativeImputer
        from sklearn.linear_model import BayesianRidge

        self.table = ScaledTable.fit(train, features)
        values, _ = self.table.encode(train)
        chosen = np.random.default_rng(seed).permutation(len(values))[:MAX_STARS]
        self.imputer = IterativeImputer(
            BayesianRidge(), max_iter=ROUNDS, random_state=seed, keep_empty_features=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that ten rounds are not convergence
            self.imputer.fit(values[chosen])

    def predict(self, block: StarBlock) -> Guess:
        values, norm = self.table.encode(block)
        return Guess(*self.table.decode(self.imputer.transform(values), norm))
