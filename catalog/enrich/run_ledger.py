"""Runs in the store's ledger: what each covers and how far it is."""

from __future__ import annotations

from typing import Any

from psycopg import Connection


def list_runs(conn: Connection) -> list[dict[str, Any]]:
    """Every run, dropped ones too, in the order in which they were begun; `request` as RunRequest.to_json() gave it."""
    cursor = conn.execute(
        "SELECT r.run_id, m.name AS model, r.state, r.stale_reason, r.n_stars, r.request, "
        "(SELECT count(*) FILTER (WHERE done) || '/' || count(*) FROM msacat.run_chunks c WHERE c.run_id = r.run_id) "
        "AS chunks, r.started::timestamp(0), r.published::timestamp(0) "
        "FROM msacat.runs r JOIN learned.models m USING (model_id) ORDER BY r.run_id"
    )
    names = [column.name for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def progress(conn: Connection, run_id: int) -> tuple[int, int]:
    """(stars of the run, stars in the chunks that are written)"""
    row = conn.execute(
        "SELECT coalesce(sum(n_stars), 0), coalesce(sum(n_stars) FILTER (WHERE done), 0) FROM msacat.run_chunks "
        "WHERE run_id = %s",
        [run_id],
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
