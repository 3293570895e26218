"""Hides measured values from the model as enrichment will find them missing, and records how it does.

Used by calibration (part `calibrate`) and by scores (part `test`): one code decides what "hidden" means.
Regimes: `as_observed` (nothing hidden: for labels, which are never inputs), `survey_hidden` (one of the
star's surveys, its spectrum as it is), `xp_hidden` (the spectrum), `xp_and_survey_hidden`; and for calibration alone
`cells_hidden` (single bands: the rest of their survey is seen).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.cells import Cells
from msacat.model.hide_features import group_of_cells
from msacat.model.noise_in_flux import FluxNoise
from msacat.model.scale_features import FeatureScaling
from msacat.model.star_network import StarNetwork

REGIMES = ("as_observed", "survey_hidden", "xp_hidden", "xp_and_survey_hidden")
CELLS_SHARE = 0.3  # of a star's bands, in `cells_hidden`
BATCH = 1024


@dataclass
class HeldOut:
    """Numpy arrays of some stars in one regime; scaled units.

    scored_BD  hidden cells with something to compare with
    value_BD, var_BD  the measurement (or synthetic magnitude) and its error variance
    mean_BD, sd_BD    the prediction
    label_BL, label_err_BL, label_mean_BL, label_sd_BL   NaN where there is no label
    xp_seen_B  some of the spectrum was visible
    beside_BM  another band of the same survey was visible
    source_id_B
    """

    scored_BD: np.ndarray
    value_BD: np.ndarray
    var_BD: np.ndarray
    mean_BD: np.ndarray
    sd_BD: np.ndarray
    label_BL: np.ndarray
    label_err_BL: np.ndarray
    label_mean_BL: np.ndarray
    label_sd_BL: np.ndarray
    g_B: np.ndarray
    xp_seen_B: np.ndarray
    beside_BM: np.ndarray
    source_id_B: np.ndarray

    @staticmethod
    def concatenate(parts: list[HeldOut]) -> HeldOut:
        return HeldOut(
            *(np.concatenate([getattr(p, n) for p in parts]) for n in HeldOut.__dataclass_fields__)
        )


@torch.no_grad()
def hold_out(
    model: StarNetwork,
    block: StarBlock,
    regime: str,
    rng: np.random.Generator,
    device: torch.device,
    unbiased: bool = False,
    survey: int | None = None,
) -> HeldOut:
    """Predict the stars of `block` with one random survey and/or the spectrum hidden.

    unbiased  magnitudes and errors as noise_in_flux.py corrects them
    survey    number of the one to hide (group_of_cells), of the stars that have all of what is hidden
    """
    scaling, M = model.scaling, model.scaling.n_bands
    block = block.take(np.isfinite(block.mag_BM).any(1))
    cells = scaling.encode(block)
    group = group_of_cells(scaling.features)
    known = cells.observed_BD | cells.derived_BD
    if survey is not None:
        other = np.arange(len(group)) != scaling.reference
        use = known[:, (group == survey) & other].any(1)
        if "xp" in regime:
            use &= cells.observed_BD[:, group < 0].any(1)
        block, cells, known = block.take(np.flatnonzero(use)), cells.take(use), known[use]
    hidden = np.zeros_like(known)
    if "survey" in regime:
        which = _survey_to_hide(known, group, rng) if survey is None else np.full(len(known), survey)
        hidden |= group == which[:, None]
    if "xp" in regime:
        hidden |= group < 0
    if regime == "cells_hidden":
        hidden[:, :M] = rng.random((len(known), M)) < CELLS_SHARE
    hidden[:, scaling.reference] = False
    visible = cells.observed_BD & ~hidden
    labels, label_err = model.labels.encode(block.label_BL, block.label_err_BL)
    q = model.labels.quantity_of_label
    offset = (model.label_offset_L * model.fitted_L).detach().cpu().numpy()
    means, sds, label_means, label_sds = [], [], [], []
    model.eval()
    for start in range(0, max(1, len(block)), BATCH):
        rows = slice(start, start + BATCH)
        _, out = model(cells.take(rows).to(device), torch.as_tensor(visible[rows]).to(device))
        means.append(out.mean_BD.cpu().numpy())
        sds.append(out.sd_BD.cpu().numpy())
        label_means.append(out.label_BQ.cpu().numpy()[:, q] + offset)
        label_sds.append(out.label_sd_BQ.cpu().numpy()[:, q])
    mean, sd = np.concatenate(means), np.concatenate(sds)
    value, var = cells.value_BD, cells.var_BD
    if unbiased:
        value, var = _without_bias(model.flux_noise, cells, mean, sd)
    return HeldOut(
        known & ~visible,
        value,
        var,
        mean,
        sd,
        labels,
        label_err,
        np.concatenate(label_means),
        np.concatenate(label_sds),
        cells.norm_B,
        visible[:, M:].any(1),
        beside(visible, scaling),
        block.source_id_B,
    )


def beside(visible_BD: np.ndarray, scaling: FeatureScaling) -> np.ndarray:
    """bool (B, M), is another band of the same survey visible? The reference band, which always is, does not count."""
    M, group = scaling.n_bands, group_of_cells(scaling.features)
    counted = visible_BD[:, :M].copy()
    counted[:, scaling.reference] = False
    of_survey = (group[:M, None] == group[:M]).astype(np.float32)
    return counted.astype(np.float32) @ of_survey - counted > 0


def _without_bias(
    noise: FluxNoise, cells: Cells, mean_BD: np.ndarray, sd_BD: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(value, var), those of bands as a star of the predicted magnitude has them, listed or not."""
    M, device = len(noise.unit_M), noise.unit_M.device
    value, var, mean, sd = (
        torch.as_tensor(a[:, :M]).to(device) for a in (cells.value_BD, cells.var_BD, mean_BD, sd_BD)
    )
    stated = torch.as_tensor(cells.stated[:, :M]).to(device)
    listed = stated & torch.as_tensor(cells.observed_BD[:, :M]).to(device)
    value, var = noise.as_predicted(value, var, mean, stated)
    value = torch.where(listed, noise.as_if_unlimited(value, var, mean, sd), value)
    return (
        np.concatenate([value.cpu().numpy(), cells.value_BD[:, M:]], 1),
        np.concatenate([var.cpu().numpy(), cells.var_BD[:, M:]], 1),
    )


def _survey_to_hide(known: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For every star one of the surveys that say something of it, at random; −9 where none does."""
    n = group.max() + 1
    seen = np.stack([known[:, group == g].any(1) for g in range(n)], axis=1)
    draw = np.where(seen, rng.random(seen.shape), -1.0)
    return np.where(seen.any(1), draw.argmax(1), -9)
