"""A disk that is full, or a file that cannot be written, in words: which one, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msacat.catalog.errors import MsacatError

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
