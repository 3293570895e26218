"""Alembic's entry point: one caller at a time, version table in schema msacat."""

from __future__ import annotations

import os

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Engine, create_engine, text

# Session-level, so that it outlives each migration's own transaction; freed when the connection ends.
MIGRATION_LOCK = 0x6D736163  # "msac"


def _engine() -> Engine:
    """The caller's; `alembic -c alembic.ini` has none and finds the database in the environment."""
    if (given := context.config.attributes.get("engine")) is not None:
        return given
    if not (url := os.environ.get("MSACAT_SQLALCHEMY_URL")):
        raise CommandError("MSACAT_SQLALCHEMY_URL names no database: postgresql+psycopg://USER@HOST/DATABASE")
    return create_engine(url)


with _engine().connect() as connection:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS msacat"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=None,
        version_table_schema="msacat",
        transactional_ddl=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
    connection.commit()
