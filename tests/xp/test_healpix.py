"""HEALPix cells against Gaia's own source_ids and against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msacat.catalog.healpix import (
    cell_of,
    cell_size_deg,
    nested_centre_deg,
    nested_pixel,
    separation_deg,
)


def test_real_gaia_positions_lie_in_the_cell_of_their_source_id(shared_data):
    """1000 all-sky gaia_source rows. Gaia assigns the id from a preliminary position: allow the next cell."""
    from astropy.io import fits

    table = fits.getdata(shared_data / "adrn__pyia/gdr3_sm.fits")
    source_id, ra, dec = table["source_id"].astype(np.int64), table["ra"], table["dec"]
    same = nested_pixel(12, ra, dec) == cell_of(source_id, 12)
    assert same.mean() > 0.98
    assert separation_deg(*nested_centre_deg(12, cell_of(source_id, 12)), ra, dec).max() < 0.015
    for level in range(12):
        agree = nested_pixel(level, ra, dec) == cell_of(source_id, level)
        assert agree[same].all()


def test_first_xp_sources_lie_where_the_archive_says(shared_data):
    from astropy.io import fits

    table = fits.getdata(shared_data / "fjaellet__xp_spectral_lines/xp_continuous_combined_chunk0.fits")
    ra, dec = nested_centre_deg(12, cell_of(table["source_id"].astype(np.int64), 12))
    assert ra.min() > 43.55 and ra.max() < 47.15  # MANIFEST: RA 43.6-47.1, Dec 0-2.3, rounded
    assert dec.min() > 0 and dec.max() < 2.35


@pytest.mark.parametrize("level", [0, 1, 2, 3, 5])
def test_every_centre_comes_back_and_cells_are_equal_in_area(level):
    """Centres of all cells: back to the same cell; isotropic mean; known z of the twelve base cells."""
    pix = np.arange(12 * 4**level)
    ra, dec = nested_centre_deg(level, pix)
    np.testing.assert_array_equal(nested_pixel(level, ra, dec), pix)
    z = np.sin(np.radians(dec))
    assert abs(z.mean()) < 1e-12
    if level == 0:
        np.testing.assert_allclose(z, [2 / 3] * 4 + [0] * 4 + [-2 / 3] * 4, atol=1e-15)
        np.testing.assert_allclose(ra, [45, 135, 225, 315, 0, 90, 180, 270, 45, 135, 225, 315])


def test_areas_by_random_points():
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 400_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 400_000)))
    counts = np.bincount(nested_pixel(2, ra, dec), minlength=192)
    assert counts.min() > 0 and counts.max() < 1.15 * counts.mean() and counts.min() > 0.85 * counts.mean()


@given(
    st.integers(0, 29),
    st.floats(-720, 720, allow_nan=False),
    st.one_of(st.floats(-90, 90), st.sampled_from([90.0, -90.0, 0.0, 41.8103148957786, 89.9999999999])),
)
def test_a_position_is_near_its_cells_centre_and_cells_nest(level, ra, dec):
    pix = int(nested_pixel(level, ra, dec))
    assert 0 <= pix < 12 * 4**level
    assert separation_deg(*nested_centre_deg(level, pix), ra, dec) <= 1.25 * cell_size_deg(level) + 1e-12
    if level:
        assert pix >> 2 == int(nested_pixel(level - 1, ra, dec))


@given(st.integers(0, 29).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 12 * 4**n - 1))))
def test_round_trip_from_any_cell(cell):
    level, pix = cell
    assert int(nested_pixel(level, *nested_centre_deg(level, pix))) == pix


def test_impossible_input_is_refused():
    for wrong in ((3, [10.0], [91.0]), (3, [np.nan], [0.0]), (30, [0.0], [0.0])):
        with pytest.raises(ValueError):
            nested_pixel(*wrong)
    with pytest.raises(ValueError):
        nested_centre_deg(0, 12)
    with pytest.raises(ValueError):
        cell_of(1, 13)
