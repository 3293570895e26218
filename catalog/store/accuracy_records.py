"""Records of `msacat evaluate` in learned.accuracy: whoever was interrupted finds them there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from psycopg import Connection, sql


def read_accuracy(conn: Connection, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Every record, by its `fields`."""
    rows = conn.execute(sql.SQL("SELECT {} FROM learned.accuracy").format(_names(fields))).fetchall()
    return [dict(zip(fields, row, strict=True)) for row in rows]


def write_accuracy(
    conn: Connection, fields: Sequence[str], records: Sequence[dict[str, Any]], outdated: Collection[str]
) -> None:
    """Take out the records of the `outdated` keys and add these, unless they are there. The caller commits."""
    conn.execute("DELETE FROM learned.accuracy WHERE key = ANY(%s)", [sorted(outdated)])
    insert = sql.SQL("INSERT INTO learned.accuracy ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
        _names(fields), sql.SQL(", ").join([sql.Placeholder()] * len(fields))
    )
    with conn.cursor() as cursor:
        cursor.executemany(insert, [[record[name] for name in fields] for record in records])


def _names(fields: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, fields))
