"""Predicted spectra are moved to where their synthetic photometry is that of the magnitudes, and no further."""

from dataclasses import replace

import numpy as np
import pytest

from msacat.model.reconcile_spectra import LARGEST_PULL, reconcile_spectra
from msacat.model.scale_features import fit_scaling


@pytest.fixture(scope="module")
def spectra(new_sky):
    """(true spectra, their synthetic magnitudes, the scaling) of 200 stars."""
    sky = new_sky(1500, seed=8)
    scaling = fit_scaling(sky.features, sky.stars)
    rows = np.flatnonzero(np.isfinite(sky.stars.xp_BK).all(1))[:200]
    xp = sky.stars.xp_BK[rows].astype(np.float64)
    maggies = xp @ np.nan_to_num(scaling.synthetic.row_MK).T + zero(scaling)
    with np.errstate(invalid="ignore"):
        mag = np.where(scaling.synthetic.has_row & (maggies > 0), -2.5 * np.log10(maggies), np.nan)
    return xp, mag, scaling


def zero(scaling):
    return scaling.synthetic.flux_of_nothing(scaling.background_K)


def synthetic(xp, scaling):
    return -2.5 * np.log10(xp @ scaling.synthetic.row_MK.T + zero(scaling))


def test_true_magnitudes_leave_a_true_spectrum_where_it_is(new_sky, background):
    """Gaia's own bands are of the star's light alone, a published spectrum has a background beside it."""
    sky = new_sky(1500, seed=8)
    scaling = fit_scaling(sky.features, sky.stars)
    scaling = replace(scaling, background_K=background)
    faint = np.argsort(-sky.mag_BM[:, 0])[:300]
    xp, mag = sky.xp_BK[faint], sky.mag_BM[faint]
    moved = reconcile_spectra(
        xp, 0.03 * np.abs(xp), mag, np.full(mag.shape, 0.002), np.isfinite(mag), scaling
    )
    for m in counting(scaling):
        off = synthetic(moved, scaling)[:, m] - mag[:, m]
        assert np.abs(off).max() < 2e-4, scaling.features.bands[m].name
    np.testing.assert_allclose(moved, xp, rtol=1e-3, atol=2e-4 * np.abs(xp).max())


def counting(scaling):
    return [m for m, b in enumerate(scaling.features.bands)
            if scaling.synthetic.has_row[m] and b.xp_weight == 1 and not b.xp_offset]  # fmt: skip


def test_errors_that_go_together_are_taken_out(spectra):
    xp, mag, scaling = spectra
    use = counting(scaling)
    v = 0.03 * np.abs(xp)
    wrong = 1.03 * xp  # every coefficient within its error, every magnitude off by 0.03
    moved = reconcile_spectra(wrong, v, mag, np.full(mag.shape, 0.005), np.isfinite(mag), scaling)
    before = np.median(np.abs(synthetic(wrong, scaling) - mag)[:, use])
    after = np.median(np.abs(synthetic(moved, scaling) - mag)[:, use])
    assert before == pytest.approx(0.032, abs=0.002) and after < 0.4 * before
    assert np.median(np.abs(moved - xp).sum(1) / np.abs(wrong - xp).sum(1)) < 1


def test_what_is_known_well_stays(spectra):
    xp, mag, scaling = spectra
    uncertain = reconcile_spectra(
        xp, 0.1 * np.abs(xp), mag + 0.5, np.full(mag.shape, 50.0), np.isfinite(mag), scaling
    )
    np.testing.assert_allclose(uncertain, xp, rtol=1e-3, atol=1e-3 * np.abs(xp).max())
    certain = reconcile_spectra(
        xp, 1e-9 * np.abs(xp), mag + 0.5, np.full(mag.shape, 0.01), np.isfinite(mag), scaling
    )
    np.testing.assert_allclose(certain, xp, rtol=1e-6)
    agreeing = reconcile_spectra(
        xp, 0.1 * np.abs(xp), mag, np.full(mag.shape, 0.01), np.isfinite(mag), scaling
    )
    np.testing.assert_allclose(agreeing, xp, rtol=1e-5, atol=1e-6 * np.abs(xp).max())


def test_disowned_and_missing_magnitudes_have_no_say_and_a_wild_one_little(spectra):
    xp, mag, scaling = spectra
    v, error, use = 0.03 * np.abs(xp), np.full(mag.shape, 0.01), counting(scaling)
    wild = mag.copy()
    wild[:, use[-1]] -= 3.0
    nobody = np.zeros(mag.shape, bool)
    np.testing.assert_array_equal(reconcile_spectra(xp, v, wild, error, nobody, scaling), xp)
    others = np.isfinite(mag)
    others[:, use[-1]] = False
    np.testing.assert_allclose(reconcile_spectra(xp, v, wild, error, others, scaling), xp, rtol=1e-5,
                               atol=1e-6 * np.abs(xp).max())  # fmt: skip
    moved = reconcile_spectra(xp, v, wild, error, np.isfinite(mag), scaling)
    assert (np.abs(moved - xp) <= 2 * LARGEST_PULL * v + 1e-9).all()


def test_a_star_without_spectrum_stays_without(spectra):
    xp, mag, scaling = spectra
    gone = xp.copy()
    gone[0] = np.nan
    moved = reconcile_spectra(
        gone, 0.03 * np.abs(xp), mag + 0.1, np.full(mag.shape, 0.01), np.isfinite(mag), scaling
    )
    assert np.isnan(moved[0]).all() and np.isfinite(moved[1:]).all()
