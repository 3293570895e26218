"""The noise of a magnitude is normal in flux: a bias near a survey's depth, taken out of what the network is compared with.

The noise of the sky is the same for a star however it came out. So a star that its noise made brighter has a smaller error
in magnitudes, and whoever weighs by errors pulls every mean towards the bright: by 1.5 times the square of the relative error,
0.016 mag at S/N 10, 0.03 mag for the faintest Ks. As the error of a star of the *predicted* magnitude it follows no noise.

Coefficients of spectra are fluxes, and need none of it. Suffixes: B stars, M bands.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from msacat.catalog.surveys.star_features import StarFeatures

MAG = 2.5 / math.log(10.0)  # mag per unit of relative flux
MOST_MAG = 2.0  # observed − predicted; what is further off is no noise


class FluxNoise(nn.Module):
    """Measured cells as a star of the predicted magnitude would have them."""

    unit_M: Tensor
    floor_var_M: Tensor

    def __init__(self, features: StarFeatures, scale_M: np.ndarray, noise_M: np.ndarray):
        """scale_M mag per scaled unit; noise_M real over stated error."""
        super().__init__()
        unit = scale_M.copy()
        unit[features.band_names.index(features.reference_band)] = 0.0  # all else is counted from it
        floor = np.array([b.floor_err for b in features.bands]) / scale_M * noise_M
        self.register_buffer("unit_M", torch.as_tensor(unit).float(), persistent=False)
        self.register_buffer("floor_var_M", torch.as_tensor(floor**2).float(), persistent=False)

    def as_predicted(self, value_BM: Tensor, var_BM: Tensor, mean_BM: Tensor) -> tuple[Tensor, Tensor]:
        """(value_BM, var_BM), scaled, with the same flux and the same noise in flux, at mean_BM.

        The value is set where a straight line from the prediction puts its flux. The floor is a share of the flux: it stays.
        """
        mag = ((value_BM - mean_BM) * self.unit_M).clamp(-MOST_MAG, MOST_MAG)
        ratio = torch.exp(-mag / MAG)  # observed over predicted flux
        moved = mean_BM + MAG * (1 - ratio) / self.unit_M.clamp_min(1e-9)
        near = (self.unit_M > 0) & (mag.abs() < MOST_MAG)
        sky = (var_BM - self.floor_var_M).clamp_min(0)
        return (
            torch.where(near, moved, value_BM),
            torch.where(near, var_BM + sky * (ratio**2 - 1), var_BM),
        )
