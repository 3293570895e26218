"""Predicted spectrum and predicted magnitudes must agree through GaiaXPy's linear map.

flux = row · c + offset in maggies; relative to F_G both sides are of order one, and the difference is taken
in flux, where a faint or negative synthetic flux is still a number. Bands without a standardised system
(`xp_offset`) get a fitted constant offset, which is reported. Band and spectrum are both free to move;
the sigma that weighs their difference is not (it is the prediction's own, without gradient).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from msacat.model.scale_features import MAG_PER_FLUX, FeatureScaling

SYSTEMATIC_MAG = 0.01  # agreement of the best standardised synthetic photometry (Montegriffo+ 2023)


class XpConsistency(nn.Module):
    """Holds the rows in scaled units and the fitted offsets (mag, synthetic minus survey)."""

    row_JK: Tensor
    constant_J: Tensor
    additive_J: Tensor
    weight_J: Tensor
    band_J: Tensor
    center_J: Tensor
    scale_J: Tensor
    is_reference_J: Tensor
    fitted_J: Tensor

    def __init__(self, scaling: FeatureScaling):
        super().__init__()
        bands, M = scaling.features.bands, scaling.n_bands
        measured = scaling.n_seen_M >= 1
        use = np.flatnonzero(scaling.synthetic.has_row & measured) if scaling.n_xp else np.zeros(0, int)
        n_xp_cells = len(scaling.scale_D) - M  # none where spectra are no feature
        rows, offsets = scaling.synthetic.row_MK[use, :n_xp_cells], scaling.synthetic.offset_M[use]
        unit = 10 ** (0.4 * scaling.g0)  # maggies of F_G = 1, so that fluxes are of order one
        add = {"row_JK": rows * scaling.scale_D[M:] * unit, "constant_J": rows @ scaling.center_D[M:] * unit}
        add["additive_J"] = offsets * unit
        add["weight_J"] = np.array([bands[m].xp_weight for m in use])
        add["center_J"], add["scale_J"] = scaling.center_D[use], scaling.scale_D[use]
        add["is_reference_J"] = (use == scaling.reference).astype(float)
        add["fitted_J"] = np.array([bands[m].xp_offset for m in use], float)
        for name, array in add.items():
            self.register_buffer(name, torch.as_tensor(array, dtype=torch.float32), persistent=False)
        self.register_buffer("band_J", torch.as_tensor(use), persistent=False)
        self.offset_J = nn.Parameter(torch.zeros(len(use)))
        self.n_bands, self.g0 = M, scaling.g0
        self.names = [bands[m].name for m in use]

    @property
    def active(self) -> bool:
        return len(self.names) > 0

    def forward(self, mean_BD: Tensor, sd_BD: Tensor, norm_B: Tensor) -> Tensor:
        """Mean weighted Huber loss of chi over stars and bands."""
        M = self.n_bands
        per_flux = 10 ** (0.4 * (norm_B - self.g0))[:, None]  # 1 / F_G
        synthetic = mean_BD[:, M:] @ self.row_JK.T + self.constant_J + self.additive_J * per_flux
        mag = mean_BD[:, self.band_J] * self.scale_J + self.center_J
        colour = mag - self.is_reference_J * norm_B[:, None] + self.offset_J * self.fitted_J
        flux = 10 ** (-0.4 * colour.clamp(-10, 10))
        with torch.no_grad():
            band_sd = sd_BD[:, self.band_J] * self.scale_J
            sigma = flux / MAG_PER_FLUX * torch.sqrt(band_sd**2 + SYSTEMATIC_MAG**2)
            xp_sd = torch.sqrt(sd_BD[:, M:] ** 2 @ (self.row_JK**2).T)
            sigma = torch.sqrt(sigma**2 + xp_sd**2)
        chi = (synthetic - flux) / sigma
        return (nn.functional.huber_loss(chi, torch.zeros_like(chi), reduction="none") * self.weight_J).mean()

    def report(self) -> dict[str, float]:
        """Fitted offsets by band, mag: synthetic minus survey."""
        return {
            n: float(o)
            for n, o, f in zip(self.names, self.offset_J.detach(), self.fitted_J, strict=True)
            if f > 0
        }
