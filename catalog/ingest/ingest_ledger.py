"""The ledger of files: what came from where, what cleaning did to it, and what stands on it."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest.clean_values import CleanCounts
from msacat.catalog.server.package_version import code_version
from msacat.catalog.surveys.survey_spec import SurveySpec

#: rows a file repeats, or another file brought before: known twice, stored once
REPEATED, ALREADY_STORED = "repeated in file", "already stored"
#: rows that such another file took along when it was forgotten or replaced: stored no more
LOST = f"{ALREADY_STORED} in a file forgotten since"
#: lines dropped under --max-bad-rows
UNREADABLE = "unreadable line"


def files_lock(survey: str) -> str:
    """Lock of a survey's files: shared by those that come in, held alone where some are taken out.

    A file skips rows that another holds; were that one forgotten meanwhile, the rows would be in neither.
    """
    return f"files of {survey}"


@dataclass(frozen=True)
class LedgerEntry:
    """A file as the ledger knows it."""

    file_id: int
    survey: str
    path: str
    content_sha256: str
    rows_kept: int
    committed: datetime
    lacks_rows: bool  # some were stored from a file that was forgotten since


def find_by_content(conn: Connection, survey: str, content_sha256: str) -> LedgerEntry | None:
    """The file with these decompressed bytes, whatever its name."""
    return _entry(conn, "content_sha256 = %s", survey, content_sha256)


def find_by_stored_bytes(conn: Connection, survey: str, raw_sha256: str) -> LedgerEntry | None:
    """The file that lay on disk as these bytes."""
    return _entry(conn, "raw_sha256 = %s", survey, raw_sha256)


def find_by_path(conn: Connection, survey: str, path: str) -> LedgerEntry | None:
    return _entry(conn, "path = %s", survey, path)


def may_hold_bytes(conn: Connection, survey: str, n_bytes: int) -> bool:
    """Whether a file of the survey is as long as this one, or of unknown length: no other can be the same bytes."""
    row = conn.execute(
        "SELECT EXISTS (SELECT FROM msacat.files WHERE survey = %s AND coalesce(bytes, %s) = %s)",
        [survey, n_bytes, n_bytes],
    ).fetchone()
    assert row is not None
    return bool(row[0])


def ingested_paths(conn: Connection) -> list[str]:
    """Where every file of the store lay."""
    return [path for (path,) in conn.execute("SELECT path FROM msacat.files")]


def _entry(conn: Connection, condition: str, survey: str, value: str) -> LedgerEntry | None:
    row = conn.execute(
        sql.SQL(
            "SELECT file_id, survey, path, content_sha256, rows_kept, committed, rows_rejected ? {} "
            "FROM msacat.files WHERE survey = {} AND {} ORDER BY file_id DESC LIMIT 1"
        ).format(sql.Literal(LOST), sql.Literal(survey), sql.SQL(condition)),  # type: ignore[arg-type]
        [value],
    ).fetchone()
    return LedgerEntry(*row) if row else None


def open_entry(
    conn: Connection,
    spec: SurveySpec,
    path: str,
    checksums: tuple[str, str, int],
    file_format: str,
    started: datetime,
) -> int:
    """Insert the file's row and return its file_id; `close_entry` gives the counts in the same transaction."""
    raw, content, n_bytes = checksums
    row = conn.execute(
        "INSERT INTO msacat.files (survey, release, path, bytes, raw_sha256, content_sha256, format, rows_read, "
        "rows_kept, spec_version, spec_fingerprint, code_version, host, started) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, 0, 0, %s, %s, %s, %s, %s) RETURNING file_id",
        [spec.name, spec.release, path, n_bytes, raw, content, file_format, spec.version, spec.fingerprint,
         code_version(), socket.gethostname(), started],
    ).fetchone()  # fmt: skip
    assert row is not None
    return int(row[0])


def reopen_entry(conn: Connection, spec: SurveySpec, entry: LedgerEntry) -> int:
    """Make room for the rows of a file that lacks some: its own go, `close_entry` counts anew; returns its file_id.

    Models and runs stay as they are: every row they saw comes back as it was.
    """
    still_there = conn.execute(
        "UPDATE msacat.files SET release = %s, spec_version = %s, spec_fingerprint = %s, code_version = %s WHERE file_id = %s",
        [spec.release, spec.version, spec.fingerprint, code_version(), entry.file_id],
    ).rowcount
    if not still_there:
        raise InputRejected(
            "the file was forgotten just now", file=entry.path, next_step="repeat the command"
        )
    _delete_rows(conn, spec.name, [entry.file_id])
    return entry.file_id


def set_checksums(conn: Connection, file_id: int, raw_sha256: str, content_sha256: str) -> None:
    """The checksums of a file that was hashed while its rows were read."""
    conn.execute(
        "UPDATE msacat.files SET raw_sha256 = %s, content_sha256 = %s WHERE file_id = %s",
        [raw_sha256, content_sha256, file_id],
    )


def close_entry(
    conn: Connection,
    file_id: int,
    counts: CleanCounts,
    unused: Sequence[str],
    first_committed: datetime | None = None,
) -> None:
    """Write the counts of a file whose rows are all in; `first_committed` if some of them were seen before."""
    conn.execute(
        "UPDATE msacat.files SET rows_read = %s, rows_kept = %s, rows_rejected = %s, values_nulled = %s, "
        "columns_unused = %s, min_source_id = %s, max_source_id = %s, committed = coalesce(%s, clock_timestamp()) "
        "WHERE file_id = %s",
        [counts.rows_read, counts.rows_kept, json.dumps(dict(counts.rejected)), json.dumps(dict(counts.nulled)),
         list(unused), counts.min_source_id, counts.max_source_id, first_committed, file_id],
    )  # fmt: skip


def already_stored_in(file_id: int) -> str:
    """Reason under which a file counts rows that the file `file_id` brought before."""
    return f"{ALREADY_STORED} in file {file_id}"


def is_stored_elsewhere(reason: str) -> bool:
    """Whether a reason counts rows that another file brought, or had brought."""
    return reason.startswith(ALREADY_STORED)


def files_that_skipped(conn: Connection, survey: str, removed: Sequence[int]) -> list[str]:
    """Files of a survey that left out rows because one of the `removed` files had brought them."""
    rows = conn.execute(
        "SELECT path FROM msacat.files WHERE survey = %s AND rows_rejected ?| %s AND file_id <> ALL(%s) ORDER BY file_id",
        [survey, _reasons(removed), list(removed)],
    ).fetchall()
    return [path for (path,) in rows]


def files_that_lack_rows(conn: Connection, survey: str | None = None) -> list[tuple[int, str, str, int]]:
    """(file_id, survey, path, rows it may lack) of files that skipped rows of a file forgotten since."""
    return conn.execute(
        "SELECT file_id, survey, path, (rows_rejected->>%(lost)s)::bigint FROM msacat.files "
        "WHERE rows_rejected ? %(lost)s AND (%(survey)s::text IS NULL OR survey = %(survey)s) ORDER BY file_id",
        {"lost": LOST, "survey": survey},
    ).fetchall()


def remove_files(conn: Connection, survey: str, file_ids: Sequence[int], reason: str) -> int:
    """Delete the files' rows and ledger rows, and mark what stands on them; returns the rows deleted.

    Files that skipped rows of theirs are marked too: those rows are in neither now. The caller commits: the rows go
    in one transaction with whatever replaces them.
    """
    ids = list(file_ids)
    mark_stale(conn, ids, reason)
    deleted = _delete_rows(conn, survey, ids)
    conn.execute("DELETE FROM msacat.files WHERE file_id = ANY(%s)", [ids])
    conn.execute(
        "UPDATE msacat.files SET rows_rejected = rows_rejected - %(reasons)s::text[] || jsonb_build_object(%(lost)s::text, "
        "(SELECT sum(value::bigint) FROM jsonb_each_text(rows_rejected) WHERE key = ANY(%(reasons)s) OR key = %(lost)s)) "
        "WHERE survey = %(survey)s AND rows_rejected ?| %(reasons)s",
        {"survey": survey, "reasons": _reasons(ids), "lost": LOST},
    )
    return deleted


def _reasons(file_ids: Sequence[int]) -> list[str]:
    """Reasons that count rows of these files; an older msacat did not say of which file they were."""
    return [ALREADY_STORED, *map(already_stored_in, file_ids)]


def _delete_rows(conn: Connection, survey: str, file_ids: list[int]) -> int:
    deleted = conn.execute(
        sql.SQL("DELETE FROM {} WHERE file_id = ANY(%s)").format(sql.Identifier("survey", survey)), [file_ids]
    ).rowcount
    # No fingerprint equals NULL: the next crossmatch redoes whatever these rows took part in.
    conn.execute(
        "UPDATE msacat.crossmatches SET fingerprint = NULL WHERE dataset = %(name)s OR reference = %(name)s",
        {"name": survey},
    )
    return deleted


#: condition on learned.models and msacat.runs: what is built on these files, or may be. Such a one began before a file
#: of them came in, so that its file_ids do not tell, and ended later, or has not ended
_BUILT_ON = {
    "learned.models": "(file_ids && %(ids)s::integer[] OR state <> 'imported' AND "
    "CASE state WHEN 'training' THEN 'infinity' ELSE finished END > "
    "(SELECT min(committed) FROM msacat.files WHERE file_id = ANY(%(ids)s)))",
    "msacat.runs": "(file_ids && %(ids)s::integer[] OR "
    "CASE state WHEN 'running' THEN 'infinity' ELSE verified END > "
    "(SELECT min(committed) FROM msacat.files WHERE file_id = ANY(%(ids)s)))",
}


def mark_stale(conn: Connection, file_ids: Sequence[int], reason: str) -> None:
    """Models and runs built on these files, which the ledger still holds, keep their rows and say that they are out of date."""
    for table, built_on in _BUILT_ON.items():
        key = "model_id" if table == "learned.models" else "run_id"
        # By number, as a publisher takes them.
        conn.execute(
            f"UPDATE {table} SET state = 'stale', stale_reason = %(reason)s WHERE {key} IN (SELECT {key} FROM {table} "
            f"WHERE {built_on} AND state <> ALL(ARRAY['stale', 'dropped', 'failed']) ORDER BY {key} FOR UPDATE)",
            {"ids": list(file_ids), "reason": reason},
        )


def stale_names(conn: Connection, file_ids: Sequence[int]) -> tuple[list[str], list[int]]:
    """Names of the models and numbers of the runs built on these files."""
    ids = {"ids": list(file_ids)}
    models = conn.execute(
        f"SELECT name FROM learned.models WHERE {_BUILT_ON['learned.models']} AND state <> 'failed' ORDER BY name",
        ids,
    ).fetchall()
    runs = conn.execute(
        f"SELECT run_id FROM msacat.runs WHERE {_BUILT_ON['msacat.runs']} AND state <> 'dropped' ORDER BY run_id",
        ids,
    ).fetchall()
    return [r[0] for r in models], [r[0] for r in runs]
