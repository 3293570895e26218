"""Records of an evaluation in learned.accuracy of its store."""

from __future__ import annotations

from typing import Any

from msacat.model.evaluate.record_file import FIELDS, Records


class RecordTable(Records):
    """What Records holds, in the store as well; whoever is interrupted finds it there."""

    def __init__(self, conn: Any):
        from psycopg import sql

        self.conn = conn
        columns = sql.SQL(", ").join(map(sql.Identifier, FIELDS))
        self._insert = sql.SQL("INSERT INTO learned.accuracy ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
            columns, sql.SQL(", ").join([sql.Placeholder()] * len(FIELDS))
        )
        rows = conn.execute(sql.SQL("SELECT {} FROM learned.accuracy").format(columns)).fetchall()
        conn.commit()
        super().__init__([dict(zip(FIELDS, row, strict=True)) for row in rows])

    def add(self, records: list[dict]) -> None:
        """As Records.add; what others recorded meanwhile of other methods and regimes stays."""
        before = self.keys
        super().add(records)
        self.conn.execute("DELETE FROM learned.accuracy WHERE key = ANY(%s)", [sorted(before - self.keys)])
        with self.conn.cursor() as cursor:
            rows = [[r[name] for name in FIELDS] for r in self.records if r["key"] == records[0]["key"]]
            cursor.executemany(self._insert, rows)
        self.conn.commit()
