"""Writes tables as text fast and reproducibly: Arrow turns columns into strings, gzip carries no date."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def text(values, null: str, digits: int | None = None) -> pa.Array:
    """Strings of a column; NaN, None and masked become `null`. `digits` rounds to that many decimals."""
    if isinstance(values, pa.Array):
        return values.fill_null(null)
    values = np.asarray(values)
    if values.dtype.kind == "f":
        rounded = values if digits is None else np.round(values.astype(np.float64), digits) + 0.0
        strings = pa.array(rounded, from_pandas=True).cast(pa.string())
        return strings.fill_null(null)
    if values.dtype.kind in "iu":
        return pa.array(values).cast(pa.string())
    return pa.array(values.tolist(), pa.string(), from_pandas=True).fill_null(null)


def array_text(values_NK: np.ndarray, missing: np.ndarray, null: str, ends: str = "()") -> pa.Array:
    """One quoted string a row, "(a, b, ...)", as the archive's CSV writes arrays; `null` where missing."""
    n, k = values_NK.shape
    flat = pa.array(np.ascontiguousarray(values_NK).reshape(-1)).cast(pa.string())
    rows = pa.ListArray.from_arrays(pa.array(np.arange(0, n * k + 1, k), pa.int32()), flat)
    joined = pc.binary_join(rows, ", ")
    quoted = pc.binary_join_element_wise(f'"{ends[0]}', joined, f'{ends[1]}"', "")
    return pc.if_else(pa.array(missing), null, quoted)


def lines(columns: list[pa.Array], separator: str) -> pa.Array:
    """One string a row, without the end of line."""
    return pc.binary_join_element_wise(*columns, separator)


def fixed_width_lines(columns: list[tuple[pa.Array, int]]) -> pa.Array:
    """Right-aligned columns of the given widths, a blank before each (IPAC tables)."""
    padded = [pc.utf8_lpad(column, width) for column, width in columns]
    return pc.binary_join_element_wise("", *padded, " ")


def write_lines(path: Path, header: list[str], rows: pa.Array) -> None:
    """Header lines, then the rows; gzip-compressed if the name says so, always the same bytes. No rows, no file."""
    if not len(rows):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    one = pa.ListArray.from_arrays(pa.array([0, len(rows)], pa.int32()), rows)
    text_of_rows = pc.binary_join(one, "\n")[0].as_buffer().to_pybytes()
    body = "".join(line + "\n" for line in header).encode() + text_of_rows + b"\n"
    if path.suffix == ".gz":
        # No name, no time, a fixed level: the same sky gives the same bytes.
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, 0) as packed:
            packed.write(body)
    else:
        path.write_bytes(body)
