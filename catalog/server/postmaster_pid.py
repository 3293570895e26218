"""Read a data folder's postmaster.pid, and tell a running server from a stale file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Postmaster:
    """The process a pid file names.

    `is_alive`: a process of that number runs (a zombie does not). `serves_folder`: it is this folder's server.
    """

    path: Path
    pid: int
    is_alive: bool
    serves_folder: bool
    command: str


def read_postmaster(data_folder: Path) -> Postmaster | None:
    """The process named in `data_folder/postmaster.pid`, or None if there is no such file."""
    path = data_folder / "postmaster.pid"
    try:
        words = path.read_text().split()
    except FileNotFoundError:
        return None
    pid = int(words[0]) if words and words[0].isdigit() else 0
    state, command = _process(pid)
    is_alive = state not in ("", "Z", "X")
    return Postmaster(path, pid, is_alive, is_alive and _works_in(pid, data_folder), command)


def _process(pid: int) -> tuple[str, str]:
    """(state letter, program name) from /proc, ("", "") if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    name_begins, name_ends = stat.index("(") + 1, stat.rindex(")")  # a name may hold brackets and spaces
    return stat[name_ends + 2], stat[name_begins:name_ends]


def _works_in(pid: int, data_folder: Path) -> bool:
    """A postmaster's working folder is its data folder."""
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", data_folder)
    except (FileNotFoundError, PermissionError):
        return False
