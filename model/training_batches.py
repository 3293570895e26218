"""From a stream of blocks to batches, in an order that can be continued after any batch.

Consecutive blocks are gathered into a group of at least one batch and the group is cut into nearly equal
batches, so every star is used once an epoch and a position is three numbers: (epoch, blocks, cut).
What is hidden in a batch depends on (seed, step) alone; nothing random needs saving.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from msacat.catalog.errors import InputRejected
from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.hide_features import HiddenBatch, HidingPolicy, hide
from msacat.model.label_scaling import LabelScaling
from msacat.model.mixture_prior import Posterior
from msacat.model.scale_features import FeatureScaling
from msacat.model.train_config import StarStream


@dataclass(frozen=True)
class Position:
    """Where the next batch starts: after `blocks` of this process's blocks, `cut` batches into the group."""

    epoch: int = 0
    blocks: int = 0
    cut: int = 0


@dataclass
class TrainingBatch:
    """Numpy arrays; label_BL and its errors scaled (label_scaling.py).

    after   the position behind this batch
    prior   what the prior makes of its visible cells, where that was asked ahead
    """

    step: int
    source_id_B: np.ndarray
    hidden: HiddenBatch
    label_BL: np.ndarray
    label_err_BL: np.ndarray
    after: Position
    prior: Posterior | None = None


def star_batches(
    stream: StarStream, batch_size: int, seed: int, start: Position, rank: int = 0, world: int = 1
) -> Iterator[tuple[StarBlock, Position]]:
    """Endless batches of the training part. InputRejected if an epoch holds no star."""
    epoch, blocks, cut = start.epoch, start.blocks, start.cut
    while True:
        any_star = blocks > 0 or cut > 0
        for group, n_blocks in _groups(stream, epoch, seed, blocks, batch_size, rank, world):
            n_cuts = max(1, round(len(group) / batch_size))
            edges = np.linspace(0, len(group), n_cuts + 1).astype(int)
            for c in range(cut, n_cuts):
                last = c + 1 == n_cuts
                after = Position(epoch, blocks + n_blocks, 0) if last else Position(epoch, blocks, c + 1)
                batch = group.take(np.arange(edges[c], edges[c + 1]))
                batch = batch.take(np.isfinite(batch.mag_BM).any(1))  # nothing to learn from the others
                if len(batch):
                    any_star = True
                    yield batch, after
            blocks, cut = blocks + n_blocks, 0
        if not any_star:
            raise InputRejected("the training part holds no star", next_step="widen --where, or ingest more")
        epoch, blocks, cut = epoch + 1, 0, 0


def _groups(stream, epoch, seed, done, batch_size, rank, world) -> Iterator[tuple[StarBlock, int]]:
    """Groups of consecutive blocks of this process with at least `batch_size` stars, and how many blocks."""
    waiting: list[StarBlock] = []
    count = 0
    # One process skips in the stream itself; several read on, since only every world-th block is theirs.
    source = stream.blocks("train", epoch, seed, skip=done * world)
    for number, block in enumerate(source):
        if number % world != rank:
            continue
        count += 1
        if len(block):
            waiting.append(block)
        if sum(map(len, waiting)) >= batch_size:
            yield StarBlock.concatenate(waiting), count
            waiting, count = [], 0
    if waiting:
        yield StarBlock.concatenate(waiting), count


class BatchFeeder:
    """Iterates TrainingBatch, prepared ahead in one thread so that reading and learning overlap.

    `look`, if given, asks the prior in that thread too, on one core, which is taken from PyTorch's threads: on a CPU half
    of a step's time, and it waits for nothing that is being learned. `close` ends the thread and gives the core back; an
    error in it is raised where the batch is asked for.
    """

    def __init__(
        self,
        stream: StarStream,
        scaling: FeatureScaling,
        labels: LabelScaling,
        policy: HidingPolicy,
        batch_size: int,
        seed: int,
        start: Position,
        step: int,
        rank: int = 0,
        world: int = 1,
        ahead: int = 4,
        look: Callable[[HiddenBatch], Posterior] | None = None,
    ):
        def make() -> Iterator[TrainingBatch]:
            if look is not None:
                torch.set_num_threads(1)  # of this thread
            batches = star_batches(stream, batch_size, seed, start, rank, world)
            for number, (block, after) in enumerate(batches, start=step):
                rng = np.random.default_rng([seed, number, rank])
                hidden = hide(scaling.encode(block), scaling, rng, policy)
                value, err = labels.encode(block.label_BL, block.label_err_BL)
                prior = None if look is None else look(hidden)
                yield TrainingBatch(number, block.source_id_B, hidden, value, err, after, prior)

        self._queue: queue.Queue = queue.Queue(maxsize=max(1, ahead))
        self._stop = threading.Event()
        self._threads = torch.get_num_threads()
        if look is not None:
            # As many threads as cores beside a busy one wait for each other: on two cores a step took a third longer.
            torch.set_num_threads(max(1, self._threads - 1))
        self._thread = threading.Thread(target=self._work, args=(make,), name="batches", daemon=True)
        self._thread.start()

    def _work(self, make: Callable[[], Iterator[TrainingBatch]]) -> None:
        try:
            for batch in make():
                if not self._put(batch):
                    return
        except BaseException as error:  # handed to the asking thread, which raises it
            self._put(error)

    def _put(self, item: object) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> BatchFeeder:
        return self

    def __next__(self) -> TrainingBatch:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        torch.set_num_threads(self._threads)  # threads yet to come would have as many as that one
