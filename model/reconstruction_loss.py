"""How wrong the predicted cells and labels are: likelihoods with the measurement's own error.

A measured value is the truth plus noise of known variance s², so it is scored under N(mean, sd² + s²):
sd then describes the star, not the survey. A share of the probability goes to a component twenty times wider, so that
a wrong measurement loses its pull instead of dragging the fit. The share is learned, cell by cell (StarNetwork): a fixed
one takes the tails of honest noise where fewer are wrong, and a sigma far below its noise comes out too small.

Labels are scored under a Laplace distribution, whose best centre is the median: what a few magnitudes say of a metallicity
is skewed, and a mean lies where few stars do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

OUTLIER_SHARE = 0.01  # to begin with
LEAST_SHARE = 1e-4  # a survey that is never wrong there is not
OUTLIER_WIDTH = 20.0
OUTLIER_LOGIT = math.log(OUTLIER_SHARE / (1 - OUTLIER_SHARE))
LEAST_LOGIT = math.log(LEAST_SHARE / (1 - LEAST_SHARE))
ROUNDED = 0.1  # sigmas: how far from its centre the Laplace density has no tip, for the sake of gradients
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def log_shares(wrong_logit: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(log share of right values, log share of wrong ones) from the logit of the latter; OUTLIER_SHARE without."""
    logit = torch.tensor(OUTLIER_LOGIT) if wrong_logit is None else wrong_logit.clamp_min(LEAST_LOGIT)
    return logsigmoid(-logit), logsigmoid(logit)


def robust_nll(value: Tensor, mean: Tensor, variance: Tensor, wrong_logit: Tensor | None = None) -> Tensor:
    """−log likelihood of every element; `variance` > 0 is model and measurement together."""
    log_in, log_out = log_shares(wrong_logit)
    z2 = (value - mean) ** 2 / variance
    log_p = torch.logaddexp(
        log_in - 0.5 * z2, log_out - math.log(OUTLIER_WIDTH) - 0.5 * z2 / OUTLIER_WIDTH**2
    )
    return 0.5 * torch.log(variance) + _HALF_LOG_2PI - log_p


def laplace_nll(value: Tensor, median: Tensor, variance: Tensor) -> Tensor:
    """−log likelihood of every element under a Laplace distribution of that variance, rounded at its tip."""
    z2 = (value - median) ** 2 / variance
    return 0.5 * torch.log(2 * variance) + torch.sqrt(2 * z2 + ROUNDED**2)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x` where `mask`; exactly 0, with zero gradient, where nothing is."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp_min(1)


def reconstruction_loss(
    value_BD: Tensor,
    var_BD: Tensor,
    target_BD: Tensor,
    mean_BD: Tensor,
    sd_BD: Tensor,
    wrong_logit_D: Tensor | None = None,
) -> Tensor:
    """Mean robust NLL over the cells in `target_BD`; 0 for an empty mask."""
    safe = torch.where(target_BD, value_BD, mean_BD.detach())
    return masked_mean(robust_nll(safe, mean_BD, sd_BD**2 + var_BD, wrong_logit_D), target_BD)


def label_loss(
    label_BL: Tensor, err_BL: Tensor, offset_L: Tensor, quantity_L: Tensor, median_BQ: Tensor, sd_BQ: Tensor
) -> Tensor:
    """Mean Laplace NLL of the labels present (not NaN), all in scaled units.

    offset_L is what a survey's scale lies above the reference scale; quantity_L the column of median_BQ.
    """
    present = torch.isfinite(label_BL)
    median, sd = median_BQ[:, quantity_L] + offset_L, sd_BQ[:, quantity_L]
    safe = torch.where(present, label_BL, median.detach())
    err = torch.where(present, err_BL, 1.0)
    return masked_mean(laplace_nll(safe, median, sd**2 + err**2), present)
