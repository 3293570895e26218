"""Positions, motions, names and pairs of the simulated sky, against astropy and brute force."""

from __future__ import annotations

import itertools

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from msacat.catalog.healpix import nested_pixel, separation_deg
from msacat.catalog.simulated_sky.dirt import close_pairs
from msacat.catalog.simulated_sky.parameters import load_parameters
from msacat.catalog.simulated_sky.sky_positions import (
    draw_positions,
    dust_columns,
    galactic,
    move,
    split_by_cell,
)
from msacat.catalog.simulated_sky.survey_rows import julian_date, modified_julian_date, sexagesimal_name

RNG = np.random.default_rng(0)
RA, DEC = RNG.uniform(0, 360, 300), np.degrees(np.arcsin(RNG.uniform(-1, 1, 300)))


def test_galactic_coordinates() -> None:
    l_deg, b_deg = galactic(RA, DEC)
    theirs = SkyCoord(RA, DEC, unit="deg").galactic
    assert separation_deg(l_deg, b_deg, theirs.l.deg, theirs.b.deg).max() * 3600 < 0.1


def test_moves_along_the_motion() -> None:
    pmra, pmdec = RNG.normal(0, 5000, (2, 300))
    ra, dec = move(RA, DEC, pmra, pmdec, -16.5)
    theirs = SkyCoord(RA, DEC, unit="deg").directional_offset_by(
        np.arctan2(-pmra, -pmdec) * u.rad, np.hypot(pmra, pmdec) * 16.5 * u.mas
    )
    assert separation_deg(ra, dec, theirs.ra.deg, theirs.dec.deg).max() * 3600 < 1e-3
    still = move(RA, DEC, 0 * RA, 0 * RA, 30.0)
    assert separation_deg(*still, RA, DEC).max() * 3600 < 1e-6


def test_designations_truncate() -> None:
    ra, dec = (
        np.array([0.0, 353.134752, 15.000001, 359.99999999]),
        np.array([-0.00001, -31.143648, 89.99999, 0.5]),
    )
    assert sexagesimal_name(ra, dec).tolist() == [
        "00000000-0000000", "23323234-3108371", "01000000+8959599", "23595999+0030000",
    ]  # fmt: skip


def test_dates_of_epochs() -> None:
    epoch = np.array([2000.0, 2015.5])
    assert julian_date(epoch).tolist() == [2451545.0, 2457206.375]
    assert (julian_date(epoch) - modified_julian_date(epoch)).tolist() == [2400000.5, 2400000.5]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 400), st.integers(0, 100), st.booleans())
def test_source_ids_are_sorted_unique_and_in_their_cell(n: int, seed: int, pairs: bool) -> None:
    p = load_parameters()
    at = draw_positions(np.random.default_rng(seed), n, p, p["dirt"]["pairs"] if pairs else None)
    assert len(at) == n and np.all(np.diff(at.source_id) > 0)
    assert np.array_equal(nested_pixel(12, at.ra, at.dec), at.source_id >> 35)
    slices = split_by_cell(at.source_id, max(1, n // 4))
    assert [s.start for s in slices] == [0, *(s.stop for s in slices[:-1])] and slices[-1].stop == n
    for a, b in itertools.pairwise(slices):
        assert at.source_id[a][-1] >> 49 != at.source_id[b][0] >> 49


def test_dust_is_the_same_whatever_else_is_simulated() -> None:
    p = load_parameters()
    at = draw_positions(np.random.default_rng(1), 2000, p)
    whole, part = dust_columns(at, 7, p), dust_columns(at.take(slice(500, 900)), 7, p)
    assert np.array_equal(whole[500:900], part)
    cell = at.source_id >> 49
    assert all(len(set(whole[cell == c])) == 1 for c in np.unique(cell)[:20])
    assert not np.array_equal(whole, dust_columns(at, 8, p))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([-89.9995, -40.0, 0.0, 89.9995]))
def test_close_pairs_are_all_close_pairs(seed: int, dec0: float) -> None:
    rng = np.random.default_rng(seed)
    dec = np.clip(dec0 + rng.uniform(-20, 20, 60) / 3600, -90, 90)
    ra = rng.uniform(-20, 20, 60) / 3600 / np.maximum(np.cos(np.radians(dec)), 1e-3) % 360
    a, b, distance = close_pairs(ra, dec, 6.0)
    i, j = np.triu_indices(60, 1)
    every = separation_deg(ra[i], dec[i], ra[j], dec[j]) * 3600
    expected = {(min(x, y), max(x, y)) for x, y in zip(i[every <= 6], j[every <= 6], strict=True)}
    assert {(min(x, y), max(x, y)) for x, y in zip(a.tolist(), b.tolist(), strict=True)} == expected
    assert len(distance) == len(expected)
