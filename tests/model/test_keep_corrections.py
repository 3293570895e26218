"""Corrections are kept as far as stars that trained nothing bear them out, and the same share everywhere a model is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msacat.model.finish_training import calibrate
from msacat.model.held_out import HeldOut, hold_out
from msacat.model.keep_corrections import measure_kept
from msacat.model.model_folder import StoredModel, load_model, save_model

BANDS = 12
NOISE_M = np.array([0.3, 0.5, 1.0, 1.0, 1.5, 2.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0])
FOLLOWED = 0.08  # sigmas of noise in the corrections


def corrected(n: int, seed: int = 0) -> tuple[HeldOut, np.ndarray, np.ndarray]:
    """Corrections of 0.5 sigma and a share of the noise of other stars; (held, truth, best share by band)."""
    rng = np.random.default_rng(seed)
    true_part = 0.5 * rng.standard_normal((n, BANDS))
    correction = true_part + FOLLOWED * NOISE_M * rng.standard_normal((n, BANDS))
    truth = true_part + 0.4 * rng.standard_normal((n, BANDS))
    noise = NOISE_M * rng.uniform(0.7, 1.3, (n, BANDS))
    label = np.zeros((n, 0))
    held = HeldOut(
        np.ones((n, BANDS), bool), truth + noise * rng.standard_normal((n, BANDS)), noise**2, correction,
        np.full((n, BANDS), 0.4), np.zeros((n, BANDS)), label, label, label, label,
        rng.uniform(12, 20, n), np.ones(n, bool), np.zeros((n, BANDS), bool), np.arange(n),
    )  # fmt: skip
    return held, truth, 0.25 / (0.25 + (FOLLOWED * NOISE_M) ** 2)


@pytest.mark.parametrize("seed", range(3))
def test_corrections_by_noise_are_damped_and_others_kept(seed):
    held, truth, best = corrected(20_000, seed)
    kept = measure_kept(held)[0, 1]
    assert np.abs(kept - best)[:6].max() < 0.05 and np.abs(kept - best).max() < 0.15
    before, after = (
        np.abs(mean - truth).mean(0)
        for mean in (held.mean_BD, held.keeping(np.full((2, 2, BANDS), kept)).mean_BD)
    )
    assert (after < 0.97 * before)[-3:].all() and (after < 1.005 * before).all()


def test_wrong_measurements_tell_nothing():
    held, _, best = corrected(20_000)
    wrong = np.random.default_rng(5).random(held.value_BD.shape) < 0.02
    held.value_BD += np.where(wrong, 40 * NOISE_M, 0.0)
    kept = measure_kept(held)[0, 1]
    assert np.abs(kept - best)[:6].max() < 0.05


def test_where_little_was_hidden_all_is_kept():
    held, _, _ = corrected(20_000)
    np.testing.assert_array_equal(measure_kept(held)[1], 1.0)  # no band beside others
    np.testing.assert_array_equal(measure_kept(held)[:, 0], 1.0)  # no star without spectrum
    held.scored_BD[:] = False
    np.testing.assert_array_equal(measure_kept(held), 1.0)
    few, _, _ = corrected(8)
    assert np.abs(measure_kept(few) - 1).max() < 0.4


@pytest.mark.parametrize("regime", ["survey_hidden", "xp_and_survey_hidden", "cells_hidden"])
def test_a_model_answers_with_what_is_kept(trained, new_sky, regime):
    network = load_model(trained).network
    stars = new_sky(300, seed=4).stars

    def ask(kept: torch.Tensor) -> HeldOut:
        network.kept_SXM.copy_(kept)
        return hold_out(network, stars, regime, np.random.default_rng(1), torch.device("cpu"))

    shares = 1.2 * torch.rand(network.kept_SXM.shape, generator=torch.Generator().manual_seed(0))
    whole = ask(torch.ones(shares.shape))
    M = whole.prior_BM.shape[1]
    for kept in (shares, torch.zeros(shares.shape)):
        found = ask(kept)
        np.testing.assert_allclose(found.mean_BD, whole.keeping(kept.numpy()).mean_BD, atol=1e-5)
        np.testing.assert_array_equal(found.mean_BD[:, M:], whole.mean_BD[:, M:])
    np.testing.assert_array_equal(ask(torch.zeros(shares.shape)).mean_BD[:, :M], whole.prior_BM)


def test_what_is_kept_is_measured_at_the_end_of_training_and_stored(trained, sky, stream_of, tmp_path):
    stored = load_model(trained)
    kept = stored.network.kept_SXM.clone()
    assert (kept != 1).any()
    stored.network.kept_SXM.fill_(0.5)  # of an earlier calibration: forgotten
    again = calibrate(stored.network, stream_of(sky.features, sky.stars), [], torch.device("cpu"))
    torch.testing.assert_close(stored.network.kept_SXM, kept)
    parts = {name: getattr(stored, name) for name in StoredModel.__dataclass_fields__} | {
        "calibration": again
    }
    save_model(tmp_path / "again", StoredModel(**parts), "card")
    torch.testing.assert_close(load_model(tmp_path / "again").network.kept_SXM, kept)
