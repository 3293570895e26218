"""Intervals of observed values hold the noise that a method believes in; those of the truth do not."""

from __future__ import annotations

import numpy as np
import pytest

from msacat.catalog.surveys.error_units import ONE_68, ONE_95
from msacat.model.evaluate.questions import Answers, Asked
from msacat.model.evaluate.score_answers import of_observed, score_answers
from msacat.model.reconstruction_loss import OUTLIER_WIDTH

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


@pytest.mark.parametrize("wrong", [0.02, 0.06])
def test_intervals_of_observed_values_hold_their_share_of_wrong_ones_too(wrong):
    """68 % of the right ones alone would be 2 or 4 per cent less of all."""
    found = coverage(STATED, wrong=wrong)
    assert found["observed"] == pytest.approx(0.68, abs=0.01)
    assert found["truth"] == pytest.approx(0.683, abs=0.015)


def test_what_nobody_holds_to_be_wrong_changes_no_interval():
    np.testing.assert_allclose(of_observed(np.zeros((3, 2)), ONE_95), ONE_95, rtol=1e-6)


def coverage(
    real_noise: float, noise: float = 1.0, shared: float = 0.0, floor: float = 0.0, wrong: float = 0.0
) -> dict[str, float]:
    """Share inside the 68 % intervals of a method with errors of ERROR that takes the noise for what it is told."""
    rng = np.random.default_rng(4)
    truth = rng.uniform(14, 18, N)
    observed = truth + real_noise * rng.standard_normal(N)
    off = rng.random(N) < wrong
    observed[off] += OUTLIER_WIDTH * np.hypot(ERROR, real_noise) * rng.standard_normal(int(off.sum()))
    value = truth + ERROR * rng.standard_normal(N)
    full = np.full
    asked = Asked(
        truth, observed, full(N, STATED), full(N, floor), full(N, 15.5), np.arange(N), full(N, "star", object)
    )
    said = Answers(
        value,
        full(N, ONE_68 * ERROR),
        full(N, ONE_95 * ERROR),
        full(N, noise),
        full(N, shared),
        full(N, wrong),
    )
    records = score_answers("sky", "random_cells", "msacat", "ps1_g", asked, said, np.arange(N) % 50, 0)
    return {r["against"]: r["coverage68"] for r in records if r["g_bin"] == "all"}
