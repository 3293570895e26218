"""Times two or more ways of doing one piece of work, side by side in one run, and keeps what was found.

Machines drift by more than most differences worth knowing, so the sides take turns within a run and only the ratio
of their medians is a claim. Every single run's result is checked: a wrong answer is not fast.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Took:
    """Returned by a side that knows better than the wall clock around it what is to be counted."""

    seconds: float
    result: Any


@dataclass(frozen=True)
class Side:
    """One way of doing the work. `check` raises AssertionError; `before` is run first and not timed."""

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], None]
    before: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Record:
    """One line of speed.json: msacat against one peer.

    ours_s, peer_s   medians of the rounds
    ratio, spread    peer_s / ours_s, and its least and largest value in a single round
    peak_mb          most memory of msacat's process (not the server's), 0 if not measured
    rows             how many stars, objects or spectra the work is about
    """

    stage: str
    work: str
    ours_s: float
    peer: str
    peer_s: float
    ratio: float
    spread: tuple[float, float]
    peak_mb: float
    correct: bool
    rows: int
    commit: str
    date: str


def alternate(sides: Sequence[Side], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run by side. Each round begins with another side, so that none always finds warm caches."""
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(rounds):
        first = number % len(sides)
        for side in (*sides[first:], *sides[:first]):
            if side.before is not None:
                side.before()
            began = time.perf_counter()
            result = side.run()
            took = time.perf_counter() - began
            if isinstance(result, Took):
                took, result = result.seconds, result.result
            try:
                side.check(result)
            except AssertionError as error:
                raise AssertionError(f"{side.name}: {error or 'a wrong result'}") from error
            seconds[side.name].append(took)
    return seconds


def compare(
    stage: str, work: str, rows: int, ours: Side, peers: Sequence[Side], rounds: int, peak: float = 0.0
) -> list[Record]:
    """One record a peer. AssertionError, with the side's name, if a result is wrong."""
    seconds = alternate([ours, *peers], rounds)
    mine = seconds[ours.name]
    return [_record(stage, work, rows, peer.name, mine, seconds[peer.name], peak) for peer in peers]


def within(stage: str, work: str, rows: int, ours: Side, limit_s: float, repeats: int) -> Record:
    """A record of an absolute bar: the median of `repeats` runs against `limit_s`."""
    mine = alternate([ours], repeats)[ours.name]
    return _record(stage, work, rows, f"limit of {limit_s * 1000:g} ms", mine, [limit_s] * repeats, 0.0)


def _record(
    stage: str, work: str, rows: int, peer: str, mine: list[float], theirs: list[float], peak: float
) -> Record:
    ratios = [b / a for a, b in zip(mine, theirs, strict=True)]
    ours_s, peer_s = statistics.median(mine), statistics.median(theirs)
    return Record(
        stage, work, ours_s, peer, peer_s, peer_s / ours_s, (min(ratios), max(ratios)), peak, True, rows,
        commit(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
    )  # fmt: skip


def peak_mb(function: Callable[..., Any], *arguments: Any) -> float:
    """Most resident memory (MB) of a fresh process that does nothing but `function(*arguments)`; imports included.

    The server's memory is not in it. RuntimeError if the process fails.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        return float(receiver.recv())
    except EOFError:
        raise RuntimeError(f"the process that measures {function.__name__} failed") from None
    finally:
        process.join()


def _measure(sender: Any, function: Callable[..., Any], arguments: tuple) -> None:
    function(*arguments)
    # Not ru_maxrss: Linux carries the parent's over the fork and exec that made this process.
    status = Path("/proc/self/status").read_text().splitlines()
    sender.send(int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1000)


def write_records(records: Sequence[Record], path: Path) -> None:
    """Merge into a file of records: whatever it says of the stages in `records` goes, so that none outlives its code."""
    old = json.loads(path.read_text()) if path.exists() else []
    stages = {record.stage for record in records}
    new = [asdict(record) for record in records]
    merged = sorted([*(r for r in old if r["stage"] not in stages), *new], key=_key)
    write_json(path, merged)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded(value), indent=1) + "\n")


def _key(record: dict[str, Any]) -> tuple:
    return record["stage"], record["work"], record["peer"], record["rows"]


def rounded(value: Any) -> Any:
    """Four digits: more would be noise, and would make every diff of the file unreadable."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: rounded(v) for name, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value


@cache
def commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """Cores, processor, memory: what a ratio may depend on."""
    model = next(
        (
            x.split(":")[1].strip()
            for x in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in x
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{len(os.sched_getaffinity(0))} cores of {model}, {memory:.0f} GiB"
