"""Ids and positions out of text cells: an unreadable one costs its row, a column of rounded ids the file."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msacat.catalog.errors import InputRejected

_WHOLE = r"^[+-]?[0-9]{1,19}$"
_DECIMAL = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_LARGEST = str(2**63 - 1)


def numbers_from_text(
    cells: pa.Array, kind: pa.DataType, path: str, column: str, first_row: int
) -> tuple[pa.Array, np.ndarray]:
    """Trimmed text -> (numbers, which cells could not be read). NULL stays NULL and is not unreadable.

    Raises InputRejected where a whole-number column is written as 6.1e18 or 123.0: its ids went through
    floating point, and one that looks whole may be another star's.
    """
    whole = pa.types.is_integer(kind)
    readable = pc.match_substring_regex(cells, _WHOLE if whole else _DECIMAL)
    if whole:
        rounded = pc.and_(pc.invert(readable), pc.match_substring_regex(cells, _DECIMAL))
        rounded = pc.and_(rounded, pc.match_substring_regex(cells, r"[.eE]"))
        if pc.any(rounded).as_py():
            row = pc.index(rounded, True).as_py()
            raise InputRejected(
                "ids are written as floating-point numbers, which cannot hold them exactly",
                file=path,
                row=first_row + row,
                column=column,
                expected="whole numbers, every digit",
                found=cells[row].as_py(),
                next_step="export the file again with 64-bit integers (pandas: dtype Int64)",
            )
        digits = pc.utf8_ltrim(cells, characters="+-0")
        too_big = pc.and_(pc.equal(pc.utf8_length(digits), 19), pc.greater(digits, _LARGEST))
        readable = pc.and_(readable, pc.invert(too_big))
    text = pc.if_else(readable, pc.utf8_ltrim(cells, characters="+"), pa.scalar(None, pa.string()))
    numbers = text.cast(pa.int64() if whole else kind)
    if whole and kind != pa.int64():
        largest = 2 ** (kind.bit_width - 1) - 1
        fits = pc.and_(pc.less_equal(numbers, largest), pc.greater_equal(numbers, -largest - 1))
        numbers = pc.if_else(fits, numbers, pa.scalar(None, pa.int64())).cast(kind)
    unreadable = pc.and_(cells.is_valid(), numbers.is_null()).to_numpy(zero_copy_only=False)
    return numbers, unreadable
