"""What verbs print: results on stdout, words and progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

# Results: never wrapped to the terminal's width when piped.
_stdout = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 10_000)
_stderr = Console(stderr=True, soft_wrap=True, highlight=False)
_quiet = False

LARGEST_EXACT_IN_JSON = 2**53


def be_quiet(quiet: bool) -> None:
    """Silence `say` and progress bars."""
    global _quiet
    _quiet = quiet


def say(text: str) -> None:
    """Words for the person watching, on stderr."""
    if not _quiet:
        _stderr.print(text, markup=False)


def print_json(data: Any) -> None:
    """One JSON document on stdout; integers beyond 2^53 (source_id) as strings, so that no reader rounds them."""
    sys.stdout.write(json.dumps(_jsonable(data), indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """A table on stdout; NULL prints as nothing."""
    table = Table(*columns, title=title, box=None, pad_edge=False, header_style="bold", title_justify="left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    _stdout.print(table, markup=False)


def print_line(text: str) -> None:
    """One line of result on stdout."""
    _stdout.print(text, markup=False)


@contextmanager
def progress_bar(label: str, total: float | None = None) -> Iterator[Any]:
    """A bar on stderr where it is a terminal; yields `update(done, total=None, note="")`."""
    if _quiet or not sys.stderr.isatty():
        yield lambda done, total=None, note="": None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[note]}"))  # fmt: skip
    with Progress(*columns, console=_stderr, transient=True) as bar:
        task = bar.add_task(label, total=total, note="")

        def update(done: float, total: float | None = None, note: str = "") -> None:
            bar.update(task, completed=done, note=note, **({"total": total} if total is not None else {}))

        yield update


def _jsonable(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _jsonable(asdict(value))
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_jsonable(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if abs(value) < LARGEST_EXACT_IN_JSON else str(value)
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return _jsonable(value.item())
    return str(value)
