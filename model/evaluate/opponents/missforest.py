"""MissForest-like: every column in turn from all others by a random forest, several rounds."""

from __future__ import annotations

import warnings

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.scaled_table import ScaledTable

MAX_STARS = 6_000
ROUNDS = 3
TREES = 20


class MissForest(Method):
    """scikit-learn's IterativeImputer with random forests (Stekhoven & Bühlmann 2012); trained on at most 6,000 stars."""

    name = "missforest"

    def settings(self) -> dict:
        return {"max_stars": MAX_STARS, "rounds": ROUNDS, "trees": TREES}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401
        from sklearn.impute import IterativeImputer

        self.table = ScaledTable.fit(train, features)
        values, _ = self.table.encode(train)
        chosen = np.random.default_rng(seed).permutation(len(values))[:MAX_STARS]
        forest = RandomForestRegressor(
            TREES, min_samples_leaf=3, max_features=0.4, n_jobs=1, random_state=seed
        )
        self.imputer = IterativeImputer(
            forest, max_iter=ROUNDS, initial_strategy="median", random_state=seed, keep_empty_features=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that three rounds are not convergence
            self.imputer.fit(np.clip(values[chosen], -20, 20))

    def predict(self, block: StarBlock) -> Guess:
        values, norm = self.table.encode(block)
        filled = self.imputer.transform(np.clip(values, -20, 20)) if len(values) else values
        return Guess(*self.table.decode(filled, norm))
