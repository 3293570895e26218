"""Hiding: only what was observed, never G, every situation as named, faint stars as faint stars look."""

from dataclasses import replace

import numpy as np
import pytest

from msacat.model.hide_features import BP, RP, SITUATIONS, HidingPolicy, group_of_cells, hide
from msacat.model.scale_features import fit_scaling


@pytest.fixture(scope="module")
def scaling(sky):
    return fit_scaling(sky.features, sky.stars)


@pytest.fixture(scope="module")
def cells(sky, scaling):
    return scaling.encode(sky.stars)


def only(situation: str) -> HidingPolicy:
    return HidingPolicy(weights={situation: 1.0})


@pytest.mark.parametrize("situation", SITUATIONS)
def test_only_observed_cells_are_hidden_and_never_g(cells, scaling, situation):
    batch = hide(cells, scaling, np.random.default_rng(0), only(situation))
    assert not (batch.hidden_BD & ~cells.observed_BD).any()
    assert not batch.hidden_BD[:, scaling.reference].any()
    assert not (batch.visible_BD & ~cells.observed_BD).any()
    np.testing.assert_array_equal(batch.visible_BD, batch.cells.observed_BD & ~batch.hidden_BD)


def test_a_survey_is_hidden_whole(cells, scaling):
    group = group_of_cells(scaling.features)
    hidden = hide(cells, scaling, np.random.default_rng(0), only("survey")).hidden_BD
    counts = np.zeros(len(cells), int)
    for g in range(group.max() + 1):
        columns = (group == g) & (np.arange(len(group)) != scaling.reference)
        some = (hidden[:, columns]).any(1)
        whole = (hidden[:, columns] == cells.observed_BD[:, columns]).all(1)
        assert (whole | ~some).all()
        counts += some
    assert counts.max() == 1 and counts.mean() > 0.95
    assert not hidden[:, group < 0].any()


def test_spectra_are_hidden_by_halves(cells, scaling):
    group = group_of_cells(scaling.features)
    has = cells.observed_BD[:, group == BP].all(1)
    rng = np.random.default_rng(0)
    hidden = hide(cells, scaling, rng, only("xp")).hidden_BD
    assert hidden[has][:, group < 0].all() and not hidden[:, group >= 0].any()
    hidden = hide(cells, scaling, rng, only("half_xp")).hidden_BD[has]
    bp, rp = hidden[:, group == BP], hidden[:, group == RP]
    assert (bp.all(1) ^ rp.all(1)).all() and 0.4 < bp.all(1).mean() < 0.6


def test_nothing_hides_nothing_and_cells_hide_a_share(cells, scaling):
    rng = np.random.default_rng(0)
    assert not hide(cells, scaling, rng, only("nothing")).hidden_BD.any()
    hidden = hide(cells, scaling, rng, only("cells")).hidden_BD
    share = hidden[:, 1:8].sum() / cells.observed_BD[:, 1:8].sum()
    assert 0.2 < share < 0.4


def test_the_same_seed_hides_the_same(cells, scaling):
    a, b, c = (hide(cells, scaling, np.random.default_rng(s), HidingPolicy()) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.hidden_BD, b.hidden_BD)
    np.testing.assert_array_equal(a.cells.value_BD, b.cells.value_BD)
    assert (a.hidden_BD != c.hidden_BD).any()


def test_a_situation_that_would_hide_nothing_of_a_star_is_drawn_again(cells, scaling, sky, without):
    """Of stars without a spectrum everything is asked of their surveys: it takes that many appearances to learn it."""
    bare = scaling.encode(without(sky.stars, "xp", slice(None)))
    rng = np.random.default_rng(0)
    several = bare.observed_BD[:, 1 : scaling.n_bands].sum(1) > 1

    def share_with_something_hidden(weights: dict[str, float]) -> float:
        return hide(bare, scaling, rng, HidingPolicy(weights)).hidden_BD[several].any(1).mean()

    assert share_with_something_hidden({"xp": 0.5, "half_xp": 0.5}) == 0  # nothing else is wanted
    assert share_with_something_hidden({"xp": 0.5, "half_xp": 0.4, "survey": 0.1}) > 0.95
    faint = bare.take(np.flatnonzero((bare.norm_B > 17.65) & several))
    batch = hide(faint, scaling, rng, HidingPolicy({"faint": 0.9, "survey": 0.1}))
    assert len(faint) > 100 and batch.hidden_BD.any(1).mean() > 0.95
    usual = hide(cells, scaling, np.random.default_rng(5), HidingPolicy({"xp": 0.5, "survey": 0.5}))
    seen = cells.observed_BD[:, scaling.n_bands :].any(1)
    assert usual.hidden_BD[seen, scaling.n_bands :].any(1).mean() == pytest.approx(0.5, abs=0.05)


def test_every_other_star_made_faint_lacks_a_survey_as_well(cells, scaling):
    batch = hide(cells, scaling, np.random.default_rng(5), only("faint"))
    M, bright = scaling.n_bands, cells.norm_B < 17.65
    group = group_of_cells(scaling.features)
    lacks = batch.hidden_BD[bright].any(1)
    assert 0.3 < lacks.mean() < 0.5  # the survey drawn may be below its depth anyway
    of_groups = [batch.hidden_BD[bright][:, group == g].any(1) for g in range(group.max() + 1)]
    assert np.sum(of_groups, 0).max() == 1
    scored = batch.hidden_BD[:, :M] & batch.target.observed_BD[:, :M]
    np.testing.assert_array_equal(scored, batch.hidden_BD[:, :M])


def test_faint_stars_have_no_spectrum_larger_errors_and_keep_their_bright_truth(cells, scaling, sky):
    before = cells.value_BD.copy()
    batch = hide(cells, scaling, np.random.default_rng(0), only("faint"))
    np.testing.assert_array_equal(cells.value_BD, before)  # the caller's cells are untouched
    bright = cells.norm_B < 17.65
    given, target, M = batch.cells, batch.target, scaling.n_bands
    assert (given.norm_B[bright] >= 17.6).all() and (given.norm_B <= 20.6).all()
    assert not given.observed_BD[bright, M:].any()
    both = given.observed_BD[:, :M] & cells.observed_BD[:, :M] & bright[:, None]
    colour = np.arange(M) != scaling.reference
    assert (given.var_BD[:, :M][both] >= cells.var_BD[:, :M][both] * 0.999).all()
    # targets keep the bright measurement and its error; inputs got the noise their error tells of
    np.testing.assert_array_equal(target.value_BD[:, :M][:, colour], cells.value_BD[:, :M][:, colour])
    np.testing.assert_array_equal(target.var_BD, cells.var_BD)
    moved = (given.value_BD - target.value_BD)[:, :M][:, colour]
    extra = np.sqrt(np.clip(given.var_BD - target.var_BD, 0, None))[:, :M][:, colour]
    use = both[:, colour] & (extra > 1e-3)
    assert 0.9 < np.std(moved[use] / extra[use]) < 1.1
    faint = ~bright
    np.testing.assert_array_equal(given.value_BD[faint], cells.value_BD[faint])
    assert np.isfinite(given.value_BD).all() and np.isfinite(given.var_BD).all()


def test_faint_stars_have_the_errors_that_real_ones_are_given(scaling, sky):
    """Stated errors found too small, and zero points that wander, count for a star made faint as for one that is."""
    M = scaling.n_bands
    noise = np.ones(scaling.n_cells)
    noise[:M] = 1.4
    believed = replace(scaling, noise_D=noise, zero_point_M=np.full(M, 0.02))
    plain, scaled = (
        hide(s.encode(sky.stars), s, np.random.default_rng(0), only("faint")).cells
        for s in (scaling, believed)
    )
    moved = (plain.norm_B != scaling.encode(sky.stars).norm_B)[:, None]
    width = scaling.scale_D[:M]
    error, scaled_error = (np.sqrt(c.var_BD[:, :M]) * width for c in (plain, scaled))
    both = moved & plain.observed_BD[:, :M] & scaled.observed_BD[:, :M] & (error < 1)
    both[:, scaling.reference] = False
    assert both.sum() > 200
    np.testing.assert_allclose(scaled_error[both], np.hypot(1.4 * error[both], 0.02), rtol=2e-3)
    np.testing.assert_array_equal(plain.observed_BD, scaled.observed_BD)  # detection goes by what is stated
    np.testing.assert_allclose(believed.stated_error(believed.believed_error(error)), error, rtol=1e-6)


def test_a_star_with_one_cell_keeps_it(cells, scaling):
    lone = cells.take(np.arange(200))
    for array in (lone.observed_BD,):
        array[:] = False
    lone.observed_BD[:, scaling.reference] = True
    batch = hide(lone, scaling, np.random.default_rng(0), HidingPolicy())
    assert batch.visible_BD[:, scaling.reference].all() and not batch.hidden_BD.any()


def test_jitter_adds_the_noise_it_states_and_spares_g_targets_and_hidden_numbers(cells, scaling):
    policy = HidingPolicy(weights={"nothing": 1.0}, jittered=1.0, jitter=(2.0, 2.0))
    batch = hide(cells, scaling, np.random.default_rng(0), policy)
    seen = cells.observed_BD.copy()
    seen[:, scaling.reference] = False
    np.testing.assert_allclose(batch.cells.var_BD[seen], 4 * cells.var_BD[seen], rtol=1e-5)
    moved = (batch.cells.value_BD - cells.value_BD) / np.sqrt(3 * cells.var_BD)
    assert abs(moved[seen].std() - 1) < 0.03 and abs(moved[seen].mean()) < 0.03
    np.testing.assert_array_equal(batch.cells.value_BD[~seen], cells.value_BD[~seen])
    np.testing.assert_array_equal(batch.cells.var_BD[~seen], cells.var_BD[~seen])
    np.testing.assert_array_equal(batch.target.value_BD, cells.value_BD)
    still = hide(
        cells, scaling, np.random.default_rng(0), HidingPolicy(weights={"nothing": 1.0}, jittered=0.0)
    )
    np.testing.assert_array_equal(still.cells.value_BD, cells.value_BD)
