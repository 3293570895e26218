"""Rows of fixed-width text (IPAC tables, FITS ASCII tables) rewritten as delimited text for the common parser."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from msacat.catalog.read.text_blocks import BlockParser
from msacat.catalog.read.text_to_arrow import NULL_TOKENS

#: ASCII's own unit separator: no published table contains it.
SEPARATOR = b"\x1f"


def select_columns(rows: np.ndarray, spans: list[tuple[int, int]]) -> bytes:
    """Cut the `spans` (start, end) out of `rows` (uint8[n, width]) and join them with SEPARATOR, a line a row."""
    pieces = []
    for start, end in spans:
        pieces += [rows[:, start:end], np.full((len(rows), 1), SEPARATOR[0], np.uint8)]
    pieces[-1] = np.full((len(rows), 1), ord("\n"), np.uint8)
    return np.concatenate(pieces, axis=1).tobytes()


def fixed_width_parser(
    path: Path,
    wanted: dict[str, pa.DataType],
    widths: Iterable[int],
    max_bad_rows: int,
    null_tokens: Iterable[str] = (),
) -> BlockParser:
    """A parser for what `select_columns` makes of the wanted columns.

    Arrow compares null tokens with the padded cell, so every token is given as it looks in each width.
    """
    tokens = {*NULL_TOKENS, *null_tokens}
    padded = {pad(t, width) for width in set(widths) for t in tokens for pad in (str.ljust, str.rjust)}
    return BlockParser(
        path,
        list(wanted),
        wanted,
        SEPARATOR.decode(),
        None,
        max_bad_rows,
        extra_nulls=sorted(padded | tokens),
    )
