"""train, second half: held-out errors of the default model and of the published architecture after equal wall time.

Both train at the same time, each in a process of its own, on the same packed stars and the same share of the machine.
Judged on the `test` part: values are hidden as enrichment finds them missing, alike for both. Writes
results/equal_time.json. Not part of `make bench`: `python benchmarks/equal_time.py --minutes 20`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import RESULTS, commit, machine, write_json
from made_up_store import made_up_store
from reference_architecture import ReferenceTraining, cells_of
from stream import SEED, packed_stream
from temporary_server import temporary_server
from train import reference_batches

from msacat.catalog.stream.stream_stars import StarStream
from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.devices import choose_autocast
from msacat.model.held_out import hold_out
from msacat.model.predict_stars import StarModel
from msacat.model.scale_features import fit_scaling
from msacat.model.train_autoencoder import train
from msacat.model.train_config import TrainConfig

REGIMES = ("survey_hidden", "xp_hidden", "xp_and_survey_hidden")
TEST_STARS = 6_000
#: the published 1e-5 is for 100 epochs of 10^8 stars; in minutes it learns nothing
ITS_LEARNING_RATE, ITS_BATCH = 3e-4, 1024


@dataclass(frozen=True)
class Judged:
    """Mean absolute error of hidden cells in robust widths of their kind, by regime and kind; steps taken."""

    steps: int
    stars_seen: int
    errors: dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--stars", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "equal_time.json")
    asked = parser.parse_args()
    with temporary_server(asked.folder) as server:
        stream = packed_stream(made_up_store(server, asked.stars))
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            jobs = [pool.apply_async(side, (stream, asked.minutes, server.folder)) for side in (ours, theirs)]
            mine, its = (job.get() for job in jobs)
    found = {"minutes": asked.minutes, "stars": asked.stars, "machine": machine(), "commit": commit(),
             "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
             "ours": vars(mine), "published_architecture": vars(its)}  # fmt: skip
    write_json(asked.out, found)
    for regime, kinds in mine.errors.items():
        for kind, error in kinds.items():
            print(f"{regime}, {kind}: {error:.3f} against {its.errors[regime][kind]:.3f}")


def ours(stream: StarStream, minutes: float, folder: Path) -> Judged:
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    config = TrainConfig(minutes=minutes, device="cpu", seed=SEED, checkpoint_seconds=1e9)
    report = train(stream, folder / "equal_time", config)
    network = StarModel.load(folder / "equal_time", "cpu").network
    errors = _judge(stream, network, lambda held, block: held.mean_BD)
    return Judged(report.steps, round(report.epochs * stream.n_stars("train")), errors)


def theirs(stream: StarStream, minutes: float, folder: Path) -> Judged:
    """Its scaling is fitted as msacat's is; the clock starts with it, as msacat's starts with its own fit."""
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    began, steps, n = time.monotonic(), 0, 0
    sample: list[StarBlock] = []
    for block in stream.blocks("train", 0, SEED):
        sample.append(block)
        if sum(map(len, sample)) >= TrainConfig(steps=1).prior_stars:
            break
    scaling = fit_scaling(stream.features, StarBlock.concatenate(sample))
    training = ReferenceTraining(
        scaling.n_cells + len(stream.features.scalars), scaling.n_cells, ITS_LEARNING_RATE,
        choose_autocast("auto", torch.device("cpu")),
    )  # fmt: skip
    for cells in reference_batches(stream, scaling, ITS_BATCH, None):
        training.step(cells)
        steps, n = steps + 1, n + len(cells.value_BF)
        if time.monotonic() - began > 60 * minutes:
            break
    training.network.eval()
    untrained = _untrained(stream, scaling)

    def predict(held: Any, block: StarBlock) -> np.ndarray:
        cells = cells_of(scaling, block)
        hidden = torch.zeros_like(cells.measured_BF)
        hidden[:, : cells.n_cells] = torch.from_numpy(held.scored_BD)
        value = torch.where(hidden | ~cells.measured_BF, 0.0, cells.value_BF)
        with torch.no_grad():
            return torch.cat([training.predict(part) for part in value.split(1024)]).numpy()

    return Judged(steps, n, _judge(stream, untrained, predict))


def _untrained(stream: StarStream, scaling) -> Any:
    """hold_out() wants a network to hide with; what it predicts is not looked at."""
    from msacat.model.label_scaling import fit_label_scaling
    from msacat.model.mixture_prior import MixturePrior
    from msacat.model.star_network import StarNetwork

    block = next(iter(stream.blocks("train", 0, SEED)))
    labels = fit_label_scaling(stream.features, block)
    return StarNetwork(
        scaling, labels, MixturePrior(scaling.n_cells, 1, 1), TrainConfig(steps=1, components=1, latent=1)
    )


def _judge(stream: StarStream, network: Any, predict) -> dict[str, dict[str, float]]:
    """Errors are given in the widths of the scaling fitted on the first training stars, which is the same for both."""
    M, K = network.scaling.n_bands, network.scaling.n_cells
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {regime: [] for regime in REGIMES}
    n = 0
    for block in stream.blocks("test", 0, SEED):
        rng = np.random.default_rng([SEED, n])
        block = block.take(np.isfinite(block.mag_BM).any(1))
        for regime in REGIMES:
            held = hold_out(network, block, regime, rng, torch.device("cpu"))
            error = np.abs(predict(held, block) - held.value_BD)
            parts[regime].append((error, held.scored_BD))
        n += len(block)
        if n >= TEST_STARS:
            break
    found: dict[str, dict[str, float]] = {}
    for regime, pieces in parts.items():
        error, scored = (np.concatenate(x) for x in zip(*pieces, strict=True))
        kinds = {}
        if "survey" in regime:
            kinds["bands"] = slice(0, M)
        if "xp" in regime:
            kinds["XP coefficients"] = slice(M, K)
        found[regime] = {kind: float(error[:, part][scored[:, part]].mean()) for kind, part in kinds.items()}
    return found


if __name__ == "__main__":
    main()
