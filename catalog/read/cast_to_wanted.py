"""Typed columns (FITS, VOTable, Parquet) -> the type asked for, only where nothing can change."""

from __future__ import annotations

import pyarrow as pa

from msacat.catalog.read.survey_file import Place
from msacat.catalog.read.text_to_arrow import (
    FLOAT_INTEGER,
    TOO_LARGE,
    WRONG_COLUMN,
    expected_integer,
    lists_without_nan,
    text_to_column,
    without_nan,
)

_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def cast_to_wanted(cells: pa.Array, kind: pa.DataType, place: Place) -> pa.Array:
    """`cells` as `kind`, NaN made null. Integers are never taken from floats, text never from floats.

    Raises InputRejected naming the first row that does not fit, or the column where no row could.
    """
    have = cells.type
    if pa.types.is_dictionary(have):
        return cast_to_wanted(cells.dictionary_decode(), kind, place)
    if pa.types.is_null(have):
        return pa.nulls(len(cells), kind)
    if pa.types.is_string(have) or pa.types.is_large_string(have):
        return text_to_column(cells.cast(pa.string()), kind, place)
    if any(is_list(have) for is_list in _LISTS):
        if pa.types.is_list(kind) and _is_number(have.value_type):
            return lists_without_nan(cells.cast(pa.list_(have.value_type)), kind)
    elif pa.types.is_floating(kind) and (_is_number(have) or pa.types.is_decimal(have)):
        return without_nan(cells.cast(kind, safe=False))
    elif pa.types.is_integer(kind) and pa.types.is_integer(have):
        return _integers(cells, kind, place)
    elif pa.types.is_boolean(have) and (pa.types.is_boolean(kind) or pa.types.is_integer(kind)):
        return cells.cast(kind)
    elif pa.types.is_boolean(kind) and pa.types.is_integer(have):
        return text_to_column(cells.cast(pa.string()), kind, place)
    elif pa.types.is_string(kind) and pa.types.is_integer(have):
        return cells.cast(kind)
    raise place.reject(
        0,
        "the column has the wrong type",
        expected=str(kind),
        found=str(have),
        next_step=FLOAT_INTEGER if pa.types.is_integer(kind) and pa.types.is_floating(have) else WRONG_COLUMN,
    )


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _integers(cells: pa.Array, kind: pa.DataType, place: Place) -> pa.Array:
    try:
        return cells.cast(kind)
    except pa.ArrowInvalid:
        for index, value in enumerate(cells.to_pylist()):
            if value is not None and not -(2 ** (kind.bit_width - 1)) <= value < 2 ** (kind.bit_width - 1):
                raise place.reject(
                    index, "the integer is out of range", expected_integer(kind), value, TOO_LARGE
                ) from None
        raise
