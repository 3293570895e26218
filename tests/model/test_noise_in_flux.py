"""Stars near a survey's depth, measured with noise that is normal in flux: what is said of them must not lean to the bright."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import BandFeature, StarFeatures
from msacat.model.held_out import hold_out
from msacat.model.hide_features import hide
from msacat.model.model_folder import load_model
from msacat.model.noise_in_flux import MAG, FluxNoise, fit_snr_limits
from msacat.model.reconstruction_loss import reconstruction_loss, robust_nll
from msacat.model.training_batches import Position, TrainingBatch
from msacat.model.training_loss import batch_losses

SCALE = np.array([1.0, 0.4, 0.5])
FLOOR = 0.01


def _noise(noise_M: np.ndarray | None = None, limit: float = 0.0) -> FluxNoise:
    bands = tuple(
        BandFeature(name, "survey", nm, 0.02, FLOOR)
        for name, nm in (("g", 600.0), ("j", 1235.0), ("ks", 2159.0))
    )
    features = StarFeatures("g", bands, (), (), xp=False)
    return FluxNoise(
        features, SCALE, np.ones(3) if noise_M is None else noise_M, np.zeros(3), np.array([0.0, limit, 0.0])
    )


def _all_stated(value: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(value, dtype=torch.bool)


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
    value, var = _noise().as_predicted(value, var, mean, _all_stated(value))
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
    var = torch.full((1, 3), (k * then) ** 2 + FLOOR**2) / unit**2
    value, at = noise.as_predicted(observed, var, mean, _all_stated(mean))
    expected = (k * err) ** 2 + FLOOR**2
    assert (at * unit**2)[0, 1:].numpy() == pytest.approx(expected, rel=2e-3)
    assert value[0, 1].item() * observed[0, 1].item() >= 0
    same, unmoved = noise.as_predicted(mean, var, mean, _all_stated(mean))
    assert torch.equal(same, mean)
    assert unmoved.numpy() == pytest.approx(var.numpy(), rel=1e-4)


def test_reference_and_wrong_measurements_stay_as_they_are() -> None:
    value = torch.tensor([[0.3, 7.0, -9.0]])  # the last two over 2 mag off
    var = torch.full((1, 3), 0.04)
    found = _noise().as_predicted(value, var, torch.zeros(1, 3), _all_stated(value))
    assert torch.equal(found[0], value)
    assert torch.equal(found[1], var)


def test_a_guessed_error_follows_no_noise() -> None:
    value, var = _measured(0.7, 10.0, n=50)
    stated = _all_stated(value)
    stated[:, 1] = False
    mean = torch.as_tensor(0.6 / SCALE).float().expand_as(value)
    found = _noise().as_predicted(value, var, mean, stated)
    for moved, published in zip(found, (value, var), strict=True):
        assert torch.equal(moved[:, 1], published[:, 1])
        assert not torch.equal(moved[:, 2], published[:, 2])


def _listed(ratio: float, limit: float, n: int = 100_000) -> tuple[torch.Tensor, torch.Tensor]:
    """(value_BM, var_BM) of the stars of one magnitude that a survey lists, flux `ratio` sigmas, cut at `limit`."""
    rng = np.random.default_rng(7)
    flux = 1 + rng.standard_normal(n) / ratio
    flux = flux[flux * ratio > limit]
    mag, err = -MAG * np.log(flux), MAG / ratio / flux
    value = np.repeat(mag[:, None], 3, 1) / SCALE
    return torch.as_tensor(value).float(), torch.as_tensor(
        np.repeat((err**2 + FLOOR**2)[:, None], 3, 1) / SCALE**2
    ).float()


@pytest.mark.parametrize("ratio", [4.5, 5.0, 6.5])
def test_what_a_survey_left_out_is_counted(ratio: float) -> None:
    """Where training comes to rest: at the true magnitude, and without the count at a brighter one."""
    noise, (value, var) = _noise(limit=5.0), _listed(ratio, 5.0)
    sd, rest = torch.full_like(value, 1e-3), {}
    for counted in (False, True):
        low, high = -0.4, 0.4
        while high - low > 1e-3:
            mag = (low + high) / 2
            mean = torch.as_tensor(mag / SCALE).float().expand_as(value).clone().requires_grad_()
            at, at_var = noise.as_predicted(value, var, mean.detach(), _all_stated(value))
            loss = robust_nll(at, mean, at_var + sd**2) + counted * noise.log_listed(at_var, mean, sd)
            loss[:, 1].sum().backward()
            assert mean.grad is not None
            low, high = (low, mag) if mean.grad[:, 1].sum() > 0 else (mag, high)
        rest[counted] = mag
    assert abs(rest[True]) <= 0.02
    assert rest[False] < -0.05 or ratio > 6  # of stars well above the limit hardly one is missing


def test_listed_stars_are_spread_as_if_all_were() -> None:
    noise, (value, var) = _noise(limit=5.0), _listed(5.5, 5.0)
    mean, sd = torch.zeros_like(value), torch.full_like(value, 1e-3)
    value, var = noise.as_predicted(value, var, mean, _all_stated(value))
    whole = noise.as_if_unlimited(value, var, mean, sd)
    z = ((value - mean) / var.sqrt()).double()
    expected = (MAG / 5.5) / np.hypot(MAG / 5.5, FLOOR)
    assert z[:, 1].mean() < -0.3  # as listed, they are bright
    z = ((whole - mean) / var.sqrt()).double()
    assert abs(z[:, 1].mean().item()) < 0.02
    assert z[:, 1].std().item() == pytest.approx(expected, rel=0.03)
    assert torch.equal(whole[:, [0, 2]], value[:, [0, 2]])
    far = torch.full((1, 3), -1.9) / torch.as_tensor(SCALE).float()
    assert torch.equal(noise.as_if_unlimited(far, var[:1] / 9, mean[:1], sd[:1]), far)  # a wrong measurement


def test_the_pull_of_the_limit_is_that_of_its_likelihood() -> None:
    """The gradient of log_listed by the mean: what lowering the limit by as much flux does."""
    value, var = _listed(5.0, 5.0, n=60)
    sd, mean = torch.full_like(value, 0.1), torch.zeros_like(value, requires_grad=True)
    _noise(limit=5.0).log_listed(var, mean, sd).sum().backward()
    assert mean.grad is not None
    assert torch.all(mean.grad[:, 1] < 0)  # fainter is less probably listed
    assert torch.all(mean.grad[:, [0, 2]] == 0)
    for star in range(len(value)):
        sky = float((var[star, 1] - FLOOR**2 / SCALE[1] ** 2).sqrt())
        low, high = (
            _noise(limit=5.0 + step / sky).log_listed(*(a[star : star + 1] for a in (var, mean.detach(), sd)))
            for step in (-1e-2, 1e-2)
        )
        assert mean.grad[star, 1].item() == pytest.approx(((high - low)[0, 1] / 2e-2).item(), rel=2e-2)


def test_a_sharp_limit_is_found_and_a_gradual_one_is_not() -> None:
    rng = np.random.default_rng(3)
    block = StarBlock.empty(20_000, 4, 0, 0)
    snr = 2.0 * rng.pareto(1.0, (20_000, 4)) + 2.0
    snr[:, 0] = np.where(snr[:, 0] > 5, snr[:, 0], np.nan)
    gradual = snr[:, 1] > 5 + rng.standard_normal(len(snr))
    snr[:, 1] = np.where(gradual, snr[:, 1], np.nan)
    snr[4_000:, 2] = np.nan  # too few to tell
    snr[:, 3] = np.where(snr[:, 3] > 16, snr[:, 3], np.nan)  # cut by something else
    block = replace(
        block,
        mag_BM=np.where(np.isfinite(snr), 15.0, np.nan).astype(np.float32),
        mag_err_BM=(MAG / snr).astype(np.float32),
    )
    limit = fit_snr_limits(block)
    assert limit[0] == pytest.approx(5.0, abs=0.02)
    assert limit[1:].tolist() == [0.0, 0.0, 0.0]


def test_training_compares_in_flux_and_counts_what_was_left_out(trained: Path, sky) -> None:
    network = load_model(trained, torch.device("cpu")).network
    scaling, M = network.scaling, network.scaling.n_bands
    limit = np.where(np.arange(M) == scaling.reference, 0.0, 5.0)
    network.flux_noise = FluxNoise(
        scaling.features, scaling.scale_D[:M], scaling.noise_D[:M], scaling.zero_point_M, limit
    )
    block = sky.stars.take(np.arange(400))
    label, label_err = network.labels.encode(block.label_BL, block.label_err_BL)
    hidden = hide(scaling.encode(block), scaling, np.random.default_rng(2), network.config.hiding)
    batch = TrainingBatch(0, block.source_id_B, hidden, label, label_err, Position())
    with torch.no_grad():
        found = batch_losses(network, network.network, batch, torch.device("cpu"), None)["bands"].item()
        cells, target = (c.to(torch.device("cpu")) for c in (hidden.cells, hidden.target))
        visible = torch.as_tensor(hidden.visible_BD)
        out = network.network(cells, network.look(cells, visible))
        mask = ((target.observed_BD | target.derived_BD) & ~visible)[:, :M]
        stated = ~target.guessed_BD[:, :M] & ~target.proxy_B[:, None]
        mean, sd = out.mean_BD[:, :M], out.sd_BD[:, :M]
        published = target.value_BD[:, :M], target.var_BD[:, :M]
        moved = network.flux_noise.as_predicted(*published, mean, stated)
        logit = network.wrong_logit_D[:M]
        listed = network.flux_noise.log_listed(moved[1], mean, sd, logit)
        honest = mask & stated & target.observed_BD[:, :M]
        share = listed[honest].sum().item() / int(mask.sum())
        wrong, right = (reconstruction_loss(*v, mask, mean, sd, logit).item() for v in (published, moved))
    assert share < -1e-4
    assert abs(right - wrong) > 1e-4
    assert found == pytest.approx(right + share, abs=1e-5)


def test_calibration_compares_in_flux_and_scores_with_what_was_published(trained: Path, sky) -> None:
    """Bands are moved to the prediction, coefficients are not; scores see the measurements as they are."""
    network = load_model(trained, torch.device("cpu")).network
    block = sky.stars.take(np.arange(300))
    plain, unbiased = (
        hold_out(network, block, "survey_hidden", np.random.default_rng(1), torch.device("cpu"), unbiased=yes)
        for yes in (False, True)
    )
    M = network.scaling.n_bands
    cells = network.scaling.encode(block)
    stated = torch.as_tensor(~cells.guessed_BD[:, :M] & ~cells.proxy_B[:, None])
    at = network.flux_noise.as_predicted(
        *(torch.as_tensor(a[:, :M]) for a in (plain.value_BD, plain.var_BD, plain.mean_BD)), stated
    )
    for found, wanted, published in zip(
        (unbiased.value_BD, unbiased.var_BD), at, (plain.value_BD, plain.var_BD), strict=True
    ):
        np.testing.assert_array_equal(found[:, :M], wanted.numpy())
        np.testing.assert_array_equal(found[:, M:], published[:, M:])
        assert (found[:, :M] != published[:, :M]).any()
    np.testing.assert_array_equal(plain.value_BD, network.scaling.encode(block).value_BD)
