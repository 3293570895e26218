"""The loss of one batch: hidden and visible cells, labels, consistency of spectrum and magnitudes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from msacat.model.reconstruction_loss import label_loss, masked_mean, reconstruction_loss
from msacat.model.star_network import StarNetwork
from msacat.model.training_batches import TrainingBatch

READ_CLIP = 10.0  # scaled units; a wild star must not shape the embedding


def batch_losses(
    model: StarNetwork,
    network: nn.Module,
    batch: TrainingBatch,
    device: torch.device,
    autocast: torch.dtype | None,
) -> dict[str, Tensor]:
    """Every term of the loss, and `total` = their weighted sum. A term without data is 0."""
    config, M = model.config, model.scaling.n_bands
    cells, target = batch.hidden.cells.to(device), batch.hidden.target.to(device)
    visible = torch.as_tensor(batch.hidden.visible_BD).to(device)
    label = torch.as_tensor(batch.label_BL).to(device)
    label_err = torch.as_tensor(batch.label_err_BL).to(device)

    prior = model.look(cells, visible) if batch.prior is None else batch.prior
    out = network(cells, prior, autocast)
    known = target.observed_BD | target.derived_BD
    hidden, seen = known & ~visible, known & prior.visible_BD

    def nll(mask: Tensor, part: slice, value_BD: Tensor, var_BD: Tensor) -> Tensor:
        # A wrong value that is seen pulls its prediction along: how many are wrong, the hidden ones tell.
        wrong = model.wrong_logit_D if mask is hidden else model.wrong_logit_D.detach()
        mean, sd = out.mean_BD[:, part], out.sd_BD[:, part]
        return reconstruction_loss(value_BD, var_BD, mask[:, part], mean, sd, wrong[part])

    bands, xp = slice(0, M), slice(M, None)
    stated = target.stated[:, bands]
    measured = model.flux_noise.as_predicted(
        target.value_BD[:, bands], target.var_BD[:, bands], out.mean_BD[:, bands].detach(), stated
    )
    losses = {"bands": nll(hidden, bands, *measured), "visible": nll(seen, bands, *measured)}
    listed = model.flux_noise.log_listed(
        measured[1], out.mean_BD[:, bands], out.sd_BD[:, bands], model.wrong_logit_D[bands]
    )
    listed = torch.where(stated & target.observed_BD[:, bands], listed, 0.0)
    losses["bands"] = losses["bands"] + masked_mean(listed, hidden[:, bands])
    total = losses["bands"] + config.visible_weight * losses["visible"]
    if model.scaling.n_xp:
        spectrum = target.value_BD[:, xp], target.var_BD[:, xp]
        losses["xp"] = nll(hidden, xp, *spectrum)
        total = total + config.xp_weight * (losses["xp"] + config.visible_weight * nll(seen, xp, *spectrum))

    def label_nll(median_BQ: Tensor, sd_BQ: Tensor) -> Tensor:
        offset_L = model.label_offset_L * model.fitted_L
        return label_loss(label, label_err, offset_L, model.quantity_L, median_BQ, sd_BQ)

    if label.shape[1]:
        losses["labels"] = label_nll(out.label_BQ, out.label_sd_BQ)
        total = total + config.label_weight * losses["labels"]
    if model.consistency.active:
        losses["consistency"] = model.consistency(out.mean_BD, out.sd_BD, cells.norm_B)
        total = total + config.consistency_weight * losses["consistency"]
    # The embedding must hold what is predicted of the star, hidden cells included.
    aim = out.mean_BD.detach().clamp(-READ_CLIP, READ_CLIP)
    losses["embedding"] = nn.functional.huber_loss(out.read_BD, aim)
    if label.shape[1]:
        losses["embedding"] = losses["embedding"] + label_nll(out.read_label_BQ, out.read_label_sd_BQ)
    total = total + config.embedding_weight * losses["embedding"]
    losses["total"] = total
    return losses
