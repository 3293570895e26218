"""What is hidden is hidden, what is asked was measured, and it is the same for everyone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from msacat.model.evaluate.questions import questions
from msacat.model.evaluate.regimes import REGIMES, SKY_REGIMES, XP_LIMIT_G, cases, of_survey

OF_LABELS = ("labels_xp_seen", "labels_magnitudes_seen")


@pytest.mark.parametrize("regime", REGIMES)
def test_hidden_means_absent_and_asked_means_measured(data, regime):
    found = list(cases(data.test, data.features, regime, 5))
    assert found and sum(len(c.row_B) for c in found) > 0
    for case in found:
        whole = data.test.take(case.row_B)
        g = case.block.mag_BM[:, data.reference]
        assert np.isfinite(g).all() and (g == whole.mag_BM[:, data.reference]).all()
        assert (
            np.isnan(case.block.mag_BM[case.asked_BM]).all()
            and np.isfinite(whole.mag_BM[case.asked_BM]).all()
        )
        assert np.isnan(case.block.mag_err_BM[case.asked_BM]).all()
        assert (
            np.isnan(case.block.xp_BK[case.asked_xp_B]).all()
            and np.isfinite(whole.xp_BK[case.asked_xp_B]).all()
        )
        assert np.isnan(case.block.label_BL).all() and np.isnan(case.block.label_err_BL).all()
        seen = np.isfinite(case.block.mag_BM)
        assert (case.block.mag_BM[seen] == whole.mag_BM[seen]).all()


def test_the_same_seed_gives_the_same_cells_and_another_others(data):
    (one,), (same,), (other,) = (list(cases(data.test, data.features, "random_cells", s)) for s in (5, 5, 6))
    assert (one.asked_BM == same.asked_BM).all() and (one.row_B == same.row_B).all()
    assert one.asked_BM.shape != other.asked_BM.shape or (one.asked_BM != other.asked_BM).any()


def test_three_cells_in_ten_are_hidden(data):
    (case,) = cases(data.test, data.features, "random_cells", 0)
    measured = (
        np.isfinite(data.test.mag_BM).sum() - len(data.test) + np.isfinite(data.test.xp_BK).all(1).sum()
    )
    assert (case.asked_BM.sum() + case.asked_xp_B.sum()) / measured == pytest.approx(0.3, abs=0.02)


def test_regimes_are_what_they_say(data):
    for case in cases(data.test, data.features, "survey_hidden_xp_seen", 0):
        survey = of_survey(data.features, case.name.split(":")[1])
        assert np.isfinite(case.block.xp_BK).all() and np.isnan(case.block.mag_BM[:, survey]).all()
    for case in cases(data.test, data.features, "xp_and_survey_hidden", 0):
        assert np.isnan(case.block.xp_BK).all() and np.isfinite(data.test.xp_BK[case.row_B]).all()
    for case in cases(data.test, data.features, "faint_survey_hidden", 0):
        assert (case.block.mag_BM[:, data.reference] > XP_LIMIT_G).all()
    infrared = {
        "gaia_g",
        "gaia_bp",
        "gaia_rp",
        "twomass_j",
        "twomass_h",
        "twomass_ks",
        "catwise_w1",
        "catwise_w2",
    }
    for case in cases(data.test, data.features, "faint_xp_infrared_seen", 0):
        seen = np.isfinite(case.block.mag_BM).any(0)
        assert {name for name, one in zip(data.features.band_names, seen, strict=True) if one} == infrared
        assert np.isnan(case.block.xp_BK).all()


@pytest.mark.parametrize("regime", [*SKY_REGIMES, *OF_LABELS])
def test_every_question_has_its_answer_to_compare_with(data, regime):
    asked = list(questions(data, list(cases(data.test, data.features, regime, 0))))
    assert asked
    for q in asked:
        known = q.asked.truth if regime not in OF_LABELS else q.asked.observed
        assert np.isfinite(known).all() and len(q.asked.g) == q.use_B.sum()


def test_real_stars_are_compared_with_observations(data):
    real = replace(data, truth=None)
    for q in questions(real, list(cases(real.test, real.features, "random_cells", 0))):
        assert np.isnan(q.asked.truth).all() and np.isfinite(q.asked.observed).all()
        assert set(q.asked.kind) == {"star"}
