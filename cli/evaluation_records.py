"""Records of an evaluation in learned.accuracy of its store."""

from __future__ import annotations

from typing import Any

from msacat.catalog.store.accuracy_records import read_accuracy, write_accuracy
from msacat.model.evaluate.record_file import FIELDS, Records


class RecordTable(Records):
    """What Records holds, in the store as well; whoever is interrupted finds it there."""

    def __init__(self, conn: Any):
        self.conn = conn
        records = read_accuracy(conn, FIELDS)
        conn.commit()
        super().__init__(records)

    def add(self, records: list[dict]) -> None:
        """As Records.add; what others recorded meanwhile of other methods and regimes stays."""
        before = self.keys
        super().add(records)
        added = [r for r in self.records if r["key"] == records[0]["key"]]
        write_accuracy(self.conn, FIELDS, added, before - self.keys)
        self.conn.commit()
