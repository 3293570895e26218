"""How much larger than stated the errors of a survey are, judged by what a star's other cells say of each cell.

A cell's leave-one-out residual holds the spread of the stars, alike for all, and the cell's noise, which follows its
stated error from star to star: fit_noise (deconvolve_errors.py) tells them apart. Bands are fitted one by one, the
coefficients of a spectrum in the six groups that calibration uses; those of one survey that agree have one factor.

Suffixes: B stars, D cells, M bands.
"""

from __future__ import annotations

import numpy as np
import torch

from msacat.model.calibrate_intervals import COEFFICIENT_GROUP_K, N_GROUPS
from msacat.model.cells import CellTensors
from msacat.model.deconvolve_errors import Residuals, fit_noise, noise_of_survey
from msacat.model.hide_features import group_of_cells
from msacat.model.mixture_prior import MixturePrior
from msacat.model.scale_features import FeatureScaling

MAX_DROPS = 3  # wrong measurements are not noise
MAX_VALUES = 60_000
#: Kinds of values by the prior's sigma, wrong by a factor of its own in each: one that says too much of bright stars, which
#: it knows best, would look like noise of the faint. By G instead, factors put in as 1.2 to 1.6 come out 10 % smaller.
KINDS = 8
BATCH = 1024
#: No error is found too large: a prior too sure of bright stars, with the same errors all of them, looks just so.
LEAST, MOST = 1.0, 3.0


@torch.no_grad()
def fit_noise_scale(prior: MixturePrior, cells: CellTensors, scaling: FeatureScaling) -> np.ndarray:
    """Real over published error of every cell, noise_D >= 1; 1 where errors are unpublished, right, or beyond telling.

    `cells`: stars that the prior was not fitted to. Its own it knows by part of their noise.
    """
    n_bands = scaling.n_bands
    deviation, spread, noise, use = [], [], [], []
    for start in range(0, len(cells), BATCH):
        rows = slice(start, start + BATCH)
        x, s = cells.value_BD[rows], cells.var_BD[rows]
        believed = prior.posterior(x, s, cells.observed_BD[rows], MAX_DROPS).visible_BD
        residual, variance = prior.leave_one_out(x, s, believed)
        deviation.append(residual.double().cpu().numpy())
        spread.append(np.sqrt((variance - s).clamp_min(1e-12).double().cpu().numpy()))
        noise.append(s.double().cpu().numpy())
        use.append((believed & cells.stated[rows]).cpu().numpy())
    parts = [np.concatenate(a) for a in (deviation, spread, noise, use)]

    def noise_of(columns: np.ndarray) -> float:
        d, sd, var, seen = (a[:, columns] for a in parts)
        common = np.broadcast_to(scaling.common_var[columns], d.shape)
        of = Residuals(d[seen], sd[seen], var[seen], common_N=common[seen])
        of = of.take(np.random.default_rng(len(of)).permutation(len(of))[:MAX_VALUES])
        return np.clip(fit_noise(of, _how_sure(of.sd_N)), LEAST, MOST)

    found = np.ones(scaling.n_cells)
    survey_M = group_of_cells(scaling.features)[:n_bands]
    for survey in np.unique(survey_M):
        columns = np.flatnonzero(survey_M == survey)
        columns = columns[columns != scaling.reference]
        found[columns] = noise_of_survey(np.array([noise_of(np.array([m])) for m in columns]))
    if len(found) > n_bands:
        group_K = COEFFICIENT_GROUP_K
        groups = [noise_of(n_bands + np.flatnonzero(group_K == p)) for p in range(N_GROUPS)]
        found[n_bands:] = noise_of_survey(np.array(groups))[group_K]
    return found


def _how_sure(sd_N: np.ndarray) -> np.ndarray:
    """Kinds of equally many values, by sigma."""
    return (
        np.digitize(sd_N, np.quantile(sd_N, np.arange(1, KINDS) / KINDS)) if len(sd_N) else np.zeros(0, int)
    )
