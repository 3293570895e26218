"""Make sure a database has the Q3C extension, or say what installs it."""

from __future__ import annotations

import psycopg

from msacat.catalog.errors import StoreUnavailable
from msacat.catalog.server.advisory_lock import lock_key
from msacat.catalog.server.postgres_binaries import apt_install
from msacat.catalog.server.q3c import mark_parallel_safe


def install_q3c(conn: psycopg.Connection) -> None:
    """CREATE EXTENSION q3c in this database if it is missing, let it run in parallel plans, and commit.

    Raises StoreUnavailable where the server lacks the package or the role may not create extensions.
    """
    known = "SELECT 1 FROM pg_extension WHERE extname = 'q3c'"
    if not conn.execute(known).fetchone():  # another caller may be adding it: wait for its commit
        conn.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key("extension q3c")])
    if conn.execute(known).fetchone():
        conn.rollback()
        return
    if not conn.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'q3c'").fetchone():
        conn.rollback()
        major = conn.info.server_version // 10000
        raise StoreUnavailable(
            f"Q3C, the sky index msacat needs, is not installed for PostgreSQL {major} on the server.",
            next_step=f"on the server: {apt_install(f'postgresql-{major}-q3c')}",
        )
    try:
        conn.execute("CREATE EXTENSION q3c")
        mark_parallel_safe(conn)
    except psycopg.errors.InsufficientPrivilege as error:
        conn.rollback()
        raise StoreUnavailable(
            f"Only a superuser can add Q3C to a database, and {conn.info.user!r} is not one.",
            next_step=f"as a superuser: psql -d {conn.info.dbname} -c 'CREATE EXTENSION q3c'",
        ) from error
    conn.commit()
