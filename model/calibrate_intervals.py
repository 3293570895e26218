"""Factors: what the predicted sigmas must be multiplied by to hold the star's true value 68 % and 95 % of the time.

Fitted on stars that trained nothing, by kind: band × G (1 mag) × spectrum visible or not, and for all bands together
× another band of the survey visible or not; six groups of coefficients × G; label × spectrum visible or not. The noise
of the held-out measurements is taken out (deconvolve_errors.py); how much larger than stated it is in each band is
fitted too. A kind with few stars leans on the next coarser one (band × spectrum, band, all bands).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from msacat.catalog.surveys.error_units import ONE_68, ONE_95
from msacat.model.deconvolve_errors import (
    FEWEST,
    Errors,
    Residuals,
    fit_errors,
    fit_kinds,
    fit_noise,
    noise_of_survey,
    refine_noise,
    scaled_noise,
)
from msacat.model.held_out import HeldOut

LEVELS = (0.68, 0.95)
NORMAL = (ONE_68, ONE_95)  # of a unit normal, at these levels
#: Values as which right sigmas, and their shape, count in the coarsest kind of labels and coefficients: else the labels of
#: one star alone would decide.
NOBODY_PULL, NOBODY_SHAPE_PULL = 8.0, 20.0
LABEL_PULL = 8.0  # noise-free values as which a label counts in it with or without spectrum
XP_PULL = 3_000.0  # coefficients of one star are not independent
MAX_VALUES = 30_000  # of a group of coefficients in one G bin
#: of a group of coefficients: the last 40 of RP have noise of 18 sigma, under which 30,000 tell as much as 26 without
MAX_OF_GROUP = 400_000
MAX_POOLED = 150_000  # of all bands together
#: Of the noise variance: by how much a fit's residuals are smaller for its own stars. Measured where the truth is known
#: (one model of 130,000 simulated stars): J, Ks, PS1 r and y follow 0.6 to 0.8 % (+- 0.2) of the noise of training stars,
#: H none (+- 0.4); twice the usual share. The coverage of docs/accuracy.md is judged on other stars of that same sky.
FOLLOWED = 0.012
G_EDGES = np.arange(9.0, 22.0)  # mag; the first and last bins are open
#: Coefficients of one half by order: the first few carry the flux, the last are noise.
COEFFICIENT_GROUP_K = np.concatenate([[0] * 5 + [1] * 10 + [2] * 40, [3] * 5 + [4] * 10 + [5] * 40])
N_GROUPS = 6


@dataclass(frozen=True)
class Calibration:
    """Factors by level (68 %, 95 %), on sigma: X = spectrum visible (0 no, 1 yes), T = G bin.

    band_VMTX, xp_VPT (P = 6 coefficient groups), label_VLX; n_* the stars behind them.
    beside_X: further factor where another band of the same survey is visible.
    noise_M: real over believed measurement error of each band, floor and zero point left out.
    noise_xp: the same of coefficients, one factor for all.
    """

    band_VMTX: np.ndarray
    xp_VPT: np.ndarray
    label_VLX: np.ndarray
    n_band_MTX: np.ndarray
    noise_M: np.ndarray
    beside_X: np.ndarray
    noise_xp: float

    def bands(self, g_B: np.ndarray, xp_seen_B: np.ndarray, beside_BM: np.ndarray) -> np.ndarray:
        """factor_VBM."""
        t, x = g_bin(g_B), xp_seen_B.astype(int)
        by_kind = self.band_VMTX[:, :, t, x].transpose(0, 2, 1)
        return by_kind * np.where(beside_BM, self.beside_X[x][:, None], 1.0)

    def noise(self, n_cells: int) -> np.ndarray:
        """noise_M, and noise_xp for every cell that is no band."""
        return np.append(self.noise_M, np.full(n_cells - len(self.noise_M), self.noise_xp))

    def coefficients(self, g_B: np.ndarray) -> np.ndarray:
        """factor_VBK."""
        return self.xp_VPT[:, :, g_bin(g_B)].transpose(0, 2, 1)[:, :, COEFFICIENT_GROUP_K]

    def labels(self, xp_seen_B: np.ndarray) -> np.ndarray:
        """factor_VBL."""
        return self.label_VLX[:, :, xp_seen_B.astype(int)].transpose(0, 2, 1)

    def to_json(self) -> dict:
        return {k: np.asarray(getattr(self, k)).tolist() for k in self.__dataclass_fields__}

    @staticmethod
    def from_json(data: dict) -> Calibration:
        arrays = {k: np.asarray(data[k]) for k in Calibration.__dataclass_fields__ if k != "noise_xp"}
        arrays["label_VLX"] = arrays["label_VLX"].reshape(2, -1, 2)  # JSON forgets the shape of no labels
        return Calibration(**arrays, noise_xp=float(data["noise_xp"]))


def holds(d: np.ndarray, sd: np.ndarray, var: np.ndarray, factor_V: np.ndarray) -> np.ndarray:
    """bool, level first: is the observed value inside the interval of the true one, widened by its own noise?"""
    z_V = np.array(NORMAL).reshape(-1, *[1] * d.ndim)
    return np.abs(d) <= np.sqrt((factor_V * sd) ** 2 + z_V**2 * var)


def g_bin(g_B: np.ndarray) -> np.ndarray:
    return np.digitize(np.nan_to_num(g_B, nan=30.0), G_EDGES)


def fit_calibration(
    held: HeldOut,
    survey_M: Sequence[int],
    n_labels: int,
    scaled_M: Sequence[bool] | None = None,
    common_var_D: np.ndarray | float = 0.0,
) -> Calibration:
    """Factors from held-out predictions of stars that trained nothing.

    survey_M numbers the survey of each band. scaled_M: its published errors were found too small before training, and
    are scaled already; what still looks like noise there are sigmas too small for some stars.
    common_var_D: the part of the noise that is no published error.
    """
    M = len(survey_M)
    t, seen = g_bin(held.g_B), held.xp_seen_B.astype(int)
    cells = _Cells(held, common_var_D)
    noise = np.ones(M)
    alone = [fit_noise(cells.of(use, m), cells.even(t[use])) for m, use in enumerate(held.scored_BD[:, :M].T)]
    for survey in set(survey_M):
        own = np.flatnonzero(np.asarray(survey_M) == survey)
        noise[own] = noise_of_survey(np.array(alone)[own])
    if scaled_M is not None:
        noise = np.where(scaled_M, np.minimum(noise, 1.0), noise)
    noise_xp = cells.noise_of_spectra(held.scored_BD[:, M:], t)
    cells.scale_noise(np.append(noise, np.full(cells.var.shape[1] - M, noise_xp)))
    band, n_band, beside = _fit_bands(cells, held, t, seen)
    xp = _fit_coefficients(cells, held, t)
    label = _fit_labels(held, n_labels, seen)
    return Calibration(band, xp, label, n_band, noise, beside, noise_xp)


def _fit_bands(
    cells: _Cells, held: HeldOut, t: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """band_VMTX, n_band_MTX and beside_X; the sigmas of bands in `cells` are changed on the way."""
    M, T = held.beside_BM.shape[1], len(G_EDGES) + 1
    band, n_band = np.ones((2, M, T, 2)), np.zeros((M, T, 2), np.int64)
    grown = cells.give_back_followed_noise(M)
    # Parent of all: every band together; a standard normal if there is nothing at all.
    everything = cells.all_bands(held, Errors.of_nobody())
    beside = np.array([cells.beside_factor(held, seen == x, everything) for x in (0, 1)])
    cells.sd[:, :M] *= np.where(held.beside_BM, beside[seen][:, None], 1.0)
    use_M = [held.scored_BD[:, m] for m in range(M)]
    of_band = fit_kinds([cells.of(use, m) for m, use in enumerate(use_M)], [everything] * M)
    # Bands of different scales, each of normal errors, together have a wider shape than any of them: once more without.
    scale_M = np.array([errors.scale for errors in of_band])
    alike = cells.all_bands(held, replace(everything, scale=1.0), scale_M)
    of_band = [
        replace(alike, scale=errors.scale * alike.scale) if use.any() else everything
        for errors, use in zip(of_band, use_M, strict=True)
    ]
    halves = [(m, x) for m in range(M) for x in (0, 1)]
    of_half = fit_kinds(
        [cells.of(use_M[m] & (seen == x), m) for m, x in halves], [of_band[m] for m, _ in halves]
    )
    bins = [(h, b) for h in range(len(halves)) for b in range(T)]
    kinds = [use_M[halves[h][0]] & (seen == halves[h][1]) & (t == b) for h, b in bins]
    of_bin = fit_kinds(
        [cells.of(kind, halves[h][0]) for kind, (h, _) in zip(kinds, bins, strict=True)],
        [of_half[h] for h, _ in bins],
    )
    for kind, (h, b), errors in zip(kinds, bins, of_bin, strict=True):
        m, x = halves[h]
        n_band[m, b, x] = kind.sum()
        band[:, m, b, x] = _factors(errors, grown[kind if kind.any() else use_M[m], m])
    return band, n_band, beside


def _fit_coefficients(cells: _Cells, held: HeldOut, t: np.ndarray) -> np.ndarray:
    """xp_VPT."""
    M, T = held.beside_BM.shape[1], len(G_EDGES) + 1
    xp = np.ones((2, N_GROUPS, T)) * np.array(NORMAL)[:, None, None]
    if held.value_BD.shape[1] > M:
        for p in range(N_GROUPS):
            columns = M + np.flatnonzero(p == COEFFICIENT_GROUP_K)
            values = cells.of(held.scored_BD[:, columns], columns, MAX_OF_GROUP)
            of_group = fit_errors(values, Errors.of_nobody(), NOBODY_PULL, NOBODY_SHAPE_PULL)
            for b in range(T):
                kind = held.scored_BD[:, columns] & (t == b)[:, None]
                xp[:, p, b] = _factors(fit_errors(cells.of(kind, columns), of_group, XP_PULL))
    return xp


def _fit_labels(held: HeldOut, n_labels: int, seen: np.ndarray) -> np.ndarray:
    """label_VLX."""
    label = np.ones((2, n_labels, 2))
    for j in range(n_labels):
        d = (held.label_BL - held.label_median_BL)[:, j]
        sd, var = held.label_sd_BL[:, j], held.label_err_BL[:, j] ** 2

        def of(use: np.ndarray, d=d, sd=sd, var=var) -> Residuals:
            return Residuals(d[use], sd[use], var[use], _repeats(held.source_id_B[use]))

        use = np.isfinite(d)
        of_label = fit_errors(of(use), Errors.of_nobody(), NOBODY_PULL, NOBODY_SHAPE_PULL)
        for x in (0, 1):
            label[:, j, x] = _factors(fit_errors(of(use & (seen == x)), of_label, LABEL_PULL))
    return label


class _Cells:
    """Observed − predicted, sigma and noise variance of every cell."""

    def __init__(self, held: HeldOut, common_var_D: np.ndarray | float = 0.0) -> None:
        self.common_D = np.broadcast_to(common_var_D, held.var_BD.shape[1:])
        self.d = held.value_BD.astype(np.float64) - held.mean_BD
        self.sd, self.var = held.sd_BD.astype(np.float64), held.var_BD.astype(np.float64)
        star = np.unique(held.source_id_B, return_inverse=True)[1]
        self.cell = star[:, None] * self.d.shape[1] + np.arange(self.d.shape[1])  # one number a measurement

    def give_back_followed_noise(self, n_bands: int) -> np.ndarray:
        """Make bands' sigmas larger by what training followed of its stars' noise; by how much, grown_BM.

        What is left of the residuals of a fit's own stars is smaller than noise and true errors make it, and so are the
        sigmas learned from it: not much for a large one, a fifth of one that lies under six times its noise. Held-out
        residuals cannot show that much in one band.
        """
        sd, var = self.sd[:, :n_bands], self.var[:, :n_bands]
        grown = np.sqrt(1 + FOLLOWED * var / sd**2)
        self.sd[:, :n_bands] = sd * grown
        return grown

    def of(self, use: np.ndarray, columns, most: int = MAX_VALUES) -> Residuals:
        """The cells in `use`; one that is held out in several regimes has one noise in all of them."""
        common = np.broadcast_to(self.common_D, self.d.shape)
        d, sd, var, cell, common = (
            self.even(a[:, columns][use], most) for a in (self.d, self.sd, self.var, self.cell, common)
        )
        return Residuals(d, sd, var, _repeats(cell), common)

    def noise_of_spectra(self, scored_BK: np.ndarray, t_B: np.ndarray) -> float:
        """Real over believed error of coefficients; 1 with too few. Sigmas may be wrong by group and G."""
        columns = slice(self.d.shape[1] - scored_BK.shape[1], None)
        values = self.of(scored_BK, columns, MAX_OF_GROUP)
        if len(values) < MAX_VALUES:
            return 1.0
        kind_BK = t_B[:, None] * N_GROUPS + COEFFICIENT_GROUP_K[: scored_BK.shape[1]]
        return refine_noise(values, self.even(kind_BK[scored_BK], MAX_OF_GROUP), 1.0)

    def scale_noise(self, factor_D: np.ndarray) -> None:
        self.var = scaled_noise(self.var, factor_D, self.common_D)

    def all_bands(self, held: HeldOut, parent: Errors, scale_M: np.ndarray | float = 1.0) -> Errors:
        """Errors of all bands together, of sigmas multiplied by scale_M."""
        M = held.beside_BM.shape[1]
        use = held.scored_BD[:, :M]
        values = self.of(use, slice(0, M), MAX_POOLED)
        by = self.even(np.broadcast_to(scale_M, use.shape)[use], MAX_POOLED)
        return fit_errors(replace(values, sd_N=by * values.sd_N), parent, 0.0, 1.0)

    def beside_factor(self, held: HeldOut, use_B: np.ndarray, parent: Errors) -> float:
        """Scale of the errors of bands beside others of their survey, over that of bands whose survey is hidden."""
        M = held.beside_BM.shape[1]
        use = held.scored_BD[:, :M] & use_B[:, None]
        kinds = [use & held.beside_BM, use & ~held.beside_BM]
        if min(kind.sum() for kind in kinds) < FEWEST:
            return 1.0
        beside, apart = (
            fit_errors(self.of(kind, slice(0, M), MAX_POOLED), parent, 0.0).scale for kind in kinds
        )
        return beside / apart

    @staticmethod
    def even(values: np.ndarray, most: int = MAX_VALUES) -> np.ndarray:
        """Of very many, an even sample: one from each of `most` stretches, the same for all arrays of one length.

        At a place drawn anew in each: every n-th value of a full table is of the same few columns.
        """
        if len(values) <= most:
            return values
        place = np.random.default_rng(most).random(most)
        return values[((np.arange(most) + place) * (len(values) / most)).astype(np.int64)]


def _repeats(measurement_N: np.ndarray) -> float:
    """Values per measurement."""
    return max(1.0, len(measurement_N) / max(1, len(np.unique(measurement_N))))


def _factors(errors: Errors, grown_N: np.ndarray | None = None) -> list[float]:
    """By level; of sigmas that `give_back_followed_noise` made larger, for those that the network states."""
    by = 1.0 if grown_N is None or not len(grown_N) else float(np.median(grown_N))
    return [by * errors.factor(level) for level in LEVELS]
