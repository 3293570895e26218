"""Record batches into a table by binary COPY."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected


def copy_batches(
    conn: Connection, table: sql.Composable, columns: Sequence[str], batches: Iterable[pa.RecordBatch]
) -> int:
    """COPY the named columns of every batch into `table`; returns the rows the server counted.

    Binary COPY never casts: the batches must have the table's exact types. Raises InputRejected if the server
    counted other rows than were sent.
    """
    command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        table, sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    sent = 0
    encoder: ArrowToPostgresBinaryEncoder | None = None
    with conn.cursor() as cursor:
        with cursor.copy(command) as copy:
            for batch in batches:
                chosen = batch.select(list(columns))
                if encoder is None:
                    encoder = ArrowToPostgresBinaryEncoder(chosen.schema)
                    copy.write(encoder.write_header())
                copy.write(encoder.write_batch(chosen))
                sent += chosen.num_rows
            if encoder is not None:
                copy.write(encoder.finish())
        stored = cursor.rowcount if encoder is not None else 0
    if stored != sent:
        raise InputRejected(f"the server stored {stored} rows of {sent} sent")
    return stored
