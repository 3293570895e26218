"""What may be read as an input file: a regular file, since every reader opens it more than once."""

from __future__ import annotations

import stat
from pathlib import Path

from msacat.catalog.errors import InputRejected, printable

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def require_regular_file(path: Path) -> None:
    """InputRejected for a pipe, a device or a socket, links followed: read twice, a pipe has lost its head.

    What is not there, and folders, are left to whoever opens them: they have words of their own.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    for is_kind, what in _KINDS:
        if is_kind(mode):
            raise InputRejected(
                "this cannot be read as a file: it is opened more than once",
                file=str(path),
                expected="a regular file",
                found=what,
                next_step="write it to a file first, and name that",
            )


def is_utf8_name(name: str) -> bool:
    """False for a path that holds other bytes than UTF-8: the ledger could not store it."""
    return printable(name) == name


def require_utf8_name(path: Path) -> None:
    """InputRejected for a path that the ledger cannot hold."""
    if not is_utf8_name(str(path)):
        raise InputRejected(
            "the file's name cannot be recorded",
            file=str(path),
            expected="a path in UTF-8",
            found="bytes that are not, shown as \\x..",
            next_step="rename it",
        )
