"""Ids that come twice: the same row is stored once and counted, a different row refuses the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest.ingest_ledger import REPEATED, already_stored_in
from msacat.catalog.surveys.survey_spec import SurveySpec


def staging_table(conn: Connection, spec: SurveySpec) -> sql.Identifier:
    """A temporary table of the survey's shape with `file_row`; gone when the transaction ends."""
    name = sql.Identifier("msacat_staging")
    conn.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DROP").format(
            name, sql.Identifier("survey", spec.name)
        )
    )
    conn.execute(sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS file_row integer").format(name))
    return name


def merge_staged(
    conn: Connection, spec: SurveySpec, staged: sql.Identifier, columns: Sequence[str], path: str
) -> dict[str, int]:
    """Move staged rows into the survey table; returns how many were repeated in the file or stored from which other.

    Raises InputRejected naming the first id whose content differs, and where the other row came from.
    """
    conn.execute(sql.SQL("CREATE INDEX ON {} ({}, file_row)").format(staged, sql.Identifier(spec.id.column)))
    conn.execute(sql.SQL("ANALYZE {}").format(staged))
    compared = [c.name for c in spec.columns] + ["quality"]
    parts = {
        "id": sql.Identifier(spec.id.column),
        "staged": staged,
        "table": sql.Identifier("survey", spec.name),
        "a": _row("a", compared),
        "b": _row("b", compared),
        "columns": sql.SQL(", ").join(map(sql.Identifier, columns)),
    }
    clash = conn.execute(
        sql.SQL(
            "SELECT a.{id}, a.file_row, b.file_row, {a}, {b} FROM {staged} a JOIN "
            "(SELECT DISTINCT ON ({id}) * FROM {staged} ORDER BY {id}, file_row) b USING ({id}) "
            "WHERE a.file_row > b.file_row AND {a} IS DISTINCT FROM {b} ORDER BY a.{id}, a.file_row LIMIT 1"
        ).format(**parts)
    ).fetchone()
    if clash:
        differing = _differences(conn, compared, parts, clash[0], clash[1], clash[2])
        raise InputRejected(
            f"two rows of this file share {spec.id.column} {clash[0]} and differ",
            file=path,
            row=clash[1],
            column=spec.id.column,
            expected=f"the values of row {clash[2]}",
            found=differing,
            next_step="remove one of the rows",
        )
    repeated = conn.execute(
        sql.SQL(
            "DELETE FROM {staged} a USING {staged} b WHERE a.{id} = b.{id} AND a.file_row > b.file_row"
        ).format(**parts)
    ).rowcount
    clash = conn.execute(
        sql.SQL(
            "SELECT a.{id}, a.file_row, b.file_id FROM {staged} a JOIN {table} b USING ({id}) "
            "WHERE {a} IS DISTINCT FROM {b} ORDER BY a.{id} LIMIT 1"
        ).format(**parts)
    ).fetchone()
    if clash:
        other = conn.execute("SELECT path FROM msacat.files WHERE file_id = %s", [clash[2]]).fetchone()
        differing = _differences(conn, compared, parts, clash[0], clash[1], None)
        raise InputRejected(
            f"{spec.id.column} {clash[0]} is stored with other values",
            file=path,
            row=clash[1],
            column=spec.id.column,
            expected=f"the values of file {clash[2]}" + (f", {other[0]}" if other else ""),
            found=differing,
            next_step=f"keep one of the files: `msacat forget {other[0] if other else clash[2]}` takes the other out",
        )
    stored = conn.execute(
        sql.SQL(
            "WITH known AS (DELETE FROM {staged} a USING {table} b WHERE a.{id} = b.{id} RETURNING b.file_id) "
            "SELECT file_id, count(*) FROM known GROUP BY 1 ORDER BY 1"
        ).format(**parts)
    ).fetchall()
    conn.execute(sql.SQL("INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged}").format(**parts))
    return ({REPEATED: repeated} if repeated else {}) | {already_stored_in(i): n for i, n in stored}


def _row(alias: str, columns: Sequence[str]) -> sql.Composed:
    return sql.SQL("ROW({})").format(sql.SQL(", ").join(sql.Identifier(alias, c) for c in columns))


def _differences(
    conn: Connection,
    compared: Sequence[str],
    parts: dict[str, Any],
    identifier: Any,
    row: int,
    other_row: int | None,
) -> str:
    """The first columns in which two rows differ: `parallax 1.5 instead of 1.25`.

    other_row: that of the same file it is compared with; None for the row in the survey's table.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, compared))
    query = sql.SQL("SELECT {} FROM {} WHERE {} = %s").format(names, parts["staged"], parts["id"])
    mine = conn.execute(query + sql.SQL(" AND file_row = %s"), [identifier, row]).fetchone()
    if other_row is not None:
        theirs = conn.execute(query + sql.SQL(" AND file_row = %s"), [identifier, other_row]).fetchone()
    else:
        query = sql.SQL("SELECT {} FROM {} WHERE {} = %s").format(names, parts["table"], parts["id"])
        theirs = conn.execute(query, [identifier]).fetchone()
    assert mine is not None and theirs is not None
    unlike = [
        f"{name} {_short(a)} instead of {_short(b)}"
        for name, a, b in zip(compared, mine, theirs, strict=True)
        if a != b
    ]
    return "; ".join(unlike[:4]) + (f"; and {len(unlike) - 4} more" if len(unlike) > 4 else "")


def _short(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) < 40 else text[:36] + "…"
