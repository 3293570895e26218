"""Stars near a survey's depth, measured with noise that is normal in flux: what is said of them must not lean to the bright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msacat.catalog.surveys.star_features import BandFeature, StarFeatures
from msacat.model.held_out import hold_out
from msacat.model.model_folder import load_model
from msacat.model.noise_in_flux import MAG, FluxNoise

SCALE = np.array([1.0, 0.4, 0.5])
FLOOR = 0.01


def _noise(noise_M: np.ndarray | None = None) -> FluxNoise:
    bands = tuple(
        BandFeature(name, "survey", nm, 0.02, FLOOR)
        for name, nm in (("g", 600.0), ("j", 1235.0), ("ks", 2159.0))
    )
    features = StarFeatures("g", bands, (), (), xp=False)
    return FluxNoise(features, SCALE, np.ones(3) if noise_M is None else noise_M)


def _measured(colour: float, ratio: float, n: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """(value_BM, var_BM) of n stars of one colour whose flux is `ratio` sigmas, all of them listed."""
    rng = np.random.default_rng(5)
    flux = 1 + rng.standard_normal((n, 3)) / ratio
    flux = np.maximum(flux, 0.05)
    mag, err = colour - MAG * np.log(flux), MAG / ratio / flux
    return torch.as_tensor(mag / SCALE).float(), torch.as_tensor((err**2 + FLOOR**2) / SCALE**2).float()


def _weighted_mean(value: torch.Tensor, var: torch.Tensor) -> np.ndarray:
    """mag, as a likelihood with errors has it."""
    return ((value / var).sum(0) / (1 / var).sum(0)).numpy() * SCALE


@pytest.mark.parametrize("ratio", [6.0, 10.0, 20.0])
def test_weighing_by_errors_is_unbiased_at_the_prediction(ratio: float) -> None:
    value, var = _measured(0.7, ratio)
    raw = _weighted_mean(value, var)
    assert np.all(raw[1:] < 0.7 - MAG / ratio**2)  # the bias there would be
    mean = torch.as_tensor(0.7 / SCALE).float().expand_as(value)
    value, var = _noise().as_predicted(value, var, mean)
    error = MAG / ratio / np.sqrt(len(value))
    assert np.all(np.abs(_weighted_mean(value, var)[1:] - 0.7) < 4 * error)
    z = ((value - mean) / var.sqrt())[:, 1:]
    expected = (MAG / ratio) / np.hypot(MAG / ratio, FLOOR)  # these stars have no noise of the floor
    assert z.std().item() == pytest.approx(expected, rel=0.03)


@given(st.floats(-1.0, 1.0), st.floats(0.001, 0.5), st.floats(1.0, 2.0))
def test_of_two_stars_of_one_flux_noise_the_errors_at_the_prediction_agree(
    off: float, err: float, k: float
) -> None:
    """However its noise came out, a star of the predicted magnitude has one error; a right prediction changes nothing."""
    noise = _noise(np.full(3, k))
    unit = torch.as_tensor(SCALE).float()
    mean = torch.zeros(1, 3)
    observed = torch.full((1, 3), off) / unit
    then = err * np.exp(off / MAG)  # the same noise in flux, at the observed magnitude
    var = torch.full((1, 3), k**2 * (then**2 + FLOOR**2)) / unit**2
    value, at = noise.as_predicted(observed, var, mean)
    expected = k**2 * (err**2 + FLOOR**2)
    assert (at * unit**2)[0, 1:].numpy() == pytest.approx(expected, rel=2e-3)
    assert value[0, 1].item() * observed[0, 1].item() >= 0
    same, unmoved = noise.as_predicted(mean, var, mean)
    assert torch.equal(same, mean)
    assert unmoved.numpy() == pytest.approx(var.numpy(), rel=1e-4)


def test_reference_and_wrong_measurements_stay_as_they_are() -> None:
    value = torch.tensor([[0.3, 7.0, -9.0]])  # the last two over 2 mag off
    var = torch.full((1, 3), 0.04)
    found = _noise().as_predicted(value, var, torch.zeros(1, 3))
    assert torch.equal(found[0], value)
    assert torch.equal(found[1], var)


def test_calibration_compares_in_flux_and_scores_with_what_was_published(trained: Path, sky) -> None:
    """Bands are moved to the prediction, coefficients are not; scores see the measurements as they are."""
    network = load_model(trained, torch.device("cpu")).network
    block = sky.stars.take(np.arange(300))
    plain, unbiased = (
        hold_out(network, block, "survey_hidden", np.random.default_rng(1), torch.device("cpu"), unbiased=yes)
        for yes in (False, True)
    )
    M = network.scaling.n_bands
    at = network.flux_noise.as_predicted(
        *(torch.as_tensor(a[:, :M]) for a in (plain.value_BD, plain.var_BD, plain.mean_BD))
    )
    for found, wanted, published in zip(
        (unbiased.value_BD, unbiased.var_BD), at, (plain.value_BD, plain.var_BD), strict=True
    ):
        np.testing.assert_array_equal(found[:, :M], wanted.numpy())
        np.testing.assert_array_equal(found[:, M:], published[:, M:])
        assert (found[:, :M] != published[:, :M]).any()
    np.testing.assert_array_equal(plain.value_BD, network.scaling.encode(block).value_BD)
