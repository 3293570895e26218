"""Predictions: measured values untouched, truth covered, missing things honest, names before positions."""

from dataclasses import replace

import numpy as np
import pytest

from msacat.catalog.errors import UsageError
from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.held_out import hold_out
from msacat.model.hide_features import group_of_cells
from msacat.model.predict_stars import Prediction, StarModel
from msacat.model.score_model import score


@pytest.fixture(scope="module")
def model(trained) -> StarModel:
    return StarModel.load(trained, "cpu")


@pytest.fixture(scope="module")
def fresh(new_sky):
    """Stars of the same sky that no training saw."""
    return new_sky(2500, seed=99)


@pytest.fixture(scope="module")
def found(model, fresh) -> Prediction:
    return model.predict(fresh.stars)


def test_measured_values_and_errors_pass_through_unchanged(found, fresh):
    seen = np.isfinite(fresh.stars.mag_BM)
    np.testing.assert_array_equal(found.observed_BM, seen)
    np.testing.assert_array_equal(found.mag_BM[seen], fresh.stars.mag_BM[seen])
    np.testing.assert_array_equal(found.err68_BM[seen], fresh.stars.mag_err_BM[seen])
    np.testing.assert_allclose(found.err95_BM[seen], 1.96 * fresh.stars.mag_err_BM[seen], rtol=1e-3)
    xp = np.isfinite(fresh.stars.xp_BK)
    np.testing.assert_array_equal(found.xp_BK[xp], fresh.stars.xp_BK[xp])
    np.testing.assert_array_equal(found.bp_observed_B, xp[:, 0])
    np.testing.assert_array_equal(found.xp_err_BK[xp], fresh.stars.xp_err_BK[xp])


def test_every_missing_value_is_filled_with_finite_intervals(found):
    for name in (
        "mag_BM",
        "err68_BM",
        "err95_BM",
        "xp_BK",
        "xp_err_BK",
        "embedding_BE",
        "fe_h_B",
        "fe_h_lo_B",
        "teff_err_B",
    ):
        assert np.isfinite(getattr(found, name)).all(), name
    imputed = ~found.observed_BM
    assert (found.err95_BM[imputed] > found.err68_BM[imputed]).all() and (found.err68_BM[imputed] > 0).all()
    assert found.embedding_BE.shape == (2500, 64) and found.embedding_BE.dtype == np.float32
    assert (found.fe_h_lo_B < found.fe_h_B).all() and (found.fe_h_B < found.fe_h_hi_B).all()
    assert found.has_input_B.all() and not found.no_support_BM.any()
    assert found.mag_BM.dtype == np.float32


def test_imputed_magnitudes_lie_near_the_truth_and_intervals_cover_it(found, fresh, model):
    names = model.features.band_names
    with_xp = np.isfinite(fresh.stars.xp_BK).all(1)
    for m, name in enumerate(names):
        use = ~found.observed_BM[:, m] & with_xp
        if not use.any():
            continue
        error = (found.mag_BM - fresh.mag_BM)[use, m]
        assert abs(np.median(error)) < 0.02, name
        assert 1.4826 * np.median(np.abs(error)) < {"twomass_j": 0.03, "twomass_ks": 0.04}.get(name, 0.012), (
            name
        )
    imputed = ~found.observed_BM
    error = np.abs(found.mag_BM - fresh.mag_BM)
    assert 0.60 < np.mean((error <= found.err68_BM)[imputed]) < 0.85
    assert 0.90 < np.mean((error <= found.err95_BM)[imputed]) < 0.995


def test_held_out_measurements_are_covered_as_promised(model, fresh, stream_of):
    scores = score(model, stream_of(fresh.features, fresh.stars), part="train", max_stars=1500)
    bands = [s for s in scores if s.regime == "survey_hidden_xp_seen" and s.n >= 150]
    assert len(bands) >= 6
    for s in bands:
        tolerance = 4 * np.sqrt(0.68 * 0.32 / s.n) + 0.02
        assert abs(s.coverage68 - 0.68) < tolerance, s
        assert abs(s.coverage95 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / s.n) + 0.02, s
    assert {s.regime for s in scores} >= {
        "xp_hidden",
        "xp_and_survey_hidden",
        "survey_hidden_no_xp",
        "xp_seen",
    }
    labels = {s.quantity: s for s in scores if s.regime == "xp_seen"}
    assert labels["apogee_dr17.fe_h"].nmad < 0.25 and labels["apogee_dr17.teff"].unit == "K"


def test_stars_without_a_spectrum_are_scored_apart_and_their_labels_too(model, fresh, stream_of):
    stream = stream_of(fresh.features, fresh.stars)
    scores = {(s.regime, s.quantity): s for s in score(model, stream, part="train", max_stars=10**6)}
    stars = fresh.stars.take(stream._part("train"))
    has_xp, has_label = np.isfinite(stars.xp_BK).any(1), np.isfinite(stars.label_BL[:, 0])
    fe_h = {regime: scores[regime, "apogee_dr17.fe_h"] for regime in ("xp_seen", "no_xp", "xp_hidden")}
    assert fe_h["xp_seen"].n == fe_h["xp_hidden"].n == (has_label & has_xp).sum()
    assert fe_h["no_xp"].n == (has_label & ~has_xp).sum()
    # One survey of a star is hidden: of fewer stars than have it.
    assert scores["xp_and_survey_hidden", "ps1_g"].n <= (np.isfinite(stars.mag_BM[:, 3]) & has_xp).sum()


def test_metallicities_follow_the_reference_scale(found, fresh, model):
    bright = np.isfinite(fresh.stars.xp_BK).all(1)
    error = found.fe_h_B[bright] - fresh.fe_h_B[bright]
    assert abs(np.median(error)) < 0.08 and 1.4826 * np.median(np.abs(error)) < 0.25
    assert np.corrcoef(found.fe_h_B[bright], fresh.fe_h_B[bright])[0, 1] > 0.85
    assert model.stored.offsets["lamost_dr9.fe_h"] == pytest.approx(-0.12, abs=0.06)


def test_a_predicted_spectrum_gives_the_right_synthetic_colours(model, fresh, without):
    from msacat.catalog.xp.xp_operators import synthetic_magnitudes

    bright = fresh.stars.take(fresh.mag_BM[:, 0] < 16.5)
    truth = fresh.mag_BM[fresh.mag_BM[:, 0] < 16.5]
    found = model.predict(without(bright, "xp", slice(None)))
    assert not found.bp_observed_B.any() and not found.rp_observed_B.any()
    mag, _ = synthetic_magnitudes(found.xp_BK, ["Gaia_DR3_Vega:BP", "Gaia_DR3_Vega:RP"])
    for column, m in ((0, 1), (1, 2)):
        error = mag[:, column] - truth[:, m]
        assert 1.4826 * np.median(np.abs(error - np.median(error))) < 0.03
        assert abs(np.median(error)) < 0.03


def test_the_order_of_stars_and_the_size_of_blocks_do_not_matter(model, fresh, found):
    rows = np.random.default_rng(0).permutation(300)
    again = model.predict(fresh.stars.take(rows))
    np.testing.assert_allclose(again.mag_BM, found.mag_BM[rows], atol=2e-4)
    np.testing.assert_allclose(again.embedding_BE, found.embedding_BE[rows], atol=2e-3)
    repeat = model.predict(fresh.stars.take(rows))
    for name in again.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(repeat, name))


def test_a_star_without_any_input_is_all_nan_and_says_so(model):
    none = model.predict(StarBlock.empty(2, len(model.features.bands), 0, 3))
    assert not none.has_input_B.any()
    for name in ("mag_BM", "err68_BM", "xp_BK", "xp_err_BK", "embedding_BE", "fe_h_B", "teff_B", "logg_B"):
        assert np.isnan(getattr(none, name)).all(), name
    assert not none.suspect_BM.any() and not none.observed_BM.any()
    assert len(model.predict(StarBlock.empty(0, len(model.features.bands), 0, 3))) == 0


@pytest.mark.parametrize("kept", [0, 2, 7])
def test_a_star_with_a_single_band_gets_wide_honest_answers(model, fresh, without, kept, found):
    columns = [m for m in range(len(model.features.bands)) if m != kept]
    block = without(without(fresh.stars.take(np.arange(400)), "mag", columns), "xp", slice(None))
    block = block.take(np.isfinite(block.mag_BM[:, kept]))
    truth = fresh.mag_BM[:400][np.isfinite(fresh.stars.mag_BM[:400, kept])]
    lone = model.predict(block)
    assert lone.has_input_B.all() and np.isfinite(lone.mag_BM).all()
    other = 3
    assert np.median(lone.err68_BM[:, other]) > 5 * np.median(
        found.err68_BM[~found.observed_BM[:, other], other]
    )
    assert np.mean(np.abs(lone.mag_BM - truth)[:, other] < lone.err95_BM[:, other]) > 0.8
    if kept != model.scaling.reference:
        # A flux misjudged with G misjudges every coefficient.
        level = np.abs(lone.xp_BK - fresh.xp_BK[:400][np.isfinite(fresh.stars.mag_BM[:400, kept])])[
            :, [0, 55]
        ]
        assert 0.5 < np.mean(level < lone.xp_err_BK[:, [0, 55]]) < 0.9
        assert lone.label_suspect_B.all()  # hardly any star without G was trained on
        # the prior's own intervals, the error of the guessed G in both
        np.testing.assert_allclose(lone.err95_BM[:, other] / lone.err68_BM[:, other], 1.97088, rtol=1e-4)


def test_a_wrong_measurement_is_suspect_and_does_not_move_its_neighbours(model, fresh):
    clean = fresh.stars.take(np.isfinite(fresh.stars.mag_BM).all(1) & np.isfinite(fresh.stars.xp_BK).all(1))
    clean = clean.take(np.arange(200))
    dirty = replace(clean, mag_BM=clean.mag_BM.copy())
    dirty.mag_BM[:, 6] += 1.5  # J of another star
    dirty_without_ks = replace(dirty, mag_BM=dirty.mag_BM.copy())
    dirty_without_ks.mag_BM[:, 7] = np.nan
    found = model.predict(dirty_without_ks)
    assert found.suspect_BM[:, 6].mean() > 0.95
    assert found.suspect_BM[:, [0, 1, 2, 3, 4, 5]].mean() < 0.05
    assert (found.mag_BM[:, 6] == dirty.mag_BM[:, 6]).all()  # flagged, not corrected
    error = found.mag_BM[:, 7] - clean.mag_BM[:, 7]
    assert 1.4826 * np.median(np.abs(error)) < 0.15
    assert model.predict(clean).suspect_BM.mean() < 0.02


def test_a_star_unlike_any_other_is_out_of_support(model, fresh):
    block = fresh.stars.take(np.arange(100))
    odd = replace(block, mag_BM=block.mag_BM + np.array([0, 3, -3, 4, -4, 3, -5, 6], np.float32))
    found = model.predict(odd)
    assert found.label_suspect_B.mean() > 0.9
    imputed = ~found.observed_BM & found.has_input_B[:, None]
    assert found.suspect_BM[imputed].mean() > 0.9
    usual = model.predict(block)
    assert usual.suspect_BM[~usual.observed_BM].mean() < 0.05 and usual.label_suspect_B.mean() < 0.05


def test_bands_are_matched_by_name_not_by_position(model, fresh, found):
    order = [4, 0, 7, 2, 1, 6, 5, 3]
    shuffled = replace(model.features, bands=tuple(model.features.bands[i] for i in order))
    block = replace(
        fresh.stars,
        mag_BM=fresh.stars.mag_BM[:, order].copy(),
        mag_err_BM=fresh.stars.mag_err_BM[:, order].copy(),
    )
    again = model.remap(shuffled).predict(block)
    np.testing.assert_array_equal(again.mag_BM, found.mag_BM[:, order])
    np.testing.assert_array_equal(again.suspect_BM, found.suspect_BM[:, order])


def test_another_store_lacks_a_band_and_has_one_the_model_never_saw(model, fresh, without):
    from msacat.catalog.surveys.star_features import BandFeature

    unknown = BandFeature("euclid_vis", "euclid", 720.0, 0.01, 0.01)
    store = replace(model.features, bands=(*model.features.bands[:6], unknown), labels=())
    vis = fresh.mag_BM[:, 0].astype(np.float32).copy()
    vis[::2] = np.nan
    n = len(vis)
    block = StarBlock(
        fresh.stars.source_id_B,
        np.column_stack([fresh.stars.mag_BM[:, :6], vis]),
        np.column_stack([fresh.stars.mag_err_BM[:, :6], np.where(np.isnan(vis), np.nan, np.float32(0.01))]),
        fresh.stars.xp_BK, fresh.stars.xp_err_BK,
        *(np.empty((n, 0), np.float32) for _ in range(4)),
    )  # fmt: skip
    here = model.remap(store)
    assert here.features == store
    found = here.predict(block)
    assert found.mag_BM.shape == (n, 7)
    np.testing.assert_array_equal(found.mag_BM[1::2, 6], vis[1::2])
    assert np.isnan(found.mag_BM[::2, 6]).all() and found.no_support_BM[::2, 6].all()
    assert not found.no_support_BM[1::2, 6].any()
    # a missing band is unobserved: the same as the model's own features without it
    same = model.predict(without(fresh.stars, "mag", [6, 7]))
    np.testing.assert_array_equal(found.mag_BM[:, :6], same.mag_BM[:, :6])
    with pytest.raises(UsageError, match="reference"):
        model.remap(replace(store, reference_band="gaia_bp"))


def test_unsupported_bands_and_bands_through_spectra(sky, stream_of, quick, tmp_path, without):
    from msacat.model.train_autoencoder import train

    # ps1 never measured (reachable through spectra), J never measured (not reachable)
    block = without(sky.stars, "mag", [3, 4, 5, 6])
    report = train(stream_of(sky.features, block), tmp_path, replace(quick, steps=60))
    assert any("only through the XP spectra" in n and "ps1_g" in n for n in report.notes)
    model = StarModel.load(tmp_path, "cpu")
    found = model.predict(block)
    assert found.no_support_BM[:, 6].all() and np.isnan(found.mag_BM[:, 6]).all()
    assert not found.no_support_BM[:, 3].any() and np.isfinite(found.mag_BM[:, 3]).all()
    with_xp = np.isfinite(block.xp_BK).all(1)
    error = (found.mag_BM - sky.mag_BM)[with_xp, 4]
    assert 1.4826 * np.median(np.abs(error)) < 0.05
    assert (found.err68_BM[:, 3] >= 0.0198).all()  # synthetic photometry is not survey photometry
    assert (found.err95_BM[:, 3] >= 0.0391).all()
    # a star redder than all whose spectra taught a band is unlike them
    colour = found.mag_BM[:, 1] - found.mag_BM[:, 2]
    taught = np.tile([-99.0, 99.0], (8, 1))
    taught[3, 1] = limit = float(np.median(colour))
    model.scaling = replace(model.scaling, taught_MR=taught)
    flagged = model.predict(block).suspect_BM
    np.testing.assert_array_equal(flagged[:, 3], found.suspect_BM[:, 3] | (colour > limit))
    np.testing.assert_array_equal(flagged[:, 4:], found.suspect_BM[:, 4:])
    # on a store that has J, its measurements pass through
    measured = model.predict(sky.stars)
    seen = np.isfinite(sky.stars.mag_BM[:, 6])
    np.testing.assert_array_equal(measured.mag_BM[seen, 6], sky.stars.mag_BM[seen, 6])
    assert np.isnan(measured.mag_BM[~seen, 6]).all()


def test_a_model_without_labels_or_spectra_gives_none(sky, stream_of, quick, tmp_path, without, new_sky):
    from msacat.model.train_autoencoder import train

    bare = new_sky(900, labels=False, xp=False)
    train(stream_of(bare.features, bare.stars), tmp_path, quick)
    model = StarModel.load(tmp_path, "cpu")
    assert not model.predicts_xp and not model.predicts_labels
    found = model.predict(bare.stars)
    assert np.isnan(found.xp_BK).all() and np.isnan(found.fe_h_B).all()
    assert np.isfinite(found.mag_BM).all()


@pytest.mark.parametrize("regime", ["survey_hidden", "xp_and_survey_hidden"])
def test_each_survey_is_hidden_in_turn_of_the_stars_that_have_it(model, fresh, regime):
    M, seen = len(fresh.features.bands), np.isfinite(fresh.stars.mag_BM)
    group = group_of_cells(fresh.features)[:M]
    other = np.arange(M) != fresh.features.band_names.index(fresh.features.reference_band)
    spectrum = np.isfinite(fresh.stars.xp_BK).any(1)
    for survey in np.unique(group):
        rng = np.random.default_rng(0)
        held = hold_out(model.network, fresh.stars, regime, rng, model.device, survey=int(survey))
        use = seen[:, (group == survey) & other].any(1)
        if "xp" in regime:
            use &= spectrum
        np.testing.assert_array_equal(held.source_id_B, fresh.stars.source_id_B[use])
        np.testing.assert_array_equal(held.scored_BD[:, :M], seen[use] & (group == survey) & other)
        assert np.array_equal(held.xp_seen_B, spectrum[use]) != ("xp" in regime)


def test_a_survey_that_nobody_has_holds_out_nobody(model, fresh, without):
    nobody = without(fresh.stars, "mag", [6, 7]).take(np.arange(50))
    survey = int(group_of_cells(fresh.features)[6])
    held = hold_out(
        model.network, nobody, "survey_hidden", np.random.default_rng(0), model.device, survey=survey
    )
    assert len(held.source_id_B) == len(held.mean_BD) == len(held.label_median_BL) == 0
