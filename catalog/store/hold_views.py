"""Keeps readers off views that are about to be made anew, so that neither waits for the other for ever.

A query locks the view it names, then what lies below. Whoever replaces views of several layers takes the outer ones
first, as a query does.
"""

from __future__ import annotations

from psycopg import Connection, sql


def hold_publishing(conn: Connection) -> None:
    """Until the caller's transaction ends nobody else publishes, drops or makes anew what schema enriched shows.

    Taken first, then rows of msacat.runs by their number, then views: whoever takes them in another order ends up
    waiting for somebody who waits for him.
    """
    conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('msacat publish', 0))")


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
