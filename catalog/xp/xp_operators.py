"""Gaia XP spectra as linear algebra: synthetic photometry from coefficients, coefficients from samples or spectra.

Shapes: B stars, K = 110 coefficients (55 BP then 55 RP, Gaia internal flux units), M bands, N = 343 samples
(336..1020 nm, W m-2 nm-1), W wavelengths. NaN over 55 coefficients = that half was not measured.
The matrices come from xp_operators.npz; extract_xp_operators.py says how they were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from msacat.catalog.errors import UsageError
from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX

N_HALF = 55
K = 2 * N_HALF
HALVES = (slice(0, N_HALF), slice(N_HALF, K))
#: Stars handled at once: bounds the float64 copies of float32 input (343 x 8 bytes x this = 45 MB).
CHUNK = 16_384
_COLOUR_EQUATION_BAND = "SDSS_Std:u"
_COLOUR_EQUATION_NEEDS = (_COLOUR_EQUATION_BAND, "SDSS_Std:g", "SDSS_Std:i")


@cache
def operators() -> dict[str, np.ndarray]:
    """Every array of xp_operators.npz, read-only."""
    with np.load(Path(__file__).parent / "xp_operators.npz", allow_pickle=False) as file:
        arrays = dict(file)
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


@cache
def _row_of() -> dict[str, int]:
    return {str(key): i for i, key in enumerate(operators()["band_keys"])}


def band_keys() -> list[str]:
    """Bands that XP can synthesise, "<GaiaXPy system>:<band>"."""
    return list(_row_of())


def synthetic_row(key: str) -> tuple[np.ndarray, float]:
    """(row_K, offset): row_K @ c + offset = flux in maggies. UsageError for an unknown key.

    For SDSS_Std:u this is the plain linear row, what a loss uses; its colour equation is not linear.
    """
    if key not in _row_of():
        raise UsageError(f"no synthetic-photometry row '{key}'", expected=", ".join(band_keys()), found=key)
    i = _row_of()[key]
    return operators()["band_rows"][i], float(operators()["band_offsets"][i])


def standardised_offsets() -> tuple[np.ndarray, np.ndarray]:
    """(rows_JK, offset_J) of the bands with an offset, one linear equation each: SDSS_Std griz, PanSTARRS1_Std grizy."""
    keys = [key for key in band_keys() if synthetic_row(key)[1] != 0 and key != _COLOUR_EQUATION_BAND]
    rows, offsets = _rows(keys)
    return np.asarray(rows), np.asarray(offsets)


def synthetic_maggies(xp_BK: np.ndarray, keys: Sequence[str]) -> np.ndarray:
    """(B, M) float64 flux in maggies, sign kept; NaN where a half the band needs is missing."""
    rows_MK, offsets_M = _rows(keys)
    return _apply(rows_MK, np.asarray(xp_BK)) + offsets_M


def synthetic_maggies_error(xp_BK: np.ndarray, xp_err_BK: np.ndarray, keys: Sequence[str]) -> np.ndarray:
    """(B, M) 1-sigma error in maggies, coefficients taken as uncorrelated (within 20 % for g, r, i).

    A standardised flux has the error of the plain one, scaled by |flux with offset / flux|, as in GaiaXPy.
    """
    rows_MK, offsets_M = _rows(keys)
    plain_BM = _apply(rows_MK, np.asarray(xp_BK))
    error_BM = np.sqrt(_apply(rows_MK**2, np.asarray(xp_err_BK, np.float64) ** 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(offsets_M == 0, error_BM, error_BM * np.abs((plain_BM + offsets_M) / plain_BM))


def synthetic_magnitudes(
    xp_BK: np.ndarray, keys: Sequence[str], xp_err_BK: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(mag_BM, err_BM) in the systems' own zero points; NaN for a flux <= 0 or a half not measured.

    err is NaN without `xp_err_BK`. Equal to gaiaxpy.generate, the colour equation of SDSS_Std:u included.
    """
    mag_BM = _magnitude(synthetic_maggies(xp_BK, keys))
    err_BM = np.full(mag_BM.shape, np.nan)
    if xp_err_BK is not None:
        err_BM = _magnitude_error(xp_BK, xp_err_BK, keys)
    if _COLOUR_EQUATION_BAND in keys:
        u_mag_B, u_err_B = _sdss_std_u(xp_BK, xp_err_BK)
        at = [i for i, key in enumerate(keys) if key == _COLOUR_EQUATION_BAND]
        mag_BM[:, at] = u_mag_B[:, None]
        err_BM[:, at] = u_err_B[:, None]
    return mag_BM, err_BM


def sdss_u_colour_correction(g_minus_i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mag to add to the linear SDSS_Std u, its slope) from the SDSS_Std g-i colour.

    GaiaXPy's polynomial (A&A 674, A33, section 4.2.1), continued as a straight line outside its range; the
    slope is the polynomial's everywhere, as GaiaXPy's error propagation has it.
    """
    polynomial = np.polynomial.Polynomial(operators()["sdss_std_u_polynomial"])
    slope = polynomial.deriv()
    within = np.clip(g_minus_i, *operators()["sdss_std_u_colour_range"])
    return polynomial(within) + slope(within) * (g_minus_i - within), slope(g_minus_i)


def coefficients_from_samples(
    flux_BN: np.ndarray, flux_error_BN: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sampled spectra -> (bp, bp_err, rp, rp_err), each (B, 55) float32.

    Parameters: flux and 1-sigma error, (B, 343), W m-2 nm-1 (xp_sampled as published).
    A half is NaN where any of its samples is NaN (BP 336-690, RP 614-1020 nm), its error where any of their
    errors is. Photometry of bright archive spectra returns within 1 mmag in g, i, 6 in r, G, BP, RP (medians
    below 0.5), 40 in SDSS z, 120 in PS1 y; u bands are extrapolated (median 0.05, worst 0.3 mag).
    """
    bp, rp = _apply_rows(operators()["coefficients_from_samples"], np.asarray(flux_BN))
    if flux_error_BN is None:
        return bp, np.full_like(bp, np.nan), rp, np.full_like(rp, np.nan)
    # Squares of 1e-20 times squares of 1e19: scaled so that neither leaves the range of a float.
    scale = 1e18
    squares = (operators()["coefficients_from_samples"] / scale) ** 2
    variance = _apply_rows(squares, np.asarray(flux_error_BN), before=lambda flux: (flux * scale) ** 2)
    bp_err, rp_err = (
        (np.sqrt(v) * operators()["error_scale"][half]).astype(np.float32)
        for v, half in zip(variance, HALVES, strict=True)
    )
    return bp, bp_err, rp, rp_err


def coefficients_from_sed(wavelength_nm: np.ndarray, flux_lambda_BW: np.ndarray) -> np.ndarray:
    """(B, 110) float64 noise-free coefficients of spectra f_lambda (W m-2 nm-1) on ascending wavelengths.

    The spectrum, linear between its points, is averaged in 1 nm bins. ValueError unless 329.5-1050.5 nm is
    covered. Against direct integration G, BP, RP, g, r, i, z hold within 2 mmag.
    """
    wavelength = np.asarray(wavelength_nm, np.float64)
    flux_BW = np.atleast_2d(np.asarray(flux_lambda_BW))
    centres = operators()["sed_nm"]
    edges = np.append(centres - 0.5, centres[-1] + 0.5)
    if wavelength[0] > edges[0] or wavelength[-1] < edges[-1] or np.any(np.diff(wavelength) <= 0):
        raise ValueError(
            f"a spectrum must cover {edges[0]}-{edges[-1]} nm in ascending order; "
            f"found {wavelength[0]}-{wavelength[-1]} nm"
        )
    operator_WK = operators()["coefficients_from_sed"].T.astype(np.float64)
    out = np.empty((len(flux_BW), K))
    for part in _chunks(len(flux_BW)):
        out[part] = _bin_averages(wavelength, flux_BW[part].astype(np.float64), edges) @ operator_WK
    return out


def _rows(keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [synthetic_row(key) for key in keys]
    return np.array([row for row, _ in pairs]).reshape(-1, K), np.array([offset for _, offset in pairs])


def _apply(matrix_MK: np.ndarray, xp_BK: np.ndarray) -> np.ndarray:
    """xp @ matrix.T in float64; an entry is NaN only where a half with weight in it holds a NaN."""
    out = np.zeros((len(xp_BK), len(matrix_MK)))
    for part in _chunks(len(xp_BK)):
        for half in HALVES:
            xp = xp_BK[part, half].astype(np.float64)
            missing = np.isnan(xp).any(1)
            xp[missing] = 0.0
            out[part] += xp @ matrix_MK[:, half].T
            if missing.any():
                needed = (matrix_MK[:, half] != 0).any(1)
                out[part][np.ix_(missing, needed)] = np.nan
    return out


def _apply_rows(operator_KN: np.ndarray, flux_BN: np.ndarray, before=lambda flux: flux) -> list[np.ndarray]:
    """[BP (B, 55), RP (B, 55)] float32 of operator @ before(flux), NaN where a sample the half needs is NaN."""
    halves = []
    for half in HALVES:
        operator = operator_KN[half]
        needed = (operator != 0).any(0)
        matrix = np.ascontiguousarray(operator[:, needed].T)
        out = np.empty((len(flux_BN), N_HALF), np.float32)
        for part in _chunks(len(flux_BN)):
            out[part] = before(flux_BN[part][:, needed].astype(np.float64)) @ matrix
        halves.append(out)
    return halves


def _chunks(n_stars: int) -> Iterator[slice]:
    for start in range(0, n_stars, CHUNK):
        yield slice(start, min(start + CHUNK, n_stars))


def _magnitude(maggies: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(maggies > 0, -2.5 * np.log10(maggies), np.nan)


def _magnitude_error(xp_BK: np.ndarray, xp_err_BK: np.ndarray, keys: Sequence[str]) -> np.ndarray:
    maggies = synthetic_maggies(xp_BK, keys)
    error = synthetic_maggies_error(xp_BK, xp_err_BK, keys)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(maggies > 0, MAG_PER_RELATIVE_FLUX * error / maggies, np.nan)


def _sdss_std_u(xp_BK: np.ndarray, xp_err_BK: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """SDSS_Std u with its colour equation: (mag_B, err_B)."""
    u, g, i = _magnitude(synthetic_maggies(xp_BK, _COLOUR_EQUATION_NEEDS)).T
    correction, slope = sdss_u_colour_correction(g - i)
    if xp_err_BK is None:
        return u + correction, np.full(len(u), np.nan)
    u_err, g_err, i_err = _magnitude_error(xp_BK, xp_err_BK, _COLOUR_EQUATION_NEEDS).T
    return u + correction, np.sqrt(u_err**2 + (g_err**2 + i_err**2) * slope**2)


def _bin_averages(wavelength: np.ndarray, flux_BW: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean of the piecewise-linear spectra between successive edges: exact integrals, flux conserved."""
    pieces = (flux_BW[:, 1:] + flux_BW[:, :-1]) / 2 * np.diff(wavelength)
    integral = np.concatenate([np.zeros((len(flux_BW), 1)), np.cumsum(pieces, 1)], 1)
    left = np.clip(np.searchsorted(wavelength, edges, "right") - 1, 0, len(wavelength) - 2)
    beyond = edges - wavelength[left]
    slope = (flux_BW[:, left + 1] - flux_BW[:, left]) / np.diff(wavelength)[left]
    to_edge = integral[:, left] + beyond * (flux_BW[:, left] + slope * beyond / 2)
    return np.diff(to_edge, axis=1) / np.diff(edges)
