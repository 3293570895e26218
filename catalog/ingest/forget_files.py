"""Takes files, or a whole survey, out of the store again and marks what was built on them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from psycopg import Connection

from msacat.catalog.errors import UsageError, printable
from msacat.catalog.ingest.ingest_ledger import (
    files_lock,
    files_that_skipped,
    mark_stale,
    remove_files,
    stale_names,
)
from msacat.catalog.ingest.replace_relation import replace_relation
from msacat.catalog.read.input_file import is_utf8_name
from msacat.catalog.server.advisory_lock import advisory_lock
from msacat.catalog.store.hold_views import hold_publishing
from msacat.catalog.store.register_survey import registered_specs
from msacat.catalog.store.survey_table import create_table


@dataclass
class ForgetReport:
    """What was taken out, and what stood on it.

    models, runs   now marked stale: they were built on these rows
    incomplete     files that skipped rows because these files held them already; forget and ingest them again
    """

    dataset: str
    files: list[str]
    rows: int
    models: list[str] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    adopted_from: str | None = None  # the view went, this table was not touched


def forget(conn: Connection, target: str, dataset: str | None = None) -> list[ForgetReport]:
    """Undo the ingest of a file (by path or file_id), or of every file of a dataset, in one transaction.

    target   a registered dataset, the path of an ingested file (it need not exist any more), or its file_id
    dataset  says which, where one file was ingested as several datasets
    Raises UsageError where nothing of that name was ingested. An adopted dataset loses its view; the archive's own
    table is never touched.
    """
    datasets = registered_specs(conn)
    conn.commit()  # whatever came before ends here: the lock is taken before the transaction
    if dataset is None and target in datasets:
        with advisory_lock(conn, files_lock(target)), conn.transaction():
            return [_forget_dataset(conn, target)]
    survey, file_ids, paths = _files_called(conn, target, dataset)
    with advisory_lock(conn, files_lock(survey)), conn.transaction():
        if _adopted_from(conn, survey) is not None:  # its one file is the archive's table
            return [_forget_dataset(conn, survey)]
        return [_forget_files(conn, survey, file_ids, paths)]


def _files_called(conn: Connection, target: str, dataset: str | None) -> tuple[str, list[int], list[str]]:
    """(survey, file_ids, paths)"""
    names = {target, os.path.abspath(target), os.path.realpath(target)}
    rows = conn.execute(
        "SELECT survey, file_id, path FROM msacat.files "
        "WHERE (path = ANY(%s) OR file_id::text = %s) AND (%s::text IS NULL OR survey = %s) ORDER BY file_id",
        [sorted(filter(is_utf8_name, names)), printable(target), dataset, dataset],
    ).fetchall()
    conn.commit()
    surveys = sorted({row[0] for row in rows})
    if not rows:
        raise UsageError(
            f"nothing called '{target}' was ingested" + (f" as {dataset}" if dataset else ""),
            expected="a dataset of this store, or the path or file_id of an ingested file",
            next_step="`msacat status` lists datasets; table msacat.files lists files",
        )
    if len(surveys) > 1:
        raise UsageError(
            f"'{target}' was ingested as {' and '.join(surveys)}", next_step="say which with --dataset"
        )
    return surveys[0], [row[1] for row in rows], [row[2] for row in rows]


def _forget_files(conn: Connection, survey: str, file_ids: list[int], paths: list[str]) -> ForgetReport:
    models, runs = stale_names(conn, file_ids)
    incomplete = files_that_skipped(conn, survey, file_ids) if file_ids else []
    rows = remove_files(conn, survey, file_ids, f"file forgotten: {', '.join(paths)}"[:500])
    return ForgetReport(survey, paths, rows, models, runs, incomplete)


def _forget_dataset(conn: Connection, survey: str) -> ForgetReport:
    """Every file of the survey; an adopted one is unregistered as well, since it is nothing but a view."""
    adopted_from = _adopted_from(conn, survey)
    files = conn.execute("SELECT file_id, path FROM msacat.files WHERE survey = %s", [survey]).fetchall()
    file_ids, paths = [f[0] for f in files], [f[1] for f in files]
    if adopted_from is None:
        return _forget_files(conn, survey, file_ids, paths)
    models, runs = stale_names(conn, file_ids)
    spec = registered_specs(conn)[survey]
    reason = f"survey {survey} is no longer adopted from {adopted_from}"
    # Before the views: a run at work holds its ledger row and waits for matched.stars.
    hold_publishing(conn)
    mark_stale(conn, file_ids, reason)
    # From here on an ordinary survey without rows: it may be ingested, or adopted again.
    replace_relation(conn, spec, "VIEW", create_table(spec), adopted_from=None)
    remove_files(conn, survey, file_ids, reason)
    return ForgetReport(survey, paths, 0, models, runs, adopted_from=adopted_from)


def _adopted_from(conn: Connection, survey: str) -> str | None:
    row = conn.execute("SELECT adopted_from FROM msacat.surveys WHERE name = %s", [survey]).fetchone()
    return row[0] if row else None
