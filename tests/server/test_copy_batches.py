"""Batches on their way into a table: all of them, or none and nobody reading on."""

from __future__ import annotations

import threading

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from msacat.catalog.errors import InputRejected
from msacat.catalog.server.copy_batches import ENCODED_AT_ONCE, copy_batches

TABLE = sql.Identifier("pg_temp", "few")
N, ROWS = 40, 50_000


def batches(bad: int | None, log: list[int | str]):
    """N batches of whole numbers, in batch `bad` a negative one; notes what is drawn, and its end."""
    try:
        for i in range(N):
            log.append(i)
            values = pa.array(range(i * ROWS, (i + 1) * ROWS), pa.int64())
            yield pa.record_batch(
                {"x": pa.concat_arrays([pa.array([-1]), values[1:]]) if i == bad else values}
            )
    finally:
        log.append("closed")


def test_every_row_arrives(store):
    with psycopg.connect(store) as conn:
        conn.execute("CREATE TEMPORARY TABLE few (x bigint CHECK (x >= 0))")
        assert copy_batches(conn, TABLE, ["x"], batches(None, [])) == N * ROWS
        total = conn.execute("SELECT count(*), count(DISTINCT x), max(x) FROM few").fetchone()
        assert total == (N * ROWS, N * ROWS, N * ROWS - 1)
        assert copy_batches(conn, TABLE, ["x"], iter([])) == 0


def test_a_large_batch_is_encoded_piece_by_piece(store):
    """Pieces begin anywhere in it: within a byte of its validity bits, within a text or an array."""
    rng, n = np.random.default_rng(0), 20_001
    gone = rng.random(n) < 0.3
    number = np.where(gone, np.nan, rng.random(n)).astype(np.float32)
    text = [None if i % 7 == 0 else "x" * (i % 50) for i in range(n)]
    arrays = rng.random((n, 60)).astype(np.float32)
    batch = pa.record_batch(
        {
            "x": pa.array(np.arange(n)),
            "y": pa.array(number, mask=gone),
            "name": pa.array(text, pa.string()),
            "v": pa.array(
                [None if i % 3 == 0 else row for i, row in enumerate(arrays)], pa.list_(pa.float32())
            ),
        }
    ).slice(1)  # itself a part of something
    assert batch.nbytes > 5 * ENCODED_AT_ONCE
    with psycopg.connect(store) as conn:
        conn.execute("CREATE TEMPORARY TABLE few (x bigint, y real, name text, v real[])")
        assert copy_batches(conn, TABLE, ["x", "y", "name", "v"], [batch]) == n - 1
        with conn.cursor(binary=True) as cursor:
            rows = cursor.execute("SELECT x, y, name, v FROM few ORDER BY x").fetchall()
    for x, y, name, v in rows:
        assert name == text[x] and (y is None if gone[x] else y == number[x])
        assert v is None if x % 3 == 0 else np.array_equal(np.array(v, np.float32), arrays[x])
    assert [row[0] for row in rows] == list(range(1, n))


def test_after_a_refusal_nobody_reads_on(store):
    """The caller may read the same file again at once, for a second attempt."""
    log: list[int | str] = []
    with psycopg.connect(store) as conn:
        conn.execute("CREATE TEMPORARY TABLE few (x bigint CHECK (x >= 0))")
        with pytest.raises(psycopg.errors.CheckViolation):
            copy_batches(conn, TABLE, ["x"], batches(0, log))
        assert log[-1] == "closed" and not _readers()


def test_what_breaks_a_batch_is_what_the_caller_hears(store):
    def breaking():
        for i, batch in enumerate(batches(None, [])):
            if i == 3:
                raise InputRejected("the file is damaged", file="x.csv")
            yield batch

    with psycopg.connect(store) as conn:
        conn.execute("CREATE TEMPORARY TABLE few (x bigint)")
        with pytest.raises(InputRejected, match="the file is damaged"), conn.transaction():
            copy_batches(conn, TABLE, ["x"], breaking())
        assert not _readers()
        assert conn.execute("SELECT count(*) FROM few").fetchone() == (0,)


def _readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("msacat-read")]
