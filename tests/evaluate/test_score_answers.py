"""Intervals of observed values hold the noise that a method believes in; those of the truth do not."""

from __future__ import annotations

import numpy as np
import pytest

from msacat.model.evaluate.metrics import ONE_68, ONE_95
from msacat.model.evaluate.questions import Answers, Asked
from msacat.model.evaluate.score_answers import score_answers

N, ERROR, STATED, ZERO_POINT = 20_000, 0.02, 0.03, 0.04


@pytest.mark.parametrize("shared, promised", [(ZERO_POINT, 0.683), (0.0, 0.495)])
def test_a_zero_point_belongs_to_what_is_observed_alone(shared, promised):
    """hypot(.02, .03) / hypot(.02, .03, .04) = .67 of the sigma, which holds half."""
    rng = np.random.default_rng(4)
    truth = rng.uniform(14, 18, N)
    observed = truth + np.hypot(STATED, ZERO_POINT) * rng.standard_normal(N)
    value = truth + ERROR * rng.standard_normal(N)
    full = np.full
    asked = Asked(truth, observed, full(N, STATED), full(N, 15.5), np.arange(N), full(N, "star", object))
    said = Answers(value, full(N, ONE_68 * ERROR), full(N, ONE_95 * ERROR), np.ones(N), full(N, shared))
    records = score_answers("sky", "random_cells", "msacat", "ps1_g", asked, said, np.arange(N) % 50, 0)
    of = {r["against"]: r["coverage68"] for r in records if r["g_bin"] == "all"}
    assert of["truth"] == pytest.approx(0.683, abs=0.015)
    assert of["observed"] == pytest.approx(promised, abs=0.015)
