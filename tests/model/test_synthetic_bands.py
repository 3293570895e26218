"""Synthetic magnitudes are in the survey's own system: the shift of its file is added once, in both forms."""

import numpy as np
import pytest

from msacat.catalog.surveys.star_block import K, StarBlock
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
    mag, _ = synthetic.from_spectra(block, np.array([True, True]), np.zeros(K))
    np.testing.assert_allclose(mag[:, 1] - mag[:, 0], SHIFT, atol=1e-6)
    maggies = block.xp_BK.astype(float) @ synthetic.row_MK.T + synthetic.offset_M
    np.testing.assert_allclose(-2.5 * np.log10(maggies), mag, atol=1e-5)
    assert mag[:, 0] == pytest.approx(sky.mag_BM[rows, 2], abs=0.2)


def test_bands_without_a_standardised_offset_do_not_count_the_background_as_the_star_s(sky):
    """Gaia's own RP and PS1 r of a published spectrum: the offset of the second says already what is in it."""
    bright = sky.stars.take(np.flatnonzero(np.isfinite(sky.stars.xp_BK).all(1))[:50])
    bands = (
        BandFeature("own", "euclid", 725.0, 0.02, 0.0, "Gaia_DR3_Vega:RP"),
        BandFeature("standardised", "euclid", 620.0, 0.02, 0.0, "PanSTARRS1_Std:rp"),
    )
    synthetic = SyntheticBands.of(StarFeatures("own", bands))
    assert (synthetic.offset_M != 0).tolist() == [False, True]
    block = StarBlock.empty(len(bright), 2, 0, 0)
    block.xp_BK[:], block.xp_err_BK[:] = bright.xp_BK, bright.xp_err_BK
    both = np.array([True, True])
    plain, _ = synthetic.from_spectra(block, both, np.zeros(K))
    background = 0.05 * block.xp_BK[0].astype(float)
    block.xp_BK[:] += background.astype(np.float32)
    mag, _ = synthetic.from_spectra(block, both, background)
    np.testing.assert_allclose(mag[:, 0], plain[:, 0], atol=1e-5)
    assert (mag[:, 1] < plain[:, 1]).all()
