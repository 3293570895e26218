"""The table conventional methods learn from: G, colours X − G, and the leading components of the spectrum.

Cells are scaled as for the product's own model (scale_features): the difference between methods is the method.
The spectrum's 110 relative coefficients are divided by their typical error before the principal components are
taken, so that the leading ones carry signal and not noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.scale_features import FeatureScaling, fit_scaling

COMPONENTS = 24


@dataclass
class ScaledTable:
    """Columns: M bands (scaled colours; G itself for the reference), then COMPONENTS of the spectrum."""

    scaling: FeatureScaling
    mean_K: np.ndarray
    weight_K: np.ndarray
    basis_PK: np.ndarray  # orthonormal rows; (0, K) without spectra
    spread_P: np.ndarray

    @staticmethod
    def fit(train: StarBlock, features: StarFeatures) -> ScaledTable:
        scaling = fit_scaling(features, train, background=False)
        if not features.xp:
            return ScaledTable(scaling, np.zeros(0), np.zeros(0), np.zeros((0, 0)), np.zeros(0))
        cells = scaling.encode(train)
        M = scaling.n_bands
        whole = cells.observed_BD[:, M:].all(1)
        value, var = cells.value_BD[whole, M:].astype(float), cells.var_BD[whole, M:]
        mean = np.median(value, 0)
        weight = 1 / np.sqrt(np.median(var, 0))
        _, _, basis = np.linalg.svd(np.clip((value - mean) * weight, -1e3, 1e3), full_matrices=False)
        basis = basis[:COMPONENTS]
        spread = ((value - mean) * weight @ basis.T).std(0)
        return ScaledTable(scaling, mean, weight, basis, spread)

    @property
    def n_bands(self) -> int:
        return self.scaling.n_bands

    def encode(self, block: StarBlock) -> tuple[np.ndarray, np.ndarray]:
        """(table, norm_B): float64, NaN where a band or the spectrum is missing."""
        cells = self.scaling.encode(block)
        M = self.n_bands
        bands = np.where(cells.observed_BD[:, :M], cells.value_BD[:, :M], np.nan)
        if not len(self.basis_PK):
            return bands, cells.norm_B
        whole = np.all(cells.observed_BD[:, M:], axis=1)
        scores = ((cells.value_BD[:, M:] - self.mean_K) * self.weight_K) @ self.basis_PK.T / self.spread_P
        return np.concatenate([bands, np.where(whole[:, None], scores, np.nan)], axis=1), cells.norm_B

    def decode(self, table: np.ndarray, norm_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A filled table back to mag_BM and xp_BK."""
        M = self.n_bands
        value = table[:, :M]
        if not len(self.basis_PK):
            nothing = np.full((len(table), 110), np.nan)
            return self.scaling.magnitudes(value, norm_B), nothing
        xp = (table[:, M:] * self.spread_P) @ self.basis_PK / self.weight_K + self.mean_K
        value = np.concatenate([value, xp], axis=1)
        return self.scaling.magnitudes(value, norm_B), self.scaling.coefficients(value, norm_B)
