"""Arrays come back from the server to the last bit, NULL where they are not finite, in the order they were sent."""

from __future__ import annotations

import numpy as np
import pytest
from psycopg import Connection, sql

from msacat.catalog.server.copy_arrays import copy_arrays

N, WIDTH = 300, 5
TYPES = {"id": "bigint", "x": "real", "flag": "boolean", "a": "real[]", "y": "real", "b": "real[]"}
rng = np.random.default_rng(0)
x, y = rng.normal(size=(2, N)).astype(np.float32)
a, b = rng.normal(size=(2, N, WIDTH)).astype(np.float32)


def some_missing(values: np.ndarray, element: float = np.nan) -> np.ndarray:
    values = values.copy()
    values[3::7] = element
    values[-1] = np.nan
    return values


def one_element_missing(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[::5, 2] = np.inf
    return values


@pytest.mark.parametrize(
    "x, y, a, b",
    [
        (x, y, a, b),
        (some_missing(x), y, a, some_missing(b)),
        (x, np.full_like(y, np.nan), np.full_like(a, np.nan), one_element_missing(b)),
        (some_missing(x, np.inf), some_missing(y, -np.inf), one_element_missing(a), np.full_like(b, np.nan)),
        (x[:0], y[:0], a[:0], b[:0]),
        (np.asfortranarray(a)[:, 1], y, np.asfortranarray(a), b[:, ::-1]),
    ],
)  # fmt: skip
def test_arrays_come_back(conn: Connection, x, y, a, b):
    columns = {"id": np.arange(len(x)) * 2**40 - 2**50, "x": x, "flag": rng.random(len(x)) < 0.5, "a": a, "y": y,
               "b": b}  # fmt: skip
    conn.execute(f"CREATE TEMP TABLE t ({', '.join(f'{name} {kind}' for name, kind in TYPES.items())})")
    assert copy_arrays(conn, sql.Identifier("t"), columns) == len(x)
    with conn.cursor(binary=True) as cursor:
        stored = cursor.execute("SELECT * FROM t").fetchall()
    assert len(stored) == len(x)
    for (name, sent), came in zip(columns.items(), zip(*stored, strict=True), strict=False):
        for value, found in zip(sent, came, strict=True):
            assert found == (value.tolist() if np.isfinite(value).all() else None), name
