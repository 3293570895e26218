"""Understated errors are found from the stars themselves; right ones and unpublished ones stay."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from msacat.model.deconvolve_errors import noise_of_survey
from msacat.model.fit_mixture import fit_mixture
from msacat.model.fit_noise_scale import fit_noise_scale
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


@pytest.mark.parametrize(
    ("found", "factors"),
    [
        ([1.2, 1.3, 1.25], [1.25, 1.25, 1.25]),
        ([2.0, 1.0, 1.05], [2.0, 1.0, 1.0]),  # one band is another matter, two are about right
        ([np.nan, 1.3, 1.3], [1.0, 1.3, 1.3]),  # unpublished errors, and the reference, are not judged
        ([1.1], [1.0]),
        ([1.1, 1.11, 1.1, 1.13, 1.09], [1.1] * 5),  # five bands do not agree by chance
        ([np.nan, np.nan], [1.0, 1.0]),
        ([0.75, 0.8, np.nan], [0.75, 0.8, 1.0]),  # found too large, each on its own evidence
        ([], []),
    ],
)
def test_what_a_survey_says_of_its_bands(found, factors):
    np.testing.assert_allclose(noise_of_survey(np.array(found, float)), factors)
