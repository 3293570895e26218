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

#: of what is added to the interval anyway: noise smaller than this part of it would widen the interval by 3 %
UNFELT = 0.25


def shared_noise(
    model: StarNetwork,
    cells: Cells,
    mean_BD: np.ndarray,
    beside_M: np.ndarray,
    device: torch.device,
    autocast: torch.dtype | None,
) -> np.ndarray:
    """mag (B, M): root of that covariance; 0 in other bands, for stars without spectrum or without G, and where unfelt.

    Each spectrum is shown once more, moved by one sigma as its noise would move the band's synthetic magnitude: the
    prediction moves by covariance / sigma. `beside_M` (mag) is what the band's intervals get besides.
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
        # No target was noisier than MAX_ERR_MAG.
        target_err_B = np.minimum(MAG_PER_RELATIVE_FLUX * sigma_B / flux_BM[:, m], MAX_ERR_MAG)
        felt = np.flatnonzero(target_err_B > UNFELT * beside_M[m])
        if not len(felt):
            continue
        moved = seen.take(felt)
        moved.value_BD[:, M:] += (var_BK * row_BK / sigma_B[:, None])[felt]
        shown = moved.to(device)
        _, out = model(shown, shown.observed_BD, autocast)
        moved_by_B = out.mean_BD[:, m].double().cpu().numpy() - mean_BD[rows[felt], m]
        follows_B = np.abs(moved_by_B) * scaling.scale_D[m]
        shared[rows[felt], m] = np.sqrt(follows_B * target_err_B[felt])
    return shared
