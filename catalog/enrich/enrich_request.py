"""Which stars a run was asked for: read from a file of ids, or back from the ledger to resume."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from psycopg import Connection

from msacat.catalog.enrich.write_enriched import RunRequest
from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.read.input_file import require_regular_file
from msacat.catalog.read.read_survey_file import open_survey_file
from msacat.catalog.stream.model_ledger import ModelRow, find_model


def read_ids(path: Path) -> list[int]:
    """The column source_id of any file msacat reads; a plain list of numbers works too.

    Raises InputRejected naming the row of an id that is no exact integer.
    """
    require_regular_file(path)
    first = (
        path.read_text(encoding="utf-8", errors="replace")[:64].strip() if path.suffix in ("", ".txt") else ""
    )
    if first[:1].isdigit():
        return _plain_list(path)
    with open_survey_file(path) as survey_file:
        name = next((c.name for c in survey_file.columns if c.name.lower() == "source_id"), None)
        if name is None:
            raise UsageError(
                "no column source_id", file=str(path), found=", ".join(c.name for c in survey_file.columns)
            )
        ids: list[int] = []
        for first_row, batch in survey_file.batches({name: pa.int64()}):
            values = batch[name].to_pylist()
            if None in values:
                raise InputRejected("an empty source_id", file=str(path), row=first_row + values.index(None))
            ids += values
    return ids


def _plain_list(path: Path) -> list[int]:
    ids = []
    for number, line in enumerate(path.read_text("utf-8", "replace").split(), start=1):
        if not (line.isascii() and line.isdigit()) or int(line) >= 2**63:
            raise InputRejected("not a source_id", file=str(path), row=number, expected="an integer below 2^63",
                                found=line)  # fmt: skip
        ids.append(int(line))
    return ids


def find_run(conn: Connection, run_id: int) -> tuple[int, ModelRow, RunRequest]:
    """A run in progress with its model and request."""
    row = conn.execute(
        "SELECT r.state, m.name, r.request, r.stale_reason FROM msacat.runs r JOIN learned.models m USING (model_id) WHERE run_id = %s",
        [run_id],
    ).fetchone()
    if row is None:
        raise UsageError(f"there is no run {run_id}", next_step="msacat runs list")
    if row[0] == "stale":
        raise InputRejected(f"run {run_id} is stale: {row[3]}", next_step="enrich again, without --resume")
    if row[0] != "running":
        raise UsageError(
            f"run {run_id} is {row[0]}",
            expected="a run in progress",
            next_step=f"msacat runs publish {run_id}" if row[0] == "verified" else "msacat runs list",
        )
    request = row[2]
    ids: list[int] | None = [] if request["ids"] is not None else None
    return run_id, find_model(conn, row[1]), RunRequest(request["where"], ids, request["new"])
