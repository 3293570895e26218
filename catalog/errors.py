"""Errors a user can act on: they name file, row, column, what was expected, what was found, the next step."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


def printable(text: str) -> str:
    """A file's name as it may be printed and stored: bytes that are not UTF-8 become `\\x..`."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(eq=False)
class MsacatError(Exception):
    """Base of every error msacat raises on purpose; the command line prints it without a traceback.

    `row` counts data rows of the file from 1, headers and comments excluded.
    """

    message: str
    file: str | None = None
    row: int | None = None
    column: str | None = None
    expected: str | None = None
    found: str | None = None
    next_step: str | None = None

    exit_code = 1  # class attribute, not a field: documented in docs/exit_codes.md

    def __str__(self) -> str:
        where = [str(self.file)] if self.file else []
        if self.row is not None:
            where.append(f"row {self.row}")
        if self.column:
            where.append(f"column {self.column}")
        text = (", ".join(where) + ": " if where else "") + self.message
        if self.expected is not None:
            text += f"\n  expected: {self.expected}"
        if self.found is not None:
            text += f"\n  found:    {self.found}"
        if self.next_step:
            text += f"\n  next:     {self.next_step}"
        return printable(text)


class InputRejected(MsacatError):
    """Data refused, or a verification that failed (exit code 1)."""

    exit_code = 1


class NotATable(InputRejected):
    """Content that is no table at all, as against a table that is damaged or packed."""


class UsageError(MsacatError):
    """The command cannot mean anything: unknown name, bad option, bad spec (exit code 2)."""

    exit_code = 2


class StoreUnavailable(MsacatError):
    """Server unreachable, extension missing, schema older or newer than the code (exit code 3)."""

    exit_code = 3


class StoreLocked(MsacatError):
    """Another job holds the lock this one needs (exit code 4)."""

    exit_code = 4


class Interrupted(MsacatError):
    """Stopped in a state from which the same command continues (exit code 5)."""

    exit_code = 5


#: no space, no quota left, larger than `ulimit -f` allows
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FREE_SPACE = "free space on that disk, then repeat the command"


def full_disk(error: BaseException | None) -> OSError | None:
    """The error that says that a disk is full, be it this one or one that a library made it from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def written_to(path: Path | str, next_step: str = FREE_SPACE) -> Iterator[None]:
    """A block that writes `path`: what the system says against it is raised as MsacatError."""
    try:
        yield
    except OSError as error:
        if full := full_disk(error):
            raise MsacatError(
                f"no space left to write it: {full.strerror}", file=str(path), next_step=next_step
            ) from error
        raise MsacatError(
            f"it cannot be written: {error.strerror or error}",
            file=str(path),
            next_step="check that it may be written, or name another place",
        ) from error
