"""How far surveys' zero points wander over the sky, judged by what spectra say of their stars.

A survey's magnitudes are right up to a constant that is another in every stretch of sky. All stars there share it, no stated
error holds it, and no number of stars averages it out; to one star it is noise. It shows in the means of
(measured - predicted) over sky cells, which differ by more than their stars explain. The prediction has the whole survey
hidden and is of stars with a spectrum: Gaia measures all of the sky alike, while what another survey says is off by that
survey's own zero points. Without spectra nothing is said.

Suffixes: B stars, D cells, M bands, C sky cells.
"""

from __future__ import annotations

import numpy as np
import torch

from msacat.catalog.surveys.source_id import cell_shift
from msacat.model.cells import CellTensors
from msacat.model.hide_features import group_of_cells
from msacat.model.mixture_prior import MixturePrior
from msacat.model.scale_features import FeatureScaling

#: source_id // SKY_CELL is the nested HEALPix cell of level 5, 1.8 deg wide
SKY_CELL = 1 << cell_shift(5)
FEWEST_STARS = 15  # in a cell whose mean counts
FEWEST_CELLS = 8
ACCIDENT = 4.0  # robust sigmas; further off is a wrong measurement
EVIDENCE = 10.0  # of log likelihood, that cells differ at all
LEAST = 0.15  # of the median error of the band; less changes no interval by 2 %
SCATTERS = np.geomspace(1e-4, 0.2, 120)  # mag
BATCH = 1024


@torch.no_grad()
def fit_zero_points(
    prior: MixturePrior, cells: CellTensors, source_id_B: np.ndarray, scaling: FeatureScaling
) -> np.ndarray:
    """Scatter of each band's zero point from sky cell to sky cell, mag, zero_point_M; 0 where none is seen.

    `cells`: stars that the prior was not fitted to.
    """
    M = scaling.n_bands
    found = np.zeros(M)
    group_M = group_of_cells(scaling.features)[:M]
    use_B = ~cells.proxy_B & cells.observed_BD[:, M:].any(1)
    for survey in np.unique(group_M):
        hidden_M = (group_M == survey) & (np.arange(M) != scaling.reference)
        bands = torch.as_tensor(np.flatnonzero(hidden_M), device=use_B.device)
        rows = (use_B & (cells.observed_BD & cells.stated)[:, bands].any(1)).nonzero()[:, 0]
        if len(rows) < FEWEST_STARS * FEWEST_CELLS:
            continue
        residual, total_var = _predicted_without(prior, cells, rows, bands)
        known = (cells.observed_BD & cells.stated)[rows][:, bands].cpu().numpy()
        noise_var = cells.var_BD[rows][:, bands].double().cpu().numpy()
        sky_cell = source_id_B[rows.cpu().numpy()] // SKY_CELL
        for i, m in enumerate(np.flatnonzero(hidden_M)):
            use = known[:, i]
            if use.sum() < FEWEST_STARS * FEWEST_CELLS:
                continue
            unit = scaling.scale_D[m]
            scatter = scatter_of_means(unit * residual[use, i], unit**2 * total_var[use, i], sky_cell[use])
            if scatter > LEAST * unit * np.sqrt(np.median(noise_var[use, i])):
                found[m] = scatter
    return found


def scatter_of_means(d_N: np.ndarray, var_N: np.ndarray, cell_N: np.ndarray) -> float:
    """Scatter of what all values of a cell share, by maximum likelihood; 0 without strong evidence of any.

    d_N with variances var_N, right up to a factor, as they weigh; how uncertain a mean is, its cell's own values say.
    """
    middle = np.median(d_N)
    near = np.abs(d_N - middle) < ACCIDENT * 1.4826 * np.median(np.abs(d_N - middle))
    d, weight, cell = d_N[near], 1 / var_N[near], cell_N[near]
    at, count = np.unique(cell, return_inverse=True, return_counts=True)[1:]
    total_C = np.bincount(at, weight)
    mean_C = np.bincount(at, weight * d) / total_C
    var_C = np.bincount(at, (weight * (d - mean_C[at])) ** 2) / total_C**2 * count / np.maximum(count - 1, 1)
    enough = (count >= FEWEST_STARS) & (var_C > 0)
    if enough.sum() < FEWEST_CELLS:
        return 0.0
    score = [_log_likelihood(mean_C[enough], var_C[enough] + scatter**2) for scatter in (0.0, *SCATTERS)]
    best = int(np.argmax(score))
    return float(SCATTERS[best - 1]) if score[best] - score[0] > EVIDENCE else 0.0


def _log_likelihood(mean_C: np.ndarray, var_C: np.ndarray) -> float:
    """Of means about a common one, which is fitted too."""
    common = np.sum(mean_C / var_C) / np.sum(1 / var_C)
    return float(-0.5 * np.sum((mean_C - common) ** 2 / var_C + np.log(var_C)))


def _predicted_without(
    prior: MixturePrior, cells: CellTensors, rows: torch.Tensor, bands: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """(measured - predicted from the star's other cells, variance of that) of some bands, scaled."""
    residual, total = [], []
    for part in rows.split(BATCH):
        visible = cells.observed_BD[part].clone()
        visible[:, bands] = False
        said = prior.posterior(cells.value_BD[part], cells.var_BD[part], visible)
        residual.append((cells.value_BD[part] - said.mean_BD)[:, bands].double().cpu().numpy())
        total.append((cells.var_BD[part] + said.sd_BD**2)[:, bands].double().cpu().numpy())
    return np.concatenate(residual), np.concatenate(total)
