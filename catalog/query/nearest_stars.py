"""Stars alike: exact nearest neighbours in the embedding, searched in memory.

The server would take seconds to unpack a million arrays for every question; here they cross the wire once, packed
(256 bytes a star), and a search reads each number once: memory bandwidth is its limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psycopg
from psycopg import Connection, sql

from msacat.catalog.enrich.enriched_tables import EMBEDDING_WIDTH, SHOWN, run_table, table_name
from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.server.connect import connect
from msacat.catalog.store.star_view import view_columns

PAGES_AT_ONCE = 4096  # 32 MB of table, some 24 MB a message
#: what array_send() writes: a header of 5 words, then length and value of each element
_ROW = np.dtype([
    ("source_id", ">i8"), ("header", ">i4", (5,)), ("element", [("length", ">i4"), ("value", ">f4")], (EMBEDDING_WIDTH,)),
])  # fmt: skip
#: relative error of a float32 dot product of 64 numbers, with room to spare: candidates within it are measured exactly
ROUNDING = 1e-5


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of one run: source_id (N,) int64, ascending; embedding (N, 64) float32; squares (N,), their norms squared."""

    run_id: int
    source_id: np.ndarray
    embedding: np.ndarray
    squares: np.ndarray

    def __len__(self) -> int:
        return len(self.source_id)

    def of(self, source_id: int) -> np.ndarray:
        """The embedding (64,) of a star; UsageError if the run has none."""
        i = int(np.searchsorted(self.source_id, source_id))
        if i == len(self) or self.source_id[i] != source_id:
            raise UsageError(
                f"run {self.run_id} gives no embedding of this star", found=f"source_id {source_id}"
            )
        return self.embedding[i]

    def nearest(self, star: int | np.ndarray, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The `k` stars nearest to a source_id (itself the first) or to 64 numbers: (source_id (k,), distance (k,)).

        Exact: distances in double precision, equal ones in the order of source_id.
        """
        k = min(k, len(self))
        if k <= 0:
            return np.zeros(0, np.int64), np.zeros(0)
        asked = np.asarray(star, np.float32) if np.ndim(star) else self.of(int(star))
        # |x|^2 - 2 x.q ranks as the distance does, up to rounding
        score = self.embedding @ (-2 * asked)
        score += self.squares
        worst = np.partition(score, k - 1)[k - 1]
        slack = ROUNDING * (float(self.squares.max()) + float(asked @ asked))
        near = np.flatnonzero(score <= worst + 2 * slack)
        distance = np.linalg.norm(self.embedding[near].astype(np.float64) - asked, axis=1)
        first = np.lexsort((near, distance))[:k]
        return self.source_id[near[first]], distance[first]


def read_embeddings(
    dsn: str | None = None, run_id: int | None = None, where: str | None = None
) -> Embeddings:
    """All embeddings of a published run (default: the newest) into memory, 264 bytes a star.

    Parameters
    ----------
    dsn : server; default as the command line's.
    run_id : embeddings can be compared within one run only.
    where : SQL condition on the columns of enriched.embeddings, e.g. "source_id < 1000000000000".

    Raises InputRejected if no such run is published, UsageError for a condition the server refuses.
    """
    with connect(dsn, read_only=True) as conn:
        run = _published_run(conn, run_id)
        try:
            parts = _read(conn, run, where)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            raise UsageError(f"where: {str(error).strip()}", found=where) from None
    rows = np.concatenate([np.zeros(0, _ROW), *parts])
    rows = rows[np.argsort(rows["source_id"])]
    embedding = np.ascontiguousarray(rows["element"]["value"], np.float32)
    return Embeddings(
        run, rows["source_id"].astype(np.int64), embedding, np.einsum("ij,ij->i", embedding, embedding)
    )


def _published_run(conn: Connection, run_id: int | None) -> int:
    rows = conn.execute(
        f"SELECT run_id FROM msacat.runs WHERE {SHOWN} AND (%s::bigint IS NULL OR run_id = %s) "
        "ORDER BY published DESC, run_id DESC",
        [run_id, run_id],
    ).fetchall()
    for (found,) in rows:
        if view_columns(conn, "enriched", table_name(found, "embeddings")):
            return found
    what = "no run" if run_id is None else f"run {run_id} is not"
    raise InputRejected(f"{what} published with embeddings", next_step="msacat runs list")


def _read(conn: Connection, run_id: int, where: str | None) -> list[np.ndarray]:
    table = run_table(run_id, "embeddings")
    pages = conn.execute(
        "SELECT pg_relation_size(%s::regclass) / current_setting('block_size')::bigint",
        [table.as_string(conn)],
    ).fetchone()
    assert pages is not None
    condition = sql.SQL("({}\n)").format(sql.SQL(where)) if where else sql.SQL("true")
    parts = []
    for page in range(0, int(pages[0]), PAGES_AT_ONCE):
        row = conn.execute(
            sql.SQL(
                "SELECT string_agg(int8send(source_id) || array_send(embedding), ''::bytea) FROM {} e "
                "WHERE ctid >= {}::tid AND ctid < {}::tid AND embedding IS NOT NULL AND {}"
            ).format(
                table, sql.Literal(f"({page},0)"), sql.Literal(f"({page + PAGES_AT_ONCE},0)"), condition
            ),
            binary=True,
        ).fetchone()
        if row is not None and row[0]:
            parts.append(np.frombuffer(row[0], _ROW))
    return parts
