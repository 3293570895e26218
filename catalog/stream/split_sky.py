"""Divides the sky into train, calibrate and test by whole HEALPix cells, so that neighbours never leak.

A cell's part is a hash of (seed, level, cell): it never changes when stars are added. Stored in msacat.splits.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.read.read_survey_file import open_survey_file
from msacat.catalog.surveys.source_id import cell_shift

PARTS = ("train", "calibrate", "test")
SHARES = (0.7, 0.1, 0.2)
COARSEST_LEVEL, FINEST_LEVEL = 5, 12
ENOUGH_CELLS = 50


def cell_divisor(level: int) -> int:
    """source_id // divisor = nested HEALPix cell of `level`."""
    return 1 << cell_shift(level)


def part_of(seed: int, level: int, cell: int) -> str:
    """The part of one cell: 70 % train, 10 % calibrate, 20 % test, by sha256."""
    digest = hashlib.sha256(f"{seed}:{level}:{cell}".encode()).digest()
    u = int.from_bytes(digest[:8], "big") / 2**64
    return PARTS[int(np.searchsorted(np.cumsum(SHARES)[:-1], u, side="right"))]


def make_split(conn: Connection, reference: str, seed: int) -> int:
    """The split of this seed, made or completed for all occupied cells; returns split_id. The caller commits.

    Level 5 (12,288 cells of 3.36 deg2); with fewer than 50 occupied cells the next finer level that has 50.
    """
    row = conn.execute(
        "SELECT split_id, level FROM msacat.split_sets WHERE kind = 'cells' AND seed = %s ORDER BY split_id LIMIT 1",
        [seed],
    ).fetchone()
    level = row[1] if row else _level_with_enough_cells(conn, reference)
    cells = _occupied(conn, reference, level)
    if not cells:
        raise InputRejected(
            "the reference survey holds no stars to split", next_step=f"msacat ingest {reference} FILE"
        )
    split_id = row[0] if row else None
    if split_id is None:
        split_id, _ = _new_set(conn, "cells", seed, level, cell_divisor(level), f"cells:{seed}:{level}")
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO msacat.splits (split_id, cell, part) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [(split_id, cell, part_of(seed, level, cell)) for cell in cells],
        )
    return split_id


def load_split(conn: Connection, path: Path) -> int:
    """The user's own split: a table of source_id, part (train, calibrate or test); returns split_id."""
    digest = hashlib.sha256()
    rows: list[tuple[int, str]] = []
    with open_survey_file(path) as survey_file:
        names = {column.name.lower(): column.name for column in survey_file.columns}
        if missing := {"source_id", "part"} - set(names):
            raise UsageError(
                f"the split file lacks {', '.join(sorted(missing))}", file=str(path),
                expected="columns source_id, part", found=", ".join(names.values()),
            )  # fmt: skip
        wanted = {names["source_id"]: pa.int64(), names["part"]: pa.string()}
        for first_row, batch in survey_file.batches(wanted):
            ids, parts = batch[names["source_id"]].to_pylist(), batch[names["part"]].to_pylist()
            for i, (source_id, part) in enumerate(zip(ids, parts, strict=True)):
                if source_id is None or part not in PARTS:
                    raise InputRejected(
                        "not a usable row of a split", file=str(path), row=first_row + i,
                        expected="a source_id and one of train, calibrate, test", found=f"{source_id}, {part}",
                    )  # fmt: skip
                rows.append((source_id, part))
                digest.update(f"{source_id},{part}\n".encode())
    if len({source_id for source_id, _ in rows}) != len(rows):
        raise InputRejected("a source_id stands twice in the split", file=str(path))
    fingerprint = f"stars:{digest.hexdigest()}"
    split_id, is_new = _new_set(conn, "stars", None, None, 1, fingerprint)
    if not is_new:
        return split_id
    with conn.cursor() as cursor, cursor.copy("COPY msacat.splits (split_id, cell, part) FROM STDIN") as copy:
        for source_id, part in rows:
            copy.write_row((split_id, source_id, part))
    return split_id


def divisor_of(conn: Connection, split_id: int) -> int:
    """source_id // divisor is what the split divides: a sky cell, or the star itself in a file of the user's."""
    row = conn.execute(
        "SELECT cell_divisor FROM msacat.split_sets WHERE split_id = %s", [split_id]
    ).fetchone()
    assert row is not None
    return row[0]


def describe_split(conn: Connection, split_id: int) -> str:
    """In words: by the seed of its sky cells, or the fingerprint of the user's file."""
    row = conn.execute(
        "SELECT kind, seed, fingerprint FROM msacat.split_sets WHERE split_id = %s", [split_id]
    ).fetchone()
    assert row is not None
    return f"seed {row[1]}" if row[0] == "cells" else f"a file, sha256 {row[2].partition(':')[2][:16]}…"


def _level_with_enough_cells(conn: Connection, reference: str) -> int:
    """Coarsest level with 50 occupied cells; the finest with the most cells if none has."""
    for level in range(COARSEST_LEVEL, FINEST_LEVEL + 1):
        if len(_occupied(conn, reference, level)) >= ENOUGH_CELLS:
            return level
    return FINEST_LEVEL


def _occupied(conn: Connection, reference: str, level: int) -> list[int]:
    query = sql.SQL("SELECT DISTINCT source_id / {} FROM {} ORDER BY 1").format(
        cell_divisor(level), sql.Identifier("survey", reference)
    )
    return [cell for (cell,) in conn.execute(query).fetchall()]


def _new_set(
    conn: Connection, kind: str, seed: int | None, level: int | None, divisor: int, fingerprint: str
) -> tuple[int, bool]:
    """(split_id, whether it is new): another training may have entered the same split; its commit is waited for."""
    row = conn.execute(
        "INSERT INTO msacat.split_sets (kind, seed, level, cell_divisor, fingerprint) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (fingerprint) DO NOTHING RETURNING split_id",
        [kind, seed, level, divisor, fingerprint],
    ).fetchone()
    if row is not None:
        return row[0], True
    known = conn.execute(
        "SELECT split_id FROM msacat.split_sets WHERE fingerprint = %s", [fingerprint]
    ).fetchone()
    assert known is not None
    return known[0], False
