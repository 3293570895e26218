"""The numpy matcher against a brute-force great-circle oracle in extended precision."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from msacat.catalog.crossmatch import sky_pairs
from msacat.catalog.crossmatch.match_sky import Matches, choose_mutual
from msacat.catalog.crossmatch.sky_pairs import ObjectPositions, Pairs, SkySearch, StarPositions


def mutual_nearest(
    stars: StarPositions, objects: ObjectPositions, radius_arcsec: float, workers: int = 1
) -> Matches:
    """The stars searched at once, or in parts by several threads, as a cross-match does."""
    search = SkySearch(objects, radius_arcsec)

    def near(first_and_end: tuple[int, int]) -> Pairs:
        first, end = first_and_end
        columns = (stars.source_id, stars.ra, stars.dec, stars.pmra, stars.pmdec)
        pairs = search.near(StarPositions(*(column[first:end] for column in columns), stars.ref_epoch))
        return Pairs(pairs.star + first, pairs.obj, pairs.grains)

    parts = 1 if workers == 1 else 8 * workers
    bounds = np.linspace(0, len(stars), parts + 1).astype(int)
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(near, pairwise(bounds)))
    return choose_mutual(Pairs.concatenate(found), stars.source_id, objects)


def as_dict(stars, objects, matches):
    assert len(np.unique(matches.star)) == len(matches)
    return {
        int(stars.source_id[s]): (objects.id[o] if m else None, sep, int(n))
        for s, o, m, sep, n in zip(
            matches.star, matches.obj, matches.mutual, matches.separation_arcsec, matches.n_candidates, strict=True
        )
    }  # fmt: skip


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for source_id, (match, separation, n) in expected.items():
        assert found[source_id][0] == match, source_id
        assert found[source_id][1] == pytest.approx(separation, abs=2.5e-8)
        assert found[source_id][2] == n


def clear_cut(grains, limit):
    """No two distances that differ only by rounding (exactly equal ones are ties, and fine)."""
    for rows in (np.sort(grains, axis=1), np.sort(grains, axis=0).T):
        gaps = np.diff(rows, axis=1)
        if np.any((gaps > 0) & (gaps < 4)):
            return False
    return not np.any(np.abs(grains - limit) < 4)


PLACES = [(0, 90), (77, -90), (0, 0), (359.9999, 12), (0.0001, -67), (180, 89.9997), (5, 45), (269.5, -89.9)]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(PLACES),
    st.integers(0, 2**32 - 1),
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from([0.3, 1.0, 3.0]),
    st.booleans(),
)
def test_equals_brute_force(sky_oracle, place, seed, n_stars, n_objects, radius, text_ids):
    rng = np.random.default_rng(seed)
    spread = 4 * radius
    ra, dec = sky_oracle.offset(*place, *rng.uniform(-spread, spread, (2, n_stars)))
    speed = rng.choice([0.0, 5.0, 500.0, 10_000.0], n_stars)
    pmra, pmdec = speed * rng.uniform(-1, 1, (2, n_stars))
    pmra[rng.random(n_stars) < 0.2] = np.nan
    pmdec[rng.random(n_stars) < 0.2] = np.nan
    stars = StarPositions(rng.permutation(n_stars) + 2**60, ra, dec, pmra, pmdec, 2016.0)
    epoch = rng.uniform(1985, 2024, n_objects)
    # Half of the objects are counterparts of stars where those were at the time, the others anywhere near.
    ora, odec = sky_oracle.offset(*place, *rng.uniform(-spread, spread, (2, n_objects)))
    for j in range(n_objects):
        if n_stars and rng.random() < 0.5:
            a, d = (np.degrees(x.astype(float)) for x in sky_oracle.moved(stars, epoch[j]))
            i = rng.integers(n_stars)
            ora[j], odec[j] = sky_oracle.offset(a[i], d[i], *rng.normal(0, radius / 2, 2))
    for array in (ra, dec, pmra, pmdec):  # duplicate stars and objects, which tie exactly
        if n_stars > 3:
            array[1] = array[0]
    for array in (ora, odec, epoch):
        if n_objects > 3:
            array[1] = array[0]
    ids = rng.permutation(n_objects)
    ids = np.array([b"J%07d+" % i for i in ids], dtype="S9") if text_ids else ids
    objects = ObjectPositions(ids, ora, odec, epoch, rng.random(n_objects) < 0.2)
    grains = sky_oracle.great_circle_grains(stars, objects)
    assume(clear_cut(grains, round(radius * 1e8)))
    found = as_dict(stars, objects, mutual_nearest(stars, objects, radius))
    assert_same(found, sky_oracle.oracle(stars, objects, radius, grains))

    # Another order of both sides is the same answer.
    p, q = rng.permutation(n_stars), rng.permutation(n_objects)
    shuffled_stars = StarPositions(stars.source_id[p], ra[p], dec[p], pmra[p], pmdec[p], 2016.0)
    shuffled = ObjectPositions(ids[q], ora[q], odec[q], epoch[q], objects.flagged[q])
    again = as_dict(shuffled_stars, shuffled, mutual_nearest(shuffled_stars, shuffled, radius, workers=2))
    assert again == found


@pytest.fixture(scope="module")
def whole_sky(sky_oracle):
    """5000 stars all over the sky, crowded at the poles and along RA 0, a few very fast; 5000 objects."""
    rng = np.random.default_rng(7)
    n = 5000
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    dec[:600] = 90 - rng.exponential(0.002, 600)
    dec[600:1200] = -90 + rng.exponential(0.002, 600)
    ra[1200:2200] = rng.normal(0, 0.0005, 1000) % 360
    dec[1200:2200] = rng.uniform(-0.1, 0.1, 1000)
    pmra, pmdec = rng.normal(0, 10, (2, n))
    pmra[::50], pmdec[::50] = rng.normal(0, 7000, (2, n // 50))
    pmra[::17] = np.nan
    stars = StarPositions(rng.permutation(n) * 1000 + 7, ra, dec, pmra, pmdec, 2016.0)
    epoch = rng.choice(np.linspace(1997, 2001, 9), n)
    ora, odec = np.empty(n), np.empty(n)
    order = rng.permutation(n)
    for j, i in enumerate(order):
        one = StarPositions(*(np.array([c[i]]) for c in (stars.source_id, ra, dec, pmra, pmdec)), 2016.0)
        a, d = (np.degrees(x.astype(float))[0] for x in sky_oracle.moved(one, epoch[j]))
        ora[j], odec[j] = sky_oracle.offset(a, d, *rng.normal(0, 0.4, 2))
    objects = ObjectPositions(rng.permutation(n), ora, odec, epoch)
    return stars, objects, sky_oracle.great_circle_grains(stars, objects)


@pytest.mark.parametrize("radius", [0.5, 2.0, 30.0])
def test_five_thousand_stars_everywhere(sky_oracle, whole_sky, radius, monkeypatch):
    stars, objects, grains = whole_sky
    expected = sky_oracle.oracle(stars, objects, radius, grains)
    assert sum(match is not None for match, _, _ in expected.values()) > 2500
    assert_same(as_dict(stars, objects, mutual_nearest(stars, objects, radius)), expected)
    # Small chunks and batches change nothing.
    monkeypatch.setattr(sky_pairs, "STARS_AT_ONCE", 333)
    monkeypatch.setattr(sky_pairs, "PAIRS_AT_ONCE", 50)
    assert_same(as_dict(stars, objects, mutual_nearest(stars, objects, radius, workers=2)), expected)


@pytest.mark.parametrize(("ra", "dec"), [(10.0, 0.0), (0.0, 0.0), (200.0, 60.0), (33.0, -85.0)])
def test_equally_near_objects_and_stars_go_to_the_smaller_id(sky_oracle, ra, dec):
    east, north = np.array([0.5, -0.5]), np.zeros(2)
    two_ra, two_dec = sky_oracle.offset(ra, dec, east, north)
    still = np.zeros(1)
    star = StarPositions(np.array([5]), np.array([ra]), np.array([dec]), still, still, 2016.0)
    for ids in ([3, 9], [9, 3]):
        found = mutual_nearest(star, ObjectPositions(np.array(ids), two_ra, two_dec, 2000.0), 1.0)
        assert np.array(ids)[found.obj].tolist() == [3]
        assert found.n_candidates.tolist() == [2]
    one = ObjectPositions(np.array([1]), np.array([ra]), np.array([dec]), 2000.0)
    for ids in ([3, 9], [9, 3]):
        stars = StarPositions(np.array(ids), two_ra, two_dec, np.zeros(2), np.zeros(2), 2016.0)
        found = mutual_nearest(stars, one, 1.0)
        assert {int(stars.source_id[s]): bool(m) for s, m in zip(found.star, found.mutual, strict=True)} == {
            3: True,
            9: False,
        }


@pytest.mark.parametrize("offset", [180.0, 179.999999, 90.0])
@pytest.mark.parametrize("ra", [0.0, 10.0, 359.9])
def test_across_a_pole_an_object_is_found_once(ra, offset):
    """The star searches all right ascensions; where its circle closes must not count twice."""
    north = 89.99999
    still = np.zeros(1)
    stars = StarPositions(np.array([1]), np.array([ra]), np.array([north]), still, still, 2016.0)
    objects = ObjectPositions(np.array([5]), np.array([(ra + offset) % 360]), np.array([north]), 2016.0)
    found = mutual_nearest(stars, objects, 1.0)
    assert found.n_candidates.tolist() == [1] and found.mutual.tolist() == [True]


def test_the_loser_keeps_its_separation_and_count():
    stars = StarPositions(
        np.array([1, 2]),
        np.array([40.0, 40.0]),
        np.array([0.0, 0.6 / 3600]),
        np.zeros(2),
        np.zeros(2),
        2016.0,
    )
    objects = ObjectPositions(np.array([7]), np.array([40.0]), np.array([0.1 / 3600]), 2016.0)
    found = mutual_nearest(stars, objects, 1.0)
    assert found.mutual.tolist() == [True, False]
    assert found.separation_arcsec == pytest.approx([0.1, 0.5], abs=1e-7)
    assert found.n_candidates.tolist() == [1, 1]


def test_a_flagged_object_gives_way_but_still_matches_alone():
    stars = StarPositions(np.array([1]), np.array([40.0]), np.array([0.0]), np.zeros(1), np.zeros(1), 2016.0)
    ids, ra, dec = np.array([7, 8]), np.array([40.0, 40.0]), np.array([0.1, 0.3]) / 3600
    found = mutual_nearest(stars, ObjectPositions(ids, ra, dec, 2016.0, np.array([True, False])), 1.0)
    assert ids[found.obj].tolist() == [8]
    found = mutual_nearest(stars, ObjectPositions(ids, ra, dec, 2016.0, np.array([True, True])), 1.0)
    assert ids[found.obj].tolist() == [7]


def test_a_clean_neighbour_does_not_replace_the_star_s_own_flagged_object():
    stars = StarPositions(np.array([1]), np.array([40.0]), np.array([0.0]), np.zeros(1), np.zeros(1), 2016.0)
    ids, ra, dec = np.array([7, 8]), np.array([40.0, 40.0]), np.array([0.1, 0.9]) / 3600
    found = mutual_nearest(stars, ObjectPositions(ids, ra, dec, 2016.0, np.array([True, False])), 1.0)
    assert ids[found.obj].tolist() == [7]
    assert found.separation_arcsec == pytest.approx([0.1], abs=1e-7)


def test_empty_sides():
    none, one = np.zeros(0), np.ones(1)
    no_stars = StarPositions(none.astype(int), none, none, none, none, 2016.0)
    no_objects = ObjectPositions(none.astype(int), none, none, 2000.0)
    star = StarPositions(one.astype(int), one, one, one, one, 2016.0)
    thing = ObjectPositions(one.astype(int), one, one, 2000.0)
    for stars, objects in [(no_stars, no_objects), (no_stars, thing), (star, no_objects)]:
        assert len(mutual_nearest(stars, objects, 1.0)) == 0
        assert len(mutual_nearest(stars, objects, 1.0, workers=2)) == 0


@pytest.mark.parametrize(
    ("ra", "dec", "epoch"), [(np.nan, 0, 2000), (0, 90.1, 2000), (0, np.nan, 2000), (0, 0, np.nan)]
)
def test_impossible_positions_are_refused(ra, dec, epoch):
    star = StarPositions(np.ones(1, int), np.ones(1), np.ones(1), np.ones(1), np.ones(1), 2016.0)
    thing = ObjectPositions(np.ones(1, int), np.array([ra]), np.array([dec]), np.array([epoch]))
    with pytest.raises(ValueError, match="object"):
        mutual_nearest(star, thing, 1.0)


@pytest.mark.parametrize("largest", [0, 1000, 2**62])
def test_values_sorted_in_one_piece_or_beside_their_places(largest):
    values = np.random.default_rng(1).integers(0, largest + 1, 1000)
    found, order = sky_pairs._sorted(values)
    np.testing.assert_array_equal(found, np.sort(values))
    np.testing.assert_array_equal(values[order], found)
    assert sorted(order) == list(range(1000))
