"""Predicted spectra are made to agree with the star's magnitudes, measured or imputed, through GaiaXPy's linear map.

A hundred coefficients, each predicted well, may add up to a flux that is off by more than the band's own prediction: their
errors go together. With coefficients c ± v and the flux f_j ± s_j of band j, which the row R_j says is R_j · c, the
best c is that of a linear-Gaussian update (Kalman 1960):

    c + V R' (R V R' + S)^-1 (f − R c),   V = diag v², S = diag s².

The training loss asks for the same on the average (xp_consistency_loss.py); this asks it of every star. Errors are left
as calibrated. Suffixes: B stars, J bands, K coefficients.
"""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX
from msacat.model.scale_features import FeatureScaling
from msacat.model.xp_consistency_loss import SYSTEMATIC_MAG

LARGEST_PULL = 3.0  # sigmas; beyond, one of the two is wrong


def reconcile_spectra(
    xp_BK: np.ndarray,
    err_BK: np.ndarray,
    mag_BM: np.ndarray,
    mag_err_BM: np.ndarray,
    believed_BM: np.ndarray,
    scaling: FeatureScaling,
) -> np.ndarray:
    """float64 xp_BK moved towards the magnitudes where `believed_BM`; bands as in the scaling's features.

    Only bands of standardised systems with a full row (weight 1, no fitted offset) have a say. A star without any, or
    with a coefficient that is NaN, stays as it is.
    """
    bands, synthetic = scaling.features.bands, scaling.synthetic
    use = [m for m, b in enumerate(bands) if synthetic.has_row[m] and b.xp_weight == 1 and not b.xp_offset]
    moved = np.asarray(xp_BK, np.float64).copy()
    mag_BJ, err_BJ = np.asarray(mag_BM, np.float64)[:, use], np.asarray(mag_err_BM, np.float64)[:, use]
    known_BJ = believed_BM[:, use] & np.isfinite(mag_BJ) & np.isfinite(err_BJ)
    rows = np.flatnonzero(known_BJ.any(1) & np.isfinite(moved).all(1) & np.isfinite(err_BK).all(1))
    if not len(use) or not len(rows):
        return moved
    known_BJ, xp, v = known_BJ[rows], moved[rows], np.asarray(err_BK, np.float64)[rows]
    flux_BJ = 10 ** (-0.4 * np.where(known_BJ, mag_BJ[rows], 0.0))
    # relative to each band's flux, so that all numbers are of order one; an unknown band has no row and no pull
    nothing_J = synthetic.flux_of_nothing(scaling.background_K)[use]
    off_BJ = np.where(known_BJ, 1 - (xp @ synthetic.row_MK[use].T + nothing_J) / flux_BJ, 0.0)
    s_BJ = np.hypot(np.where(known_BJ, err_BJ[rows], 0.0), SYSTEMATIC_MAG) / MAG_PER_RELATIVE_FLUX
    A_BJK = synthetic.row_MK[use] * v[:, None] * (known_BJ / flux_BJ)[:, :, None]
    S_BJJ = A_BJK @ A_BJK.transpose(0, 2, 1)
    at = np.arange(len(use))
    S_BJJ[:, at, at] += s_BJ**2
    limit = LARGEST_PULL * np.sqrt(S_BJJ[:, at, at])
    pull_BJ = np.linalg.solve(S_BJJ, np.clip(off_BJ, -limit, limit)[..., None])[..., 0]
    moved[rows] = xp + v * np.einsum("bjk,bj->bk", A_BJK, pull_BJ)
    return moved
