"""What a training run is told, what it reads stars from, and what it reports."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Protocol

from msacat.catalog.errors import UsageError
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.devices import DEVICES
from msacat.model.hide_features import HidingPolicy


class StarStream(Protocol):
    """Stars of one snapshot, in blocks."""

    features: StarFeatures

    def n_stars(self, part: str) -> int:
        """Stars in `part`: 'train', 'calibrate' or 'test'."""
        ...

    def blocks(self, part: str, epoch: int, seed: int, skip: int = 0) -> Iterator[StarBlock]:
        """Every star of `part` once, in an order given by (epoch, seed), from the block after `skip`."""
        ...


@dataclass(frozen=True)
class TrainConfig:
    """All of a run's choices; stored with the model.

    The run ends after `steps`, or `epochs`, or `minutes` of wall time (whichever is given; the learning
    rate follows the budget). Only a run measured in steps or epochs gives the same weights twice.
    """

    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda
    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup: float = 0.03  # share of the budget; of minutes, of those from the first step on
    clip_norm: float = 1.0
    width: int = 384
    blocks: int = 3
    label_width: int = 256
    components: int | None = None  # None: by the number of stars
    latent: int | None = None
    prior_stars: int = 150_000  # sample for scaling and prior
    prior_passes: int = 3  # at least; more of few stars
    max_drops: int = 2  # visible cells a star may lose as outliers
    hiding: HidingPolicy = field(default_factory=HidingPolicy)
    xp_weight: float = 0.5
    visible_weight: float = 0.1
    label_weight: float = 0.5
    consistency_weight: float = 0.05
    embedding_weight: float = 0.2
    calibrate_stars: int = 25_000
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int | None = None  # instead of seconds
    bf16: str = "auto"  # auto, on, off
    compile: bool = False  # torch.compile of the network; needs a C++ compiler on CPU
    prefetch: int = 4  # batches prepared ahead, in a thread

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.minutes, self.epochs, self.steps)) != 1:
            raise UsageError("give exactly one of minutes, epochs, steps")
        for name in ("minutes", "epochs", "steps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be positive", found=str(value))
        for name, allowed in (("device", DEVICES), ("bf16", ("auto", "on", "off"))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"unknown {name}", expected=", ".join(allowed), found=getattr(self, name))

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(data: dict) -> TrainConfig:
        data = dict(data)
        if unknown := set(data) - {f.name for f in fields(TrainConfig)}:
            raise UsageError(f"unknown training options: {', '.join(sorted(unknown))}")
        if isinstance(data.get("hiding"), dict):
            hiding = dict(data["hiding"])
            hiding |= {name: tuple(hiding[name]) for name in ("cell_share", "jitter")}
            data["hiding"] = HidingPolicy(**hiding)
        return TrainConfig(**data)


@dataclass
class StepReport:
    """Passed to `on_step` after every step."""

    step: int
    epoch: int
    progress: float  # 0..1 of the budget
    loss: float
    losses: dict[str, float]  # bands, visible, xp, labels, consistency, embedding
    gradient_norm: float
    learning_rate: float
    stars_per_second: float
    seconds: float


@dataclass
class TrainReport:
    """What came out; `notes` says in words what was skipped and why."""

    folder: Path
    steps: int
    epochs: float
    seconds: float
    stars: dict[str, int]
    final_losses: dict[str, float]
    offsets: dict[str, float]  # mag or label unit, by band or label
    notes: list[str]
    resumed_from: int | None = None


def learning_rate_factor(progress: float, warmup: float) -> float:
    """Linear warm-up, then a cosine to 2 %."""
    if progress < warmup:
        return max(progress, 1e-3) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warmup) / (1 - warmup))))
