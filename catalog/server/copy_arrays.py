"""Numpy arrays into a table by binary COPY: all rows laid out at once, one write to the server.

An encoder that goes from value to value takes longer over a few hundred numbers a row than the server does to store
them. Here a row is a numpy structure, its lengths and array headers written once and repeated.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected
from msacat.catalog.server.copy_batches import write_pieces

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # flags and length of the extension: none
TRAILER = b"\xff\xff"
FLOAT4_OID = 700
_VALUE = {"i": np.dtype(">i8"), "f": np.dtype(">f4"), "b": np.dtype("?")}
_ELEMENT = np.dtype([("length", ">i4"), ("value", ">f4")])


def copy_arrays(conn: Connection, table: sql.Composable, columns: Mapping[str, np.ndarray]) -> int:
    """COPY columns of equal length into `table`; returns the rows the server counted.

    int64 is bigint, bool is boolean, float32 is real, and of two dimensions real[]. A float that is not finite is
    NULL, and so is an array with such an element. Raises InputRejected if the server counted other rows than were sent.
    """
    command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        table, sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    sent = len(next(iter(columns.values())))
    with conn.cursor() as cursor:
        with cursor.copy(command) as copy:
            copy.write(HEADER)
            write_pieces(copy, rows_as_bytes(list(columns.values())))
            copy.write(TRAILER)
        stored = cursor.rowcount
    if stored != sent:
        raise InputRejected(f"the server stored {stored} rows of {sent} sent")
    return stored


def rows_as_bytes(columns: list[np.ndarray]) -> memoryview:
    """The rows of a binary COPY, without its header and trailer."""
    n = len(columns[0])
    missing = [_missing(values) for values in columns]
    layout = _layout(columns, missing)
    rows = np.empty(n, layout)
    cells = rows.view(np.uint8).reshape(n, layout.itemsize)
    cells[:] = _constant_bytes(columns, missing, layout)
    keep: np.ndarray | None = None  # bytes; a NULL is a length without a value
    for i, (values, gone) in enumerate(zip(columns, missing, strict=True)):
        if gone.all():
            continue
        target = rows[f"value_{i}"]
        if values.ndim == 2:
            target["element"]["value"] = values
        else:
            target[:] = values
        if gone.any():
            keep = np.ones(cells.shape, bool) if keep is None else keep
            rows[f"length_{i}"][gone] = -1
            start = layout.fields[f"value_{i}"][1]  # type: ignore[index]
            keep[gone, start : start + target.dtype.itemsize] = False
    return (cells.ravel() if keep is None else cells[keep]).data


def _missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        return np.zeros(len(values), bool)
    finite = np.isfinite(values)
    return ~(finite.all(axis=1) if values.ndim == 2 else finite)


def _layout(columns: list[np.ndarray], missing: list[np.ndarray]) -> np.dtype:
    """A row: the number of columns, then each one's length in bytes and its value, unless all are NULL."""
    fields: list[tuple] = [("n_columns", ">i2")]
    for i, (values, gone) in enumerate(zip(columns, missing, strict=True)):
        fields.append((f"length_{i}", ">i4"))
        if gone.all():
            continue
        if values.ndim == 2:
            array = np.dtype([("header", ">i4", (5,)), ("element", _ELEMENT, (values.shape[1],))])
            fields.append((f"value_{i}", array))
        else:
            fields.append((f"value_{i}", _VALUE[values.dtype.kind]))
    return np.dtype(fields)


def _constant_bytes(columns: list[np.ndarray], missing: list[np.ndarray], layout: np.dtype) -> np.ndarray:
    """A row's bytes with everything in place that all rows share."""
    row = np.zeros(1, layout)
    row["n_columns"] = len(columns)
    for i, (values, gone) in enumerate(zip(columns, missing, strict=True)):
        if gone.all():
            row[f"length_{i}"] = -1
            continue
        row[f"length_{i}"] = row[f"value_{i}"].dtype.itemsize
        if values.ndim == 2:
            # dimensions, NULLs among the elements, their type, how many, index of the first
            row[f"value_{i}"]["header"] = [1, 0, FLOAT4_OID, values.shape[1], 1]
            row[f"value_{i}"]["element"]["length"] = 4
    return row.view(np.uint8)
