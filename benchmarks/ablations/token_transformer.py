"""The talk's other architecture: a transformer over feature tokens, at about the MLP's cost.

A token is a band or ten XP coefficients of neighbouring order; one more token stands for the star. Inputs, outputs,
read-outs and label heads are those of the Autoencoder.

Suffixes: B stars, T tokens, F features of a token, H width, D cells.
"""

from __future__ import annotations

import torch
from torch import nn

from msacat.model.autoencoder import EMBEDDING, Autoencoder, Output, _positive
from msacat.model.cells import CellTensors
from msacat.model.mixture_prior import Posterior

WIDTH, HEADS, LAYERS, INNER = 64, 4, 2, 128
COEFFICIENTS = 110
PER_TOKEN = 10


class TokenTransformer(Autoencoder):
    """sees_hidden: hidden cells are tokens like the others (SimMIM); else attention leaves them out (MAE)."""

    def __init__(
        self,
        n_cells: int,
        n_scalar_inputs: int,
        width: int,
        blocks: int,
        label_width: int,
        *,
        sees_hidden: bool,
    ):
        super().__init__(n_cells, n_scalar_inputs, EMBEDDING, 1, label_width)
        del self.enter, self.encoder, self.from_embedding, self.decoder, self.leave
        self.sees_hidden = sees_hidden
        n_bands = n_cells - (COEFFICIENTS if n_cells > COEFFICIENTS else 0)
        self.sizes = [1] * n_bands + [PER_TOKEN] * ((n_cells - n_bands) // PER_TOKEN)
        T = len(self.sizes)
        self.enter_TFH = nn.Parameter(torch.randn(T, 6 * PER_TOKEN, WIDTH) * (6 * PER_TOKEN) ** -0.5)
        self.place_TH = nn.Parameter(0.1 * torch.randn(T, WIDTH))
        self.star_H = nn.Parameter(0.1 * torch.randn(WIDTH))
        self.scalars = nn.Linear(n_scalar_inputs, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, INNER, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.last = nn.LayerNorm(WIDTH)
        self.leave_THF = nn.Parameter(torch.zeros(T, WIDTH, 2 * PER_TOKEN))
        of_token = torch.repeat_interleave(torch.arange(T), torch.tensor(self.sizes))
        within = torch.cat([torch.arange(size) for size in self.sizes])
        self.register_buffer("of_token_D", of_token, persistent=False)
        self.register_buffer("within_D", within, persistent=False)

    def forward(self, cells: CellTensors, prior: Posterior, autocast: torch.dtype | None = None) -> Output:
        """As Autoencoder.forward; computed in float32 whatever `autocast`."""
        x = self._inputs(cells, prior)
        B, D = cells.value_BD.shape
        T = len(self.sizes)
        feature_BTF = x.new_zeros(B, T, PER_TOKEN, 6)
        feature_BTF[:, self.of_token_D, self.within_D] = x[:, : 6 * D].reshape(B, 6, D).mT
        token_BTH = torch.einsum("btf,tfh->bth", feature_BTF.flatten(2), self.enter_TFH) + self.place_TH
        star_B1H = (self.star_H + self.scalars(x[:, 6 * D :]))[:, None]
        absent = None
        if not self.sees_hidden:
            seen_BT = x.new_zeros(B, T).index_add(1, self.of_token_D, prior.visible_BD.float()) > 0
            absent = torch.cat([torch.zeros_like(seen_BT[:, :1]), ~seen_BT], 1)
        h = self.last(self.layers(torch.cat([star_B1H, token_BTH], 1), src_key_padding_mask=absent))
        embedding = self.to_embedding(h[:, 0])
        # A token left out of attention still asks: its own place, and what the star's token has gathered.
        out_BTF = torch.einsum("bth,thf->btf", h[:, 1:] + h[:, :1], self.leave_THF)
        delta = out_BTF[:, self.of_token_D, self.within_D]
        log_scale = out_BTF[:, self.of_token_D, PER_TOKEN + self.within_D]
        sd = prior.sd_BD * torch.exp(3 * torch.tanh(log_scale / 3))

        h = self.label_enter(torch.cat([x, embedding], 1))
        for block in self.label_blocks:
            h = block(h)
        label, log_sd = self.label_leave(h).chunk(2, dim=1)
        read_label, read_log_sd = self.read_labels(embedding).chunk(2, dim=1)
        return Output(
            prior.mean_BD + prior.sd_BD * delta, sd, embedding, label, _positive(log_sd),
            self.read_cells(embedding), read_label, _positive(read_log_sd),
        )  # fmt: skip
