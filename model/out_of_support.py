"""Is a star like those the model was trained on? The prior's distance, turned into a normal deviate.

chi² of the visible cells under the best components has the star's own number of cells as degrees of
freedom; Wilson & Hilferty's (1931) cube root makes stars with 3 and with 130 cells comparable.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from msacat.model.mixture_prior import Posterior
from msacat.model.star_network import StarNetwork
from msacat.model.train_config import StarStream

SAMPLE = 4_000
QUANTILE = 0.999
LEAST = 5.0  # sigma


def distance_z(posterior: Posterior) -> Tensor:
    """How many sigma the star's chi² lies above what its number of cells lets expect."""
    n = posterior.visible_BD.sum(1).clamp_min(1)
    a = 2 / (9 * n)
    return (posterior.distance_B.clamp_min(0) ** (1 / 3) - (1 - a)) / a.sqrt()


def is_outside(posterior: Posterior, n_bands: int, limit: float) -> Tensor:
    """Stars further than `limit`, and stars a third of whose bands had to be dropped to make them fit."""
    dropped = posterior.dropped_BD[:, :n_bands].sum(1)
    kept = posterior.visible_BD[:, :n_bands].sum(1)
    return (distance_z(posterior) > limit) | (3 * dropped >= (kept + dropped).clamp_min(1)) & (dropped > 0)


@torch.no_grad()
def support_limit(model: StarNetwork, stream: StarStream, device: torch.device) -> float:
    """The distance that one training star in a thousand exceeds, at least 5 sigma."""
    found, n = [], 0
    for block in stream.blocks("train", 0, model.config.seed):
        block = block.take(np.isfinite(block.mag_BM).any(1))
        cells = model.scaling.encode(block).to(device)
        posterior = model.prior.posterior(
            cells.value_BD, cells.var_BD, cells.observed_BD, model.config.max_drops
        )
        found.append(distance_z(posterior).cpu().numpy())
        n += len(block)
        if n >= SAMPLE:
            break
    return max(LEAST, float(np.quantile(np.concatenate(found), QUANTILE)))
