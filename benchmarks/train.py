"""train: stars a second of the default model against the published architecture; same batches, machine, precision.

Both read the same packed stream through the same reader thread, and both pay for encoding and hiding.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from harness import Record, Side, Took, compare
from made_up_store import made_up_store
from reference_architecture import Cells, ReferenceTraining, cells_of
from sizes import Size, mixture_size
from stream import SEED, check_steps, packed_stream, time_steps, timed_rows
from temporary_server import TemporaryServer

from msacat.catalog.stream.stream_stars import StarStream
from msacat.model.devices import choose_autocast
from msacat.model.scale_features import FeatureScaling, fit_scaling
from msacat.model.train_config import TrainConfig
from msacat.model.training_batches import Position, star_batches

STAGE = "train"
ITS_LEARNING_RATE = 1e-5
AHEAD = 4


def ours(server: TemporaryServer, n: int, folder: Path) -> Side:
    stream = packed_stream(made_up_store(server, n))
    steps = 1 + max(1, n // TrainConfig(steps=1).batch_size)  # the first is not timed
    config = timed_config(steps, TrainConfig(steps=1).batch_size, "auto")
    return Side("msacat", lambda: time_steps(stream, folder, config), check_steps(steps))


def run(server: TemporaryServer, size: Size, folder: Path) -> list[Record]:
    stream = packed_stream(made_up_store(server, size.stars))
    records = []
    for batch in size.batches:
        records += _compare(stream, size, folder, batch, "auto")
        if batch == TrainConfig(steps=1).batch_size and choose_autocast("auto", torch.device("cpu")):
            records += _compare(stream, size, folder, batch, "off")
    return records


def timed_config(steps: int, batch: int, bf16: str) -> TrainConfig:
    components, latent = mixture_size()
    return TrainConfig(steps=steps, batch_size=batch, prior_stars=2000, prior_passes=1, components=components, latent=latent,
                       calibrate_stars=500, device="cpu", bf16=bf16, checkpoint_seconds=1e9)  # fmt: skip


def _compare(stream: StarStream, size: Size, folder: Path, batch: int, bf16: str) -> list[Record]:
    steps = size.steps
    config = timed_config(steps, batch, bf16)
    sample = next(iter(stream.blocks("train", 0, SEED)))
    scaling = fit_scaling(stream.features, sample)
    peer = ReferenceTraining(
        scaling.n_cells + len(stream.features.scalars), scaling.n_cells, ITS_LEARNING_RATE,
        choose_autocast(bf16, torch.device("cpu")),
    )  # fmt: skip
    mine = Side("msacat", lambda: time_steps(stream, folder, config), check_steps(steps))
    name = f"published architecture, {peer.n_parameters / 1e6:.0f} million parameters"
    theirs = Side(name, lambda: time_reference(stream, scaling, peer, steps, batch), check_steps(steps))
    precision = "bfloat16 inside" if peer.autocast else "float32"
    work = f"{steps} training steps of {batch} stars, {precision}, the first left out"
    return compare(STAGE, work, timed_rows(steps, batch), mine, [theirs], size.rounds)


def time_reference(
    stream: StarStream, scaling: FeatureScaling, peer: ReferenceTraining, steps: int, batch: int
) -> Took:
    """As stream.time_steps() counts: from the end of the first step to the end of the last."""
    ended: list[float] = []
    for cells in reference_batches(stream, scaling, batch, steps):
        loss = peer.step(cells)
        assert loss == loss, "the loss is not a number"
        ended.append(time.perf_counter())
    return Took(ended[-1] - ended[0], len(ended))


def reference_batches(
    stream: StarStream, scaling: FeatureScaling, batch: int, steps: int | None
) -> Iterator[Cells]:
    """Encoded ahead in a thread, as msacat's own batches are; endless without `steps`."""
    ahead: queue.Queue = queue.Queue(maxsize=AHEAD)
    stop = threading.Event()

    def work() -> None:
        try:
            for number, (block, _) in enumerate(star_batches(stream, batch, SEED, Position())):
                if stop.is_set() or number == steps:
                    break
                ahead.put(cells_of(scaling, block))
        finally:
            ahead.put(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (cells := ahead.get()) is not None:
            yield cells
    finally:
        stop.set()
        while thread.is_alive():
            while not ahead.empty():
                ahead.get_nowait()
            thread.join(timeout=0.05)
