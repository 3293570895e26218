"""Refuse a database whose schema or extension does not fit this version of msacat, with the command that mends it."""

from __future__ import annotations

import psycopg
from psycopg.pq import TransactionStatus

from msacat.catalog.errors import StoreUnavailable


def store_revision(conn: psycopg.Connection) -> str | None:
    """The schema revision recorded in this database, None if it holds no msacat store."""
    if _value(conn, "SELECT to_regclass('msacat.alembic_version')") is None:
        return None
    revision = _value(conn, "SELECT version_num FROM msacat.alembic_version")
    return str(revision) if revision is not None else None


def hidden_q3c(conn: psycopg.Connection) -> tuple[str, str] | None:
    """(schema, what mends it) of a Q3C that is in the database, but in a schema that is not searched."""
    schema = _value(
        conn,
        "SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'q3c'",
    )
    if schema is None:
        return None
    return (
        str(schema),
        f"as its owner: psql -d {conn.info.dbname} -c 'ALTER EXTENSION q3c SET SCHEMA public'",
    )


def require_store(conn: psycopg.Connection) -> None:
    """Raise StoreUnavailable unless the store is at this code's revision and Q3C answers."""
    check_revision(store_revision(conn))
    if _value(conn, "SELECT to_regproc('q3c_version')") is None:
        if hidden := hidden_q3c(conn):
            raise StoreUnavailable(
                f"Q3C is in schema {hidden[0]!r} of the database {conn.info.dbname!r}, which is not on the search path.",
                next_step=hidden[1],
            )
        raise StoreUnavailable(
            f"The database {conn.info.dbname!r} lacks the extension Q3C.",
            next_step=f"as a superuser: psql -d {conn.info.dbname} -c 'CREATE EXTENSION q3c'",
        )


def check_revision(found: str | None) -> None:
    """Compare a store's revision with the code's; StoreUnavailable if they differ."""
    # Imported here: Alembic is slow to load, and only this check and the migrations need it.
    from msacat import migrations

    head = migrations.head_revision()
    if found == head:
        return
    if found is None:
        raise StoreUnavailable("This database holds no msacat store yet.", next_step="msacat db upgrade")
    if found in known_revisions():
        raise StoreUnavailable(
            "The store's schema is older than this msacat.",
            expected=head,
            found=found,
            next_step="msacat db upgrade",
        )
    raise StoreUnavailable(
        "The store was made by a newer msacat than this one.",
        expected=head,
        found=found,
        next_step="pip install --upgrade msacat   (in a checkout: git pull && make setup)",
    )


def known_revisions() -> set[str]:
    """Every schema revision this code can upgrade from."""
    from alembic.script import ScriptDirectory

    from msacat import migrations

    return {script.revision for script in ScriptDirectory(str(migrations.FOLDER)).walk_revisions()}


def _value(conn: psycopg.Connection, query: str) -> object:
    """First value of a query, without leaving a transaction open that was not open before."""
    was_idle = conn.info.transaction_status == TransactionStatus.IDLE
    row = conn.execute(query).fetchone()  # type: ignore[arg-type]
    if was_idle and not conn.autocommit:
        conn.commit()
    return row[0] if row else None
