"""The constant that all published spectra share is found, with its error, and a faint star is its bright twin again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msacat.catalog.surveys.star_block import K
from msacat.catalog.xp.xp_operators import standardised_offsets
from msacat.model.fit_background import FEWEST, fit_background
from msacat.model.scale_features import fit_scaling


@pytest.fixture(scope="module")
def unknown_to_gaiaxpy():
    """A constant of no influence on the standardised bands, as large as what they tell of."""
    rows_JK, _ = standardised_offsets()
    other = np.random.default_rng(3).standard_normal(K)
    other -= np.linalg.lstsq(rows_JK, rows_JK @ other, rcond=None)[0]
    return other * 0.2 / np.sqrt(np.mean(other**2))


def test_it_is_found_where_gaiaxpy_says_nothing_of_it(new_sky, background, unknown_to_gaiaxpy):
    sky = new_sky(12_000, seed=4)
    sky.stars.xp_BK += unknown_to_gaiaxpy
    true = background + unknown_to_gaiaxpy
    found, err = fit_background(sky.features, sky.stars)
    assert np.sqrt(np.mean((found - true) ** 2)) < 0.35 * np.sqrt(np.mean(true**2))
    assert 0.6 < np.sqrt(np.mean(((found - true) / err) ** 2)) < 1.5
    rows_JK, offset_J = standardised_offsets()
    np.testing.assert_allclose(rows_JK @ found, -offset_J, rtol=0.1)


def test_wrong_spectra_do_not_lead_it_astray(new_sky, background):
    sky = new_sky(12_000, seed=5)
    wrong = np.random.default_rng(0).random(len(sky.stars)) < 0.02
    sky.stars.xp_BK[wrong] *= 3
    found, err = fit_background(sky.features, sky.stars)
    assert np.sqrt(np.mean(((found - background) / err) ** 2)) < 1.5


def test_few_spectra_leave_what_gaiaxpy_says(new_sky, background):
    sky = new_sky(FEWEST)  # half of them have a spectrum
    found, err = fit_background(sky.features, sky.stars)
    np.testing.assert_allclose(found, background, rtol=0.1, atol=2e-3)
    assert np.all(err > 0) and np.mean(err) > np.mean(np.abs(background))


def test_a_faint_star_has_the_cells_of_its_bright_twin(sky):
    scaling = fit_scaling(sky.features, sky.stars)
    M, fainter = scaling.n_bands, 10 ** (-0.4 * 3.0)
    bright = sky.stars.take(np.flatnonzero(np.isfinite(sky.stars.xp_BK).all(1))[:200])
    constant = scaling.background_K
    twin = replace(bright, mag_BM=bright.mag_BM + np.float32(3.0),
                   xp_BK=((bright.xp_BK - constant) * fainter + constant).astype(np.float32))  # fmt: skip
    cells, cells_of_twin = scaling.encode(bright), scaling.encode(twin)
    np.testing.assert_allclose(cells_of_twin.value_BD[:, M:], cells.value_BD[:, M:], rtol=1e-3, atol=1e-2)
    back = scaling.coefficients(cells_of_twin.value_BD.astype(float), cells_of_twin.norm_B)
    np.testing.assert_allclose(back, twin.xp_BK, rtol=1e-4, atol=1e-3)
