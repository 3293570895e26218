"""Keeps readers off views that are about to be made anew, so that neither waits for the other for ever.

A query locks the view it names, then what lies below. Whoever replaces views of several layers takes the outer ones
first, as a query does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg import Connection, sql

Made = TypeVar("Made")

PATIENCE_S = 0.5  # for readers, the first time; then twice as long each time
LONGEST_PATIENCE_S = 16.0
PAUSE = 4  # times as long as was waited before
GIVES_WAY_S = 3600.0  # in all: where long queries never cease, they wait in the end


def hold_publishing(conn: Connection) -> None:
    """Until the caller's transaction ends nobody else publishes, drops or makes anew what schema enriched shows.

    Taken first, then rows of msacat.runs by their number, then views: whoever takes them in another order ends up
    waiting for somebody who waits for him.
    """
    conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('msacat publish', 0))")


def between_readers(conn: Connection, make: Callable[[], Made]) -> Made:
    """`make()`, which makes views anew, as soon as no reader is in its way; what it made is the caller's to commit.

    Whoever waits for the lock of a view keeps every later reader out: behind a query of an hour, for an hour. So it
    waits a moment, gives up its locks, and tries again after a pause. Not those that the caller had before.
    """
    patience, until = PATIENCE_S, time.monotonic() + GIVES_WAY_S
    while True:
        limit_ms = int(1000 * patience) if time.monotonic() < until else 0
        try:
            with conn.transaction():
                conn.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(limit_ms))
                made = make()
                conn.execute("SET LOCAL lock_timeout = 0")
            return made
        except psycopg.errors.LockNotAvailable:
            time.sleep(PAUSE * patience)
            patience = min(2 * patience, LONGEST_PATIENCE_S)


def hold_views(conn: Connection, *views: tuple[str, str]) -> None:
    """Lock these (schema, view), outermost first, until the caller's transaction ends; others than views are left alone."""
    for schema, name in views:
        ours = conn.execute(
            "SELECT 1 FROM pg_class WHERE oid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND relkind = 'v' "
            "AND pg_has_role(relowner, 'USAGE')",
            [schema, name],
        ).fetchone()
        if ours:
            # LOCK TABLE would lock every table below as well. REPLACE resets the options too.
            conn.execute(
                sql.SQL("ALTER VIEW IF EXISTS {} RESET (security_barrier)").format(
                    sql.Identifier(schema, name)
                )
            )
