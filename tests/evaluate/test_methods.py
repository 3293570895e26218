"""Every method answers what it is asked, reads nothing it must not, and is better than the median colour."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from msacat.catalog.errors import UsageError
from msacat.model.evaluate import all_methods
from msacat.model.evaluate.accuracy_tables import summarise
from msacat.model.evaluate.all_methods import METHODS, make_methods
from msacat.model.evaluate.compare_methods import compare_methods, key_of
from msacat.model.evaluate.opponents import missforest
from msacat.model.evaluate.opponents.oracle import Oracle
from msacat.model.evaluate.opponents.own_model import OwnModel
from msacat.model.evaluate.read_truth import noise_free_stars
from msacat.model.evaluate.record_file import Records
from msacat.model.evaluate.regimes import cases
from msacat.model.predict_stars import StarModel

SLOW = ("lightgbm", "missforest")
QUICK = [name for name in METHODS["sky"] if name not in ("msacat", "oracle", *SLOW)]


@pytest.fixture(scope="session")
def fitted(data):
    made = {m.name: m for m in make_methods(QUICK)}
    for method in made.values():
        method.fit(data.train, data.calibrate, data.features, "survey_hidden_xp_seen", data.seed)
    return made


def _off(data, method, regime="survey_hidden_xp_seen") -> float:
    """Median |imputed − truth| of stars, all bands together."""
    off = []
    for case in cases(data.test, data.features, regime, data.seed):
        d = np.abs(method.predict(case.block).mag_BM - data.truth.mag_BM[case.row_B])
        off.append(d[case.asked_BM & (data.truth.class_B[case.row_B] == "star")[:, None] & np.isfinite(d)])
    return float(np.median(np.concatenate(off)))


@pytest.mark.parametrize("name", [n for n in QUICK if n != "median_colour"])
def test_better_than_the_median_colour(data, fitted, name):
    assert _off(data, fitted[name]) < 0.5 * _off(data, fitted["median_colour"])


@pytest.mark.parametrize("name", QUICK)
def test_an_answer_does_not_depend_on_what_was_hidden(data, fitted, name):
    """The same stars with other values under the mask: nobody may notice."""
    case = next(iter(cases(data.test, data.features, "xp_and_survey_hidden", 0)))
    changed = data.test.take(np.arange(len(data.test)))
    changed.mag_BM[case.row_B] = np.where(
        case.asked_BM, changed.mag_BM[case.row_B] + 1, changed.mag_BM[case.row_B]
    )
    changed.xp_BK[case.row_B] *= 2
    again = next(iter(cases(changed, data.features, "xp_and_survey_hidden", 0)))
    one, two = (fitted[name].predict(c.block) for c in (case, again))
    np.testing.assert_array_equal(one.mag_BM, two.mag_BM)
    np.testing.assert_array_equal(one.xp_BK, two.xp_BK)


def test_the_models_own_answers_are_what_enrichment_writes(data, model_folder):
    model = StarModel.load(model_folder)
    own = OwnModel(model, "x")
    own.fit(data.train, data.calibrate, data.features, "", 0)
    case = next(iter(cases(data.test, data.features, "survey_hidden_xp_seen", 0)))
    guess, written = own.predict(case.block), model.remap(data.features).predict(case.block)
    np.testing.assert_array_equal(guess.mag_BM, written.mag_BM.astype(float))
    np.testing.assert_array_equal(guess.mag_err68_BM, written.err68_BM.astype(float))


def test_boosting_learns_from_masked_stars(data):
    (boosting,) = make_methods(["lightgbm"])
    boosting.trees = 20
    boosting.fit(data.train, data.calibrate, data.features, "xp_and_survey_hidden", 0)
    (median,) = make_methods(["median_colour"])
    median.fit(data.train, data.calibrate, data.features, "", 0)
    assert _off(data, boosting, "xp_and_survey_hidden") < 0.5 * _off(data, median, "xp_and_survey_hidden")


def test_records_of_a_regime(data):
    methods = make_methods(["colour_locus", "gaiaxpy"])
    batches = list(compare_methods([data], methods, ["survey_hidden_xp_seen"]))
    assert [b[0]["method"] for b in batches] == ["colour_locus", "gaiaxpy"]
    of = {(r["dataset"], r["quantity"], r["g_bin"], r["against"]): r for r in batches[0]}
    star = of["sky-dirty", "ps1_i", "all", "truth"]
    assert star["n"] > 50 and 0 < star["nmad_lo"] <= star["nmad_hi"] and 0.4 < star["coverage68"] <= 1
    assert of["sky-dirty", "ps1_i", "all", "observed"]["n"] == star["n"]
    per_bin = [
        r["n"]
        for (d, q, g, a), r in of.items()
        if (d, q, a) == ("sky-dirty", "ps1_i", "truth") and g != "all"
    ]
    assert len(per_bin) > 2 and sum(per_bin) <= star["n"]
    partial = {r["quantity"] for r in batches[1]}
    assert "ps1_i" in partial and "twomass_j" not in partial  # GaiaXPy knows no infrared


def test_no_test_star_has_the_survey_that_is_hidden(data):
    """So it is with few stars: nobody is asked about a survey, or a brightness, that none of them has."""
    skymapper_M = np.array([band.survey == "skymapper_dr2" for band in data.features.bands])

    def without(block):
        return np.flatnonzero(
            ~np.isfinite(block.mag_BM[:, skymapper_M]).any(1) & (block.mag_BM[:, data.reference] < 17)
        )

    chosen, few = without(data.test), without(data.calibrate)
    assert len(chosen) > 50 and skymapper_M.any()
    bright = replace(
        data, test=data.test.take(chosen), truth=data.truth.take(chosen), calibrate=data.calibrate.take(few)
    )
    methods = make_methods(["iterative_ridge"])
    for batch in compare_methods([bright], methods, ["survey_hidden_xp_seen", "faint_survey_hidden"]):
        assert not any(r["quantity"].startswith("skymapper") for r in batch)


def test_nobody_to_learn_the_errors_of_spectra_from(data):
    """No faint star among those that calibrate: the error of a spectrum, and of photometry of it, has no end."""
    bright = np.flatnonzero(data.calibrate.mag_BM[:, data.reference] < 16)
    (records,) = _without_a_murmur(
        replace(data, calibrate=data.calibrate.take(bright)), "knn", "faint_xp_one_survey_seen"
    )
    assert {r["quantity"] for r in records} >= {"synthetic_g", "synthetic_z"}
    assert all(r["coverage68"] == 1 for r in records if r["against"] == "truth")
    # JSON knows no infinity; and where nobody tells the errors nothing is said of the intervals.
    stamp = {"seed": 0, "stars": 1, "commit": "", "date": "", "seconds": 0.0, "key": ""}
    kept = Records([])
    kept.add([r | stamp for r in records])
    json.dumps(kept.records, allow_nan=False)
    (row,) = [s for s in summarise(kept.records) if s.dataset == data.name]
    assert row.interval_words() == ["", "", ""] and row.nmad > 0


def test_one_star_alone_has_no_scatter_to_judge_its_spectrum_by(data):
    regime = "faint_xp_infrared_seen"
    (case,) = cases(data.test, data.features, regime, data.seed)
    one = replace(data, test=data.test.take(case.row_B[:1]), truth=data.truth.take(case.row_B[:1]))
    assert not _without_a_murmur(one, "median_colour", regime)


def test_a_regime_of_which_no_star_has_anything_is_named(data):
    """A sky without spectra, say."""
    part = replace(data.test, xp_BK=np.full_like(data.test.xp_BK, np.nan))
    said: list[str] = []
    methods = make_methods(["median_colour"])
    assert not list(compare_methods([replace(data, test=part)], methods, ["xp_hidden"], tell=said.append))
    assert said == ["xp_hidden: no test star has what is hidden there"]


def _without_a_murmur(data, method, regime):
    with np.errstate(all="raise", under="ignore"):
        return list(compare_methods([data], make_methods([method]), [regime]))


def test_the_key_is_of_data_method_settings_and_seed(data):
    locus, forest = make_methods(["colour_locus", "knn"])
    assert key_of([data], "xp_hidden", locus) == key_of([data], "xp_hidden", locus)
    keys = {key_of([data], regime, m) for regime in ("xp_hidden", "random_cells") for m in (locus, forest)}
    assert len(keys) == 4


def test_what_is_done_is_not_done_again(data):
    methods = make_methods(["median_colour", "colour_locus"])
    done = key_of([data], "faint_survey_hidden", methods[0])
    batches = list(compare_methods([data], methods, ["faint_survey_hidden"], done=lambda key: key == done))
    assert [b[0]["method"] for b in batches] == ["colour_locus"]


def test_an_opponent_whose_package_is_missing_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(all_methods.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package lightgbm"):
        make_methods(["lightgbm"])
    with pytest.raises(UsageError, match="no method called"):
        make_methods(["crystal_ball"])


def test_the_oracle_knows_the_stars_it_is_asked_about(data, sky):
    """With the sky itself as library it finds each star; its own noise is all that is between them."""
    library = noise_free_stars(sky.folder, data.features)
    assert np.isfinite(library.mag_BM).all() and (library.mag_err_BM == 0).all()
    few = data.fewer(120)
    assert few.name == "sky-dirty-120" and len(few.test) == len(few.truth.class_B) == 120
    (oracle,) = make_methods(["oracle"], oracle=Oracle(library, "the sky itself"))
    oracle.fit(few.train, few.calibrate, few.features, "", 0)
    (locus,) = make_methods(["colour_locus"])
    locus.fit(few.train, few.calibrate, few.features, "", 0)
    assert _off(few, oracle) < 0.7 * _off(few, locus)


def test_labels_are_asked_of_those_who_know_them(data, model_folder):
    """[Fe/H] of the simulated APOGEE stars: too few to learn much, enough to be asked."""
    own = OwnModel(StarModel.load(model_folder), "x")
    methods = make_methods(["msacat", "msacat:probe", "colour_locus"], own)
    batches = list(compare_methods([data], methods, ["labels_xp_seen"]))
    assert [b[0]["method"] for b in batches] == ["msacat", "msacat:probe"]
    for batch in batches:
        assert {r["quantity"] for r in batch} == {"fe_h"} and {r["against"] for r in batch} == {"observed"}
        assert all(np.isfinite(r["coverage68"]) and 0 < r["nmad"] < 1.5 for r in batch)


@pytest.mark.parametrize("name", ["xgboost", "mlp"])
def test_direct_regression_answers_for_its_targets(data, name):
    if name == "xgboost":
        pytest.importorskip("xgboost")
    (method,) = make_methods([name])
    method.rounds, method.epochs, method.batch = 30, 12, 32
    method.fit(data.train, data.calibrate, data.features, "survey_hidden_xp_seen", 0)
    (median,) = make_methods(["median_colour"])
    median.fit(data.train, data.calibrate, data.features, "", 0)
    assert _off(data, method) < 0.5 * _off(data, median)


def test_forests_fill_the_table(data, monkeypatch):
    monkeypatch.setattr(missforest, "MAX_STARS", 300)
    monkeypatch.setattr(missforest, "ROUNDS", 1)
    monkeypatch.setattr(missforest, "TREES", 4)
    (forest,) = make_methods(["missforest"])
    forest.fit(data.train, data.calibrate, data.features, "", 0)
    (median,) = make_methods(["median_colour"])
    median.fit(data.train, data.calibrate, data.features, "", 0)
    assert _off(data, forest) < _off(data, median)
