"""A SimCLR term (Chen et al. 2020): two views of a star, each with surveys hidden, should embed alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from msacat.model.hide_features import group_of_cells
from msacat.model.star_network import StarNetwork
from msacat.model.training_batches import TrainingBatch
from msacat.model.training_loss import batch_losses

WEIGHT, TEMPERATURE = 0.2, 0.1
HIDDEN = 0.3  # share of surveys and half spectra that the second view lacks besides


def contrastive_losses(
    model: StarNetwork,
    network: nn.Module,
    batch: TrainingBatch,
    device: torch.device,
    autocast: torch.dtype | None,
) -> dict[str, Tensor]:
    """batch_losses, and NT-Xent between the batch and a second view of it."""
    losses = batch_losses(model, network, batch, device, autocast)
    rng = np.random.default_rng([batch.step, 99])
    group = group_of_cells(model.scaling.features)
    groups, at = np.unique(group, return_inverse=True)
    hidden = (rng.random((len(batch.source_id_B), len(groups))) < HIDDEN)[:, at]
    hidden[:, model.scaling.reference] = False
    views = [batch.hidden, replace(batch.hidden, visible_BD=batch.hidden.visible_BD & ~hidden)]
    z = []
    for view in views:
        cells = view.cells.to(device)
        prior = model.look(cells, torch.as_tensor(view.visible_BD).to(device))
        out = network(cells, prior, autocast)
        z.append(nn.functional.normalize(out.embedding_BE, dim=1))
    both = torch.cat(z)
    alike = both @ both.T / TEMPERATURE
    alike.fill_diagonal_(-1e9)
    n = len(z[0])
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(device)
    losses["contrastive"] = nn.functional.cross_entropy(alike, partner)
    losses["total"] = losses["total"] + WEIGHT * losses["contrastive"]
    return losses
