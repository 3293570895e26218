"""Ctrl-C and SIGTERM: the first asks for a clean end after the current unit of work, the second ends at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from msacat.catalog.errors import Interrupted
from msacat.cli.output import say_at_once


class StopSignal:
    """While the block runs, `asked()` tells whether a signal came; a second one raises Interrupted."""

    def __init__(self, words: str) -> None:
        self._words, self._asked = words, False
        self._previous: dict[int, Any] = {}

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> StopSignal:
        _pyarrow_answers(False)
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._came)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        _pyarrow_answers(True)

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise Interrupted(
                "stopped at once; nothing is half-written", next_step="the same command continues"
            )
        self._asked = True
        say_at_once(self._words)


def _pyarrow_answers(signals: bool) -> None:
    """While it reads CSV, pyarrow takes Ctrl-C for itself and fails the file at hand, unless told not to."""
    import pyarrow as pa

    pa.enable_signal_handlers(signals)
