"""The arms of the ablation: what each changes, as options of a training or as a patch while it trains and predicts.

A change that nobody would choose with reason is no option of the product: it lives here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from contrastive import contrastive_losses
from token_transformer import TokenTransformer
from torch import Tensor

from msacat.model import reconstruction_loss, star_network, train_autoencoder, training_loss
from msacat.model.autoencoder import Autoencoder
from msacat.model.hide_features import HidingPolicy
from msacat.model.mixture_prior import MixturePrior

SURVEY_MASKS = HidingPolicy().weights
#: blocks of Autoencoder._inputs, each as wide as there are cells
MEAN, SIGMA, OFF, NOISE, VISIBLE, GUESSED = range(6)


@dataclass(frozen=True)
class Arm:
    """options: of TrainConfig; patches: entered while the arm trains and predicts; dirty: judged on the dirty sky too;
    reddening: stars with E(B−V)."""

    name: str
    what: str
    options: dict[str, Any] = field(default_factory=dict)
    patches: tuple[Callable[[], AbstractContextManager], ...] = ()
    dirty: bool = False
    reddening: bool = False

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for make in self.patches:
                stack.enter_context(make())
            yield


def _blind(*blocks: int) -> Callable[[], AbstractContextManager]:
    """Input blocks set to zero."""
    inputs = Autoencoder._inputs

    def fewer(self: Autoencoder, cells, prior) -> Tensor:
        x = inputs(self, cells, prior).clone()
        D = cells.value_BD.shape[1]
        for block in blocks:
            x[:, block * D : (block + 1) * D] = 0.0
        return x

    return lambda: patch.object(Autoencoder, "_inputs", fewer)


def _gaussian(value: Tensor, mean: Tensor, variance: Tensor, wrong_logit: Tensor | None = None) -> Tensor:
    return 0.5 * ((value - mean) ** 2 / variance + torch.log(2 * np.pi * variance))


def _without_errors(
    value_BD: Tensor, var_BD: Tensor, target_BD: Tensor, mean_BD: Tensor, sd_BD: Tensor, wrong_logit_D: Tensor
) -> Tensor:
    return reconstruction_loss.reconstruction_loss(
        value_BD, torch.zeros_like(var_BD), target_BD, mean_BD, sd_BD.clamp_min(1e-3), wrong_logit_D
    )


def _no_mixture(cells, *_: Any, **__: Any) -> MixturePrior:
    """Beneath the network nothing but every cell's own mean and scatter."""
    known = cells.observed_BD
    n = known.sum(0).clamp_min(1)
    mean = torch.where(known, cells.value_BD, 0.0).sum(0) / n
    var = torch.where(known, (cells.value_BD - mean).clamp(-8, 8) ** 2, 0.0).sum(0) / n
    prior = MixturePrior(known.shape[1], 1, 1)
    prior.mu_CD[0], prior.psi_CD[0] = mean, var.clamp_min(1e-3)
    return prior


def _network(kind: Callable[..., Autoencoder]) -> Callable[[], AbstractContextManager]:
    return lambda: patch.object(star_network, "Autoencoder", kind)


MARGINAL = (
    lambda: patch.object(train_autoencoder, "fit_mixture", _no_mixture),
    lambda: patch.object(
        train_autoencoder, "fit_noise_scale", lambda prior, cells, scaling: np.ones(cells.value_BD.shape[1])
    ),
    lambda: patch.object(
        train_autoencoder, "fit_zero_points", lambda prior, cells, ids, scaling: np.zeros(scaling.n_bands)
    ),
)
MAE = _network(partial(TokenTransformer, sees_hidden=False))
SIMMIM = _network(partial(TokenTransformer, sees_hidden=True))
CONTRASTIVE = partial(patch.object, train_autoencoder, "batch_losses", contrastive_losses)


def _labels_alone(model, *rest: Any) -> dict[str, Tensor]:
    losses = training_loss.batch_losses(model, *rest)
    return losses | {"total": model.config.label_weight * losses["labels"]}


#: trained on nothing but labels: what its other half gains from reconstructing shows beside it
LABELS_ALONE = Arm(
    "labels-alone", "from random weights, labels alone to learn from",
    patches=(partial(patch.object, train_autoencoder, "batch_losses", _labels_alone),),
)  # fmt: skip


def _masks(**weights: float) -> dict[str, Any]:
    return {"hiding": replace(HidingPolicy(), weights=weights)}


ARMS = (
    Arm("default", "the product's own", dirty=True),
    Arm("no-consistency", "no synthetic-photometry consistency", {"consistency_weight": 0.0}),
    Arm("consistency-x4", "four times the weight of the consistency", {"consistency_weight": 0.2}),
    Arm("no-jitter", "stars shown always with the same noise", {"hiding": replace(HidingPolicy(), jittered=0.0)}),
    Arm("no-faint", "no bright stars made faint", _masks(**{k: w for k, w in SURVEY_MASKS.items() if k != "faint"})),
    Arm("cell-masks", "only single cells hidden, no survey patterns", _masks(cells=1.0)),
    Arm("no-presence", "inputs do not say what is visible or guessed", patches=(_blind(VISIBLE, GUESSED),)),
    Arm("no-errors", "inputs do not say the measurement's error", patches=(_blind(NOISE),)),
    Arm("gaussian", "likelihood without the outlier component", dirty=True,
        patches=(partial(patch.object, reconstruction_loss, "robust_nll", _gaussian),)),
    Arm("errors-ignored", "likelihood of the observed value, its error ignored",
        patches=(partial(patch.object, training_loss, "reconstruction_loss", _without_errors),)),
    Arm("errors-believed", "stated errors believed as they are", dirty=True, patches=MARGINAL[1:]),
    Arm("no-mixture", "MLP of the whole vector (SimMIM), nothing beneath", patches=MARGINAL),
    Arm("transformer", "transformer over tokens of the whole vector (SimMIM)", patches=(SIMMIM,)),
    Arm("transformer-no-mixture", "SimMIM transformer, nothing beneath", patches=(SIMMIM, *MARGINAL)),
    Arm("transformer-mae", "transformer that sees visible tokens only (MAE)", patches=(MAE,)),
    Arm("transformer-mae-no-mixture", "MAE transformer, nothing beneath", patches=(MAE, *MARGINAL)),
    Arm("contrastive", "default and a SimCLR loss of the embedding", patches=(CONTRASTIVE,)),
    Arm("contrastive-no-mixture", "default with a SimCLR loss, nothing beneath", patches=(CONTRASTIVE, *MARGINAL)),
    Arm("reddening", "E(B−V) as a further input", reddening=True),
)  # fmt: skip
