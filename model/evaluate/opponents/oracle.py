"""The floor: what one who knew the simulation's stars could say (no method anyone could use).

Posterior mean over a large library of noise-free stars from the same prior, with the known noise of every visible
cell. Where fewer than 60 library stars carry the weight the likelihood L is tempered to L^(1/T); the stars that then
carry it give a local Gaussian, which the rest of the likelihood, L^(1 − 1/T), conditions.
"""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.error_units import ONE_68, ONE_95
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.scale_features import FeatureScaling, fit_scaling

FEWEST_EFFECTIVE = 60.0
NEIGHBOURS = 400  # library stars that enter the local Gaussian
G_TOLERANCE = 0.3  # mag: brightness alone says little; its noise is in the colours
BATCH = 64
RIDGE = 1e-6  # of a scaled unit squared: what is never told apart


class Oracle(Method):
    """`library`: noise-free stars in the order of the features, every band and coefficient known."""

    name = "oracle"

    def __init__(self, library: StarBlock, identity: str):
        self.library, self.identity = library, identity
        self.scaling: FeatureScaling

    def settings(self) -> dict:
        return {"library": self.identity, "stars": len(self.library), "effective": FEWEST_EFFECTIVE}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.scaling = fit_scaling(features, train)
        self.stars = np.asarray(self.scaling.encode(self.library).value_BD, np.float64)

    def predict(self, block: StarBlock) -> Guess:
        cells = self.scaling.encode(block)
        value, var = np.asarray(cells.value_BD, np.float64), np.asarray(cells.var_BD, np.float64)
        ref = self.scaling.reference
        var[:, ref] = (G_TOLERANCE / self.scaling.scale_D[ref]) ** 2
        weight = np.where(cells.observed_BD, 1 / var, 0.0)
        mean, sd = np.zeros_like(value), np.zeros_like(value)
        for start in range(0, len(value), BATCH):
            rows = slice(start, start + BATCH)
            w, x = weight[rows], value[rows]
            chi2 = (self.stars**2) @ w.T - 2 * self.stars @ (w * x).T + (w * x**2).sum(1)
            for i in range(len(x)):
                mean[start + i], sd[start + i] = self._posterior(chi2[:, i], w[i], x[i])
        M = self.scaling.n_bands
        sd_mag = sd[:, :M] * self.scaling.scale_D[:M]
        sd_xp = sd[:, M:] * self.scaling.coefficient_unit(cells.norm_B)
        return Guess(
            self.scaling.magnitudes(mean, cells.norm_B), self.scaling.coefficients(mean, cells.norm_B),
            ONE_68 * sd_mag, ONE_95 * sd_mag, ONE_68 * sd_xp, ONE_95 * sd_xp,
        )  # fmt: skip

    def _posterior(
        self, chi2_N: np.ndarray, weight_D: np.ndarray, x_D: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        p = np.exp(-0.5 * (chi2_N - chi2_N.min()))
        p /= p.sum()
        if 1 / (p**2).sum() >= FEWEST_EFFECTIVE:
            use = np.flatnonzero(p > 1e-9)
            stars, p = self.stars[use], p[use]
            mean = p @ stars
            return mean, np.sqrt(p @ (stars - mean) ** 2 + RIDGE)
        near = np.argpartition(chi2_N, NEIGHBOURS)[:NEIGHBOURS]
        temperature, p = _tempered(chi2_N[near] - chi2_N[near].min())
        stars = self.stars[near]
        mean = p @ stars
        off = np.sqrt(p)[:, None] * (stars - mean)  # off.T @ off is the covariance
        left = weight_D * (1 - 1 / temperature)
        seen = left > 0
        # Posterior of the star's place among its neighbours: precision I + A diag(left) A', A = off on seen cells.
        a = off[:, seen] * np.sqrt(left[seen])
        precision = np.eye(len(off)) + a @ a.T
        place = np.linalg.solve(precision, a @ (np.sqrt(left[seen]) * (x_D[seen] - mean[seen])))
        half = np.linalg.solve(np.linalg.cholesky(precision), off)
        return mean + place @ off, np.sqrt((half**2).sum(0) + RIDGE)


def _tempered(chi2_N: np.ndarray) -> tuple[float, np.ndarray]:
    """(T, weights): the smallest T > 1 at which FEWEST_EFFECTIVE stars carry the weight."""

    def weights(t: float) -> np.ndarray:
        p = np.exp(-0.5 * chi2_N / t)
        return p / p.sum()

    low, high = 0.0, 40.0  # of log T
    for _ in range(50):
        middle = 0.5 * (low + high)
        enough = 1 / (weights(np.exp(middle)) ** 2).sum() >= FEWEST_EFFECTIVE
        low, high = (low, middle) if enough else (middle, high)
    return float(np.exp(high)), weights(float(np.exp(high)))
