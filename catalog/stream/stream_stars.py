"""The training stream: a snapshot of the stars, shuffled and packed into blocks, then read in any order.

A block is up to 2048 stars in one bytea, drawn in the order of a hash of source_id: a permutation of blocks
plus a permutation inside each is a shuffle, and reading costs one message a block. The blocks are the
snapshot: ingest may go on while a model trains.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected
from msacat.catalog.server.connect import connect
from msacat.catalog.store.column_comments import Described, comment_on_column
from msacat.catalog.store.register_survey import reference_spec
from msacat.catalog.store.survey_table import removing_mask
from msacat.catalog.stream.split_sky import PARTS
from msacat.catalog.stream.star_rows import (
    asking_of_every_star,
    band_bits,
    condition,
    read_rows,
    require_stars,
    shared_bands,
    unpack_rows,
    without_shared,
)
from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures

STARS_A_BLOCK = 2048
READ_AHEAD, READERS = 3, 2  # blocks; connections
_BLOCK_COLUMNS = {
    "part": Described("train, calibrate or test.", "", "meta.code"),
    "block": Described(
        "Number of the block in its part, in the order of a hash of source_id.", "", "meta.id"
    ),
    "n_stars": Described("Stars in the block.", "", "meta.number"),
    "payload": Described(
        "Rows of the block's stars, packed (catalog/stream/star_rows.py).", "", "meta.dataset"
    ),
}


def blocks_table(model_id: int) -> sql.Identifier:
    return sql.Identifier("learned", f"blocks_{model_id}")


def pack_blocks(
    dsn: str | None,
    model_id: int,
    features: StarFeatures,
    split_id: int,
    seed: int,
    where: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write learned.blocks_<model_id> from one snapshot of matched.stars; returns stars by part.

    Stars outside the split, without any magnitude, or flagged by a removing quality bit of the reference take
    no part. Memory: a few blocks. Raises InputRejected if a part would be empty.
    """
    with connect(dsn) as reader, connect(dsn) as writer, asking_of_every_star(where):
        columns = require_stars(reader)
        chosen = condition(reader, where)
        reader.execute("SET TRANSACTION READ ONLY")  # the packing query is one statement: one snapshot
        bits = band_bits(reader, features)
        table = blocks_table(model_id)
        writer.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
        writer.execute(
            sql.SQL(
                "CREATE TABLE {} (part text, block integer, n_stars integer NOT NULL, payload bytea NOT NULL, "
                "PRIMARY KEY (part, block))"
            ).format(table)
        )
        for name, words in _BLOCK_COLUMNS.items():
            writer.execute(comment_on_column("learned", f"blocks_{model_id}", name, words))
        # EXTERNAL: float32 does not compress, and decompressing would cost more than reading
        writer.execute(sql.SQL("ALTER TABLE {} ALTER payload SET STORAGE EXTERNAL").format(table))
        tail = _in_random_order(chosen, features, split_id, seed, _removing_mask(reader))
        counts = dict.fromkeys(PARTS, 0)
        total = _estimated_stars(reader)
        done = 0
        for part, block_no, rows in _cut_into_blocks(
            read_rows(reader, features, columns, tail, STARS_A_BLOCK, lead=_PART_NUMBER)
        ):
            block, shared_B = unpack_rows(rows, features)
            block = without_shared(block, shared_bands(block, shared_B, bits))
            writer.execute(
                sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s)").format(table),
                [part, block_no, len(block), encode_block(block)],
                binary=True,
            )
            counts[part] += len(block)
            done += len(block)
            if on_progress:
                on_progress(done, total)
        if empty := [part for part in PARTS if not counts[part]]:
            raise InputRejected(
                f"too few stars: none to {' and '.join(empty)}",
                found=", ".join(f"{part} {n}" for part, n in counts.items()),
                next_step="ingest more stars, loosen --where, or give a --split FILE",
            )
        writer.commit()
    return counts


def encode_block(block: StarBlock) -> bytes:
    """Little-endian: source_id int64, then every array float32, star by star."""
    arrays = [
        block.mag_BM,
        block.mag_err_BM,
        block.scalar_BS,
        block.scalar_err_BS,
        block.label_BL,
        block.label_err_BL,
    ]
    has_xp = bool(np.isfinite(block.xp_BK).any())
    if has_xp:
        arrays += [block.xp_BK, block.xp_err_BK]
    matrix = np.concatenate(arrays, axis=1).astype("<f4", copy=False)
    return bytes([has_xp]) + block.source_id_B.astype("<i8").tobytes() + matrix.tobytes()


def decode_block(payload: bytes | memoryview, n_stars: int, features: StarFeatures) -> StarBlock:
    """The inverse of encode_block()."""
    m, n_scalars, n_labels = len(features.bands), len(features.scalars), len(features.labels)
    has_xp = bool(payload[0])
    source_id_B = np.frombuffer(payload, "<i8", n_stars, 1)
    matrix = np.frombuffer(payload, "<f4", offset=1 + 8 * n_stars).reshape(n_stars, -1)
    widths = [m, m, n_scalars, n_scalars, n_labels, n_labels] + ([K, K] if has_xp else [])
    if matrix.shape[1] != sum(widths):
        raise InputRejected("a packed block does not fit the features", expected=f"{sum(widths)} values a star",
                            found=str(matrix.shape[1]))  # fmt: skip
    mag, mag_err, scalar, scalar_err, label, label_err, *xp = np.split(matrix, np.cumsum(widths)[:-1], axis=1)
    if not has_xp:
        xp = [np.full((n_stars, K), np.nan, np.float32) for _ in range(2)]
    return StarBlock(source_id_B, mag, mag_err, xp[0], xp[1], scalar, scalar_err, label, label_err)


@dataclass
class StarStream:
    """Packed blocks of one model as the trainer reads them: any part, any epoch, from any block on."""

    dsn: str | None
    model_id: int
    features: StarFeatures

    def n_stars(self, part: str) -> int:
        return sum(n for _, n in self._directory(part))

    def blocks(self, part: str, epoch: int, seed: int, skip: int = 0) -> Iterator[StarBlock]:
        """Each star of `part` once, in an order that (part, epoch, seed) fixes, from the block after `skip`.

        Threads with connections of their own keep a few blocks ahead.
        """
        directory = self._directory(part)
        rng = np.random.default_rng([seed, epoch, PARTS.index(part)])
        order = rng.permutation(len(directory))
        coming = iter([directory[i][0] for i in order[skip:]])
        idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()

        def read(block_no: int) -> StarBlock:
            try:
                conn = idle.get_nowait()
            except queue.Empty:
                conn = connect(self.dsn, autocommit=True)
            try:
                block = self._read(conn, part, block_no)
            finally:
                idle.put(conn)
            inside = np.random.default_rng([seed, epoch, PARTS.index(part), 1 + block_no])
            return block.take(inside.permutation(len(block)))

        pool = ThreadPoolExecutor(READERS, thread_name_prefix="msacat-stream")
        try:
            ahead = deque(pool.submit(read, block_no) for block_no in islice(coming, READ_AHEAD))
            while ahead:
                block = ahead.popleft().result()
                ahead.extend(pool.submit(read, block_no) for block_no in islice(coming, 1))
                yield block
        finally:
            pool.shutdown(cancel_futures=True)
            while not idle.empty():
                idle.get().close()

    def _read(self, conn: Connection, part: str, block_no: int) -> StarBlock:
        query = sql.SQL("SELECT n_stars, payload FROM {} WHERE part = %s AND block = %s").format(
            blocks_table(self.model_id)
        )
        row = conn.execute(query, [part, block_no], binary=True).fetchone()
        if row is None:
            raise InputRejected(f"packed block {part} {block_no} is gone", next_step="train again")
        return decode_block(row[1], row[0], self.features)

    def _directory(self, part: str) -> list[tuple[int, int]]:
        with connect(self.dsn, autocommit=True) as conn:
            query = sql.SQL("SELECT block, n_stars FROM {} WHERE part = %s ORDER BY block").format(
                blocks_table(self.model_id)
            )
            return conn.execute(query, [part]).fetchall()


def drop_blocks(conn: Connection, model_id: int) -> None:
    """Remove the packed blocks of a model."""
    conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(blocks_table(model_id)))


_PART_NUMBER = sql.SQL("array_position({}::text[], p.part)::bigint").format(sql.Literal(list(PARTS)))


def _in_random_order(
    chosen: sql.Composable, features: StarFeatures, split_id: int, seed: int, removing: int
) -> sql.Composed:
    """FROM, WHERE and ORDER BY: the stars of one part after another, each part in the order of a hash."""
    passing = sql.SQL(" AND s.quality & {} = 0").format(removing) if removing else sql.SQL("")
    some_magnitude = sql.SQL("coalesce({}) IS NOT NULL").format(
        sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(name)) for name in features.band_names)
    )
    return sql.SQL(
        "FROM matched.stars s JOIN msacat.split_sets d ON d.split_id = {split}"
        " JOIN msacat.splits p ON p.split_id = d.split_id AND p.cell = s.source_id / d.cell_divisor"
        " WHERE {chosen} AND {some}{passing}"
        " ORDER BY 1, hashint8extended(s.source_id, {seed}), s.source_id"
    ).format(seed=seed, split=split_id, chosen=chosen, some=some_magnitude, passing=passing)


def _cut_into_blocks(rows_read: Iterator[np.ndarray]) -> Iterator[tuple[str, int, np.ndarray]]:
    """(part, number of the block in it, its rows): every block full but the last of a part."""
    part, block_no, waiting = 0, 0, np.zeros(0)
    for rows in rows_read:
        for run in np.split(rows, np.flatnonzero(np.diff(rows["lead"])) + 1):
            if run["lead"][0] != part:
                if len(waiting):
                    yield PARTS[part - 1], block_no, waiting
                part, block_no, waiting = int(run["lead"][0]), 0, run[:0]
            waiting = np.concatenate([waiting, run])
            while len(waiting) >= STARS_A_BLOCK:
                yield PARTS[part - 1], block_no, waiting[:STARS_A_BLOCK]
                block_no, waiting = block_no + 1, waiting[STARS_A_BLOCK:]
    if len(waiting):
        yield PARTS[part - 1], block_no, waiting


def _removing_mask(conn: Connection) -> int:
    reference = reference_spec(conn)
    assert reference is not None
    return removing_mask(reference)


def _estimated_stars(conn: Connection) -> int:
    """The planner's count of reference stars, for the progress bar."""
    row = conn.execute(
        "SELECT coalesce(sum(reltuples), 0)::bigint FROM pg_class c JOIN msacat.surveys s ON s.role = 'reference' "
        "WHERE c.oid = to_regclass(format('survey.%I', s.name))"
    ).fetchone()
    return max(int(row[0]), 1) if row else 1
