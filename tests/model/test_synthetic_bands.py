"""Synthetic magnitudes are in the survey's own system: the shift of its file is added once, in both forms."""

import numpy as np
import pytest

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import BandFeature, StarFeatures
from msacat.model.synthetic_bands import SyntheticBands

SHIFT = 0.35


def test_the_shift_is_added_once(sky):
    rows = np.flatnonzero(np.isfinite(sky.stars.xp_BK).all(1))[:50]
    bright = sky.stars.take(rows)
    bands = tuple(
        BandFeature(name, "euclid", 725.0, 0.02, 0.0, "Gaia_DR3_Vega:RP", xp_shift=shift)
        for name, shift in (("plain", 0.0), ("shifted", SHIFT))
    )
    features = StarFeatures("plain", bands)
    block = StarBlock.empty(len(rows), 2, 0, 0)
    block.xp_BK[:], block.xp_err_BK[:] = bright.xp_BK, bright.xp_err_BK
    synthetic = SyntheticBands.of(features)
    mag, _ = synthetic.from_spectra(block, np.array([True, True]))
    np.testing.assert_allclose(mag[:, 1] - mag[:, 0], SHIFT, atol=1e-6)
    maggies = block.xp_BK.astype(float) @ synthetic.row_MK.T + synthetic.offset_M
    np.testing.assert_allclose(-2.5 * np.log10(maggies), mag, atol=1e-5)
    assert mag[:, 0] == pytest.approx(sky.mag_BM[rows, 2], abs=0.2)
