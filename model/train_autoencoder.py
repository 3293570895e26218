"""Trains a model from a stream of stars: scaling, prior, network, calibration, scores, folder.

Any number of processes (torchrun) read disjoint blocks and average their gradients. On CPU, with a budget
in steps or epochs and the same number of threads, the same seed gives the same weights, and a run
continued after kill -9 ends in the same bits as one that was never stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from msacat.catalog.errors import InputRejected, Interrupted, UsageError
from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.checkpoint import latest_checkpoint, read_checkpoint, restore, save_checkpoint
from msacat.model.devices import Workers, choose_autocast, choose_device
from msacat.model.finish_training import finish_training
from msacat.model.fit_mixture import enough_passes, fit_mixture
from msacat.model.fit_noise_scale import fit_noise_scale
from msacat.model.fit_zero_points import fit_zero_points
from msacat.model.hide_features import HiddenBatch
from msacat.model.label_scaling import LabelScaling, fit_label_scaling
from msacat.model.mixture_prior import MixturePrior, Posterior
from msacat.model.scale_features import FeatureScaling, fit_scaling
from msacat.model.skipped_parts import what_is_skipped
from msacat.model.star_network import StarNetwork
from msacat.model.train_config import StarStream, StepReport, TrainConfig, TrainReport, learning_rate_factor
from msacat.model.training_batches import BatchFeeder, Position
from msacat.model.training_loss import batch_losses

MIN_STARS = 20
NOISE_STARS, NOISE_PASSES = 20_000, 3  # of the prior that judges the stated errors
FINISH_SHARE = 0.12  # of a budget in minutes, left for calibration and scores
PRIOR_SHARE = 0.3  # of a budget in minutes, the most the prior may take; the one before it a quarter of that
#: May differ when a run is continued: they change when, where and with how many bits, never what is computed.
FREE_ON_RESUME = (
    "device",
    "bf16",
    "prefetch",
    "checkpoint_seconds",
    "checkpoint_steps",
    "compile",
    "minutes",
)


def train(
    stream: StarStream,
    folder: Path,
    config: TrainConfig,
    on_step: Callable[[StepReport], None] | None = None,
    resume: bool = False,
    should_stop: Callable[[], bool] | None = None,
    provenance: dict | None = None,
) -> TrainReport:
    """Train on `stream` and leave a model in `folder`.

    on_step      called after every step, in the first process
    resume       continue from the newest whole checkpoint in `folder` (start anew if there is none)
    should_stop  asked after every step; true saves a checkpoint and raises Interrupted
    provenance   what the caller knows of the data; stored in model.json

    The checkpoints stay: remove_checkpoints() once the model is recorded, so that a crash before that costs little.
    Note: `stream.blocks` is iterated in a background thread.
    Raises InputRejected (too few stars; a number that is not finite, naming step and source_ids),
    Interrupted, UsageError.
    """
    run = _Run(stream, Path(folder), config, on_step, should_stop or (lambda: False))
    run.prepare(resume)
    run.learn()
    report = run.report()
    if run.workers.first:
        finish_training(run.model, stream, run.folder, report, provenance or {}, run.device)
    return report


class _Run:
    """One training run: its parts, its place in the stream, its clock."""

    def __init__(self, stream, folder, config, on_step, should_stop):
        self.stream, self.folder, self.config = stream, folder, config
        self.on_step, self.should_stop = on_step, should_stop
        self.workers = Workers.join(config.device)
        self.device = choose_device(config.device, self.workers.local_rank)
        self.autocast = choose_autocast(config.bf16, self.device)
        self.started = time.monotonic()
        self.elapsed_before = 0.0
        self.prepared = 0.0  # seconds until the first step
        self.step, self.stars_seen = 0, 0
        self.position = Position()
        self.losses: dict[str, float] = {}
        self.resumed_from: int | None = None
        self.notes: list[str] = []
        self.model: StarNetwork
        self.optimizer: torch.optim.AdamW

    @property
    def seconds(self) -> float:
        return self.elapsed_before + time.monotonic() - self.started

    def prepare(self, resume: bool) -> None:
        """Scaling, prior and fresh weights, or those of the newest checkpoint."""
        self._refuse_idle_processes()
        path = latest_checkpoint(self.folder) if resume else None
        if path is not None:
            self._continue_from(path)
        else:
            self._start()
        self.total_steps = self._total_steps()
        per_second = 1 / 60 if self.config.minutes is None else 1 / (60 * self.config.minutes)
        self._per_second = per_second / (1 - FINISH_SHARE)

    def _refuse_idle_processes(self) -> None:
        """All alike and before they speak to each other: one that ended alone would leave the others waiting."""
        world = self.workers.world
        if world == 1:
            return
        found = sum(1 for _ in islice(self.stream.blocks("train", 0, self.config.seed), world))
        if 0 < found < world:
            raise UsageError(
                "the training part has too few blocks of stars for so many processes",
                expected=f"at least {world}, one a process", found=str(found),
                next_step=f"start at most {found}",
            )  # fmt: skip

    def _start(self) -> None:
        sample = self._sample()
        scaling = fit_scaling(self.stream.features, sample)
        labels = fit_label_scaling(self.stream.features, sample)
        budget = None if self.config.minutes is None else PRIOR_SHARE * 60 * self.config.minutes
        scaling = self._as_first(self._with_noise(scaling, sample, budget))
        prior = fit_mixture(
            scaling.encode(sample).to(self.device),
            self.config.components,
            self.config.latent,
            self.config.seed,
            enough_passes(len(sample), self.config.prior_passes),
            check=self._stop_before_first_step,
            seconds=budget,
        )
        self._build(scaling, labels, prior)
        self.workers.same_as_first(list(self.model.state_dict().values()))
        self.model.prior.forget_pair_loadings()
        self.notes += what_is_skipped(self.model)

    def _as_first(self, scaling: FeatureScaling) -> FeatureScaling:
        """The first process's noise and zero points: a clock may have ended the others' fits elsewhere."""
        found = [torch.from_numpy(a).to(self.device) for a in (scaling.noise_D, scaling.zero_point_M)]
        self.workers.same_as_first(found)
        noise, zero_point = (a.cpu().numpy() for a in found)
        return replace(scaling, noise_D=noise, zero_point_M=zero_point)

    def _with_noise(self, scaling: FeatureScaling, sample: StarBlock, budget: float | None) -> FeatureScaling:
        """Zero points, and real over stated errors, by a small prior fitted for the purpose to other stars than it judges."""
        n = min(len(sample) // 2, NOISE_STARS)
        fitted, judged = (sample.take(np.arange(start, start + n)) for start in (0, n))
        small = fit_mixture(
            scaling.encode(fitted).to(self.device), None, None, self.config.seed, NOISE_PASSES,
            check=self._stop_before_first_step, seconds=None if budget is None else budget / 4,
        )  # fmt: skip
        cells = scaling.encode(judged).to(self.device)
        scaling = replace(scaling, zero_point_M=fit_zero_points(small, cells, judged.source_id_B, scaling))
        cells = scaling.encode(judged).to(self.device)
        return replace(scaling, noise_D=fit_noise_scale(small, cells, scaling))

    def _sample(self) -> StarBlock:
        """The first stars of epoch 0, in random order by contract: a random sample."""
        blocks, n = [], 0
        for block in self.stream.blocks("train", 0, self.config.seed):
            blocks.append(block)
            n += len(block)
            if n >= self.config.prior_stars:
                break
        usable = sum(int(np.isfinite(b.mag_BM).any(1).sum()) for b in blocks)
        if usable < MIN_STARS:
            raise InputRejected(
                "too few stars to train on",
                expected=f"at least {MIN_STARS} stars with a magnitude in the training part",
                found=str(usable),
                next_step="ingest or crossmatch more, or widen --where",
            )
        return StarBlock.concatenate(blocks)

    def _build(self, scaling: FeatureScaling, labels: LabelScaling, prior: MixturePrior) -> None:
        torch.manual_seed(self.config.seed)
        self.model = StarNetwork(scaling, labels, prior, self.config).to(self.device)
        decayed = [p for p in self.model.network.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if not any(p is d for d in decayed)]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.config.learning_rate,
            betas=(0.9, 0.98),
            fused=True,
        )

    def _continue_from(self, path: Path) -> None:
        tensors, state = read_checkpoint(path)
        before = TrainConfig.from_json(state["config"]).to_json()
        now = self.config.to_json()
        if changed := [k for k in now if now[k] != before[k] and k not in FREE_ON_RESUME]:
            raise UsageError(
                f"the run in {self.folder} was started with other options: {', '.join(changed)}",
                expected=", ".join(f"{k}={before[k]}" for k in changed),
                found=", ".join(f"{k}={now[k]}" for k in changed),
                next_step="continue with the same options, or train into another folder",
            )
        scaling = FeatureScaling.from_json(state["scaling"])
        if scaling.features != self.stream.features:
            raise UsageError(
                "the stars now have other bands or labels than when this run was started",
                expected=", ".join(scaling.features.band_names),
                found=", ".join(self.stream.features.band_names),
                next_step="train into another folder",
            )
        if state["world"] != self.workers.world:
            raise UsageError(
                "the run was started with another number of processes",
                expected=str(state["world"]), found=str(self.workers.world),
            )  # fmt: skip
        components, _, latent = tensors["model.prior.W_CDQ"].shape
        self._build(
            scaling,
            LabelScaling.from_json(scaling.features, state["labels"]),
            MixturePrior(scaling.n_cells, components, latent),
        )
        restore(self.model, self.optimizer, tensors)
        self.step = self.resumed_from = state["step"]
        self.stars_seen = state["stars_seen"]
        self.elapsed_before = state["seconds"]
        self.prepared = state.get(
            "prepared", 0.0
        )  # older checkpoints lack it: such a run goes on as it began
        self.position = Position(**state["positions"][self.workers.rank])
        self.losses, self.notes = state["losses"], state["notes"]

    def _total_steps(self) -> int | None:
        c = self.config
        if c.steps is not None:
            return c.steps
        if c.epochs is not None:
            per_epoch = self.stream.n_stars("train") / (c.batch_size * self.workers.world)
            return max(1, math.ceil(c.epochs * per_epoch))
        return None

    def _progress(self) -> float:
        """Share of the budget used: by steps where they are counted, else by the first process's clock."""
        if self.total_steps is not None:
            return self.step / self.total_steps
        return self.workers.first_says(self.seconds * self._per_second, self.device)

    def _learning_progress(self) -> float:
        """Share used of what the budget leaves for steps: scaling and prior would outlast the warm-up."""
        if self.total_steps is not None:
            return self._progress()
        left = max(1 / self._per_second - self.prepared, 1e-9)
        return self.workers.first_says((self.seconds - self.prepared) / left, self.device)

    def learn(self) -> None:
        """Steps until the budget is used."""
        if self._progress() >= 1 and self.step > 0:
            return
        c, w = self.config, self.workers
        feeder = BatchFeeder(
            self.stream, self.model.scaling, self.model.labels, c.hiding, c.batch_size, c.seed,
            self.position, self.step, w.rank, w.world, c.prefetch,
            self._look if self.device.type == "cpu" else None,
        )  # fmt: skip
        network: Any = torch.compile(self.model.network) if c.compile else self.model.network
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        saved_at, done = time.monotonic(), False
        try:
            while not done:
                batch = next(feeder)
                began = time.monotonic()
                if self.step == 0:
                    self.prepared = self.seconds
                lr = c.learning_rate * learning_rate_factor(self._learning_progress(), c.warmup)
                for group in self.optimizer.param_groups:
                    group["lr"] = lr
                losses = batch_losses(self.model, network, batch, self.device, self.autocast)
                loss = losses["total"]
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
                w.mean(gradients)
                norm = float(nn.utils.clip_grad_norm_(parameters, c.clip_norm))
                if w.any_says(
                    not math.isfinite(norm) or not math.isfinite(float(loss.detach())), self.device
                ):
                    self._refuse_numbers(batch.source_id_B, losses, norm)
                self.optimizer.step()
                self.step += 1
                self.stars_seen += len(batch.source_id_B) * w.world
                self.position = batch.after
                self.losses = {k: float(v.detach()) for k, v in losses.items()}
                progress = self._progress()  # asked by all: in minutes, the first process tells the others
                done = progress >= 1
                if self.on_step is not None and w.first:
                    rate = len(batch.source_id_B) * w.world / max(time.monotonic() - began, 1e-9)
                    parts = {k: v for k, v in self.losses.items() if k != "total"}
                    self.on_step(
                        StepReport(
                            self.step, self.position.epoch, min(1.0, progress), self.losses["total"],
                            parts, norm, lr, rate, self.seconds,
                        )
                    )  # fmt: skip
                stop = w.any_says(bool(self.should_stop()), self.device)
                due = (
                    self.step % c.checkpoint_steps == 0
                    if c.checkpoint_steps
                    else w.any_says(time.monotonic() - saved_at > c.checkpoint_seconds, self.device)
                )
                if due or (stop and not done):
                    self._save()
                    saved_at = time.monotonic()
                if stop and not done:
                    raise Interrupted(
                        f"training stopped after step {self.step}; its state is saved in {self.folder}",
                        next_step="run the same command with --resume",
                    )
        finally:
            feeder.close()

    def _look(self, hidden: HiddenBatch) -> Posterior:
        return self.model.look(hidden.cells.to(self.device), torch.from_numpy(hidden.visible_BD))

    def _save(self) -> None:
        positions = self.workers.gather(
            [self.position.epoch, self.position.blocks, self.position.cut], self.device
        )
        if not self.workers.first:
            return
        state = {
            "step": self.step,
            "stars_seen": self.stars_seen,
            "seconds": self.seconds,
            "prepared": self.prepared,
            "world": self.workers.world,
            "positions": [dict(zip(("epoch", "blocks", "cut"), p, strict=True)) for p in positions],
            "losses": self.losses,
            "notes": self.notes,
            "config": self.config.to_json(),
            "scaling": self.model.scaling.to_json(),
            "labels": self.model.labels.to_json(),
        }
        save_checkpoint(self.folder, self.model, self.optimizer, state)

    def _refuse_numbers(self, source_id_B: np.ndarray, losses: dict, norm: float) -> None:
        parts = {k: str(float(v.detach())) for k, v in losses.items()} | {"gradient_norm": str(norm)}
        evidence = {"step": self.step + 1, "losses": parts, "source_ids": [str(i) for i in source_id_B]}
        self.folder.mkdir(parents=True, exist_ok=True)
        which = f"_process_{self.workers.rank}" if self.workers.world > 1 else ""
        path = self.folder / f"not_finite_step_{self.step + 1}{which}.json"
        path.write_text(json.dumps(evidence, indent=1))
        bad = ", ".join(k for k, v in parts.items() if not math.isfinite(float(v)))
        raise InputRejected(
            f"step {self.step + 1} gave a number that is not finite ({bad or 'in another process'})",
            file=str(path),
            expected="finite loss and gradient",
            found="source_ids "
            + ", ".join(str(i) for i in source_id_B[:5])
            + f" … ({len(source_id_B)} stars, listed in the file)",
            next_step="look at these stars in the surveys; train anew under another --name, without them (--where)",
        )

    def _stop_before_first_step(self) -> None:
        if self.should_stop():
            raise Interrupted("stopped before the first step: nothing to save yet", next_step="run it again")

    def report(self) -> TrainReport:
        n = self.stream.n_stars("train")
        return TrainReport(
            self.folder,
            self.step,
            self.stars_seen / max(1, n),
            self.seconds,
            {part: self.stream.n_stars(part) for part in ("train", "calibrate", "test")},
            self.losses,
            self.model.offsets(),
            list(self.notes),
            self.resumed_from,
        )
