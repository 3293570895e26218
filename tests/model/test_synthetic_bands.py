"""Synthetic magnitudes are in the survey's own system: the shift of its file is added once, in both forms."""

import numpy as np
import pytest

from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import BandFeature, StarFeatures
from msacat.model.synthetic_bands import SyntheticBands, colours_with_targets

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


def test_a_band_is_taught_where_a_quarter_of_the_spectra_give_it_a_magnitude():
    """u: nearly all blue stars have one, of the reddest only one that is wrong."""
    rng = np.random.default_rng(0)
    colour = rng.uniform(0.5, 2.5, 4000)
    has = rng.random(4000) < np.interp(colour, [1.0, 1.5], [0.9, 0.0])
    has[np.argmax(colour)] = True
    low, high = colours_with_targets(colour, has)
    assert low == -99 and high == pytest.approx(1.36, abs=0.06)
    assert colours_with_targets(colour, np.ones(4000, bool)) == (-99, 99)
    low, high = colours_with_targets(-colour, has)
    assert low == pytest.approx(-1.36, abs=0.06) and high == 99
