"""The noise of a star's spectrum that a band known only through spectra has in common with what it was learned from.

Such a band's targets are a linear map of the very spectrum that is shown, noise included. Loss and calibration take that
noise for the target's alone: sigma² comes out too small by twice the covariance of prediction and target noise, until it is
zero; the noise that the prediction follows is then left out. Between the two lies the covariance itself, which is given back.
"""

from __future__ import annotations

import numpy as np
import torch

from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX
from msacat.model.cells import Cells
from msacat.model.star_network import StarNetwork
from msacat.model.synthetic_bands import MAX_ERR_MAG


def shared_noise(
    model: StarNetwork, cells: Cells, mean_BD: np.ndarray, device: torch.device, autocast: torch.dtype | None
) -> np.ndarray:
    """mag (B, M): root of that covariance; 0 in other bands and for stars without spectrum or without G.

    Each spectrum is shown once more, moved by one sigma as its noise would move the band's synthetic magnitude: the
    prediction moves by covariance / sigma.
    """
    scaling, M = model.scaling, model.scaling.n_bands
    shared = np.zeros((len(cells), M))
    rows = np.flatnonzero(cells.observed_BD[:, M:].any(1) & ~cells.proxy_B)
    if not len(rows):
        return shared
    seen, unit_BK = cells.take(rows), scaling.coefficient_unit(cells.norm_B[rows])
    flux_BM = 10 ** (-0.4 * scaling.magnitudes(mean_BD[rows], seen.norm_B))
    var_BK = np.where(seen.observed_BD[:, M:], seen.var_BD[:, M:], 0.0)
    for m in np.flatnonzero(scaling.through_xp_M & scaling.supported_bands):
        row_BK = scaling.synthetic.row_MK[m] * unit_BK
        sigma_B = np.sqrt((row_BK**2 * var_BK).sum(1)).clip(1e-30)  # 0 if the half it needs is missing
        moved = seen.copy()
        moved.value_BD[:, M:] += var_BK * row_BK / sigma_B[:, None]
        shown = moved.to(device)
        _, out = model(shown, shown.observed_BD, autocast)
        follows_B = np.abs(out.mean_BD[:, m].double().cpu().numpy() - mean_BD[rows, m]) * scaling.scale_D[m]
        # No target was noisier than this.
        target_err_B = np.minimum(MAG_PER_RELATIVE_FLUX * sigma_B / flux_BM[:, m], MAX_ERR_MAG)
        shared[rows, m] = np.sqrt(follows_B * target_err_B)
    return shared
