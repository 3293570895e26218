"""Intervals of observed values hold the noise that a method believes in; those of the truth do not."""

from __future__ import annotations

import numpy as np
import pytest

from msacat.model.evaluate.metrics import ONE_68, ONE_95
from msacat.model.evaluate.questions import Answers, Asked
from msacat.model.evaluate.score_answers import score_answers

N, ERROR, STATED, ZERO_POINT, FLOOR = 20_000, 0.02, 0.03, 0.04, 0.025


@pytest.mark.parametrize("shared, promised", [(ZERO_POINT, 0.683), (0.0, 0.495)])
def test_a_zero_point_belongs_to_what_is_observed_alone(shared, promised):
    """hypot(.02, .03) / hypot(.02, .03, .04) = .67 of the sigma, which holds half."""
    found = coverage(np.hypot(STATED, ZERO_POINT), shared=shared)
    assert found["truth"] == pytest.approx(0.683, abs=0.015)
    assert found["observed"] == pytest.approx(promised, abs=0.015)


@pytest.mark.parametrize("times, promised", [(2.0, 0.683), (1.0, 0.563)])
def test_published_errors_are_scaled_and_the_floor_is_not(times, promised):
    """Errors published half too small beside a floor of .025: .78 of the sigma is known to whom believes them."""
    published = np.sqrt(STATED**2 - FLOOR**2)
    found = coverage(np.hypot(FLOOR, 2 * published), noise=times, floor=FLOOR)
    assert found["observed"] == pytest.approx(promised, abs=0.015)


def coverage(
    real_noise: float, noise: float = 1.0, shared: float = 0.0, floor: float = 0.0
) -> dict[str, float]:
    """Share inside the 68 % intervals of a method with errors of ERROR that takes the noise for what it is told."""
    rng = np.random.default_rng(4)
    truth = rng.uniform(14, 18, N)
    observed = truth + real_noise * rng.standard_normal(N)
    value = truth + ERROR * rng.standard_normal(N)
    full = np.full
    asked = Asked(
        truth, observed, full(N, STATED), full(N, floor), full(N, 15.5), np.arange(N), full(N, "star", object)
    )
    said = Answers(value, full(N, ONE_68 * ERROR), full(N, ONE_95 * ERROR), full(N, noise), full(N, shared))
    records = score_answers("sky", "random_cells", "msacat", "ps1_g", asked, said, np.arange(N) % 50, 0)
    return {r["against"]: r["coverage68"] for r in records if r["g_bin"] == "all"}
