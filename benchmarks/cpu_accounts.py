"""Where the time of one piece of work goes: seconds of processor in msacat and in the server, bytes to disk."""

from __future__ import annotations

import cProfile
import os
import pstats
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from temporary_server import TemporaryServer

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Account:
    """seconds of wall time; processor seconds of this process and its children, and of the server; MB written.

    None where what is timed is a part of the work, of which nobody accounts.
    """

    seconds: float
    client_cpu_s: float | None
    server_cpu_s: float | None
    written_mb: float | None
    #: (what, seconds) of this process's functions by their own time, most first
    top: list[tuple[str, float]]


def account(server: TemporaryServer, work: Callable[[], object], functions: int = 6) -> Account:
    """Run `work` once. Its functions are timed where they are slow enough that timing does not show."""
    pid = int((server.server.data_folder / "postmaster.pid").read_text().split()[0])
    before, mine = _server(pid), _client()
    profile = cProfile.Profile()
    began = time.perf_counter()
    profile.enable()
    work()
    profile.disable()
    seconds = time.perf_counter() - began
    after, mine_after = _server(pid), _client()
    stats = pstats.Stats(profile)
    rows = sorted(((own, where) for where, (_, _, own, _, _) in stats.stats.items()), reverse=True)  # type: ignore[attr-defined]
    top = [(_name(where), own) for own, where in rows[:functions]]
    return Account(seconds, mine_after - mine, after[0] - before[0], (after[1] - before[1]) / 1e6, top)


def _client() -> float:
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def _server(postmaster: int) -> tuple[float, int]:
    """(processor seconds, bytes written) of the server so far, ended processes included."""
    ticks = written = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            is_it = int(process.name) == postmaster
            if not is_it and int(fields[1]) != postmaster:
                continue
            ticks += sum(map(int, fields[11:15] if is_it else fields[11:13]))
            io = dict(line.split(": ") for line in (process / "io").read_text().splitlines())
            written += int(io["write_bytes"])
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile; its parent counts it
            continue
    return ticks / TICKS, written


def _name(where: tuple[str, int, str]) -> str:
    file, _, function = where
    return function if file.startswith(("~", "<")) else f"{Path(file).stem}.{function}"
