"""Error bars for methods that have none: the residuals of calibration stars in the same regime, by G.

Quantiles of |imputed − observed| less the typical measurement error, in quadrature: as honest as a user could make
them without the truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from msacat.catalog.surveys.error_units import ONE_68, ONE_95
from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess
from msacat.model.evaluate.regimes import Case, fe_h_of

EDGES_G = np.array([13.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0])
FEWEST = 50
FLOOR_MAG = 1e-3


@dataclass
class ResidualErrors:
    """Half-widths by G bin; coefficients in units of 10**(−0.4 G) flux."""

    band68_TM: np.ndarray
    band95_TM: np.ndarray
    xp68_TK: np.ndarray
    xp95_TK: np.ndarray
    fe_h68_T: np.ndarray
    fe_h95_T: np.ndarray

    def complete(self, guess: Guess, g_B: np.ndarray) -> Guess:
        """`guess` with the error bars it lacks."""
        t, flux = np.digitize(g_B, EDGES_G), 10 ** (-0.4 * g_B)[:, None]
        if guess.fe_h_B is not None and guess.fe_h_err68_B is None:
            guess = replace(guess, fe_h_err68_B=self.fe_h68_T[t], fe_h_err95_B=self.fe_h95_T[t])
        if guess.mag_err68_BM is not None:
            return guess
        return replace(
            guess,
            mag_err68_BM=self.band68_TM[t],
            mag_err95_BM=self.band95_TM[t],
            xp_err68_BK=self.xp68_TK[t] * flux,
            xp_err95_BK=self.xp95_TK[t] * flux,
        )


def fit_residual_errors(
    whole: StarBlock, features: StarFeatures, asked: Iterable[tuple[Case, Guess]]
) -> ResidualErrors:
    """From the cases of one regime made of the calibration stars `whole`."""
    ref = features.band_names.index(features.reference_band)
    g, d_mag, var_mag, d_xp, var_xp, d_fe_h, var_fe_h = ([] for _ in range(7))
    for case, guess in asked:
        own = whole.take(case.row_B)
        flux = 10 ** (-0.4 * own.mag_BM[:, ref].astype(float))[:, None]
        g.append(own.mag_BM[:, ref])
        nan = np.where(case.asked_BM, 0.0, np.nan)
        d_mag.append(guess.mag_BM - own.mag_BM + nan)
        var_mag.append(own.mag_err_BM.astype(float) ** 2 + nan)
        nan = np.where(case.asked_xp_B, 0.0, np.nan)[:, None]
        d_xp.append((guess.xp_BK - own.xp_BK) / flux + nan)
        var_xp.append((own.xp_err_BK.astype(float) / flux) ** 2 + nan)
        value, error = fe_h_of(own, features)
        said = np.full(len(own), np.nan) if guess.fe_h_B is None else guess.fe_h_B
        d_fe_h.append(np.where(case.asked_fe_h_B, said - value, np.nan)[:, None])
        var_fe_h.append(error[:, None] ** 2)
    if not g:
        M = whole.mag_BM.shape[1]
        none_M, none_K = np.full((len(EDGES_G) + 1, M), 1.0), np.full((len(EDGES_G) + 1, K), np.inf)
        return ResidualErrors(none_M, none_M, none_K, none_K, none_M[:, 0], none_M[:, 0])
    t = np.digitize(np.concatenate(g), EDGES_G)
    bands = _quantiles(np.concatenate(d_mag), np.concatenate(var_mag), t, FLOOR_MAG)
    xp = _quantiles(np.concatenate(d_xp), np.concatenate(var_xp), t, 0.0)
    fe_h = _quantiles(np.concatenate(d_fe_h), np.concatenate(var_fe_h), t, FLOOR_MAG)
    return ResidualErrors(*bands, *xp, *(a[:, 0] for a in fe_h))


def _quantiles(d: np.ndarray, var: np.ndarray, t: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    n_bins, width = len(EDGES_G) + 1, d.shape[1]
    out68, out95 = np.full((n_bins, width), np.nan), np.full((n_bins, width), np.nan)
    for column in range(width):
        seen = np.isfinite(d[:, column])
        for b in range(n_bins):
            rows = seen & (t == b)
            if rows.sum() < FEWEST:
                rows = seen  # too few of that brightness: all of them
            if not rows.any():
                continue
            known = var[rows, column][np.isfinite(var[rows, column])]  # an error may be unpublished
            size, noise = np.abs(d[rows, column]), np.median(known) if len(known) else 0.0
            for out, share, one in ((out68, 0.68, ONE_68), (out95, 0.95, ONE_95)):
                wide = np.quantile(size, share)
                # At least a tenth of what is seen: the noise is not known better than that.
                out[b, column] = max(np.sqrt(max(wide**2 - one**2 * noise, 0.0)), 0.1 * wide, floor)
    return np.where(np.isnan(out68), 1.0, out68), np.where(np.isnan(out95), 2.0, out95)
