"""A band known only through spectra: its targets have the noise of the spectrum that is shown."""

from dataclasses import replace

import numpy as np
import pytest

from msacat.catalog.xp.xp_operators import synthetic_magnitudes
from msacat.model import predict_stars
from msacat.model.predict_stars import StarModel
from msacat.model.train_autoencoder import train

KEY, BAND = "Sky_Mapper:v", 3


@pytest.fixture(scope="module")
def violet_sky(new_sky, background):
    """Makes (features, stars, true magnitudes of a band that nobody measured)."""

    def make(n: int, seed: int):
        sky = new_sky(n, seed)
        violet = replace(sky.features.bands[BAND], name="v", survey="skymapper_dr2", xp=KEY)
        bands = (*sky.features.bands[:BAND], violet, *sky.features.bands[BAND + 1 :])
        sky.stars.mag_BM[:, BAND] = sky.stars.mag_err_BM[:, BAND] = np.nan
        truth_B = synthetic_magnitudes(sky.xp_BK - background, [KEY])[0][:, 0]
        return replace(sky.features, bands=bands), sky.stars, truth_B

    return make


def test_intervals_hold_the_noise_that_prediction_and_target_share(
    violet_sky, stream_of, quick, tmp_path, monkeypatch
):
    """They held a quarter of the truths where 0.02 mag for the survey's system did not hide it."""
    features, stars, _ = violet_sky(4000, 0)
    config = replace(
        quick, steps=300, batch_size=256, width=96, blocks=2, components=3, latent=6, prior_stars=2400,
        prior_passes=5, bf16="off",
    )  # fmt: skip
    train(stream_of(features, stars), tmp_path / "m", config)
    model = StarModel.load(tmp_path / "m", "cpu")
    monkeypatch.setattr(predict_stars, "SYNTHETIC_SYSTEMATIC", 0.0)
    _, stars, truth_B = violet_sky(3000, 7)
    found = model.predict(stars)
    scaling = model.scaling
    own_B = scaling.synthetic.from_spectra(stars, scaling.through_xp_M, scaling.background_K)[1][:, BAND]
    inside_B = np.abs(found.mag_BM[:, BAND] - truth_B) < found.err68_BM[:, BAND]
    for low, high in ((0.01, 0.02), (0.02, 0.04), (0.04, 0.1)):
        use_B = (own_B > low) & (own_B <= high)
        assert use_B.sum() > 300 and 0.6 < inside_B[use_B].mean() < 0.9, (low, inside_B[use_B].mean())


def test_half_a_spectrum_that_says_nothing_of_the_band_shares_no_noise(
    violet_sky, stream_of, quick, tmp_path, without
):
    features, stars, _ = violet_sky(1500, 0)
    train(stream_of(features, stars), tmp_path / "m", quick)
    model = StarModel.load(tmp_path / "m", "cpu")
    red = model.predict(without(stars.take(np.arange(50)), "xp", slice(0, 55)))
    assert np.isfinite(red.err68_BM[:, BAND]).all() and not red.observed_BM[:, BAND].any()
