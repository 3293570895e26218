"""The small constant flux that published XP coefficients lack, as GaiaXPy's standardised systems imply it.

GaiaXPy's SDSS_Std and PanSTARRS1_Std give flux = M c + offset: a constant that real catalogue magnitudes ask for
(Gaia Collaboration, Montegriffo et al. 2023, A&A 674, A33, on the "hockey stick" at the faint end). Simulated
coefficients must lack that light too, or the two would disagree by 2 % at magnitude 18.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

OPERATORS = Path(__file__).parents[1] / "xp" / "xp_operators.npz"
STANDARDISED = [f"SDSS_Std:{b}" for b in "griz"] + [f"PanSTARRS1_Std:{b}p" for b in "grizy"]
#: Constrained as well, because near-equal passbands with unequal offsets would otherwise ring in them.
SMOOTHED = [f"Sky_Mapper:{b}" for b in "vgriz"]


@cache
def background_deficit(smoothed_mag: float) -> np.ndarray:
    """(110,) coefficients to subtract from every source: the smallest ones that give the offsets exactly."""
    with np.load(OPERATORS) as xp:
        row = {key: i for i, key in enumerate(xp["band_keys"].tolist())}
        matrix = xp["band_rows"][[row[key] for key in STANDARDISED + SMOOTHED]]
        offsets = xp["band_offsets"][[row[key] for key in STANDARDISED]]
    wanted = np.concatenate([offsets, np.full(len(SMOOTHED), 10 ** (-0.4 * smoothed_mag))])
    return np.linalg.lstsq(matrix, wanted, rcond=None)[0]
