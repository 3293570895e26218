"""kNN: the median of the 15 training stars nearest in the cells both have."""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.scaled_table import ScaledTable

NEIGHBOURS = 15
MAX_STARS = 30_000
BATCH = 256
FAR = 1e6  # added where too few cells are shared: chosen only if nobody else is there


class NearestNeighbours(Method):
    """Mean squared distance over shared cells; a neighbour must share 3/4 of the star's cells, if any does.

    Trained on at most 30,000 stars. A component of the spectrum counts by its share of the spectrum's spread.
    """

    name = "knn"

    def settings(self) -> dict:
        return {"neighbours": NEIGHBOURS, "max_stars": MAX_STARS}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.table = ScaledTable.fit(train, features)
        chosen = np.random.default_rng(seed).permutation(len(train))[:MAX_STARS]
        values, _ = self.table.encode(train.take(chosen))
        self.values = values.astype(np.float32)
        self.seen = np.isfinite(self.values)
        spread = self.table.spread_P
        share = np.sqrt(spread / spread[0]) if len(spread) else spread
        self.weight = np.concatenate([np.ones(self.table.n_bands), share]).astype(np.float32)

    def predict(self, block: StarBlock) -> Guess:
        values, norm = self.table.encode(block)
        filled = np.zeros_like(values)
        for start in range(0, len(values), BATCH):
            rows = slice(start, start + BATCH)
            filled[rows] = self._fill(values[rows].astype(np.float32))
        return Guess(*self.table.decode(filled, norm))

    def _fill(self, x: np.ndarray) -> np.ndarray:
        a = np.isfinite(x)
        w = self.weight**2
        xs, ts = np.nan_to_num(x), np.nan_to_num(self.values)
        shared = (a * w) @ self.seen.T
        squares = (xs**2 * w) @ self.seen.T + (a * w) @ (ts**2).T - 2 * (xs * w) @ ts.T
        distance = squares / np.maximum(shared, 1e-6)
        distance += FAR * (shared < 0.75 * (a @ w)[:, None])
        out = np.where(a, x, 0.0)
        done: dict[bytes, np.ndarray] = {}
        for column in np.flatnonzero(~a.all(0)):
            donors = self.seen[:, column]
            if donors.sum() < NEIGHBOURS:
                continue
            key = donors.tobytes()  # bands of one survey mostly share their donors; components always do
            if key not in done:
                pool = np.flatnonzero(donors)
                done[key] = pool[np.argpartition(distance[:, pool], NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]]
            guess = np.median(self.values[done[key], column], axis=1)
            out[:, column] = np.where(a[:, column], x[:, column], guess)
        return out
