"""The noise of a magnitude is normal in flux: biases near a survey's depth, taken out of what the network is compared with.

The noise of the sky is the same for a star however it came out. So a star that its noise made brighter has a smaller error
in magnitudes, and whoever weighs by errors pulls every mean towards the bright: by 1.5 times the square of the relative error,
0.016 mag at S/N 10, 0.03 mag for the faintest Ks. As the error of a star of the *predicted* magnitude it follows no noise.

And a survey that lists what exceeds some S/N lists the faintest stars where their noise made them brighter: half a sigma
too bright in the mean. Such a measurement is compared with what was bound to be listed. Where a survey's limit is no
sharp S/N (several exposures, several bands), nothing is known of what it left out, and nothing is done.

Coefficients of spectra are fluxes, and need none of it. Suffixes: B stars, M bands.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.reconstruction_loss import OUTLIER_WIDTH, log_shares

MAG = float(MAG_PER_RELATIVE_FLUX)  # a plain float: what is single stays single
MOST_MAG = 2.0  # observed − predicted; what is further off is no noise
LEAST_LIMITED = 5_000  # measurements that show whether a survey's limit is sharp
SHARP = (2e-4, 2e-3, 1.05)  # two quantiles of S/N, and what the second may be of the first where it is
HIGHEST_LIMIT = 12.0  # S/N; no survey detects so late, a sample cut by magnitude looks like it


def fit_snr_limits(block: StarBlock) -> np.ndarray:
    """The S/N from which each band is listed, limit_M; 0 where its faint end is no sharp S/N."""
    limit = np.zeros(block.mag_BM.shape[1])
    for m in range(len(limit)):
        err = block.mag_err_BM[:, m].astype(np.float64)
        snr = MAG / err[np.isfinite(block.mag_BM[:, m]) & np.isfinite(err) & (err > 0)]
        if len(snr) >= LEAST_LIMITED:
            first, second = np.quantile(snr, SHARP[:2])
            if first < HIGHEST_LIMIT and second < SHARP[2] * first:
                limit[m] = first
    return limit


class FluxNoise(nn.Module):
    """Measured cells as a star of the predicted magnitude would have them."""

    unit_M: Tensor
    floor_var_M: Tensor
    limit_J: Tensor  # S/N by the real error, of the bands `limited_J`

    def __init__(
        self,
        features: StarFeatures,
        scale_M: np.ndarray,
        noise_M: np.ndarray,
        zero_point_M: np.ndarray,
        snr_limit_M: np.ndarray,
    ):
        """scale_M mag per scaled unit; noise_M real over stated error; zero_point_M mag; snr_limit_M stated S/N, 0 without."""
        super().__init__()
        unit = scale_M.copy()
        unit[features.band_names.index(features.reference_band)] = 0.0  # all else is counted from it
        floor = np.hypot([b.floor_err for b in features.bands], zero_point_M) / scale_M
        self.register_buffer("unit_M", torch.as_tensor(unit).float(), persistent=False)
        self.register_buffer("floor_var_M", torch.as_tensor(floor**2).float(), persistent=False)
        self.limited_J = np.flatnonzero((snr_limit_M > 0) & (unit > 0)).tolist()
        limit = (snr_limit_M / noise_M)[self.limited_J]
        self.register_buffer("limit_J", torch.as_tensor(limit).float(), persistent=False)

    def as_predicted(
        self, value_BM: Tensor, var_BM: Tensor, mean_BM: Tensor, stated_BM: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(value_BM, var_BM), scaled, with the same flux and the same noise in flux, at mean_BM.

        The value is set where a straight line from the prediction puts its flux. The floor is a share of the flux: it stays.
        Only where `stated_BM`: an error that was guessed does not follow the noise.
        """
        mag = ((value_BM - mean_BM) * self.unit_M).clamp(-MOST_MAG, MOST_MAG)
        ratio = torch.exp(-mag / MAG)  # observed over predicted flux
        moved = mean_BM + MAG * (1 - ratio) / self.unit_M.clamp_min(1e-9)
        near = stated_BM & (self.unit_M > 0) & (mag.abs() < MOST_MAG)
        sky = (var_BM - self.floor_var_M).clamp_min(0)
        return (
            torch.where(near, moved, value_BM),
            torch.where(near, var_BM + sky * (ratio**2 - 1), var_BM),
        )

    def log_listed(
        self, var_BM: Tensor, mean_BM: Tensor, sd_BM: Tensor, wrong_logit_M: Tensor | None = None
    ) -> Tensor:
        """Log probability that a star of this prediction was listed; 0 in bands without a sharp limit.

        var_BM as from `as_predicted`. Under the likelihood of reconstruction_loss.py, wrong measurements included.
        """
        log_p = torch.zeros_like(mean_BM)
        if self.limited_J:
            z = self._above_limit(var_BM, mean_BM, sd_BM)
            log_in, log_out = log_shares(None if wrong_logit_M is None else wrong_logit_M[self.limited_J])
            log_p[:, self.limited_J] = torch.logaddexp(
                log_in + torch.special.log_ndtr(z), log_out + torch.special.log_ndtr(z / OUTLIER_WIDTH)
            )
        return log_p

    def as_if_unlimited(self, value_BM: Tensor, var_BM: Tensor, mean_BM: Tensor, sd_BM: Tensor) -> Tensor:
        """value_BM from `as_predicted`, moved so that what was listed is spread as if everything had been.

        A noise among the brightest half of those listed becomes one of the brightest half of all.
        """
        if not self.limited_J:
            return value_BM
        J, value = self.limited_J, value_BM.clone()
        total = torch.sqrt(var_BM[:, J] + sd_BM[:, J] ** 2).double()
        bright = (mean_BM[:, J] - value_BM[:, J]) / total  # sigmas
        edge = -self._above_limit(var_BM, mean_BM, sd_BM).double()
        beyond = torch.exp(torch.special.log_ndtr(-bright) - torch.special.log_ndtr(-edge))
        moved = -torch.special.ndtri(beyond.clamp(1e-9, 1 - 1e-3))
        # Further out than noise goes, a wrong measurement stays what it is.
        noise = (bright > edge) & (bright < 5) & (edge < 3)
        value[:, J] = torch.where(noise, mean_BM[:, J] - moved * total, value_BM[:, J]).float()
        return value

    def _above_limit(self, var_BM: Tensor, mean_BM: Tensor, sd_BM: Tensor) -> Tensor:
        """Sigmas, of noise and prediction together, by which the predicted flux lies above the limit, (B, J)."""
        J = self.limited_J
        sky = (var_BM[:, J] - self.floor_var_M[J]).clamp_min(0).sqrt()
        # Always the prediction's own flux, with the gradient of a magnitude.
        flux = MAG / self.unit_M[J] + mean_BM[:, J].detach() - mean_BM[:, J]
        return (flux - self.limit_J * sky) / torch.sqrt(var_BM[:, J] + sd_BM[:, J] ** 2)
