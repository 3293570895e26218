"""How much of the network's corrections to keep, band by band, measured on stars that trained nothing.

Where a band's noise drowns its errors, a network corrects the prior partly by the noise it was trained on, and by the same
share whether its corrections are large or small: a part of them is better than all. Its own stars cannot show that. The best
share is the slope of (measured − prior) on (network − prior). One band's is uncertain under much noise. But corrections that
hold a share f of the noise variance n² are best kept to 1 − f n² / (their own variance), so that shares lean on a line
through those of all bands (empirical Bayes).

Suffixes: N cells, S neighbours of the same survey hidden or visible, X spectrum hidden or visible, M bands; I kinds.
"""

from __future__ import annotations

import numpy as np

from msacat.model.held_out import HeldOut

WRONG_SIGMA = 5.0  # a measurement further from its prediction tells nothing
MOST_KEPT = 1.2
BELIEF = np.array([1.0, 0.0]), 0.3  # share kept of large corrections, and -100 f; 1 sigma of both
SPREADS = np.geomspace(0.03, 0.5, 12)  # of shares about the line


def measure_kept(held: HeldOut) -> np.ndarray:
    """Share of the corrections to keep, kept_SXM, in 0 to 1.2; 1 where nothing was hidden."""
    M = held.prior_BM.shape[1]
    kinds = [(s, x, m) for s in (0, 1) for x in (0, 1) for m in range(M)]
    slope_I, precision_I, drowned_I = np.array([_slope(held, *kind) for kind in kinds]).T
    known = precision_I > 0
    kept = np.ones((2, 2, M))
    if not known.any():
        return kept
    design_IP = np.stack([np.ones(known.sum()), drowned_I[known]], axis=1)
    slope, precision = slope_I[known], precision_I[known]
    fits = [_line(design_IP, slope, precision, spread) for spread in SPREADS]
    line, _, spread = max(fits, key=lambda fit: fit[1])
    leaning = (precision * slope + design_IP @ line / spread**2) / (precision + spread**-2)
    for kind, share in zip(np.array(kinds)[known], leaning, strict=True):
        kept[tuple(kind)] = np.clip(share, 0.0, MOST_KEPT)
    return kept


def _slope(held: HeldOut, beside: int, seen: int, m: int) -> tuple[float, float, float]:
    """(slope, 1 / its variance, noise / correction variance / 100) of one kind; precision 0 where it is empty."""
    use = held.scored_BD[:, m] & (held.beside_BM[:, m] == beside) & (held.xp_seen_B == seen)
    prior = held.prior_BM[use, m].astype(np.float64)
    measured, corrected = held.value_BD[use, m] - prior, held.mean_BD[use, m] - prior
    noise, square = held.var_BD[use, m].astype(np.float64), held.sd_BD[use, m].astype(np.float64) ** 2
    var = noise + square
    right = np.abs(measured - corrected) < WRONG_SIGMA * np.sqrt(var)
    precision = float((corrected**2 / var)[right].sum())
    if precision == 0:
        return 1.0, 0.0, 0.0
    slope = float((measured * corrected / var)[right].sum()) / precision
    return slope, precision, 0.01 * float((noise / var)[right].sum()) / precision


def _line(design_IP, slope_I, precision_I, spread: float) -> tuple[np.ndarray, float, float]:
    """(likeliest line through the slopes, log likelihood, spread), for slopes that differ from it by `spread`."""
    var = spread**2 + 1 / precision_I
    mean, width = BELIEF
    left = (design_IP / var[:, None]).T @ design_IP + np.eye(2) / width**2
    line = np.linalg.solve(left, design_IP.T @ (slope_I / var) + mean / width**2)
    off = slope_I - design_IP @ line
    likely = -0.5 * (off**2 / var + np.log(var)).sum() - 0.5 * ((line - mean) ** 2).sum() / width**2
    return line, float(likely - 0.5 * np.linalg.slogdet(left)[1]), spread
