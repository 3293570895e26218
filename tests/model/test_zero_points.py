"""Zero points that wander over the sky are found where they do, and only there; they count as noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msacat.catalog.healpix import cell_of
from msacat.model.fit_mixture import fit_mixture
from msacat.model.fit_zero_points import SKY_CELL, fit_zero_points, scatter_of_means
from msacat.model.scale_features import fit_scaling

WANDERING = {"ps1_g": 0.03, "twomass_ks": 0.05}  # mag
CELLS = 60


@settings(max_examples=15, deadline=None)
@given(
    ratio=st.floats(0.2, 3.0),
    noise=st.floats(0.01, 0.1),
    wrong=st.floats(0.0, 0.05),
    seed=st.integers(0, 999),
)
def test_the_scatter_is_found_under_noise_and_wrong_values(ratio, noise, wrong, seed):
    scatter = ratio * noise
    rng = np.random.default_rng(seed)
    cell = rng.integers(0, 80, 20_000)
    error = noise * np.exp(0.5 * rng.standard_normal(len(cell)))
    d = 0.3 + scatter * rng.standard_normal(80)[cell] + error * rng.standard_normal(len(cell))
    d[rng.random(len(d)) < wrong] -= 0.5
    assert scatter_of_means(d, error**2, cell) == pytest.approx(scatter, rel=0.35)
    assert scatter_of_means(error * rng.standard_normal(len(d)), error**2, cell) == 0.0


def test_nothing_is_said_of_few_cells_or_few_stars():
    rng = np.random.default_rng(3)
    few_cells, few_stars = rng.integers(0, 7, 5_000), np.arange(2_000) // 10
    for cell in (few_cells, few_stars):
        d = rng.standard_normal(cell.max() + 1)[cell] + 0.1 * rng.standard_normal(len(cell))
        assert scatter_of_means(d, np.full(len(d), 0.01), cell) == 0.0


@pytest.fixture(scope="module")
def wandering(new_sky):
    """Stars in 60 sky cells; ps1_g and twomass_ks have another zero point in each."""
    sky = new_sky(8000, seed=5)
    rng = np.random.default_rng(2)
    cell = rng.integers(0, CELLS, len(sky.stars))
    stars = replace(
        sky.stars, source_id_B=cell * SKY_CELL + np.arange(len(cell)), mag_BM=sky.stars.mag_BM.copy()
    )
    for name, scatter in WANDERING.items():
        m = sky.features.band_names.index(name)
        stars.mag_BM[:, m] += (scatter * rng.standard_normal(CELLS)[cell]).astype(np.float32)
    return replace(sky, stars=stars)


def test_bands_that_wander_are_found_and_no_others(wandering):
    features, stars = wandering.features, wandering.stars
    scaling = fit_scaling(features, stars)
    fitted, judged = (stars.take(np.arange(start, start + 4000)) for start in (0, 4000))
    prior = fit_mixture(scaling.encode(fitted).to(torch.device("cpu")), 4, 8, 0, 5)
    cells = scaling.encode(judged).to(torch.device("cpu"))
    found = dict(
        zip(features.band_names, fit_zero_points(prior, cells, judged.source_id_B, scaling), strict=True)
    )
    for name, scatter in WANDERING.items():
        assert found.pop(name) == pytest.approx(scatter, rel=0.35)
    assert set(found.values()) == {0.0}
    blind = replace(judged, xp_BK=np.full_like(judged.xp_BK, np.nan))
    unseen = fit_zero_points(
        prior, scaling.encode(blind).to(torch.device("cpu")), judged.source_id_B, scaling
    )
    assert not unseen.any()


def test_a_sky_cell_is_the_catalogues_own():
    ids = np.random.default_rng(0).integers(0, 12 * 4**12 << 35, 1000)
    np.testing.assert_array_equal(ids // SKY_CELL, cell_of(ids, 5))


def test_a_zero_point_is_noise_of_what_was_measured(wandering):
    """Added in quadrature where a band was measured; a synthetic magnitude has none."""
    features, stars = wandering.features, wandering.stars
    scaling = fit_scaling(features, stars)
    zero_point = np.full(scaling.n_bands, 0.04)
    zero_point[scaling.reference] = 0.0
    before, after = scaling.encode(stars), replace(scaling, zero_point_M=zero_point).encode(stars)
    M = scaling.n_bands
    added = (after.var_BD - before.var_BD)[:, :M] * scaling.scale_D[:M] ** 2
    use = before.observed_BD[:, :M] & (before.var_BD[:, :M] < 1e5)
    expected = np.broadcast_to(zero_point**2, use.shape)
    np.testing.assert_allclose(added[use], expected[use], rtol=0.02, atol=1e-8)
    np.testing.assert_array_equal(added[~before.observed_BD[:, :M]], 0.0)
    np.testing.assert_array_equal(after.var_BD[:, M:], before.var_BD[:, M:])
    assert (
        type(scaling).from_json(replace(scaling, zero_point_M=zero_point).to_json()).zero_point_M.tolist()
        == zero_point.tolist()
    )
