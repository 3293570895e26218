"""How far values lie from what they should be, and whether their intervals tell the truth.

`d` is always imputed − truth (or − observed).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.surveys.error_units import ONE_68

NMAD = 1.4826
OUTLIER = 0.25  # mag; and of a coefficient's scatter
INVENTED_SIGMA, INVENTED = 5.0, 0.5  # beyond so many of its own errors, or mag: a hallucination
BOOTSTRAPS = 100


@dataclass(frozen=True)
class Accuracy:
    """Units of d.

    n            values (for XP: stars)
    bias         median
    nmad         1.4826 median |d − bias|; nmad_lo, nmad_hi: its central 68 % under a bootstrap over sky cells
    mae, rmse    of d itself, outliers and bias included
    outliers     share beyond 0.25
    coverage68, coverage95  share inside the stated intervals
    hallucinated  share beyond 5 stated errors, or beyond 0.5
    crps         mean continuous ranked probability score of a normal of the stated 68 % width; smaller is better, inf
                 where an interval has no end
    """

    n: int
    bias: float
    nmad: float
    nmad_lo: float
    nmad_hi: float
    mae: float
    rmse: float
    outliers: float
    coverage68: float
    coverage95: float
    crps: float
    hallucinated: float


def nmad(d: np.ndarray, axis: int | None = None) -> np.ndarray:
    """1.4826 × the median absolute deviation from the median."""
    centre = np.median(d, axis=axis, keepdims=axis is not None)
    return NMAD * np.median(np.abs(d - centre), axis=axis)


def normal_crps(d: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """CRPS of N(0, sigma²) at d (Gneiting & Raftery 2007, eq. 21); sigma > 0."""
    z = d / sigma
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return sigma * (z * (2 * normal_cdf(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))


def normal_cdf(z: np.ndarray) -> np.ndarray:
    """Standard normal distribution function to 7.5e-8 (Abramowitz & Stegun 26.2.17)."""
    x = np.abs(z)
    t = 1 / (1 + 0.2316419 * x)
    poly = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    upper = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi) * poly
    return np.where(z >= 0, 1 - upper, upper)


def accuracy(
    d_N: np.ndarray, err68_N: np.ndarray, err95_N: np.ndarray, cell_N: np.ndarray, seed: int
) -> Accuracy:
    """One quantity. cell_N: the sky cell of each value, the unit of the bootstrap."""
    return Accuracy(
        n=len(d_N),
        bias=float(np.median(d_N)),
        nmad=float(nmad(d_N)),
        **_limits(bootstrap(d_N[:, None], cell_N, seed)),
        mae=float(np.abs(d_N).mean()),
        rmse=float(np.sqrt((d_N**2).mean())),
        **_intervals(d_N, err68_N, err95_N),
    )


def accuracy_of_spectra(
    d_NK: np.ndarray, err68_NK: np.ndarray, err95_NK: np.ndarray, cell_N: np.ndarray, seed: int
) -> Accuracy:
    """All coefficients, each already in units of its scatter: geometric means over coefficients of nmad, mae and rmse,
    mean of the rest; bias is the median over coefficients of |median d|."""
    return Accuracy(
        n=len(d_NK),
        bias=float(np.median(np.abs(np.median(d_NK, 0)))),
        nmad=geometric_mean(nmad(d_NK, 0)),
        **_limits(bootstrap(d_NK, cell_N, seed)),
        mae=geometric_mean(np.abs(d_NK).mean(0)),
        rmse=geometric_mean(np.sqrt((d_NK**2).mean(0))),
        **_intervals(d_NK, err68_NK, err95_NK),
    )


def bootstrap(d_NK: np.ndarray, cell_N: np.ndarray, seed: int) -> np.ndarray:
    """NMAD (geometric mean over columns) of BOOTSTRAPS resamplings of whole sky cells."""
    cells, index = np.unique(cell_N, return_inverse=True)
    everyone = np.arange(len(d_NK))
    rng = np.random.default_rng([seed, len(d_NK)])
    times = BOOTSTRAPS if d_NK.shape[1] == 1 else BOOTSTRAPS // 5  # spectra: 110 medians each
    found = np.empty(times)
    for i in range(times):
        times_drawn = np.bincount(rng.integers(0, len(cells), len(cells)), minlength=len(cells))
        rows = np.repeat(everyone, times_drawn[index])
        found[i] = geometric_mean(nmad(d_NK[rows], 0))
    return found


def geometric_mean(values: np.ndarray) -> float:
    """NaN for no values; 0 counts as 1e-12."""
    values = np.asarray(values, float)
    return float(np.exp(np.log(np.maximum(values, 1e-12)).mean())) if len(values) else float("nan")


def _limits(found: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(found, [16, 84])
    return {"nmad_lo": float(low), "nmad_hi": float(high)}


def _intervals(d: np.ndarray, err68: np.ndarray, err95: np.ndarray) -> dict[str, float]:
    size = np.abs(d)
    return {
        "outliers": float((size > OUTLIER).mean()),
        "coverage68": float((size <= err68).mean()),
        "coverage95": float((size <= err95).mean()),
        "hallucinated": float(((size > INVENTED_SIGMA * err68) | (size > INVENTED)).mean()),
        "crps": float(normal_crps(d, np.maximum(err68 / ONE_68, 1e-9)).mean()),
    }
