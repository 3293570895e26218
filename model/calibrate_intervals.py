"""Split-conformal factors: what the predicted sigmas must be multiplied by to cover 68 % and 95 %.

The score of a held-out value is |measured − predicted| / sqrt(sd² + measurement error²); its quantile over
stars of the same kind is the factor. Kinds: band × G (1 mag) × spectrum visible or not; six groups of
coefficients × G; label × spectrum visible or not. A kind with few stars leans on the next coarser one
(band × spectrum, band, all bands), with weight n / (n + N0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.model.held_out import HeldOut

LEVELS = (0.68, 0.95)
N0 = (60.0, 200.0)  # stars at which a kind counts as much as its parent, by level
G_EDGES = np.arange(9.0, 22.0)  # mag; the first and last bins are open
#: Coefficients of one half by order: the first few carry the flux, the last are noise.
COEFFICIENT_GROUP_K = np.concatenate([[0] * 5 + [1] * 10 + [2] * 40, [3] * 5 + [4] * 10 + [5] * 40])
N_GROUPS = 6


@dataclass(frozen=True)
class Calibration:
    """Factors by level (68 %, 95 %), on sigma: X = spectrum visible (0 no, 1 yes), T = G bin.

    band_VMTX, xp_VPT (P = 6 coefficient groups), label_VLX; n_* the stars behind them.
    """

    band_VMTX: np.ndarray
    xp_VPT: np.ndarray
    label_VLX: np.ndarray
    n_band_MTX: np.ndarray

    def bands(self, g_B: np.ndarray, xp_seen_B: np.ndarray) -> np.ndarray:
        """factor_VBM."""
        t = g_bin(g_B)
        return self.band_VMTX[:, :, t, xp_seen_B.astype(int)].transpose(0, 2, 1)

    def coefficients(self, g_B: np.ndarray) -> np.ndarray:
        """factor_VBK."""
        return self.xp_VPT[:, :, g_bin(g_B)].transpose(0, 2, 1)[:, :, COEFFICIENT_GROUP_K]

    def labels(self, xp_seen_B: np.ndarray) -> np.ndarray:
        """factor_VBL."""
        return self.label_VLX[:, :, xp_seen_B.astype(int)].transpose(0, 2, 1)

    def to_json(self) -> dict:
        return {k: getattr(self, k).tolist() for k in self.__dataclass_fields__}

    @staticmethod
    def from_json(data: dict) -> Calibration:
        arrays = {k: np.asarray(data[k]) for k in Calibration.__dataclass_fields__}
        arrays["label_VLX"] = arrays["label_VLX"].reshape(2, -1, 2)  # JSON forgets the shape of no labels
        return Calibration(**arrays)


def g_bin(g_B: np.ndarray) -> np.ndarray:
    return np.digitize(np.nan_to_num(g_B, nan=30.0), G_EDGES)


def fit_calibration(held: HeldOut, n_bands: int, n_labels: int) -> Calibration:
    """Factors from held-out predictions of stars that trained nothing."""
    M, T, L = n_bands, len(G_EDGES) + 1, n_labels
    has_xp = held.value_BD.shape[1] > M
    z, t = held.deviations(), g_bin(held.g_B)
    seen = held.xp_seen_B.astype(int)
    band = np.ones((2, M, T, 2))
    xp = np.ones((2, N_GROUPS, T))
    label = np.ones((2, L, 2))
    n_band = np.zeros((M, T, 2), np.int64)
    for v, level in enumerate(LEVELS):
        # Parent of all: every band together; a standard normal if there is nothing at all.
        everything = _factor(z[:, :M][held.scored_BD[:, :M]], level, _normal(level), N0[v])
        for m in range(M):
            use = held.scored_BD[:, m]
            of_band = _factor(z[use, m], level, everything, N0[v])
            for x in (0, 1):
                of_half = _factor(z[use & (seen == x), m], level, of_band, N0[v])
                for b in range(T):
                    kind = use & (seen == x) & (t == b)
                    n_band[m, b, x] = kind.sum()
                    band[v, m, b, x] = _factor(z[kind, m], level, of_half, N0[v])
        if has_xp:
            for p in range(N_GROUPS):
                cells = np.zeros(z.shape[1], bool)
                cells[M:] = p == COEFFICIENT_GROUP_K
                use = held.scored_BD & cells
                of_group = _factor(z[use], level, _normal(level), N0[v])
                for b in range(T):
                    xp[v, p, b] = _factor(z[use & (t == b)[:, None]], level, of_group, 50 * N0[v])
        label_z = np.abs(held.label_BL - held.label_mean_BL) / np.hypot(held.label_sd_BL, held.label_err_BL)
        for j in range(L):
            use = np.isfinite(label_z[:, j])
            of_label = _factor(label_z[use, j], level, _normal(level), N0[v])
            for x in (0, 1):
                label[v, j, x] = _factor(label_z[use & (seen == x), j], level, of_label, N0[v])
    return Calibration(band, xp, label, n_band)


def _factor(z: np.ndarray, level: float, parent: float, n0: float) -> float:
    """Conformal quantile of `z`, shrunk towards `parent` where there are few."""
    n = len(z)
    if n == 0:
        return parent
    rank = min(1.0, level * (n + 1) / n)  # the finite-sample quantile of split conformal prediction
    own = float(np.quantile(z, rank, method="higher"))
    return float((n * own + n0 * parent) / (n + n0))


def _normal(level: float) -> float:
    return {0.68: 0.99446, 0.95: 1.95996}[level]
