"""The schema goes up and down, has one head, and lets two callers upgrade at once."""

from __future__ import annotations

import multiprocessing
import uuid

import pytest
from alembic.script import ScriptDirectory

from msacat import migrations
from msacat.catalog.server.connect import connect, engine
from msacat.catalog.store.register_survey import register_survey
from msacat.catalog.surveys.load_specs import builtin_specs


@pytest.fixture
def empty(server):
    """A database with Q3C and nothing of msacat."""
    name = f"empty_{uuid.uuid4().hex[:8]}"
    dsn = server.create_database(name)
    yield dsn
    with connect(server.dsn_of("postgres"), autocommit=True) as conn:
        conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


def tables(dsn: str) -> set[str]:
    with connect(dsn) as conn:
        return {
            f"{schema}.{name}"
            for schema, name in conn.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            )
        }


def test_one_head():
    assert len(ScriptDirectory(str(migrations.FOLDER)).get_heads()) == 1


def test_up_down_up(empty):
    migrations.upgrade(engine(empty))
    first = tables(empty)
    assert {"msacat.files", "msacat.splits", "learned.models", "msacat.runs"} <= first
    migrations.downgrade(engine(empty), "base")
    assert tables(empty) == {"msacat.alembic_version"}
    migrations.upgrade(engine(empty))
    assert tables(empty) == first


def test_down_with_data_in_it(empty):
    migrations.upgrade(engine(empty))
    with connect(empty) as conn:
        for name in ("gaia_source", "twomass_psc"):
            register_survey(conn, builtin_specs()[name])
    migrations.downgrade(engine(empty), "base")
    assert tables(empty) == {"msacat.alembic_version"}


def _upgrade(dsn: str, barrier, failures) -> None:
    barrier.wait()
    try:
        migrations.upgrade(engine(dsn))
    except Exception as error:
        failures.put(repr(error))


def test_two_callers_at_once(empty):
    context = multiprocessing.get_context("spawn")
    barrier, failures = context.Barrier(2), context.Queue()
    callers = [context.Process(target=_upgrade, args=(empty, barrier, failures)) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert failures.empty() and [c.exitcode for c in callers] == [0, 0]
    with connect(empty) as conn:
        assert conn.execute("SELECT version_num FROM msacat.alembic_version").fetchall() == [
            (migrations.head_revision(),)
        ]
