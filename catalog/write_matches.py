"""A match table gets new contents in the caller's transaction: readers see the old ones until it commits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Connection, sql

from msacat.catalog.copy_batches import copy_batches
from msacat.catalog.match_positions import MatchRows
from msacat.catalog.surveys.survey_spec import SurveySpec

ROWS_AT_ONCE = 100_000
INTEGERS = {"bigint": pa.int64(), "integer": pa.int32(), "smallint": pa.int16()}


class MatchWriter:
    """Collects the new rows of matched.<survey>; `apply` makes the table hold them and nothing else.

    An empty table is filled directly. A full one is compared with the new rows and only what differs is
    deleted or inserted: no lock keeps readers out, and a small change leaves little to vacuum.
    """

    def __init__(self, conn: Connection, spec: SurveySpec):
        self.conn = conn
        self.id = spec.id.column
        self.id_type = spec.column(spec.id.column).type
        self.table = sql.Identifier("matched", spec.name)
        row = conn.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(self.table)).fetchone()
        assert row is not None
        self.direct = not row[0]
        self.target: sql.Identifier = self.table
        if not self.direct:
            self.target = sql.Identifier("pg_temp", "msacat_new_matches")
            conn.execute(
                sql.SQL("CREATE TEMPORARY TABLE msacat_new_matches (LIKE {}) ON COMMIT DROP").format(
                    self.table
                )
            )
        self.columns = ["source_id", self.id, "separation_arcsec", "n_candidates", "n_mates", "method"]

    def add(self, rows: MatchRows, method: str) -> None:
        """Append rows; those without a match get neither id nor method."""
        copy_batches(
            self.conn,
            self.target,
            self.columns,
            (
                self._batch(rows.take(slice(a, a + ROWS_AT_ONCE)), method)
                for a in range(0, len(rows), ROWS_AT_ONCE)
            ),
        )

    def add_query(self, query: sql.Composable) -> None:
        """Append what a SELECT gives, its columns in the table's order."""
        columns = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        self.conn.execute(sql.SQL("INSERT INTO {} ({}) {}").format(self.target, columns, query))

    def apply(self, only: sql.Composable | None = None) -> None:
        """Bring the table up to date; with `only`, a condition on alias m, rows it does not hold for stay."""
        if self.direct:
            self.conn.execute(sql.SQL("ANALYZE {}").format(self.table))
            return
        self.conn.execute(sql.SQL("ANALYZE {}").format(self.target))
        parts = {"table": self.table, "new": self.target, "only": only or sql.SQL("true")}
        self.conn.execute(
            sql.SQL(
                "DELETE FROM {table} m WHERE {only} AND NOT EXISTS (SELECT FROM {new} n "
                "WHERE n.source_id = m.source_id AND n.* IS NOT DISTINCT FROM m.*)"
            ).format(**parts)
        )
        self.conn.execute(
            sql.SQL(
                "INSERT INTO {table} SELECT n.* FROM {new} n "
                "WHERE NOT EXISTS (SELECT FROM {table} m WHERE m.source_id = n.source_id)"
            ).format(**parts)
        )
        self.conn.execute(sql.SQL("ANALYZE {table}").format(**parts))

    def _batch(self, rows: MatchRows, method: str) -> pa.RecordBatch:
        none = pa.scalar(None, pa.string())
        matched = pa.array(rows.matched)
        n = len(rows)
        return pa.record_batch(
            {
                "source_id": pa.array(rows.source_id, pa.int64()),
                self.id: self._ids(rows),
                "separation_arcsec": pa.array(rows.separation_arcsec.astype(np.float32), pa.float32()),
                "n_candidates": pa.array(rows.n_candidates.astype(np.int32), pa.int32()),
                "n_mates": pa.array(np.zeros(n, np.int32), pa.int32()),
                "method": pc.if_else(matched, pa.scalar(method), none),
            }
        )

    def _ids(self, rows: MatchRows) -> pa.Array:
        if self.id_type != "text":
            return pa.array(rows.id, mask=~rows.matched).cast(INTEGERS[self.id_type])
        return pc.if_else(pa.array(rows.matched), text_array(rows.id), pa.scalar(None, pa.string()))


def text_array(fixed: np.ndarray) -> pa.Array:
    """numpy bytes S(width) (N,) -> Arrow strings, trailing NULs dropped; no Python object a row."""
    width = max(fixed.dtype.itemsize, 1)
    length = np.char.str_len(fixed)
    offsets = np.zeros(len(fixed) + 1, np.int32)
    np.cumsum(length, out=offsets[1:])
    raw = np.ascontiguousarray(fixed).view(np.uint8).reshape(len(fixed), width)
    text = raw[np.arange(width) < length[:, None]]
    return pa.StringArray.from_buffers(len(fixed), pa.py_buffer(offsets), pa.py_buffer(text))
