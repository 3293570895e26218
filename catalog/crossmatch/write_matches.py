"""A match table gets new contents in the caller's transaction: readers see the old ones until it commits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Connection, sql

from msacat.catalog.crossmatch.match_positions import MatchRows
from msacat.catalog.server.copy_batches import copy_batches
from msacat.catalog.server.drop_indexes import drop_indexes
from msacat.catalog.surveys.survey_spec import SurveySpec

ROWS_AT_ONCE = 100_000
INTEGERS = {"bigint": pa.int64(), "integer": pa.int32(), "smallint": pa.int16()}


class MatchWriter:
    """Collects the new rows of matched.<survey>; `apply` makes the table hold them and nothing else.

    A table that holds rows is compared with the new ones and only what differs is deleted or inserted: readers
    are never kept out, and a small change leaves little to vacuum. An empty one is filled in one go, its indexes
    made afterwards (2.8 times as fast); readers wait for that, or if one of them reads just now, the indexes stay.
    `at_once`: all rows come together, so that an empty table may take them directly.
    """

    def __init__(self, conn: Connection, spec: SurveySpec, at_once: bool = True):
        self.conn = conn
        self.id = spec.id.column
        self.id_type = spec.column(spec.id.column).type
        self.table = sql.Identifier("matched", spec.name)
        row = conn.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(self.table)).fetchone()
        assert row is not None
        self.was_empty = not row[0]
        self.direct = self.was_empty and at_once
        self.target: sql.Identifier = self.table
        self._indexes: list[sql.Composed] | None = None
        self._written: Counter[str | None] = Counter()
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
        if not len(rows):
            return
        self._before_writing()
        copy_batches(
            self.conn,
            self.target,
            self.columns,
            (
                self._batch(rows.take(slice(a, a + ROWS_AT_ONCE)), method)
                for a in range(0, len(rows), ROWS_AT_ONCE)
            ),
        )
        n_matched = int(np.count_nonzero(rows.matched))
        self._written.update({method: n_matched, None: len(rows) - n_matched})

    def add_query(self, query: sql.Composable, method: str) -> None:
        """Append what a SELECT gives, its columns in the table's order, `method` the last of them."""
        self._before_writing()
        columns = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        done = self.conn.execute(sql.SQL("INSERT INTO {} ({}) {}").format(self.target, columns, query))
        self._written[method] += done.rowcount

    def count_by_method(self) -> dict[str | None, int]:
        """Rows of the table by method, None for a star without a match; after `apply`."""
        if self.direct:  # it held nothing before, and the server confirmed how many rows it stored
            return {method: n for method, n in sorted(self._written.items(), key=str) if n}
        rows = self.conn.execute(
            sql.SQL("SELECT method, count(*) FROM {} GROUP BY 1 ORDER BY 1").format(self.table)
        ).fetchall()
        return dict(rows)

    def apply(self, scope: np.ndarray | None = None) -> None:
        """Bring the table up to date. With `scope` (source_ids), rows of other stars stay, and may only be added."""
        if not self.direct:
            self.conn.execute(sql.SQL("ANALYZE {}").format(self.target))
            parts = {"table": self.table, "new": self.target, "scope": sql.SQL("")}
            if scope is not None:
                parts["scope"] = sql.SQL(
                    "EXISTS (SELECT FROM {} c WHERE c.source_id = m.source_id) AND"
                ).format(self._scope_table(scope))
            if self.was_empty:
                self._indexes = self._drop_indexes()
            else:
                self.conn.execute(
                    sql.SQL(
                        "DELETE FROM {table} m WHERE {scope} NOT EXISTS (SELECT FROM {new} n "
                        "WHERE n.source_id = m.source_id AND n.* IS NOT DISTINCT FROM m.*)"
                    ).format(**parts)
                )
            self.conn.execute(
                sql.SQL(
                    "INSERT INTO {table} SELECT n.* FROM {new} n "
                    "WHERE NOT EXISTS (SELECT FROM {table} m WHERE m.source_id = n.source_id) ORDER BY source_id"
                ).format(**parts)
            )
        for statement in self._indexes or []:
            self.conn.execute(statement)
        self.conn.execute(sql.SQL("ANALYZE {}").format(self.table))

    def _before_writing(self) -> None:
        if self.direct and self._indexes is None:
            self._indexes = self._drop_indexes()

    def _drop_indexes(self) -> list[sql.Composed]:
        """Take the indexes off the empty table; returns what makes them again, [] where a reader is in the way."""
        try:
            with self.conn.transaction():
                self.conn.execute("SET LOCAL lock_timeout = '500ms'")
                self.conn.execute(sql.SQL("LOCK TABLE {}").format(self.table))
                again = drop_indexes(self.conn, self.table)
                self.conn.execute("SET LOCAL lock_timeout = 0")
        except psycopg.errors.LockNotAvailable:
            return []
        return again

    def _scope_table(self, scope: np.ndarray) -> sql.Identifier:
        name = sql.Identifier("pg_temp", "msacat_scope")
        self.conn.execute("CREATE TEMPORARY TABLE msacat_scope (source_id bigint PRIMARY KEY) ON COMMIT DROP")
        batches = [pa.record_batch({"source_id": pa.array(scope, pa.int64())})]
        copy_batches(self.conn, name, ["source_id"], batches)
        self.conn.execute("ANALYZE msacat_scope")
        return name

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
