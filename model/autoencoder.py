"""The network: corrects the prior's posterior in units of its sigma, embeds the star, reads labels.

    inputs ─▶ residual MLP ─┬─────────────────────▶ + ─▶ decoder ─▶ (delta, log scale) of every cell
         │                  └▶ embedding (64) ─┬────┘
         │                                     ├─▶ linear read-out of cells and labels (training only)
         └─────────────────────────────────────┴─▶ label heads (median, log sigma)

The decoder is given the MLP's state plus a linear map of the embedding, not the embedding alone.

For every cell it is given the prior's posterior mean and log sigma, the measurement's distance from that
mean, the log of its error, whether it is visible, and whether its error had to be guessed. The last layer
starts at zero, so an untrained network *is* the prior. Equations: docs/model.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from msacat.model.cells import CellTensors
from msacat.model.mixture_prior import Posterior

EMBEDDING = 64
CLIP = 8.0  # of inputs, in their own units: one wild cell must not drown the others
QUANTITIES = ("fe_h", "teff", "logg")


@dataclass
class Output:
    """mean_BD, sd_BD scaled cells (noise-free star); embedding_BE; label median and sd in scaled label units.

    read_*: the same, linear in the embedding.
    """

    mean_BD: Tensor
    sd_BD: Tensor
    embedding_BE: Tensor
    label_BQ: Tensor
    label_sd_BQ: Tensor
    read_BD: Tensor
    read_label_BQ: Tensor
    read_label_sd_BQ: Tensor


class ResidualBlock(nn.Module):
    """x + W2 gelu(W1 norm(x))."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)
        nn.init.zeros_(self.down.bias)
        self.down.weight.data.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.gelu(self.up(self.norm(x)))).to(x.dtype)


class Autoencoder(nn.Module):
    def __init__(self, n_cells: int, n_scalar_inputs: int, width: int, blocks: int, label_width: int):
        super().__init__()
        n_inputs = 6 * n_cells + n_scalar_inputs
        self.enter = nn.Linear(n_inputs, width)
        self.encoder = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.to_embedding = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, EMBEDDING))
        # Corrections alone need little knowledge of the star. What is near in the embedding should be alike in
        # everything, so cells and labels must be readable from it by a straight line.
        self.read_cells = nn.Linear(EMBEDDING, n_cells)
        self.read_labels = nn.Linear(EMBEDDING, 2 * len(QUANTITIES))
        self.from_embedding = nn.Linear(EMBEDDING, width)
        self.decoder = ResidualBlock(width)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * n_cells))
        # Labels hang on details of the spectrum that 64 numbers made for the whole star need not keep:
        # their heads see the inputs too.
        self.label_enter = nn.Linear(n_inputs + EMBEDDING, label_width)
        self.label_blocks = nn.ModuleList(ResidualBlock(label_width) for _ in range(2))
        self.label_leave = nn.Sequential(
            nn.LayerNorm(label_width), nn.Linear(label_width, 2 * len(QUANTITIES))
        )
        _start_at_zero(self.leave)
        _start_at_zero(self.label_leave)

    def forward(self, cells: CellTensors, prior: Posterior, autocast: torch.dtype | None = None) -> Output:
        """`prior` = posterior given the visible cells; with `autocast` only the inner layers are narrowed."""
        x = self._inputs(cells, prior)
        device = x.device.type
        narrow = torch.autocast(device, dtype=autocast or torch.bfloat16, enabled=autocast is not None)
        h = self.enter(x)
        with narrow:
            for block in self.encoder:
                h = block(h)
        embedding = self.to_embedding(h.float())
        h = h + self.from_embedding(embedding)
        with narrow:
            h = self.decoder(h)
        delta, log_scale = self.leave(h.float()).chunk(2, dim=1)
        sd = prior.sd_BD * torch.exp(3 * torch.tanh(log_scale / 3))
        mean = prior.mean_BD + prior.sd_BD * delta

        h = self.label_enter(torch.cat([x, embedding], 1))
        with narrow:
            for block in self.label_blocks:
                h = block(h)
        label, log_sd = self.label_leave(h.float()).chunk(2, dim=1)
        read_label, read_log_sd = self.read_labels(embedding).chunk(2, dim=1)
        return Output(
            mean,
            sd,
            embedding,
            label,
            _positive(log_sd),
            self.read_cells(embedding),
            read_label,
            _positive(read_log_sd),
        )

    def _inputs(self, cells: CellTensors, prior: Posterior) -> Tensor:
        see = prior.visible_BD
        off = torch.where(
            see, (cells.value_BD - prior.mean_BD) / torch.sqrt(cells.var_BD + prior.sd_BD**2), 0
        )
        return torch.cat(
            [
                prior.mean_BD.clamp(-CLIP, CLIP),
                prior.sd_BD.log().clamp(-CLIP, CLIP),
                off.clamp(-CLIP, CLIP),
                torch.where(see, 0.5 * cells.var_BD.log(), 0.0).clamp(-CLIP, CLIP),
                see.float(),
                (cells.guessed_BD & see).float(),
                cells.scalar_BX.clamp(-CLIP, CLIP),
            ],
            dim=1,
        )


def _positive(log_sd: Tensor) -> Tensor:
    return torch.exp(log_sd.clamp(-6, 4))


def _start_at_zero(layers: nn.Sequential) -> None:
    last = layers[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
