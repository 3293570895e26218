"""Rows of fixed-width text (IPAC tables, FITS ASCII tables) rewritten as delimited text for the common parser."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msacat.catalog.read.text_blocks import BlockParser
from msacat.catalog.read.text_to_arrow import NULL_TOKENS

#: ASCII's own unit separator: no published table contains it.
SEPARATOR = b"\x1f"


class Span(NamedTuple):
    """Where a column's cells lie in a row, and the text by which the file says that this column's value is missing."""

    start: int
    end: int
    null: str = ""


def select_columns(rows: np.ndarray, spans: list[Span]) -> bytes:
    """Cut the `spans` out of `rows` (uint8[n, width]) and join them with SEPARATOR, a line a row.

    A cell that holds its own column's null is blank afterwards: in another column the same text is a value.
    """
    pieces = []
    for span in spans:
        cells = rows[:, span.start : span.end]
        null = span.null.strip(" ")
        if null and null not in NULL_TOKENS:  # those the parser knows, in every column
            cells = np.where(_cells_equal(cells, null)[:, None], np.uint8(ord(" ")), cells)
        pieces += [cells, np.full((len(rows), 1), SEPARATOR[0], np.uint8)]
    pieces[-1] = np.full((len(rows), 1), ord("\n"), np.uint8)
    return np.concatenate(pieces, axis=1).tobytes()


def _cells_equal(cells: np.ndarray, text: str) -> np.ndarray:
    """Which cells (uint8[n, width]) hold `text`, wherever in the cell it stands."""
    n, width = cells.shape
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(width)
    strings = pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(cells)))
    return pc.equal(pc.ascii_trim(strings, " "), text).to_numpy(zero_copy_only=False)


def fixed_width_parser(
    path: Path, wanted: dict[str, pa.DataType], widths: Iterable[int], max_bad_rows: int
) -> BlockParser:
    """A parser for what `select_columns` makes of the wanted columns.

    Arrow compares null tokens with the padded cell, so every token is given as it looks in each width.
    """
    padded = {pad(t, width) for width in set(widths) for t in NULL_TOKENS for pad in (str.ljust, str.rjust)}
    return BlockParser(
        path,
        list(wanted),
        wanted,
        SEPARATOR.decode(),
        None,
        max_bad_rows,
        extra_nulls=sorted(padded),
    )
