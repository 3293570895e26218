"""Bring a database to this code's schema: Q3C first, then the migrations."""

from __future__ import annotations

from collections.abc import Callable

from msacat.catalog.errors import StoreUnavailable
from msacat.catalog.server.connect import connect, engine
from msacat.catalog.server.install_q3c import install_q3c
from msacat.catalog.server.require_store import check_revision, known_revisions, store_revision


def upgrade_store(dsn: str, tell: Callable[[str], None] = lambda words: None) -> tuple[str | None, str]:
    """Install Q3C where it is missing and migrate to head; returns the revisions before and after.

    Raises StoreUnavailable where the role lacks the rights, or the store is newer than this code.
    """
    # Imported here: Alembic is slow to load, and `connect` must stay quick for every other verb.
    import sqlalchemy

    from msacat import migrations

    head = migrations.head_revision()
    # A superuser may add the extension, and what follows is the store's owner's.
    with connect(dsn, as_owner=False, application="msacat db upgrade") as conn:
        install_q3c(conn)
    with connect(dsn, application="msacat db upgrade") as conn:
        before = store_revision(conn)
        if before == head:
            return before, head
        if before is not None and before not in known_revisions():
            check_revision(before)  # raises: a newer msacat made it
        row = conn.execute(
            "SELECT current_user, has_database_privilege(current_database(), 'CREATE')"
        ).fetchone()
        assert row is not None
        role, may_create = row
        database = conn.info.dbname
    if not may_create:
        raise _no_rights(role, database, "may not create schemas there")
    tell(f"Schema: {before or 'none'} → {head}.")
    try:
        migrations.upgrade(engine(dsn, application="msacat db upgrade"))
    except sqlalchemy.exc.ProgrammingError as error:
        state, found = getattr(error.orig, "sqlstate", None), str(error.orig).strip()
        if state in ("42P07", "42723"):  # duplicate_table, duplicate_function
            raise StoreUnavailable(
                f"Something of another's in database {database!r} has a name that msacat's schema needs.",
                expected="nothing of yours in the schemas msacat, survey, matched, learned and enriched",
                found=found,
                next_step="rename your schema, e.g. ALTER SCHEMA learned RENAME TO …, or use another database",
            ) from error
        if state != "42501":  # insufficient_privilege
            raise
        raise _no_rights(role, database, found) from error
    return before, head


def _no_rights(role: str, database: str, found: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The role {role!r} cannot upgrade the schema in database {database!r}.",
        found=found,
        next_step=f"as the database's owner: psql -d {database} -c 'GRANT CREATE ON DATABASE \"{database}\" TO "
        f'"{role}"\', or upgrade with the role that owns the schema',
    )
