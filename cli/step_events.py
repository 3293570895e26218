"""Training steps as TensorBoard reads them (the optional package tensorboard: extra `watch`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def require_tensorboard(folder: Path | None) -> None:
    """UsageError if events are wanted and cannot be written."""
    from msacat.catalog.errors import UsageError

    if folder is not None and importlib.util.find_spec("tensorboard") is None:
        raise UsageError(
            "--tensorboard needs the package tensorboard", next_step="pip install 'msacat[watch]'"
        )


@contextmanager
def step_events(folder: Path | None) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """A function that writes the values of a step into `folder`; with None it does nothing.

    The first step written hides what an interrupted training wrote from that step on.
    """
    if folder is None:
        yield lambda step, values: None
        return
    from torch.utils.tensorboard import SummaryWriter

    writers: list[SummaryWriter] = []

    def write(step: int, values: dict[str, float]) -> None:
        if not writers:
            writers.append(SummaryWriter(str(folder), purge_step=step))
        for name, value in values.items():
            writers[0].add_scalar(name, value, step)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
