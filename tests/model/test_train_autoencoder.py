"""Training end to end: it learns, repeats itself, survives kill -9, refuses what cannot be, says what it skips."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from msacat.catalog.errors import InputRejected, Interrupted, UsageError
from msacat.model import checkpoint, train_autoencoder
from msacat.model.checkpoint import latest_checkpoint, read_checkpoint, restore
from msacat.model.fit_mixture import fit_mixture
from msacat.model.label_scaling import fit_label_scaling
from msacat.model.mixture_prior import MixturePrior
from msacat.model.model_folder import load_model
from msacat.model.scale_features import fit_scaling
from msacat.model.sealed_folder import manifest_sha256
from msacat.model.skipped_parts import what_is_skipped
from msacat.model.star_network import StarNetwork
from msacat.model.train_autoencoder import train
from msacat.model.train_config import TrainConfig, learning_rate_factor
from msacat.model.training_batches import Position, star_batches


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder).network.state_dict()


def same(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_the_loss_falls_and_every_step_is_reported(sky, stream_of, quick, tmp_path):
    steps = []
    config = replace(quick, steps=60, learning_rate=3e-3, checkpoint_steps=20)
    report = train(stream_of(sky.features, sky.stars), tmp_path / "m", config, on_step=steps.append)
    assert [s.step for s in steps] == list(range(1, 61)) and report.steps == 60
    losses = [s.loss for s in steps]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.3
    assert set(steps[0].losses) == {"bands", "visible", "xp", "labels", "consistency", "embedding"}
    assert steps[-1].progress == 1.0 and all(s.gradient_norm > 0 for s in steps)
    assert report.stars == {"train": 2400, "calibrate": 800, "test": 800}
    # They stay: who records the model removes them.
    assert latest_checkpoint(tmp_path / "m").name == "step-00000060"


def test_a_band_with_wrong_measurements_is_found_out(sky, stream_of, quick, tmp_path):
    stars = replace(sky.stars, mag_BM=sky.stars.mag_BM.copy())
    wrong = np.random.default_rng(5).random(len(stars)) < 0.06
    stars.mag_BM[wrong, sky.features.band_names.index("ps1_i")] += 1.5
    config = replace(quick, steps=250, batch_size=256, components=3, latent=6, prior_stars=2400)
    train(stream_of(sky.features, stars), tmp_path / "m", config)
    shares = load_model(tmp_path / "m").network.wrong_shares()
    share = dict(zip(sky.features.band_names, shares[: len(sky.features.bands)].tolist(), strict=True))
    assert share.pop("ps1_i") > 0.0115  # on its way from 1 % to 6 %: a step moves its logit by 0.002 at most
    assert share.pop("gaia_g") == pytest.approx(0.01)  # never hidden
    assert max(share.values()) < 0.009
    listed = (tmp_path / "m" / "README.md").read_text().split("## Wrong measurements")[1].split("##")[0]
    assert "ps1_i 1." in listed and "gaia_g" not in listed


def test_the_same_seed_gives_the_same_weights_and_another_does_not(sky, stream_of, quick, tmp_path):
    stream = stream_of(sky.features, sky.stars)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(stream, tmp_path / name, replace(quick, seed=seed))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert manifest_sha256(tmp_path / "a") != manifest_sha256(tmp_path / "c")
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_stopped_and_resumed_equals_never_stopped(sky, stream_of, quick, tmp_path):
    stream = stream_of(sky.features, sky.stars)
    whole, parts = [], []
    train(stream, tmp_path / "whole", quick, on_step=lambda s: whole.append(s.loss))
    with pytest.raises(Interrupted) as caught:
        train(stream, tmp_path / "parts", quick, on_step=lambda s: parts.append(s.loss),
              should_stop=lambda: len(parts) >= 5)  # fmt: skip
    assert caught.value.exit_code == 5 and "--resume" in str(caught.value)
    report = train(stream, tmp_path / "parts", quick, on_step=lambda s: parts.append(s.loss), resume=True)
    assert report.resumed_from == 5 and parts == whole
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_the_prior_asked_ahead_or_in_the_step_gives_the_same_bits(
    sky, stream_of, quick, tmp_path, monkeypatch
):
    stream, real, left_out = stream_of(sky.features, sky.stars), train_autoencoder.BatchFeeder, []

    def without_look(*arguments):
        left_out.append(arguments[-1])
        return real(*arguments[:-1])

    train(stream, tmp_path / "ahead", quick)
    monkeypatch.setattr(train_autoencoder, "BatchFeeder", without_look)
    train(stream, tmp_path / "in_the_step", quick)
    assert callable(left_out[0]) and same(weights(tmp_path / "ahead"), weights(tmp_path / "in_the_step"))


def test_training_leaves_the_number_of_threads_alone(sky, stream_of, quick, tmp_path):
    """The thread that asks the prior has one core of them; what it sets for itself is the default of new threads."""
    before, found, steps = torch.get_num_threads(), [], []
    torch.set_num_threads(3)
    try:
        stream = stream_of(sky.features, sky.stars)
        train(
            stream, tmp_path / "m", replace(quick, steps=2), lambda _: steps.append(torch.get_num_threads())
        )
        found.append(torch.get_num_threads())
        new = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        new.start()
        new.join()
    finally:
        torch.set_num_threads(before)
    assert found == [3, 3] and steps == [2, 2]


KILLED = """
import importlib.util, sys
from dataclasses import replace
from pathlib import Path
spec = importlib.util.spec_from_file_location("made_up", sys.argv[1])
made_up = importlib.util.module_from_spec(spec)
sys.modules["made_up"] = made_up
spec.loader.exec_module(made_up)
from msacat.model.train_autoencoder import train
from msacat.model.train_config import TrainConfig
sky = made_up.make_sky(1500, seed=5)
config = TrainConfig.from_json(__import__("json").loads(sys.argv[3]))
train(made_up.MemoryStream(sky.features, sky.stars), Path(sys.argv[2]), config,
      on_step=lambda s: print(s.step, flush=True), resume=True)
"""


@pytest.mark.crash
def test_kill_9_at_any_moment_then_resume_gives_the_same_bits(quick, tmp_path):
    """Killed twice, the second time while checkpoints are being written one after the other."""
    config = replace(quick, steps=12, checkpoint_steps=1, calibrate_stars=300)
    conftest = str(Path(__file__).with_name("conftest.py"))

    def start(folder: str) -> subprocess.Popen:
        arguments = [
            sys.executable,
            "-c",
            KILLED,
            conftest,
            str(tmp_path / folder),
            json.dumps(config.to_json()),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)

    for after in (2, 7):
        process = start("killed")
        for line in process.stdout:
            if int(line) >= after:
                break
        time.sleep(0.013 * after)  # somewhere between two steps
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed" / "manifest.json").exists()
        _, state = read_checkpoint(latest_checkpoint(tmp_path / "killed"))
        assert state["step"] >= after - 1
    assert start("killed").wait() == 0
    assert start("whole").wait() == 0
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_a_torn_checkpoint_is_passed_over(sky, stream_of, quick, tmp_path):
    stream, seen = stream_of(sky.features, sky.stars), []
    with pytest.raises(Interrupted):
        train(stream, tmp_path, replace(quick, checkpoint_steps=2), on_step=seen.append,
              should_stop=lambda: len(seen) >= 6)  # fmt: skip
    newest = latest_checkpoint(tmp_path)
    (newest / "manifest.json").unlink()  # as if the power had gone before the seal
    older = latest_checkpoint(tmp_path)
    assert older != newest and older.name == "step-00000004"
    report = train(stream, tmp_path, replace(quick, checkpoint_steps=2), resume=True)
    assert report.resumed_from == 4 and report.steps == quick.steps


def test_a_full_disk_while_saving_keeps_the_last_checkpoint(sky, stream_of, quick, tmp_path, monkeypatch):
    from msacat.model import sealed_folder

    stream, real, calls = stream_of(sky.features, sky.stars), sealed_folder._write, []

    def write(path, data):
        calls.append(path)
        if len(calls) > 4:  # three files a checkpoint: the second one is torn
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(sealed_folder, "_write", write)
    with pytest.raises(OSError, match="No space"):
        train(stream, tmp_path, replace(quick, checkpoint_steps=3))
    monkeypatch.setattr(sealed_folder, "_write", real)
    assert latest_checkpoint(tmp_path).name == "step-00000003"
    assert train(stream, tmp_path, replace(quick, checkpoint_steps=3), resume=True).resumed_from == 3


def test_a_number_that_is_not_finite_stops_with_the_stars_named(sky, stream_of, quick, tmp_path, monkeypatch):
    real, calls = train_autoencoder.batch_losses, []

    def poisoned(model, network, batch, device, autocast):
        losses = real(model, network, batch, device, autocast)
        calls.append(batch)
        if len(calls) == 4:
            losses["total"] = losses["total"] * float("nan")
        return losses

    monkeypatch.setattr(train_autoencoder, "batch_losses", poisoned)
    with pytest.raises(InputRejected, match=r"step 4 .*not finite") as caught:
        train(stream_of(sky.features, sky.stars), tmp_path, replace(quick, checkpoint_steps=3))
    evidence = json.loads((tmp_path / "not_finite_step_4.json").read_text())
    assert evidence["source_ids"] == [str(i) for i in calls[3].source_id_B]
    assert str(calls[3].source_id_B[0]) in str(caught.value)
    tensors, state = read_checkpoint(latest_checkpoint(tmp_path))
    assert state["step"] == 3 and all(torch.isfinite(t).all() for t in tensors.values())


def test_a_checkpoint_whose_numbers_mean_something_else_is_refused(
    sky, stream_of, quick, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "FORMAT", "msacat-checkpoint/1")
    stream, seen = stream_of(sky.features, sky.stars), []
    with pytest.raises(Interrupted):
        train(stream, tmp_path, replace(quick, checkpoint_steps=2), on_step=seen.append,
              should_stop=lambda: len(seen) > 4)  # fmt: skip
    monkeypatch.undo()
    with pytest.raises(InputRejected, match="not a checkpoint of this format"):
        train(stream, tmp_path, replace(quick, checkpoint_steps=2), resume=True)


def test_absurd_stars_do_not_stop_training(sky, stream_of, quick, tmp_path):
    block = sky.stars.take(np.arange(1500))
    block.mag_BM[::7, 3] = 99.0
    block.mag_BM[5::50, 1] = np.inf
    block.mag_err_BM[::11, 4] = 1e30
    block.xp_BK[::13] *= 1e6
    block.mag_BM[3::40] = np.nan
    block.xp_BK[3::40] = np.nan
    block.mag_BM[7::90] = np.nan
    block.mag_BM[7::90, 4] = 99.0  # nothing else: no magnitude to normalise by
    report = train(stream_of(sky.features, block), tmp_path, quick)
    assert report.steps == quick.steps and all(np.isfinite(v) for v in report.final_losses.values())


def test_resume_refuses_other_options_and_other_stars(sky, stream_of, quick, tmp_path, without):
    seen = []
    with pytest.raises(Interrupted):
        train(stream_of(sky.features, sky.stars), tmp_path, quick, on_step=seen.append,
              should_stop=lambda: len(seen) >= 2)  # fmt: skip
    with pytest.raises(UsageError, match="width"):
        train(stream_of(sky.features, sky.stars), tmp_path, replace(quick, width=64), resume=True)
    fewer = replace(sky.features, bands=sky.features.bands[:-1])
    with pytest.raises(UsageError, match="other bands"):
        train(stream_of(fewer, sky.stars), tmp_path, quick, resume=True)


def test_no_spectra_no_labels_one_band(sky, stream_of, quick, tmp_path, without, new_sky):
    nothing = without(sky.stars, "xp", slice(None))
    report = train(stream_of(sky.features, nothing), tmp_path / "no_xp", quick)
    assert any("no training star has an XP spectrum" in note for note in report.notes)
    assert "xp" not in report.final_losses and "consistency" not in report.final_losses

    bare = new_sky(900, labels=False)
    report = train(stream_of(bare.features, bare.stars), tmp_path / "no_labels", quick)
    assert any("no labels" in note for note in report.notes)

    one = without(nothing, "mag", slice(1, None))
    report = train(stream_of(sky.features, one), tmp_path / "one_band", quick)
    unsupported = next(note for note in report.notes if "no number will be given" in note)
    assert "ps1_g" in unsupported and "gaia_g" not in unsupported


def test_bands_of_few_training_stars_are_named(sky, quick, without):
    """ps1_g of 60 stars, ps1_i of 12, which the spectra know."""
    block = without(sky.stars, "mag", slice(3, 5))
    for m, n in ((3, 60), (4, 12)):
        rows = np.flatnonzero(np.isfinite(sky.stars.mag_BM[:, m]))[:n]
        block.mag_BM[rows, m], block.mag_err_BM[rows, m] = sky.stars.mag_BM[rows, m], 0.01
    scaling = fit_scaling(sky.features, block)
    model = StarNetwork(
        scaling, fit_label_scaling(sky.features, block), MixturePrior(scaling.n_cells, 1, 1), quick
    )
    notes = what_is_skipped(model)
    assert any("intervals may be much too small: ps1_g 60" in note for note in notes)
    assert any("fewer than 20 stars of the sample: ps1_i" in note for note in notes)
    assert not any("few labels" in note for note in notes)


def test_quantities_of_few_labels_are_named(sky, quick):
    block = sky.stars.take(np.arange(200))
    labels = fit_label_scaling(sky.features, block)
    scaling = fit_scaling(sky.features, block)
    notes = what_is_skipped(StarNetwork(scaling, labels, MixturePrior(scaling.n_cells, 1, 1), quick))
    n = np.isfinite(block.label_BL).sum(0)
    (few,) = [note for note in notes if "few labels" in note]
    assert few.endswith(f": fe_h {n[0] + n[1]}, teff {n[2]}")


def test_too_few_stars_is_refused(sky, stream_of, quick, tmp_path):
    with pytest.raises(InputRejected, match="too few stars"):
        train(stream_of(sky.features, sky.stars.take(np.arange(12))), tmp_path, quick)


def test_minutes_are_kept(sky, stream_of, quick, tmp_path):
    began = time.monotonic()
    report = train(stream_of(sky.features, sky.stars), tmp_path, replace(quick, steps=None, minutes=0.1))
    assert report.steps >= 1 and report.seconds < 60
    assert time.monotonic() - began < 120


def test_in_minutes_the_warm_up_starts_with_the_first_step(sky, stream_of, quick, tmp_path, monkeypatch):
    """26.4 s to learn in, of which the two priors take 10 and every step 2; resumed or not."""
    now, read = [0.0], train_autoencoder.read_checkpoint

    def fit_in_5_seconds(*arguments, **options):
        now[0] += 5
        return fit_mixture(*arguments, **options)

    monkeypatch.setattr(train_autoencoder, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(train_autoencoder, "fit_mixture", fit_in_5_seconds)
    config = replace(quick, steps=None, minutes=0.5, warmup=0.5, calibrate_stars=100)

    def rates(folder: str, resume: bool = False, stop_after: int = 99) -> list[float]:
        found: list[float] = []

        def step(report):
            found.append(report.learning_rate / config.learning_rate)
            now[0] += 2

        try:
            train(stream_of(sky.features, sky.stars), tmp_path / folder, config, step, resume,
                  lambda: len(found) >= stop_after)  # fmt: skip
        except Interrupted:
            assert len(found) == stop_after
        return found

    whole = rates("whole")
    assert whole[:5] == pytest.approx([0.002, *(2 * 2 * k / 16.4 for k in range(1, 5))])
    assert len(whole) == 10 and whole[-1] == pytest.approx(0.02)
    began = rates("parts", stop_after=3)
    shutil.copytree(tmp_path / "parts", tmp_path / "older")
    assert began + rates("parts", resume=True) == pytest.approx(whole)
    monkeypatch.setattr(
        train_autoencoder, "read_checkpoint", lambda path: (read(path)[0], without_prepared(read(path)[1]))
    )
    older = rates("older", resume=True)
    assert older[0] == pytest.approx(learning_rate_factor(16 / 26.4, 0.5)) and len(older) == 7


def without_prepared(state: dict) -> dict:
    """The state as it was before checkpoints knew when their first step began."""
    assert "prepared" in state
    return {k: v for k, v in state.items() if k != "prepared"}


def test_options_that_mean_nothing_are_refused():
    for bad in ({}, {"steps": 3, "minutes": 1}, {"steps": 0}, {"steps": 3, "device": "tpu"}):
        with pytest.raises(UsageError):
            TrainConfig(**bad)
    with pytest.raises(UsageError, match="widht"):
        TrainConfig.from_json({"steps": 3, "widht": 4})
    config = TrainConfig(steps=3)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("world", [1, 3])
def test_every_star_once_an_epoch_and_any_position_continues(sky, stream_of, world):
    stream = stream_of(sky.features, sky.stars, block_size=170)
    everyone = []
    for rank in range(world):
        batches, positions = [], [Position()]
        for block, after in star_batches(stream, 256, 3, Position(), rank, world):
            if after.epoch > 0:
                break
            batches.append(block.source_id_B)
            positions.append(after)
        everyone += list(np.concatenate(batches))
        for at in (1, len(batches) // 2, len(batches) - 1):
            again, _ = next(star_batches(stream, 256, 3, positions[at], rank, world))
            np.testing.assert_array_equal(again.source_id_B, batches[at])
    train_ids = [b.source_id_B for b in stream.blocks("train", 0, 3)]
    assert sorted(everyone) == sorted(np.concatenate(train_ids))


def test_restored_moments_lie_where_the_parameters_do():
    """Fused AdamW on CUDA wants its step there as well; `meta` stands for a device that is not the file's."""
    layer = torch.nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    tensors = {"model.weight": layer.weight.detach()}
    tensors |= {f"adam.{k}.weight": v for k, v in optimizer.state[layer.weight].items()}
    elsewhere = torch.nn.Linear(2, 2, bias=False, device="meta")
    again = torch.optim.AdamW(elsewhere.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights cannot be copied to meta
        restore(elsewhere, again, tensors)
    state = again.state[elsewhere.weight]
    assert set(state) == {"step", "exp_avg", "exp_avg_sq"}
    assert {v.device.type for v in state.values()} == {"meta"}


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(sky, stream_of, quick, tmp_path):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("torch.compile on the CPU needs a C++ compiler")
    config = replace(quick, steps=3, bf16="off", calibrate_stars=300)
    losses = [
        train(stream_of(sky.features, sky.stars), tmp_path / str(c), replace(config, compile=c)).final_losses
        for c in (False, True)
    ]
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        assert losses[1][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
