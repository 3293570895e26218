"""Every option of a training does what it says: some change what is learned, some only when and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msacat.catalog.errors import Interrupted
from msacat.model.checkpoint import latest_checkpoint, read_checkpoint
from msacat.model.hide_features import HidingPolicy
from msacat.model.train_autoencoder import train


@pytest.fixture(scope="module")
def three_steps(sky, stream_of, quick, tmp_path_factory):
    """three_steps(option=value): the folder of a training that was stopped after its third step."""
    stream = stream_of(sky.features, sky.stars.take(np.arange(900)))
    config = replace(quick, width=16, prior_stars=300, prior_passes=1, bf16="off")

    def learn(**options) -> Path:
        folder, steps = tmp_path_factory.mktemp("three_steps"), []
        with pytest.raises(Interrupted):
            train(
                stream, folder, replace(config, **options), steps.append, should_stop=lambda: len(steps) >= 3
            )
        return folder

    return learn


@pytest.fixture(scope="module")
def usual(three_steps) -> Path:
    return three_steps()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors, state = read_checkpoint(latest_checkpoint(folder))
    assert state["step"] == 3
    return {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}


def same(a: dict, b: dict) -> bool:
    assert set(a) == set(b)
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("option", "value"),
    [("weight_decay", 0.5), ("warmup", 0.5), ("clip_norm", 0.1), ("visible_weight", 0.5), ("label_weight", 1.0),
     ("consistency_weight", 0.5), ("embedding_weight", 0.5), ("bf16", "on"),
     ("hiding", HidingPolicy(cell_share=(0.6, 0.9)))],
)  # fmt: skip
def test_options_that_change_what_is_learned(three_steps, usual, option, value):
    assert not same(weights(three_steps(**{option: value})), weights(usual))


@pytest.mark.parametrize(("option", "value"), [("prefetch", 1), ("checkpoint_seconds", 0.0)])
def test_options_that_change_nothing_that_is_learned(three_steps, usual, option, value):
    assert same(weights(three_steps(**{option: value})), weights(usual))


def test_checkpoints_come_as_often_as_asked(three_steps, usual):
    """The last two are kept."""

    def steps(folder: Path) -> list[str]:
        return sorted(path.name for path in (folder / "checkpoints").iterdir())

    assert steps(usual) == ["step-00000003"]
    assert steps(three_steps(checkpoint_seconds=0.0)) == ["step-00000002", "step-00000003"]
