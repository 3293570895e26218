"""Prior, network and fitted offsets as one module, with the scalings they were fitted in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from msacat.model.autoencoder import Autoencoder, Output
from msacat.model.cells import CellTensors
from msacat.model.hide_features import group_of_cells
from msacat.model.label_scaling import LabelScaling
from msacat.model.mixture_prior import MixturePrior, Posterior
from msacat.model.noise_in_flux import FluxNoise
from msacat.model.reconstruction_loss import OUTLIER_LOGIT, log_shares
from msacat.model.scale_features import FeatureScaling
from msacat.model.train_config import TrainConfig
from msacat.model.xp_consistency_loss import XpConsistency


def same_survey(scaling: FeatureScaling) -> np.ndarray:
    """float32 (M, M): 1 where the row's band, if it is visible, tells of its survey what the column's band measures.

    The reference band, which always is visible, tells nothing.
    """
    group_M = group_of_cells(scaling.features)[: scaling.n_bands]
    same = (group_M[:, None] == group_M).astype(np.float32) - np.eye(len(group_M), dtype=np.float32)
    same[scaling.reference] = 0.0
    return same


class StarNetwork(nn.Module):
    """Everything with tensors; `state_dict()` is what is stored."""

    quantity_L: Tensor
    fitted_L: Tensor
    kept_SXM: Tensor
    _same_survey_MM: Tensor

    def __init__(
        self, scaling: FeatureScaling, labels: LabelScaling, prior: MixturePrior, config: TrainConfig
    ):
        super().__init__()
        self.scaling, self.labels, self.config = scaling, labels, config
        self.prior = prior
        self.network = Autoencoder(
            scaling.n_cells,
            4 * len(scaling.features.scalars),
            config.width,
            config.blocks,
            config.label_width,
        )
        self.consistency = XpConsistency(scaling)
        M = scaling.n_bands
        self.flux_noise = FluxNoise(
            scaling.features,
            scaling.scale_D[:M],
            scaling.noise_D[:M],
            scaling.zero_point_M,
            scaling.snr_limit_M,
        )
        self.wrong_logit_D = nn.Parameter(torch.full((scaling.n_cells,), OUTLIER_LOGIT))
        self.label_offset_L = nn.Parameter(torch.zeros(len(scaling.features.labels)))
        # Share of the bands' corrections that is kept (keep_corrections.py): S another band of the survey visible, X spectrum.
        self.register_buffer("kept_SXM", torch.ones(2, 2, M))
        self.register_buffer("_same_survey_MM", torch.as_tensor(same_survey(scaling)), persistent=False)
        self.register_buffer("quantity_L", torch.as_tensor(labels.quantity_of_label), persistent=False)
        self.register_buffer("fitted_L", torch.as_tensor(labels.fitted_L).float(), persistent=False)

    def forward(
        self, cells: CellTensors, visible_BD: Tensor, autocast: torch.dtype | None = None
    ) -> tuple[Posterior, Output]:
        """The prior's posterior and the network's, given the visible cells."""
        prior = self.look(cells, visible_BD)
        out = self.network(cells, prior, autocast)
        M = self.scaling.n_bands
        beside_BM = visible_BD[:, :M].to(self._same_survey_MM) @ self._same_survey_MM > 0
        kept_BM = self.kept_SXM[
            beside_BM.long(),
            visible_BD[:, M:].any(1).long()[:, None],
            torch.arange(M, device=visible_BD.device),
        ]
        first = prior.mean_BD[:, :M]
        bands = first + kept_BM * (out.mean_BD[:, :M] - first)
        return prior, replace(out, mean_BD=torch.cat([bands, out.mean_BD[:, M:]], 1))

    def look(self, cells: CellTensors, visible_BD: Tensor) -> Posterior:
        """The prior's posterior given the visible cells."""
        return self.prior.posterior(cells.value_BD, cells.var_BD, visible_BD, self.config.max_drops)

    def wrong_shares(self) -> Tensor:
        """Share of every cell's measurements that the likelihood takes for wrong, wrong_D."""
        return log_shares(self.wrong_logit_D.detach())[1].exp()

    def offsets(self) -> dict[str, float]:
        """Fitted offsets: bands in mag (synthetic − survey), labels in dex or K (survey − reference scale)."""
        found = self.consistency.report()
        for j, label in enumerate(self.scaling.features.labels):
            if self.labels.fitted_L[j] and self.labels.n_L[j]:
                found[label.name] = self.labels.offset_in_units(j, float(self.label_offset_L[j].detach()))
        return found
