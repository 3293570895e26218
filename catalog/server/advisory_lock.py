"""One job at a time: a named lock held by a database session, freed by the server if the job dies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg.pq import TransactionStatus

from msacat.catalog.errors import StoreLocked


def lock_key(name: str) -> int:
    """The 64-bit key PostgreSQL knows a lock's name by."""
    return int.from_bytes(
        hashlib.blake2b(f"msacat {name}".encode(), digest_size=8).digest(), "big", signed=True
    )


@contextmanager
def advisory_lock(
    conn: psycopg.Connection,
    name: str,
    wait: bool = False,
    tell: Callable[[str], None] = lambda words: None,
    shared: bool = False,
) -> Iterator[None]:
    """Hold the lock `name` of this database, across transactions, until the block ends or the session does.

    Any number of sessions hold it `shared` at once, or one alone. If others are in the way: with `wait`, `tell` says
    who and this call waits; else StoreLocked names one. Enter it outside `conn.transaction()`.
    """
    key, how = lock_key(name), "_shared" if shared else ""
    if not _scalar(conn, f"SELECT pg_try_advisory_lock{how}(%s)", key):
        held_by = _holder(conn, key)
        if not wait:
            raise StoreLocked(
                f"Another job holds the lock {name!r}.",
                found=held_by,
                next_step="wait until it ends, then repeat the command",
            )
        tell(f"Waiting for the lock {name!r}, held by {held_by}.")
        _scalar(conn, f"SELECT 1 FROM (SELECT pg_advisory_lock{how}(%s)) AS waited", key)
    try:
        yield
    finally:
        try:
            if not conn.closed:
                if conn.info.transaction_status == TransactionStatus.INERROR:
                    conn.rollback()  # a failed transaction takes no command, not even the unlock
                _scalar(conn, f"SELECT pg_advisory_unlock{how}(%s)", key)
        except psycopg.OperationalError:
            # A session that was ended from outside gave its locks back; what it did meanwhile says how it went.
            if not conn.closed:
                raise


def _scalar(conn: psycopg.Connection, query: str, key: int) -> object:
    """Run a query without leaving a transaction open that was not open before."""
    was_idle = conn.info.transaction_status == TransactionStatus.IDLE
    row = conn.execute(query, (key,), prepare=False).fetchone()  # type: ignore[arg-type]
    if was_idle and not conn.autocommit:
        conn.commit()
    return row[0] if row else None


def _holder(conn: psycopg.Connection, key: int) -> str:
    holder = _scalar(
        conn,
        """SELECT coalesce(nullif(a.application_name, ''), 'a session') || ', user ' || coalesce(a.usename, '?')
                  || coalesce(' at ' || host(a.client_addr), '') || ', server process ' || l.pid
             FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a USING (pid)
            WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND (l.classid::bigint << 32) | l.objid::bigint = %s""",
        key,
    )
    return str(holder) if holder else "a job that has just ended"
