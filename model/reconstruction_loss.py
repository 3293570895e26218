"""How wrong the predicted cells and labels are: Gaussian likelihoods with the measurement's own error.

A measured value is the truth plus noise of known variance s², so it is scored under N(mean, sd² + s²):
sd then describes the star, not the survey. One per cent of the probability goes to a component twenty times
wider, so that a wrong measurement loses its pull instead of dragging the fit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

OUTLIER_SHARE = 0.01
OUTLIER_WIDTH = 20.0
LOG_IN = math.log(1 - OUTLIER_SHARE)
LOG_OUT_SHARE = math.log(OUTLIER_SHARE)
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def robust_nll(value: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """−log likelihood of every element; `variance` > 0 is model and measurement together."""
    z2 = (value - mean) ** 2 / variance
    log_p = torch.logaddexp(
        LOG_IN - 0.5 * z2, LOG_OUT_SHARE - math.log(OUTLIER_WIDTH) - 0.5 * z2 / OUTLIER_WIDTH**2
    )
    return 0.5 * torch.log(variance) + _HALF_LOG_2PI - log_p


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x` where `mask`; exactly 0, with zero gradient, where nothing is."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp_min(1)


def reconstruction_loss(
    value_BD: Tensor, var_BD: Tensor, target_BD: Tensor, mean_BD: Tensor, sd_BD: Tensor
) -> Tensor:
    """Mean robust NLL over the cells in `target_BD`; 0 for an empty mask."""
    safe = torch.where(target_BD, value_BD, mean_BD.detach())
    return masked_mean(robust_nll(safe, mean_BD, sd_BD**2 + var_BD), target_BD)


def label_loss(
    label_BL: Tensor, err_BL: Tensor, offset_L: Tensor, quantity_L: Tensor, mean_BQ: Tensor, sd_BQ: Tensor
) -> Tensor:
    """Mean robust NLL of the labels present (not NaN), all in scaled units.

    offset_L is what a survey's scale lies above the reference scale; quantity_L the column of mean_BQ.
    """
    present = torch.isfinite(label_BL)
    mean, sd = mean_BQ[:, quantity_L] + offset_L, sd_BQ[:, quantity_L]
    safe = torch.where(present, label_BL, mean.detach())
    err = torch.where(present, err_BL, 1.0)
    return masked_mean(robust_nll(safe, mean, sd**2 + err**2), present)
