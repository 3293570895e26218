"""Understated errors are found from the stars themselves; right ones and unpublished ones stay."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from msacat.model.fit_mixture import fit_mixture
from msacat.model.fit_noise_scale import fit_noise_scale
from msacat.model.scale_features import fit_scaling

UNDERSTATED = {"ps1_g": 2.0, "twomass_ks": 1.6}


@pytest.fixture(scope="module")
def noisy(new_sky):
    """A sky whose ps1_g and twomass_ks are worse than they say."""
    sky = new_sky(6000, seed=4)
    rng = np.random.default_rng(1)
    for name, factor in UNDERSTATED.items():
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
