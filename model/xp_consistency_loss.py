"""Predicted spectrum and predicted magnitudes must agree through GaiaXPy's linear map.

flux = row · (c − background) in maggies, which for standardised systems is GaiaXPy's row · c + offset (fit_background.py);
relative to F_G both sides are of order one, and the difference is taken in flux, where a faint or negative synthetic flux
is still a number. Bands without a standardised system
(`xp_offset`) get a fitted constant offset, which is reported. Band and spectrum are both free to move;
the sigma that weighs their difference is not (it is the prediction's own, without gradient).
Standardised SDSS u is not linear: its colour equation in g − i multiplies the flux, without gradient; its offset, which
was fitted together with that equation, is no background and is left out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX
from msacat.catalog.xp.xp_operators import operators, synthetic_row
from msacat.model.scale_features import FeatureScaling

#: mag; agreement of the best standardised synthetic photometry (Montegriffo+ 2023), divided by a band's weight
SYSTEMATIC_MAG = 0.01
SDSS_U, SDSS_G, SDSS_I = "SDSS_Std:u", "SDSS_Std:g", "SDSS_Std:i"


class XpConsistency(nn.Module):
    """Holds the rows in scaled units and the fitted offsets (mag, synthetic minus survey)."""

    row_JK: Tensor
    constant_J: Tensor
    weight_J: Tensor
    band_J: Tensor
    center_J: Tensor
    scale_J: Tensor
    is_reference_J: Tensor
    fitted_J: Tensor
    systematic_J: Tensor
    is_sdss_u_J: Tensor
    g_i_row_2K: Tensor
    g_i_constant_2: Tensor
    u_polynomial_P: Tensor

    def __init__(self, scaling: FeatureScaling):
        super().__init__()
        bands, M = scaling.features.bands, scaling.n_bands
        measured = scaling.n_seen_M >= 1
        use = np.flatnonzero(scaling.synthetic.has_row & measured) if scaling.n_xp else np.zeros(0, int)
        n_xp_cells = len(scaling.scale_D) - M  # none where spectra are no feature
        rows = scaling.synthetic.row_MK[use, :n_xp_cells]
        unit = 10 ** (0.4 * scaling.g0)  # maggies of F_G = 1, so that fluxes are of order one
        add = {"row_JK": rows * scaling.scale_D[M:] * unit, "constant_J": rows @ scaling.center_D[M:] * unit}
        add["weight_J"] = np.array([bands[m].xp_weight for m in use])
        add["center_J"], add["scale_J"] = scaling.center_D[use], scaling.scale_D[use]
        add["is_reference_J"] = (use == scaling.reference).astype(float)
        add["fitted_J"] = np.array([bands[m].xp_offset for m in use], float)
        add["systematic_J"] = SYSTEMATIC_MAG / add["weight_J"]
        add["is_sdss_u_J"] = np.array([bands[m].xp == SDSS_U for m in use], float)
        self.has_sdss_u = bool(add["is_sdss_u_J"].any())
        if self.has_sdss_u:
            g_i = np.stack([synthetic_row(key)[0] for key in (SDSS_G, SDSS_I)])
            add["g_i_row_2K"] = g_i * scaling.scale_D[M:] * unit
            add["g_i_constant_2"] = g_i @ scaling.center_D[M:] * unit
            add["u_polynomial_P"] = operators()["sdss_std_u_polynomial"]
            self.u_range = tuple(float(x) for x in operators()["sdss_std_u_colour_range"])
        for name, array in add.items():
            self.register_buffer(name, torch.tensor(array, dtype=torch.float32), persistent=False)
        self.register_buffer("band_J", torch.as_tensor(use), persistent=False)
        self.offset_J = nn.Parameter(torch.zeros(len(use)))
        self.n_bands = M
        self.names = [bands[m].name for m in use]

    @property
    def active(self) -> bool:
        return len(self.names) > 0

    def forward(self, mean_BD: Tensor, sd_BD: Tensor, norm_B: Tensor) -> Tensor:
        """Mean weighted Huber loss of chi over stars and bands."""
        M = self.n_bands
        # A star of which nothing usable was measured has no G; it has no say either.
        has_norm_B = torch.isfinite(norm_B)
        norm_B = torch.where(has_norm_B, norm_B, 0.0)
        synthetic = mean_BD[:, M:] @ self.row_JK.T + self.constant_J
        if self.has_sdss_u:
            correction = self._sdss_u_correction(mean_BD[:, M:].detach())
            synthetic = synthetic * 10 ** (-0.4 * correction[:, None] * self.is_sdss_u_J)
        mag = mean_BD[:, self.band_J] * self.scale_J + self.center_J
        colour = mag - self.is_reference_J * norm_B[:, None] + self.offset_J * self.fitted_J
        flux = 10 ** (-0.4 * colour.clamp(-10, 10))
        with torch.no_grad():
            band_sd = sd_BD[:, self.band_J] * self.scale_J
            sigma = flux / MAG_PER_RELATIVE_FLUX * torch.sqrt(band_sd**2 + self.systematic_J**2)
            xp_sd = torch.sqrt(sd_BD[:, M:] ** 2 @ (self.row_JK**2).T)
            sigma = torch.sqrt(sigma**2 + xp_sd**2)
        chi = (synthetic - flux) / sigma
        loss_BJ = nn.functional.huber_loss(chi, torch.zeros_like(chi), reduction="none") * self.weight_J
        return (loss_BJ.mean(1) * has_norm_B).sum() / has_norm_B.sum().clamp_min(1)

    def _sdss_u_correction(self, xp_BK: Tensor) -> Tensor:
        """mag to add to the linear u, from the spectrum's g − i (xp_operators.sdss_u_colour_correction)."""
        flux = (xp_BK @ self.g_i_row_2K.T + self.g_i_constant_2).clamp_min(1e-4)
        colour = -2.5 * torch.log10(flux[:, 0] / flux[:, 1])
        inside = colour.clamp(*self.u_range)
        value, slope = torch.zeros_like(inside), torch.zeros_like(inside)
        for coefficient in self.u_polynomial_P.flip(0):  # Horner's scheme, with its derivative
            slope = slope * inside + value
            value = value * inside + coefficient
        return (value + slope * (colour - inside)).clamp(-3, 3)

    def report(self) -> dict[str, float]:
        """Fitted offsets by band, mag: synthetic minus survey."""
        return {
            n: float(o)
            for n, o, f in zip(self.names, self.offset_J.detach(), self.fitted_J, strict=True)
            if f > 0
        }
