"""What verbs print: results on stdout, words and progress on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from msacat.catalog.errors import MsacatError, written_to

# Results: never wrapped to the terminal's width when piped.
_stdout = Console(soft_wrap=True, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 10_000)
_stderr = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
_quiet = False

LARGEST_EXACT_IN_JSON = 2**53


def be_quiet(quiet: bool) -> bool:
    """Silence `say` and progress bars; returns whether they were silent before."""
    global _quiet
    before, _quiet = _quiet, quiet
    return before


def say(text: str) -> None:
    """Words for the person watching, on stderr."""
    if not _quiet:
        _stderr.print(text, markup=False)


def say_at_once(text: str) -> None:
    """`say` for signal handlers: they may have come in the middle of a print, which cannot be begun twice."""
    if _quiet:
        return
    line = f"{text}\n"
    try:
        descriptor = sys.stderr.fileno()
    except (OSError, ValueError):  # not a file: a test reads along
        sys.stderr.write(line)
        return
    os.write(descriptor, ("\n" + line if sys.stderr.isatty() else line).encode())  # not into a progress bar


@contextmanager
def standard_output() -> Iterator[None]:
    """A block that prints results: MsacatError where they cannot be written. What is left in the buffer is dropped."""
    try:
        with written_to("standard output"):
            yield
    except MsacatError as error:
        if isinstance(error.__cause__, OSError):
            _drop_unwritten()
        raise


def flush_results() -> None:
    """Everything printed is written: what cannot be is the command's error, not the interpreter's."""
    with standard_output():
        sys.stdout.flush()


def _drop_unwritten() -> None:
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # not a file: a test reads along
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def print_json(data: Any) -> None:
    """One JSON document on stdout; integers beyond 2^53 (source_id) as strings, so that no reader rounds them."""
    text = json.dumps(_jsonable(data), indent=2, ensure_ascii=False)
    with standard_output():
        sys.stdout.write(text + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """A table on stdout; NULL prints as nothing. Where it is piped its lines are as long as they need to be."""
    cells = [tuple("" if value is None else str(value) for value in row) for row in rows]
    if _stdout.is_terminal:
        table = Table(title=title, box=None, pad_edge=False, header_style="bold", title_justify="left")
        for column in columns:  # a word too long for its column, a UCD say, goes on in the next line
            table.add_column(column, overflow="fold")
        for row in cells:
            table.add_row(*map(escape, row))
        _stdout.print(table)
        return
    widths = _widths(columns, cells)
    for line in ([title] if title else []) + [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (tuple(columns), *cells)
    ]:
        print_line(line.replace("\n", " "))


def print_records(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows as a table, or one value a line where a terminal is too narrow for that."""
    cells = [tuple("" if value is None else str(value) for value in row) for row in rows]
    widths = _widths(columns, cells)
    if not (_stdout.is_terminal and sum(widths) + 2 * len(widths) > _stdout.width):
        print_table(columns, rows)
        return
    longest = max(map(len, columns))
    for row in cells:
        for name, cell in zip(columns, row, strict=True):
            print_line(f"{name.ljust(longest)}  {cell}")
        print_line("")


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, values)) for values in zip(columns, *cells, strict=True)]


def print_line(text: str) -> None:
    """One line of result on stdout; piped, every character as it is."""
    if _stdout.is_terminal:
        _stdout.print(text, markup=False)
    else:
        with standard_output():
            sys.stdout.write(text + "\n")


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
            bar.update(task, total=total, completed=done, note=note)  # total None leaves it as it is

        yield update


def one_type_a_column(
    columns: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[list]:
    """Rows for `print_json` in which a column of whole numbers is numbers throughout, or strings throughout.

    Strings where any of its numbers is beyond what JSON's readers hold exactly; a source_id always.
    """
    values = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]
    for i, (name, kind) in enumerate(zip(columns, types, strict=True)):
        if kind.removesuffix("[]") in ("int8", "numeric") and (
            name.endswith("source_id") or any(map(_beyond_json, values[i]))
        ):
            values[i] = [_digits(value) for value in values[i]]
    return [list(row) for row in zip(*values, strict=True)]


def _beyond_json(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_beyond_json, value))
    if isinstance(value, Decimal) and not (value.is_finite() and value == value.to_integral_value()):
        return False
    return value is not None and abs(value) >= LARGEST_EXACT_IN_JSON


def _digits(value: Any) -> Any:
    if isinstance(value, list):
        return [_digits(item) for item in value]
    if value is None or (isinstance(value, Decimal) and not value.is_finite()):
        return None
    return format(value, "f") if isinstance(value, Decimal) else str(value)


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
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        return _jsonable(int(value) if value == value.to_integral_value() else float(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return rf"\x{value.hex()}"  # as PostgreSQL writes it
    if hasattr(value, "item"):
        return _jsonable(value.item())
    return str(value)
