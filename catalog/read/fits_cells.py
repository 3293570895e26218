"""Cells of FITS binary tables as Arrow arrays: scalars, text, fixed arrays, and variable-length arrays in the heap."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msacat.catalog.read.survey_file import Place
from msacat.catalog.read.text_to_arrow import WRONG_COLUMN

_HEAP_TYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
_VARIABLE = re.compile(r"[01]?([PQ])([A-Z])")
_HEAP_GAP = 8  # read a heap range at once unless it is this many times larger than what is wanted of it


def is_variable(column: Any) -> bool:
    """Is this astropy column a descriptor of arrays in the heap (P or Q)?"""
    return _VARIABLE.match(column.format) is not None


def column_cells(values: np.ndarray, column: Any, place: Place) -> pa.Array:
    """Cells of a fixed-size column; TNULL becomes null, TSCAL and TZERO are applied.

    `values` : the big-endian field, (n,) or (n, k). Raises InputRejected for bits and complex numbers.
    """
    if values.dtype.kind == "S":
        return _text(values, place)
    if "L" in column.format:
        return _logicals(values, place)
    if values.dtype.kind not in "iuf" or "X" in column.format:
        raise place.reject(
            0, "the FITS type is not read", "numbers, text or logicals", column.format, WRONG_COLUMN
        )
    flat = values.reshape(len(values), -1)
    if flat.shape[1] == 0:
        return pa.nulls(len(values))
    cells = _numbers(np.ascontiguousarray(flat).reshape(-1), column)
    if flat.shape[1] == 1:
        return cells
    return pa.FixedSizeListArray.from_arrays(cells, flat.shape[1])


def read_heap_lists(
    descriptors: np.ndarray, column: Any, heap: Callable[[int, int], bytes], place: Place
) -> pa.Array:
    """Lists of a P or Q column. `descriptors` : (n, 2), element count and byte offset of each cell.

    `heap(start, end)` returns heap bytes. Cells of one length are gathered at once, so 55 and 0 are two steps.
    """
    match = _VARIABLE.match(column.format)
    assert match is not None
    if match[2] not in _HEAP_TYPES:
        raise place.reject(0, "the FITS type is not read", "an array of numbers", column.format, WRONG_COLUMN)
    kind = np.dtype(_HEAP_TYPES[match[2]])
    counts, starts = descriptors[:, 0].astype(np.int64), descriptors[:, 1].astype(np.int64)
    if (counts < 0).any() or (starts < 0).any():
        bad = int(np.flatnonzero((counts < 0) | (starts < 0))[0])
        raise place.reject(
            bad,
            "the array descriptor is damaged",
            "count and offset >= 0",
            str(descriptors[bad]),
            WRONG_COLUMN,
        )
    offsets = np.concatenate([[0], np.cumsum(counts)])
    values = np.empty(offsets[-1], kind)
    used = counts > 0
    if used.any():
        low, high = int(starts[used].min()), int((starts + counts * kind.itemsize)[used].max())
        if high - low <= _HEAP_GAP * values.nbytes + (1 << 20):
            data = np.frombuffer(heap(low, high), np.uint8)
            for count in np.unique(counts[used]):
                rows = np.flatnonzero(counts == count)
                gathered = data[(starts[rows] - low)[:, None] + np.arange(count * kind.itemsize)]
                values[offsets[rows][:, None] + np.arange(count)] = gathered.view(kind)
        else:
            for row in np.flatnonzero(used):
                end = starts[row] + counts[row] * kind.itemsize
                values[offsets[row] : offsets[row + 1]] = np.frombuffer(
                    heap(int(starts[row]), int(end)), kind
                )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), _numbers(values, column))


def _numbers(values: np.ndarray, column: Any) -> pa.Array:
    """Native numbers; stored TNULL is null, before TSCAL and TZERO apply (FITS 4.0, section 7.3)."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    missing = None
    if column.null is not None and column.null != "" and native.dtype.kind in "iu":
        missing = native == int(column.null)
    scale = 1.0 if column.bscale in (None, "") else float(column.bscale)
    zero = 0.0 if column.bzero in (None, "") else float(column.bzero)
    if scale == 1.0 and zero == 2.0**63 and native.dtype == np.int64:
        native = native.view(np.uint64) ^ np.uint64(1 << 63)  # unsigned 64-bit integers, exactly
    elif scale == 1.0 and zero.is_integer() and native.dtype.kind in "iu" and native.dtype.itemsize < 8:
        native = native.astype(np.int64) + int(zero) if zero else native
    elif scale != 1.0 or zero != 0.0:
        native = native * scale + zero
    return pa.array(native, mask=missing)


def _logicals(values: np.ndarray, place: Place) -> pa.Array:
    marks = values.reshape(-1).view(np.uint8)
    known = np.isin(marks, [ord("T"), ord("F"), 0])
    if values.ndim > 1 or not known.all():
        bad = 0 if values.ndim > 1 else int(np.flatnonzero(~known)[0])
        raise place.reject(
            bad, "the cell is not a truth value", "T or F", bytes(marks[bad : bad + 1]), WRONG_COLUMN
        )
    return pa.array(marks == ord("T"), mask=marks == 0)


def _text(values: np.ndarray, place: Place) -> pa.Array:
    if values.ndim > 1:
        raise place.reject(
            0, "the FITS type is not read", "one text a row", f"{values.shape[1]} texts", WRONG_COLUMN
        )
    cells = pa.array(values, pa.binary())
    try:
        text = cells.cast(pa.string())
    except pa.ArrowInvalid:
        bad = next(i for i, cell in enumerate(cells.to_pylist()) if not cell.isascii())
        raise place.reject(
            bad, "the text is not ASCII", "ASCII text", cells[bad].as_py(), WRONG_COLUMN
        ) from None
    # what follows a NUL is not part of the value (FITS 4.0, section 7.3.3.1)
    return pc.replace_substring_regex(text, r"(?s)\x00.*", "")
