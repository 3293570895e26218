"""The constant flux that published XP coefficients lack or have too much of, whatever the star.

GaiaXPy's standardised systems give flux = R · c + offset: real magnitudes ask for a constant beside the map, of about
magnitude 22.5, blamed on the background taken from the spectra (Montegriffo et al. 2023, A&A 674, A33, on the
"hockey stick" at the faint end). A star of G 20 misses a tenth of its light: spectra learned relative to a star's flux where
they are measured, G < 17.65, are wrong for fainter stars by many times their errors unless the constant is taken out.

It is what the relative coefficients of stars that are alike in everything else change by with 1 / flux: a regression on
colours, parallax and proper motion, and 1 / flux. Stars that are alike may still differ with brightness in what was not measured:
hence DRIFT. What GaiaXPy says of nine combinations of coefficients is exact, and the rest follows it (a Gaussian update).

Suffixes: N stars, K coefficients, P regressors, J bands.
"""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.catalog.xp.xp_operators import standardised_offsets

SPAN_MAG = 3.0  # stars this much brighter than the faintest with a spectrum: all others tell nothing of a small constant
MAX_STARS = 40_000
FEWEST = 500
DEGREE = 5  # of the polynomial in the first colour
ROUNDS = 5
WRONG_SIGMA = 4.0
DRIFT = 0.1  # of a coefficient's own scatter: by how much unmeasured properties may change it over the span
OFFSET_ERROR = 0.03  # relative, of GaiaXPy's offsets
WIDEST = 3.0  # times the smallest constant that GaiaXPy's offsets allow: how large it may be before anything is measured


def fit_background(features: StarFeatures, block: StarBlock) -> tuple[np.ndarray, np.ndarray]:
    """(background_K, its error_K), Gaia internal flux units, float64: published coefficient = star's own + background.

    `block`: training stars. With fewer than 500 spectra, what GaiaXPy's offsets say alone.
    """
    rows_JK, offset_J = standardised_offsets()
    smallest = np.linalg.lstsq(rows_JK, -offset_J, rcond=None)[0]
    precision_K = np.full(K, 1 / (WIDEST**2 * np.mean(smallest**2)))
    mean_K = np.zeros(K)
    if (found := _measure(features, block)) is not None:
        slope_K, var_K = found
        mean_K = slope_K / var_K / (precision_K + 1 / var_K)
        precision_K = precision_K + 1 / var_K
    cov_KK = np.diag(1 / precision_K)
    gain_KJ = cov_KK @ rows_JK.T
    inner_JJ = rows_JK @ gain_KJ + np.diag((OFFSET_ERROR * offset_J) ** 2)
    update_KJ = np.linalg.solve(inner_JJ, gain_KJ.T).T
    mean_K = mean_K + update_KJ @ (-offset_J - rows_JK @ mean_K)
    return mean_K, np.sqrt(np.diag(cov_KK - update_KJ @ gain_KJ.T).clip(0))


def _measure(features: StarFeatures, block: StarBlock) -> tuple[np.ndarray, np.ndarray] | None:
    """(slope_K on 1 / flux, its variance_K); None with too few spectra."""
    ref = features.band_names.index(features.reference_band)
    G = block.mag_BM[:, ref].astype(np.float64)
    colour = first_colour(features, block.mag_BM.astype(np.float64))
    use = (
        np.isfinite(block.xp_BK).all(1)
        & np.isfinite(block.xp_err_BK).all(1)
        & np.isfinite(G)
        & np.isfinite(colour)
    )
    if use.sum() < FEWEST:
        return None
    use &= np.percentile(G[use], 99) - SPAN_MAG < G
    rows = np.flatnonzero(use)
    rows = rows[np.linspace(0, len(rows) - 1, min(MAX_STARS, len(rows))).astype(np.int64)]
    if len(rows) < FEWEST:
        return None
    g0 = np.median(G[rows])
    flux = 10.0 ** (-0.4 * (G[rows] - g0))
    design_NP = _alike(features, block.take(rows), G[rows], colour[rows], g0)
    design_NP = np.concatenate([design_NP, 1 / flux[:, None]], axis=1)
    slope, var = np.empty(K), np.empty(K)
    ridge_PP = 1e-9 * len(rows) * np.eye(design_NP.shape[1])
    for k in range(K):
        value = block.xp_BK[rows, k].astype(np.float64) / flux
        noise = (block.xp_err_BK[rows, k].astype(np.float64) / flux) ** 2
        unit2 = np.median(noise) + 1e-30
        value, noise = value / np.sqrt(unit2), noise / unit2
        scatter, kept = (1.4826 * np.median(np.abs(value - np.median(value)))) ** 2, np.ones(len(rows), bool)
        for _ in range(ROUNDS):
            weight = kept / (noise + scatter)
            inner_PP = (design_NP * weight[:, None]).T @ design_NP + ridge_PP
            fit = np.linalg.solve(inner_PP, design_NP.T @ (weight * value))
            left = value - design_NP @ fit
            kept = np.abs(left) < WRONG_SIGMA * np.sqrt(noise + scatter)
            scatter = max(float(weight @ (left**2 * kept - noise)) / max(float(weight.sum()), 1e-30), 1e-3)
        formal = np.linalg.inv(inner_PP)[-1, -1]
        slope[k] = fit[-1] * np.sqrt(unit2)
        var[k] = unit2 * (formal + DRIFT**2 * scatter / np.var(1 / flux))
    return slope, var


def first_colour(features: StarFeatures, mag_BM: np.ndarray) -> np.ndarray:
    """Bluest − reddest band of the reference band's survey, mag; for Gaia, BP − RP."""
    bands = features.bands
    ref = features.band_names.index(features.reference_band)
    own = [m for m in range(len(bands)) if bands[m].survey == bands[ref].survey]
    own.sort(key=lambda m: bands[m].wavelength_nm)
    return mag_BM[:, own[0]] - mag_BM[:, own[-1]] if len(own) > 1 else np.zeros(len(mag_BM))


def _alike(
    features: StarFeatures, block: StarBlock, G: np.ndarray, colour: np.ndarray, g0: float
) -> np.ndarray:
    """Regressors by which stars are alike, (N, P): 0 where something was not measured."""
    low, high = np.percentile(colour, [0.5, 99.5])
    x = np.clip(2 * (colour - low) / max(high - low, 1e-6) - 1, -1, 1)
    polynomial = np.polynomial.chebyshev.chebvander(x, DEGREE)
    columns = [polynomial]
    distance = 10.0 ** (0.2 * (G - g0))[:, None]
    value, err = block.scalar_BS.astype(np.float64), block.scalar_err_BS.astype(np.float64)
    scalars = np.where(np.isfinite(value) & np.isfinite(err), value, np.nan)
    far = np.arcsinh(scalars * np.where(features.scales_with_distance, distance, 1.0))
    others = np.concatenate(
        [block.mag_BM.astype(np.float64) - G[:, None], np.arcsinh(scalars), far, far**2], axis=1
    )
    for other in others.T:
        known = np.isfinite(other)
        if known.sum() < FEWEST // 2 or not np.ptp(other[known]):
            continue
        expected = polynomial @ np.linalg.lstsq(polynomial[known], other[known], rcond=None)[0]
        left = np.where(known, other - expected, 0.0)
        width = 1.4826 * np.median(np.abs(left[known])) or 1.0
        left = np.clip(left / width, -WRONG_SIGMA, WRONG_SIGMA)
        columns += [left[:, None], (left * x)[:, None]]
    return np.concatenate(columns, axis=1)
