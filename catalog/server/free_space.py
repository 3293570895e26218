"""Will it fit? The free space of the server's disk, where this machine can see it."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
from psycopg import Connection

from msacat.catalog.errors import InputRejected

#: rows are written twice: to the write-ahead log, then to the table
LOG_FACTOR = 2


def free_bytes(conn: Connection) -> int | None:
    """Free bytes where the server keeps its data; None for a server elsewhere or one that does not say."""
    host = conn.info.host or ""
    if not (host.startswith("/") or host in ("", "localhost", "127.0.0.1", "::1")):
        return None
    try:
        with conn.transaction():
            row = conn.execute("SHOW data_directory").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    assert row is not None
    folder = Path(row[0])
    while not _visible(folder):  # the root always is
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _visible(folder: Path) -> bool:
    try:
        return folder.exists()
    except PermissionError:
        return False


def require_space(conn: Connection, estimate: int) -> int | None:
    """Raise InputRejected if `estimate` bytes of rows will not fit; returns the free bytes, None if unknown."""
    free = free_bytes(conn)
    if free is not None and free < LOG_FACTOR * estimate:
        raise InputRejected(
            "the server's disk is too small for these files",
            expected=f"{LOG_FACTOR * estimate:,} bytes free: table, indexes, and the write-ahead log on the way",
            found=f"{free:,} bytes free",
            next_step="free space, or ingest fewer files",
        )
    return free
