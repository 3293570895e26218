"""How accuracy and hallucinations fall with the number of training stars: a power law through the measured sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SURVEY = 154_000_000  # training stars of a store of all 220 million with XP spectra


@dataclass(frozen=True)
class PowerLaw:
    """y = scale × stars^−exponent; `error` of the exponent from the scatter; what it says of SURVEY stars, with 1-sigma limits."""

    exponent: float
    error: float
    predicted: tuple[float, float, float]  # low, middle, high


def fit_power_law(stars: np.ndarray, y: np.ndarray) -> PowerLaw:
    """Least squares in logarithms; at least three sizes."""
    x, log_y = np.log(np.asarray(stars, float)), np.log(np.asarray(y, float))
    design = np.stack([np.ones_like(x), -x], axis=1)
    solution, *_ = np.linalg.lstsq(design, log_y, rcond=None)
    residual = log_y - design @ solution
    cov = np.linalg.inv(design.T @ design) * float(residual @ residual) / max(1, len(x) - 2)
    at = np.array([1.0, -np.log(SURVEY)])
    middle, spread = float(at @ solution), float(np.sqrt(at @ cov @ at))
    low, mid, high = (float(np.exp(middle + k * spread)) for k in (-1, 0, 1))
    return PowerLaw(float(solution[1]), float(np.sqrt(cov[1, 1])), (low, mid, high))
