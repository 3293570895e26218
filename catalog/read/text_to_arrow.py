"""Cells of text -> Arrow columns of the type asked for; what cannot be read exactly is refused, never guessed."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.survey_file import Place

#: Written by archives and tools where a value is missing (section 0 of the formats page; `--` is astropy's mask).
NULL_TOKENS = ["", "null", "NULL", "nan", "NaN", "\\N", "--"]
TRUE_TOKENS = ["True", "true", "TRUE", "T", "t", "1"]
FALSE_TOKENS = ["False", "false", "FALSE", "F", "f", "0"]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(
    r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE
)
_BRACKETS = "()[] "

WRONG_COLUMN = "check that the column is the one the dataset describes, and that the file is undamaged"
FLOAT_INTEGER = (
    "the file writes this integer column as floating-point numbers, which may have lost digits: "
    "download or export it again with integers"
)
TOO_LARGE = "such a number cannot be stored without changing it: check that the column is the right one"


def text_to_column(cells: pa.Array, kind: pa.DataType, place: Place) -> pa.Array:
    """Trimmed `cells` (strings, null = missing) as `kind`; the tokens above become null, and so does NaN.

    Raises InputRejected naming the first cell that is not a value of that type.
    """
    if pa.types.is_list(kind):
        return arrays_from_text(cells, kind, place)
    text = _without_tokens(pc.utf8_trim_whitespace(cells))
    if pa.types.is_string(kind):
        return text
    if pa.types.is_boolean(kind):
        return _booleans(text, place)
    return _numbers(text, kind, place)


def _without_tokens(text: pa.Array) -> pa.Array:
    missing = pc.is_in(text, value_set=pa.array(NULL_TOKENS))
    if not pc.any(missing).as_py():
        return text
    return pc.if_else(missing, pa.scalar(None, pa.string()), text)


def arrays_from_text(cells: pa.Array, kind: pa.DataType, place: Place, separator: str = ",") -> pa.Array:
    """`"(a, b)"` (DataLink CSV), `"[a,b]"` (ECSV) or `a b` (VOTable) cells as lists; an empty array is null.

    Numbers are read in double precision and then rounded, as the binary formats store them, so that a star has the
    same coefficients in every encoding.
    """
    inner = _without_tokens(pc.utf8_trim(cells, _BRACKETS))
    sample = next((cell for cell in inner[:64].to_pylist() if cell is not None), "")
    spaced = separator + " " if separator + " " in sample else separator
    try:
        lists = pc.cast(pc.split_pattern(inner, spaced), pa.list_(pa.float64()))
    except pa.ArrowInvalid:
        lists = _arrays_with_odd_elements(inner, separator, place)
    return lists_without_nan(lists, kind)


def _arrays_with_odd_elements(inner: pa.Array, separator: str, place: Place) -> pa.Array:
    """The same for arrays with irregular spaces, or null and nan inside."""
    if separator == " ":
        parts = pc.utf8_split_whitespace(inner)
    else:
        parts = pc.split_pattern(pc.replace_substring_regex(inner, r"\s+", ""), separator)
    owner = pc.list_parent_indices(parts)
    values = text_to_column(
        pc.list_flatten(parts),
        pa.float64(),
        Place(place.file, place.column, lambda i: place.row_of(owner[i].as_py())),
    )
    return rebuild_list(parts, values)


def rebuild_list(lists: pa.Array, values: pa.Array) -> pa.Array:
    """`lists` with its flattened values replaced by `values`; null lists stay null."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, values, mask=pc.is_null(lists) if lists.null_count else None)


def lists_without_nan(lists: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists cast to `kind`, NaN elements null, empty lists null (a missing BP is an empty array in FITS)."""
    empty = pc.equal(pc.list_value_length(lists), 0)
    if pc.any(empty).as_py():
        lists = pc.if_else(empty, pa.scalar(None, lists.type), lists)
    values = pc.list_flatten(lists)
    clean = without_nan(values.cast(kind.value_type, safe=False))
    if lists.type == kind and clean is values and lists.offset == 0:
        return lists
    return rebuild_list(lists, clean)


def without_nan(values: pa.Array) -> pa.Array:
    """Floats with NaN made null; the same array where there is none."""
    nan = pc.is_nan(values)
    if not pc.any(nan).as_py():
        return values
    return pc.if_else(nan, pa.scalar(None, values.type), values)


def _booleans(text: pa.Array, place: Place) -> pa.Array:
    true = pc.is_in(text, value_set=pa.array(TRUE_TOKENS))
    known = pc.or_(pc.or_(true, pc.is_in(text, value_set=pa.array(FALSE_TOKENS))), pc.is_null(text))
    if not pc.all(known, min_count=0).as_py():
        index = pc.index(known, False).as_py()
        raise place.reject(
            index,
            "the cell is not a truth value",
            expected="True or False",
            found=text[index].as_py(),
            next_step="check that the column is the one the dataset describes",
        )
    return pc.if_else(pc.is_null(text), pa.scalar(None, pa.bool_()), true)


def _numbers(text: pa.Array, kind: pa.DataType, place: Place) -> pa.Array:
    integer = pa.types.is_integer(kind)
    if not integer:
        # FITS ASCII tables and other Fortran output write double-precision exponents with a D
        text = pc.replace_substring_regex(text, r"^([-+0-9.]+)[dD]([-+0-9]+)$", r"\1E\2")
    bare = pc.replace_substring_regex(text, r"^\+([0-9.])", r"\1")
    pattern = r"^-?[0-9]+$" if integer else r"^[-+0-9.eE]+$|^[-+]?(?i:inf|infinity|nan)$"
    try:
        if not pc.all(pc.match_substring_regex(bare, pattern), min_count=0).as_py():
            raise pa.ArrowInvalid("not a number")
        numbers = pc.cast(bare, kind)
    except pa.ArrowInvalid:
        raise _first_bad_number(text, kind, place) from None
    return numbers if integer else without_nan(numbers)


def _first_bad_number(text: pa.Array, kind: pa.DataType, place: Place) -> InputRejected:
    integer = pa.types.is_integer(kind)
    for index, cell in enumerate(text.to_pylist()):
        if cell is None:
            continue
        if not integer:
            if not _REAL.fullmatch(cell):
                return place.reject(index, "the cell is not a number", "a number", cell, WRONG_COLUMN)
        elif not _INTEGER.fullmatch(cell):
            step = FLOAT_INTEGER if _REAL.fullmatch(cell) else WRONG_COLUMN
            return place.reject(index, "the cell is not an integer", expected_integer(kind), cell, step)
        elif not fits(int(cell), kind):
            return place.reject(index, "the integer is out of range", expected_integer(kind), cell, TOO_LARGE)
    raise AssertionError(f"column {place.column}: no bad cell found, yet Arrow could not read it as {kind}")


def fits(value: int, kind: pa.DataType) -> bool:
    return -(2 ** (kind.bit_width - 1)) <= value < 2 ** (kind.bit_width - 1)


def expected_integer(kind: pa.DataType) -> str:
    return f"an integer between -2^{kind.bit_width - 1} and 2^{kind.bit_width - 1} - 1"


def csv_null_options() -> dict[str, Any]:
    """The same tokens, as options of pyarrow.csv.ConvertOptions."""
    return {
        "null_values": NULL_TOKENS,
        "true_values": TRUE_TOKENS,
        "false_values": FALSE_TOKENS,
        "strings_can_be_null": True,
        "quoted_strings_can_be_null": True,
    }
