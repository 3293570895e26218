"""The published architecture that the default model is held against: a residual MLP of some 54 million parameters.

Written anew from its description: periodic embeddings of every feature (16 numbers each), a linear layer, residual
blocks of width 2048, 2048, 1024, 1024, 512, 512, 256, 256, the same mirrored as decoder, a linear read-out. A star is
its scaled cells and scalars without errors; 90 % of the stars of a batch lose their spectrum, every other feature is
hidden with probability 0.6; hidden and missing values enter as zero; the loss is the absolute error of the cells
that were hidden and measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.scale_features import FeatureScaling

WIDTHS = (2048, 2048, 1024, 1024, 512, 512, 256, 256)
FREQUENCIES, FEATURE_WIDTH = 48, 16
HIDE_SPECTRUM, HIDE_FEATURE = 0.9, 0.6
WEIGHT_DECAY, CLIP_NORM = 1e-5, 1.0


class PeriodicEmbedding(nn.Module):
    """(B, F) -> (B, F * 16): sines and cosines of learned frequencies, then a linear layer of each feature's own."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(0.01 * torch.randn(n_features, FREQUENCIES))
        bound = (2 * FREQUENCIES) ** -0.5
        self.weight = nn.Parameter(
            torch.empty(n_features, 2 * FREQUENCIES, FEATURE_WIDTH).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(n_features, FEATURE_WIDTH).uniform_(-bound, bound))

    def forward(self, x_BF: Tensor) -> Tensor:
        angle = 2 * math.pi * self.frequency * x_BF[..., None]
        waves = torch.cat([angle.cos(), angle.sin()], -1).transpose(0, 1)  # F, B, 2 * FREQUENCIES
        return torch.relu(torch.baddbmm(self.bias[:, None], waves, self.weight)).transpose(0, 1).flatten(1)


class ResidualBlock(nn.Module):
    """One LayerNorm serves both positions, as published."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, n_out, bias=False)
        self.second = nn.Linear(n_out, n_out)
        self.norm = nn.LayerNorm(n_out)
        self.resize = nn.Identity() if n_in == n_out else nn.Linear(n_in, n_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.dropout(nn.functional.elu(self.norm(self.first(x))), 0.1, self.training)
        return nn.functional.elu(self.norm(self.second(h)) + self.resize(x))


class ResidualMlp(nn.Module):
    def __init__(self, n_features: int, n_cells: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        around = (*widths, *reversed(widths))
        layers: list[nn.Module] = [
            PeriodicEmbedding(n_features),
            nn.Linear(n_features * FEATURE_WIDTH, widths[0]),
        ]
        layers += [ResidualBlock(a, b) for a, b in zip((widths[0], *around), around, strict=False)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[0], n_cells, bias=False))

    def forward(self, x_BF: Tensor) -> Tensor:
        return self.layers(x_BF)


@dataclass(frozen=True)
class Cells:
    """What the architecture reads of each star: scaled values (0 where missing) and which are measured."""

    value_BF: Tensor
    measured_BF: Tensor
    n_bands: int
    n_cells: int


def cells_of(scaling: FeatureScaling, block: StarBlock) -> Cells:
    """Bands and coefficients in msacat's scaling, then the scalars."""
    cells = scaling.encode(block)
    scalar = np.asarray(block.scalar_BS, np.float32)
    value = np.concatenate([cells.value_BD, np.nan_to_num(np.arcsinh(scalar))], axis=1)
    measured = np.concatenate([cells.observed_BD, np.isfinite(scalar)], axis=1)
    return Cells(torch.from_numpy(value), torch.from_numpy(measured), scaling.n_bands, scaling.n_cells)


def hide(cells: Cells, generator: torch.Generator) -> Tensor:
    """hidden_BF."""
    shape = cells.value_BF.shape
    hidden = torch.rand(shape, generator=generator) < HIDE_FEATURE
    spectrum = torch.rand(shape[0], 1, generator=generator) < HIDE_SPECTRUM
    hidden[:, cells.n_bands : cells.n_cells] = spectrum
    return hidden


class ReferenceTraining:
    """Its training loop: AdamW, gradients clipped at 1; `autocast` None = float32."""

    def __init__(
        self, n_features: int, n_cells: int, learning_rate: float, autocast: torch.dtype | None
    ) -> None:
        torch.manual_seed(0)
        self.network = ResidualMlp(n_features, n_cells)
        self.autocast = autocast
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.generator = torch.Generator().manual_seed(0)

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def predict(self, value_BF: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=self.autocast or torch.bfloat16, enabled=self.autocast is not None):
            return self.network(value_BF).float()

    def step(self, cells: Cells) -> float:
        hidden = hide(cells, self.generator)
        found = self.predict(torch.where(hidden | ~cells.measured_BF, 0.0, cells.value_BF))
        scored = (hidden & cells.measured_BF)[:, : cells.n_cells]
        error = (found - cells.value_BF[:, : cells.n_cells]).abs() * scored
        loss = (error.sum(0) / scored.sum(0).clamp_min(1)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        self.optimizer.step()
        return float(loss.detach())
