"""Scaling: round trips, no sentinel, stars that lack things, JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from msacat.catalog.errors import InputRejected
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import ScalarFeature
from msacat.catalog.xp.xp_operators import synthetic_magnitudes
from msacat.model.hide_features import HidingPolicy, hide
from msacat.model.scale_features import FeatureScaling, fit_scaling


@pytest.fixture(scope="module")
def scaling(sky):
    return fit_scaling(sky.features, sky.stars)


def test_cells_are_of_order_one_and_return_to_magnitudes_and_coefficients(sky, scaling):
    cells = scaling.encode(sky.stars)
    known = cells.observed_BD
    assert np.abs(np.median(cells.value_BD[known])) < 0.2
    assert np.percentile(np.abs(cells.value_BD[known]), 99) < 30
    mag = scaling.magnitudes(cells.value_BD, cells.norm_B)
    seen = np.isfinite(sky.stars.mag_BM)
    np.testing.assert_allclose(mag[seen], sky.stars.mag_BM[seen], atol=3e-5)
    xp = scaling.coefficients(cells.value_BD, cells.norm_B)
    seen = np.isfinite(sky.stars.xp_BK)
    np.testing.assert_allclose(xp[seen], sky.stars.xp_BK[seen], rtol=1e-3, atol=1e-2)


def test_nothing_measured_is_a_bit_not_a_number(sky, scaling):
    cells = scaling.encode(sky.stars)
    n_bands = scaling.n_bands
    np.testing.assert_array_equal(cells.observed_BD[:, :n_bands], np.isfinite(sky.stars.mag_BM))
    np.testing.assert_array_equal(cells.observed_BD[:, n_bands:], np.isfinite(sky.stars.xp_BK))
    missing = ~cells.observed_BD & ~cells.derived_BD
    assert (cells.value_BD[missing] == 0).all()
    for array in (cells.value_BD, cells.var_BD, cells.scalar_BX):
        assert np.isfinite(array).all()
    assert (cells.var_BD > 0).all()


def test_errors_travel_into_scaled_units_with_the_floor(sky, scaling):
    cells = scaling.encode(sky.stars)
    m = sky.features.band_names.index("ps1_g")
    seen = cells.observed_BD[:, m]
    floor = sky.features.bands[m].floor_err
    expected = sky.stars.mag_err_BM[seen, m] ** 2 + floor**2
    np.testing.assert_allclose(cells.var_BD[seen, m] * scaling.scale_D[m] ** 2, expected, rtol=1e-4)
    # XP errors are divided by the same flux as the coefficients, a factor of thousands between stars.
    k = scaling.n_bands + 3
    seen = cells.observed_BD[:, k]
    ratio_cells = np.sqrt(cells.var_BD[seen, k] - 0.01**2) / np.abs(
        cells.value_BD[seen, k] + scaling.center_D[k] / scaling.scale_D[k]
    )
    own = sky.stars.xp_BK[seen, 3] - scaling.background_K[3]
    ratio_raw = sky.stars.xp_err_BK[seen, 3] / np.abs(own)
    big = ratio_raw > 1e-3
    np.testing.assert_allclose(ratio_cells[big], ratio_raw[big], rtol=2e-2)


def test_an_unpublished_error_becomes_the_typical_one_and_is_marked(sky, scaling):
    block = sky.stars.take(np.arange(50))
    block.mag_err_BM[:, 1] = np.nan
    block.xp_err_BK[:] = np.nan
    cells = scaling.encode(block)
    seen = cells.observed_BD[:, 1]
    assert cells.guessed_BD[seen, 1].all() and not cells.guessed_BD[:, 0].any()
    band = sky.features.bands[1]
    expected = (band.typical_err**2 + band.floor_err**2) / scaling.scale_D[1] ** 2
    np.testing.assert_allclose(cells.var_BD[seen, 1], expected, rtol=1e-5)
    xp = cells.observed_BD[:, scaling.n_bands :]
    assert cells.guessed_BD[:, scaling.n_bands :][xp].all()


def test_a_star_without_g_is_normalised_by_the_nearest_band_and_says_so(sky, scaling, without):
    block = without(sky.stars.take(np.arange(40)), "mag", [0])
    cells = scaling.encode(block)
    has_any = np.isfinite(block.mag_BM).any(1)
    assert (cells.proxy_B == has_any).all()
    error = cells.norm_B[has_any] - sky.mag_BM[:40][has_any, 0]
    assert np.abs(error).max() < 2.0 and np.abs(np.median(error)) < 0.3
    # G is then a weak measurement, as wide as the colour it was guessed through
    assert (cells.var_BD[has_any, 0] > 20 * scaling.encode(sky.stars).var_BD[:, 0].max()).all()


def test_a_star_with_nothing_has_no_normaliser_and_no_cells(scaling, sky):
    cells = scaling.encode(StarBlock.empty(3, len(sky.features.bands), 0, 3))
    assert np.isnan(cells.norm_B).all() and not cells.observed_BD.any() and not cells.proxy_B.any()
    assert np.isfinite(cells.value_BD).all()


def test_absurd_numbers_stay_finite(sky, scaling):
    block = sky.stars.take(np.arange(20))
    block.mag_BM[0, 1], block.mag_BM[1, 1], block.mag_BM[2, 1] = 99.0, np.inf, -45.0
    block.mag_err_BM[3, 1], block.mag_err_BM[4, 1], block.mag_err_BM[5, 1] = 1e30, -1.0, 0.0
    block.xp_BK[6] = 1e30
    block.xp_err_BK[7] = 0.0
    cells = scaling.encode(block)
    assert not cells.observed_BD[:2, 1].any()
    for array in (cells.value_BD, cells.var_BD):
        assert np.isfinite(array).all()
    assert cells.guessed_BD[4, 1] and not cells.guessed_BD[5, 1]


def test_a_constant_or_empty_column_does_not_divide_by_zero(sky):
    block = sky.stars.take(np.arange(300))
    block.mag_BM[:, 6] = block.mag_BM[:, 0] - 1.0
    block.mag_BM[:, 7] = np.nan
    block.xp_BK[:, 50] = 0.0
    scaling = fit_scaling(sky.features, block)
    assert (scaling.scale_D > 0).all() and np.isfinite(scaling.scale_D).all()
    assert not scaling.supported_bands[7]
    cells = scaling.encode(block)
    assert np.isfinite(cells.value_BD).all()


def test_bands_never_measured_are_derived_from_spectra_as_targets_only(sky, without):
    block = without(sky.stars, "mag", [3, 4, 5])
    scaling = fit_scaling(sky.features, block)
    np.testing.assert_array_equal(np.flatnonzero(scaling.through_xp_M), [3, 4, 5])
    assert scaling.supported_bands[[3, 4, 5]].all()
    cells = scaling.encode(block)
    derived = cells.derived_BD[:, 3]
    assert derived.sum() > 500 and not cells.observed_BD[:, 3].any()
    assert np.isfinite(block.xp_BK[derived]).all()
    mag = scaling.magnitudes(cells.value_BD, cells.norm_B)[derived, 3]
    assert 1.4826 * np.median(np.abs(mag - sky.mag_BM[derived, 3])) < 0.02


def test_synthetic_targets_are_of_the_star_alone(sky, without):
    """RP of Gaia's own system, never measured: the background of published spectra is no part of it."""
    block = without(sky.stars, "mag", [2])
    scaling = fit_scaling(sky.features, block)
    assert scaling.through_xp_M[2] and scaling.synthetic.offset_M[2] == 0
    cells = scaling.encode(block)
    of = np.flatnonzero(cells.derived_BD[:, 2])
    mag = scaling.magnitudes(cells.value_BD, cells.norm_B)[of, 2]
    own = block.xp_BK[of].astype(float) - scaling.background_K
    expected, _ = synthetic_magnitudes(own, [str(scaling.synthetic.key_M[2])])
    np.testing.assert_allclose(mag, expected[:, 0], atol=2e-5)
    published, _ = synthetic_magnitudes(block.xp_BK[of].astype(float), [str(scaling.synthetic.key_M[2])])
    assert np.abs(published - expected).max() > 1e-4


def test_no_star_with_the_reference_band_is_refused(sky, without):
    with pytest.raises(InputRejected, match="gaia_g"):
        fit_scaling(sky.features, without(sky.stars, "mag", [0]))


def test_json_round_trip_is_exact(sky, scaling):
    again = FeatureScaling.from_json(json.loads(json.dumps(scaling.to_json())))
    assert again.features == scaling.features
    a, b = scaling.encode(sky.stars.take(np.arange(99))), again.encode(sky.stars.take(np.arange(99)))
    for name in a.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert isinstance(a.to(torch.device("cpu")).value_BD, torch.Tensor)


def test_parallax_enters_with_its_error_and_its_absence(sky):
    features = replace(sky.features, scalars=(ScalarFeature("parallax", "mas"),))
    n = 30
    block = replace(
        sky.stars.take(np.arange(n)),
        scalar_BS=np.full((n, 1), 2.0, np.float32),
        scalar_err_BS=np.full((n, 1), 0.05, np.float32),
    )
    block.scalar_BS[:5] = np.nan
    cells = fit_scaling(features, block).encode(block)
    assert cells.scalar_BX.shape == (n, 4)
    assert (cells.scalar_BX[:5] == 0).all() and (cells.scalar_BX[5:, 0] == 1).all()


def test_only_what_distance_changes_is_scaled_by_brightness(sky):
    """Parallax times 10**(0.2 G) is a luminosity; reddening times it would be nothing. Nor does a faint star lose it."""
    scalars = (ScalarFeature("parallax", "mas"), ScalarFeature("ebv", "mag"))
    features, n = replace(sky.features, scalars=scalars), 400
    block = replace(
        sky.stars.take(np.arange(n)),
        scalar_BS=np.tile(np.float32([2.0, 0.3]), (n, 1)),
        scalar_err_BS=np.tile(np.float32([0.05, 0.03]), (n, 1)),
    )
    scaling = fit_scaling(features, block)
    cells = scaling.encode(block)
    present, value, scaled, err = np.split(cells.scalar_BX, 4, axis=1)
    assert (present == 1).all()
    np.testing.assert_allclose(value, np.arcsinh([2.0, 0.3]) * np.ones((n, 1)), rtol=1e-6)
    np.testing.assert_array_equal(scaled[:, 1], value[:, 1])
    np.testing.assert_allclose(err[:, 1], np.log(0.03) / 3, rtol=1e-6)
    f = 10 ** (0.2 * (cells.norm_B - scaling.g0))
    np.testing.assert_allclose(np.sinh(scaled[:, 0]), 2.0 * f, rtol=1e-4)
    batch = hide(
        cells, scaling, np.random.default_rng(0), HidingPolicy(weights={"faint": 1.0}, scalar_hidden=0.0)
    )
    moved = batch.cells.norm_B != cells.norm_B
    assert moved.sum() > 50
    given = batch.cells.scalar_BX[moved].reshape(-1, 4, 2)
    assert (given[:, :, 0] == 0).all()
    np.testing.assert_array_equal(given[:, :, 1], cells.scalar_BX[moved].reshape(-1, 4, 2)[:, :, 1])
