"""Record batches into a table by binary COPY."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import Connection, Copy, sql

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.decompress import read_ahead

#: bytes of one message of a COPY. The server reads a message whole before its first row: one of megabytes leaves the
#: processor's cache before it is used, and forming the same rows takes a quarter longer.
MESSAGE = 1 << 15
#: bytes of a batch encoded in one go. The encoder keeps the interpreter to itself, and nothing is sent meanwhile.
ENCODED_AT_ONCE = 1 << 19


def write_pieces(copy: Copy, data: bytes | memoryview) -> None:
    """`data` as messages of MESSAGE bytes; rows may go on in the next one."""
    view = memoryview(data).cast("B")
    for start in range(0, len(view), MESSAGE):
        copy.write(view[start : start + MESSAGE])


def copy_batches(
    conn: Connection,
    table: sql.Composable,
    columns: Sequence[str],
    batches: Iterable[pa.RecordBatch],
    frozen: bool = False,
) -> int:
    """COPY the named columns of every batch into `table`; returns the rows the server counted.

    `batches` are drawn in another thread, which must not use `conn`. Binary COPY never casts: they must have the
    table's exact types. `frozen` rows are never written again to mark them as committed; for a table that nobody else
    sees yet: it is emptied first. Raises InputRejected if the server counted other rows than were sent.
    """
    if frozen:
        # The server wants the table made or emptied since the last savepoint.
        conn.execute(sql.SQL("TRUNCATE {}").format(table))
    command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY{})").format(
        table, sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", FREEZE" if frozen else "")
    )
    sent = 0

    def encoded() -> Iterator[list[bytes]]:
        nonlocal sent
        encoder: ArrowToPostgresBinaryEncoder | None = None
        for batch in batches:
            chosen = batch.select(list(columns))
            if encoder is None:
                encoder = ArrowToPostgresBinaryEncoder(chosen.schema)
                yield [encoder.write_header()]
            rows = max(ENCODED_AT_ONCE * chosen.num_rows // max(chosen.nbytes, 1), 1)
            yield [encoder.write_batch(chosen.slice(a, rows)) for a in range(0, chosen.num_rows, rows)]
            sent += chosen.num_rows
        if encoder is not None:
            yield [encoder.finish()]

    with conn.cursor() as cursor:
        # The next batch is made while the server stores this one, and no more once the COPY has failed.
        with cursor.copy(command) as copy, closing(read_ahead(encoded())) as pieces:
            for piece in itertools.chain.from_iterable(pieces):
                write_pieces(copy, piece)
        stored = cursor.rowcount if sent else 0
    if stored != sent:
        raise InputRejected(f"the server stored {stored} rows of {sent} sent")
    return stored
