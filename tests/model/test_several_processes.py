"""Several processes train one model: the same prior, the same weights, refused together, ended together."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from msacat.catalog.errors import UsageError
from msacat.model import train_autoencoder
from msacat.model.devices import Workers
from msacat.model.fit_mixture import fit_mixture
from msacat.model.model_folder import load_model
from msacat.model.train_autoencoder import train

#: Every process leaves its weights, of which the first's alone become the model.
TRAINED_AND_LEFT = """
import importlib.util, json, sys
from pathlib import Path
import torch
spec = importlib.util.spec_from_file_location("made_up", sys.argv[1])
made_up = importlib.util.module_from_spec(spec)
sys.modules["made_up"] = made_up
spec.loader.exec_module(made_up)
from msacat.model import train_autoencoder
from msacat.model.train_config import TrainConfig
learn = train_autoencoder._Run.learn
def learn_and_save(run):
    learn(run)
    torch.save(run.model.state_dict(), f"{sys.argv[2]}_of_process_{run.workers.rank}.pt")
train_autoencoder._Run.learn = learn_and_save
sky = made_up.make_sky(1500, seed=5)
train_autoencoder.train(
    made_up.MemoryStream(sky.features, sky.stars), Path(sys.argv[2]), TrainConfig.from_json(json.loads(sys.argv[3])),
    on_step=lambda s: print(s.step, flush=True),
)
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_more_processes_than_blocks_are_refused_by_all_at_once(
    sky, stream_of, quick, tmp_path, monkeypatch, rank
):
    """The one without a block said that there were no stars, and the others waited for it."""
    monkeypatch.setattr(Workers, "join", lambda device: Workers(rank, 2))
    with pytest.raises(UsageError, match=r"too few blocks .*\n.*at least 2, one a process(.|\n)*at most 1"):
        train(stream_of(sky.features, sky.stars, block_size=4000), tmp_path, quick)


def test_the_prior_of_the_first_process_is_used_whole(sky, stream_of, quick, tmp_path, monkeypatch):
    """What is computed from its loadings too. Like a broadcast, a write to `data` is one that PyTorch does not count."""

    def overwrite(self, tensors):
        for tensor in tensors:
            tensor.data.mul_(2)

    def fit_and_ask(*arguments, **options):
        prior = fit_mixture(*arguments, **options)
        prior._pair_loadings()
        return prior

    monkeypatch.setattr(train_autoencoder, "fit_mixture", fit_and_ask)
    run = train_autoencoder._Run(stream_of(sky.features, sky.stars), tmp_path, quick, None, lambda: False)
    monkeypatch.setattr(Workers, "same_as_first", overwrite)
    run.prepare(resume=False)
    found = run.model.prior._pair_loadings()
    again = copy.deepcopy(run.model.prior)
    again.forget_pair_loadings()
    assert torch.equal(found, again._pair_loadings())


@pytest.mark.slow
def test_two_processes_end_together_on_a_budget_of_minutes(quick, tmp_path):
    config = replace(quick, steps=None, minutes=0.05, calibrate_stars=300)
    codes, outputs = two_processes(config, tmp_path, port=29618)
    assert codes == [0, 0]
    assert len(outputs[0].split()) == load_model(tmp_path / "two").training["steps"] > 0


@pytest.mark.slow
def test_two_processes_average_their_gradients(quick, tmp_path):
    config = replace(quick, steps=6, calibrate_stars=300)
    codes, outputs = two_processes(config, tmp_path, port=29617)
    assert codes == [0, 0]
    assert outputs[0].split() == [str(i) for i in range(1, 7)] and outputs[1] == ""
    one, other = (torch.load(tmp_path / f"two_of_process_{rank}.pt") for rank in (0, 1))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)  # though each saw other stars
    stored = load_model(tmp_path / "two")
    assert stored.training["steps"] == 6 and stored.training["epochs"] > 6 * 128 / 900


def two_processes(config, tmp_path: Path, port: int) -> tuple[list[int], list[str]]:
    """torchrun's environment by hand: gloo, two ranks, one model, different from a single process's."""
    conftest = str(Path(__file__).with_name("conftest.py"))
    processes = []
    for rank in range(2):
        environment = {
            **os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        processes.append(
            subprocess.Popen(
                [
                    sys.executable, "-c", TRAINED_AND_LEFT, conftest, str(tmp_path / "two"),
                    json.dumps(config.to_json()),
                ],
                env=environment, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    outputs = [p.communicate(timeout=240)[0] for p in processes]
    return [p.returncode for p in processes], outputs
