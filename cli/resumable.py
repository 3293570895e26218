"""Work that a command can go on with after the server, its disk or a Ctrl-C ended it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from msacat.catalog.errors import Interrupted, StoreUnavailable, full_disk


@contextmanager
def resumable(command: Callable[[], str | None], folder: Path | None = None) -> Iterator[None]:
    """What ends the block is raised with `command()`, which continues it, as the next step; None leaves it as it is.

    folder   where the block writes: named when its disk is full
    """
    try:
        yield
    except Interrupted as stopped:
        stopped.next_step = command() or stopped.next_step
        raise
    except StoreUnavailable as error:
        if again := command():
            error.next_step = f"{error.next_step}; then {again}" if error.next_step else again
        raise
    except OSError as error:
        full = full_disk(error)
        if full is None:
            raise
        raise Interrupted(
            f"no space left to write it: {full.strerror}; what was finished before stays",
            file=str(folder or full.filename or "the folder of temporary files (TMPDIR)"),
            next_step=f"free space on that disk, then {command() or 'the same command'}",
        ) from error
    except psycopg.errors.DiskFull as error:
        raise StoreUnavailable(
            "the server's disk is full; what was finished before stays",
            found=str(error).strip(),
            next_step=f"free space, then {command() or 'the same command'}",
        ) from error
    except psycopg.OperationalError as error:
        raise Interrupted(
            "the server ended what was under way; what was finished before stays",
            found=str(error).strip(),
            next_step=command() or "the same command",
        ) from error
