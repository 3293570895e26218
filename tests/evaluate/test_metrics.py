"""Numbers that can be known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from msacat.catalog.surveys.error_units import ONE_68, ONE_95
from msacat.model.evaluate.metrics import (
    accuracy,
    accuracy_of_spectra,
    nmad,
    normal_cdf,
    normal_crps,
)

N = 20_000


@pytest.fixture
def normal() -> np.ndarray:
    return 0.02 + 0.1 * np.random.default_rng(1).standard_normal(N)


def test_a_normal_error_with_honest_intervals(normal):
    width = np.full(N, 0.1)
    found = accuracy(normal - 0.02, ONE_68 * width, ONE_95 * width, np.arange(N) // 100, 0)
    assert found.n == N
    assert found.nmad == pytest.approx(0.1, rel=0.03) and found.rmse == pytest.approx(0.1, rel=0.02)
    assert found.nmad_lo < found.nmad < found.nmad_hi < 1.03 * found.nmad
    assert found.coverage68 == pytest.approx(0.68, abs=0.01) and found.coverage95 == pytest.approx(
        0.95, abs=0.01
    )
    assert found.mae == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.03)
    assert found.crps == pytest.approx(0.1 / np.sqrt(np.pi), rel=0.03)
    assert found.hallucinated < 1e-3


def test_the_bias_is_told_apart_from_the_scatter(normal):
    found = accuracy(normal, np.full(N, 0.1), np.full(N, 0.2), np.arange(N), 0)
    assert found.bias == pytest.approx(0.02, abs=0.003)
    assert found.nmad == pytest.approx(nmad(normal - 0.02))


def test_what_is_far_off_is_an_outlier_and_an_invention():
    d = np.array([0.0, 0.0, 0.0, 0.3, 0.6, 0.06])
    found = accuracy(d, np.full(6, 0.2), np.full(6, 0.4), np.arange(6), 0)
    assert found.outliers == pytest.approx(2 / 6) and found.hallucinated == pytest.approx(1 / 6)
    assert accuracy(d, np.full(6, 0.01), np.full(6, 0.02), np.arange(6), 0).hallucinated == pytest.approx(
        3 / 6
    )


def test_cells_widen_the_bootstrap():
    """Four thousand stars that share forty errors are forty measurements."""
    shared = np.repeat(np.random.default_rng(2).standard_normal(40), 100)
    one = accuracy(shared, shared, shared, np.arange(4000), 0)
    cells = accuracy(shared, shared, shared, np.arange(4000) // 100, 0)
    assert cells.nmad_hi - cells.nmad_lo > 3 * (one.nmad_hi - one.nmad_lo)


def test_spectra_are_averaged_geometrically():
    rng = np.random.default_rng(3)
    d = rng.standard_normal((4000, 2)) * [0.1, 0.4]
    found = accuracy_of_spectra(d, np.abs(d), np.abs(d), np.arange(4000), 0)
    assert found.nmad == pytest.approx(0.2, rel=0.05) and found.coverage68 == 1


def test_normal_distribution_and_crps():
    assert normal_cdf(np.array([-1.959964, 0.0, 1.0])) == pytest.approx([0.025, 0.5, 0.841345], abs=1e-6)
    grid = np.linspace(-8, 8, 20_001)
    for d, sigma in ((0.0, 1.0), (1.3, 0.5)):
        step = grid >= d
        integral = np.trapezoid((normal_cdf(grid / sigma) - step) ** 2, grid)
        assert normal_crps(np.array([d]), np.array([sigma]))[0] == pytest.approx(integral, abs=1e-3)
