"""Understated errors are found from the stars themselves; right ones and unpublished ones stay."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from msacat.model.deconvolve_errors import Residuals, fit_noise, noise_of_survey
from msacat.model.fit_mixture import fit_mixture
from msacat.model.fit_noise_scale import _how_sure, fit_noise_scale
from msacat.model.scale_features import fit_scaling

UNDERSTATED = {"ps1_g": 2.0, "twomass_ks": 1.6}


@pytest.fixture(scope="module")
def noisy(new_sky):
    """A sky whose ps1_g and twomass_ks are worse than they say."""
    return made_noisier(new_sky(6000, seed=4), UNDERSTATED)


def made_noisier(sky, factors):
    rng = np.random.default_rng(1)
    for name, factor in factors.items():
        m = sky.features.band_names.index(name)
        more = np.sqrt(factor**2 - 1) * sky.stars.mag_err_BM[:, m] * rng.standard_normal(len(sky.stars))
        sky.stars.mag_BM[:, m] += more.astype(np.float32)
    return sky


def noise_of(features, block) -> np.ndarray:
    scaling = fit_scaling(features, block)
    cells = scaling.encode(block).to(torch.device("cpu"))
    return fit_noise_scale(fit_mixture(cells, 4, 8, 0, 5), cells, scaling)


def test_understated_errors_are_found_and_honest_ones_left(noisy):
    noise = dict(zip(noisy.features.band_names, noise_of(noisy.features, noisy.stars), strict=False))
    for name, factor in UNDERSTATED.items():
        assert noise[name] == pytest.approx(factor, rel=0.25), noise
    for name in ("ps1_z", "twomass_j", "gaia_rp"):
        assert 0.8 <= noise[name] < 1.25, noise


def test_a_floor_is_no_part_of_what_is_scaled(new_sky):
    """J and Ks as far off as their floor and 2.5 times their published errors: as if both were too small, 1.6."""
    sky = made_noisier(new_sky(6000, seed=6), dict.fromkeys(("twomass_j", "twomass_ks"), 2.5))
    rng = np.random.default_rng(8)
    bands = list(sky.features.bands)
    for m in (6, 7):
        floor = 1.5 * float(np.nanmedian(sky.stars.mag_err_BM[:, m]))
        bands[m] = replace(bands[m], floor_err=floor)
        sky.stars.mag_BM[:, m] += (floor * rng.standard_normal(len(sky.stars))).astype(np.float32)
    found = noise_of(replace(sky.features, bands=tuple(bands)), sky.stars)[6]
    assert 1.9 < found < 2.7


def test_wrong_sigmas_and_normal_errors_do_not_look_like_noise():
    """A prior too sure of faint stars, whose published errors are large as well, and errors of a narrower shape than usual."""
    rng = np.random.default_rng(1)
    sd = np.exp(rng.uniform(np.log(0.01), np.log(0.08), 40_000))
    published = 0.6 * sd * rng.uniform(0.8, 1.25, len(sd))
    real = sd * np.where(sd > 0.04, 1.3, 1.0)
    d = np.hypot(real, published) * rng.standard_normal(len(sd))
    of = Residuals(d, sd, published**2)
    assert fit_noise(of, _how_sure(sd)) == pytest.approx(1.0, abs=0.06)


def test_wrong_measurements_are_not_noise():
    """Three in a hundred off by a third of a magnitude, none of them taken out before."""
    rng = np.random.default_rng(2)
    n, k = 30_000, 1.3
    published = np.exp(rng.uniform(np.log(0.01), np.log(0.08), n))
    sd = np.full(n, 0.02)
    d = np.hypot(sd, k * published) * rng.standard_normal(n)
    wrong = rng.random(n) < 0.03
    d[wrong] += 0.35 * rng.standard_normal(int(wrong.sum()))
    assert fit_noise(Residuals(d, sd, published**2)) == pytest.approx(k, rel=0.02)


def test_repeats_of_a_measurement_do_not_hide_that_errors_are_too_large():
    rng = np.random.default_rng(3)
    published = np.tile(np.exp(rng.uniform(np.log(0.5), np.log(3.0), 10_000)), 3)
    d = np.tile(np.hypot(0.5, 0.85 * published[:10_000]) * rng.standard_normal(10_000), 3)
    of = Residuals(d, np.full(30_000, 0.5), published**2, repeats=3.0)
    assert fit_noise(of) == pytest.approx(0.85, abs=0.03)


def test_errors_that_were_never_published_are_not_judged(noisy):
    m = noisy.features.band_names.index("ps1_g")
    errors = noisy.stars.mag_err_BM.copy()
    errors[:, m] = np.nan
    noise = noise_of(noisy.features, replace(noisy.stars, mag_err_BM=errors))
    assert noise[m] == 1.0


def test_bands_of_a_survey_that_agree_have_one_factor(new_sky):
    sky = made_noisier(new_sky(6000, seed=5), dict.fromkeys(("ps1_g", "ps1_i", "ps1_z"), 1.6))
    noise = noise_of(sky.features, sky.stars)
    ps1 = [noise[sky.features.band_names.index(f"ps1_{band}")] for band in "giz"]
    assert ps1 == pytest.approx([1.6] * 3, rel=0.15)
    assert len(set(ps1)) == 1


def test_a_factor_is_found_to_a_few_per_cent_beside_a_floor_that_has_none():
    """Published errors from 0.1 to 3 floors, all 1.25 times too small; a coarse grid of factors steps by a fifth."""
    rng = np.random.default_rng(3)
    n, floor, k = 40_000, 0.02, 1.25
    published = np.exp(rng.uniform(np.log(0.002), np.log(0.06), n))
    sd = rng.uniform(0.01, 0.02, n)
    d = np.sqrt(sd**2 + floor**2 + (k * published) ** 2) * rng.standard_normal(n)
    var = published**2 + floor**2
    assert fit_noise(Residuals(d, sd, var, common_N=np.full(n, floor**2))) == pytest.approx(k, rel=0.02)
    assert fit_noise(Residuals(d, np.hypot(sd, floor), published**2)) == pytest.approx(k, rel=0.03)
    assert fit_noise(Residuals(d, sd, var)) < 1.2  # as if the floor had been too small as well


@pytest.mark.parametrize(
    ("found", "factors"),
    [
        ([1.2, 1.3, 1.25], [1.25, 1.25, 1.25]),
        ([2.0, 1.0, 1.05], [2.0, 1.0, 1.0]),  # one band is another matter, two are about right
        ([np.nan, 1.3, 1.3], [1.0, 1.3, 1.3]),  # unpublished errors, and the reference, are not judged
        ([1.1], [1.0]),
        ([1.1, 1.11, 1.1, 1.13, 1.09], [1.0] * 5),  # a prior's sigmas are wrong in one way in all of them
        ([1.13, 1.14, 1.16], [1.14] * 3),
        ([np.nan, np.nan], [1.0, 1.0]),
        ([0.75, 0.8, np.nan], [0.75, 0.8, 1.0]),  # found too large, each on its own evidence
        ([], []),
    ],
)
def test_what_a_survey_says_of_its_bands(found, factors):
    np.testing.assert_allclose(noise_of_survey(np.array(found, float)), factors)
