"""Is a file in the store already? Hashed first where the ledger may know it, else while its rows are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from psycopg import Connection

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest.ingest_ledger import (
    LedgerEntry,
    files_that_lack_rows,
    find_by_content,
    find_by_path,
    find_by_stored_bytes,
    may_hold_bytes,
)
from msacat.catalog.ingest.ingest_report import FileReport
from msacat.catalog.ingest.plan_ingest import IngestPlan
from msacat.catalog.read.checksums import file_checksums, stored_checksum


class KnownContent(Exception):
    """The content, hashed while it was loaded, is in the store under another packing: the load is undone."""

    def __init__(self, file_id: int) -> None:
        super().__init__(file_id)
        self.file_id = file_id


def checksums_of_known(
    conn: Connection, survey: str, path: Path, n_bytes: int, gzipped: bool, tell: Callable[[str], None]
) -> tuple[str | None, str | None]:
    """sha256 of the stored bytes and of the content, where they decide what is done with the file.

    None where they do not: then it is hashed while its rows are read, which spares a pass over the file. That is so
    for a path never seen and a length that no file of the survey has, unless a file lacks rows: this may be it, packed
    otherwise. Leaves no transaction open.
    """
    seen = find_by_path(conn, survey, str(path)) is not None or bool(files_that_lack_rows(conn, survey))
    hash_first = seen or may_hold_bytes(conn, survey, n_bytes)
    conn.commit()
    if not hash_first:
        return None, None
    tell("checksum")
    raw = stored_checksum(path)
    same = find_by_stored_bytes(conn, survey, raw)
    conn.commit()
    if same is not None:
        return raw, same.content_sha256
    if gzipped:
        return raw, file_checksums(path)[1] if seen else None
    return raw, raw


def refuse_known_content(conn: Connection, survey: str, content: str) -> None:
    """KnownContent if a file of the survey has these decompressed bytes."""
    same = find_by_content(conn, survey, content)
    if same is not None:
        raise KnownContent(same.file_id)


def known_file(
    conn: Connection, plan: IngestPlan, path: Path, content: str
) -> tuple[FileReport | None, LedgerEntry | None]:
    """(report or None, the file whose rows go or None). A report: nothing is to be read, since the bytes are in.

    A file whose rows go has the same path, or the same content and lacks rows. Leaves no transaction open.
    """
    same = find_by_content(conn, plan.spec.name, content)
    old = find_by_path(conn, plan.spec.name, str(path))
    conn.commit()
    if same is not None and same.lacks_rows:
        return None, same
    if same is not None:
        # in under another name: what this one's name stands for goes all the same
        gone = old if plan.replace and old is not None and old.file_id != same.file_id else None
        outcome = "already there" if gone is None else "replaced"
        return FileReport(plan.spec.name, str(path), outcome, file_id=same.file_id), gone
    if old is not None and not plan.replace:
        raise InputRejected(
            f"a file of this name was ingested on {old.committed:%Y-%m-%d}, with other contents",
            file=str(path),
            expected=f"sha256 {old.content_sha256[:16]}… (file {old.file_id}, {old.rows_kept} rows)",
            found=f"sha256 {content[:16]}…",
            next_step="`--replace` removes the old rows and stores these instead",
        )
    return None, old
