"""Hides measured values from the model as enrichment will find them missing, and records how it does.

Used by calibration (part `calibrate`) and by scores (part `test`): one code decides what "hidden" means.
Regimes: `as_observed` (nothing hidden: for labels, which are never inputs), `survey_hidden` (one of the
star's surveys, its spectrum as it is), `xp_hidden` (the spectrum), `xp_and_survey_hidden`; and for calibration alone
`cells_hidden` (single bands: the rest of their survey is seen).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.cells import Cells
from msacat.model.hide_features import group_of_cells, one_survey
from msacat.model.noise_in_flux import FluxNoise
from msacat.model.scale_features import FeatureScaling
from msacat.model.star_network import StarNetwork, same_survey

REGIMES = ("as_observed", "survey_hidden", "xp_hidden", "xp_and_survey_hidden")
CELLS_SHARE = 0.3  # of a star's bands, in `cells_hidden`
BATCH = 1024


@dataclass
class HeldOut:
    """Numpy arrays of some stars in one regime; scaled units.

    scored_BD  hidden cells with something to compare with; none of a star without G, whose colours are a guess
    value_BD, var_BD  the measurement (or synthetic magnitude) and its error variance
    mean_BD, sd_BD    the prediction; prior_BM the prior's of the bands, before the network's correction
    label_BL, label_err_BL, label_median_BL, label_sd_BL   NaN where there is no label
    xp_seen_B  some of the spectrum was visible
    beside_BM  another band of the same survey was visible
    source_id_B
    """

    scored_BD: np.ndarray
    value_BD: np.ndarray
    var_BD: np.ndarray
    mean_BD: np.ndarray
    sd_BD: np.ndarray
    prior_BM: np.ndarray
    label_BL: np.ndarray
    label_err_BL: np.ndarray
    label_median_BL: np.ndarray
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

    @staticmethod
    def of_nobody(n_cells: int, n_bands: int, n_labels: int) -> HeldOut:
        cells, bands, labels, none = (np.zeros((0, n)) for n in (n_cells, n_bands, n_labels, 1))
        no = none[:, 0]
        return HeldOut(
            cells > 0, cells, cells, cells, cells, bands, labels, labels, labels, labels,
            no, no > 0, bands > 0, no.astype(np.int64),
        )  # fmt: skip

    def keeping(self, kept_SXM: np.ndarray) -> HeldOut:
        """The same, had the model kept these shares of its corrections."""
        M = self.prior_BM.shape[1]
        kept_BM = kept_SXM[self.beside_BM.astype(int), self.xp_seen_B.astype(int)[:, None], np.arange(M)]
        bands = self.prior_BM + kept_BM * (self.mean_BD[:, :M] - self.prior_BM)
        mean_BD = np.concatenate([bands, self.mean_BD[:, M:]], 1).astype(self.mean_BD.dtype)
        return replace(self, mean_BD=mean_BD)


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
    if survey is not None:
        use = _has_what_is_hidden(cells, scaling, regime, survey)
        block, cells = block.take(np.flatnonzero(use)), cells.take(use)
    known = cells.observed_BD | cells.derived_BD
    visible = cells.observed_BD & ~_hidden(known, scaling, regime, rng, survey)
    labels, label_err = model.labels.encode(block.label_BL, block.label_err_BL)
    q = model.labels.quantity_of_label
    offset = (model.label_offset_L * model.fitted_L).detach().cpu().numpy()
    means, sds, priors, label_medians, label_sds = [], [], [], [], []
    model.eval()
    for start in range(0, max(1, len(block)), BATCH):
        rows = slice(start, start + BATCH)
        prior, out = model(cells.take(rows).to(device), torch.as_tensor(visible[rows]).to(device))
        means.append(out.mean_BD.cpu().numpy())
        sds.append(out.sd_BD.cpu().numpy())
        priors.append(prior.mean_BD[:, :M].cpu().numpy())
        label_medians.append(out.label_BQ.cpu().numpy()[:, q] + offset)
        label_sds.append(out.label_sd_BQ.cpu().numpy()[:, q])
    mean, sd = np.concatenate(means), np.concatenate(sds)
    value, var = cells.value_BD, cells.var_BD
    if unbiased:
        value, var = _without_bias(model.flux_noise, cells, mean, sd)
    return HeldOut(
        known & ~visible & ~cells.proxy_B[:, None],
        value,
        var,
        mean,
        sd,
        np.concatenate(priors),
        labels,
        label_err,
        np.concatenate(label_medians),
        np.concatenate(label_sds),
        cells.norm_B,
        visible[:, M:].any(1),
        beside(visible, scaling),
        block.source_id_B,
    )


def _has_what_is_hidden(cells: Cells, scaling: FeatureScaling, regime: str, survey: int) -> np.ndarray:
    """bool (B,): stars with a band of the survey, and with a spectrum where that is hidden too."""
    group = group_of_cells(scaling.features)
    own = (group == survey) & (np.arange(len(group)) != scaling.reference)
    has = (cells.observed_BD | cells.derived_BD)[:, own].any(1)
    return has & cells.observed_BD[:, group < 0].any(1) if "xp" in regime else has


def _hidden(
    known_BD: np.ndarray, scaling: FeatureScaling, regime: str, rng: np.random.Generator, survey: int | None
) -> np.ndarray:
    """bool (B, D): what the regime does not show."""
    group = group_of_cells(scaling.features)
    hidden = np.zeros_like(known_BD)
    if "survey" in regime:
        which = one_survey(known_BD, group, rng) if survey is None else np.full(len(known_BD), survey)
        hidden |= group == which[:, None]
    if "xp" in regime:
        hidden |= group < 0
    if regime == "cells_hidden":
        n_bands = scaling.n_bands
        hidden[:, :n_bands] = rng.random((len(known_BD), n_bands)) < CELLS_SHARE
    hidden[:, scaling.reference] = False
    return hidden


def beside(visible_BD: np.ndarray, scaling: FeatureScaling) -> np.ndarray:
    """bool (B, M), is another band of the same survey visible? The reference band, which always is, does not count."""
    return visible_BD[:, : scaling.n_bands].astype(np.float32) @ same_survey(scaling) > 0


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
