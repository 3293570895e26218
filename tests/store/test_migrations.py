"""The schema goes up and down, has one head, and lets two callers upgrade at once."""

from __future__ import annotations

import multiprocessing
import uuid
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

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


def test_a_developers_alembic_without_a_database_says_so(monkeypatch):
    repository = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(repository)  # alembic.ini names the folder relative to it
    with pytest.raises(CommandError, match="MSACAT_SQLALCHEMY_URL names no database"):
        command.current(Config(repository / "alembic.ini"))


def test_up_down_up(empty):
    migrations.upgrade(engine(empty))
    first = tables(empty)
    assert {"msacat.files", "msacat.splits", "learned.models", "msacat.runs"} <= first
    migrations.downgrade(engine(empty), "base")
    assert tables(empty) == {"msacat.alembic_version"}
    migrations.upgrade(engine(empty))
    assert tables(empty) == first


def columns(dsn: str) -> list[tuple]:
    """Every column of msacat's schemas with its type, default and comment."""
    with connect(dsn) as conn:
        return conn.execute(
            "SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default, "
            "col_description(format('%I.%I', table_schema, table_name)::regclass, ordinal_position) "
            "FROM information_schema.columns WHERE table_schema IN ('msacat', 'survey', 'matched', 'learned', 'enriched') "
            "ORDER BY 1, 2, ordinal_position"
        ).fetchall()


def test_each_step_goes_up_with_data_in_it_and_down_again(empty):
    steps = [s.revision for s in ScriptDirectory(str(migrations.FOLDER)).walk_revisions()][::-1]
    migrations.upgrade(engine(empty), steps[0])
    with connect(empty) as conn:
        for name in ("gaia_source", "twomass_psc"):
            register_survey(conn, builtin_specs()[name])
        conn.execute("INSERT INTO survey.gaia_source (source_id, ra, dec, file_id) VALUES (1, 2, 3, 4)")
    seen = [columns(empty)]
    for step in steps[1:]:
        migrations.upgrade(engine(empty), step)
        seen.append(columns(empty))
        migrations.upgrade(engine(empty), step)
        assert columns(empty) == seen[-1], "the same step again changes nothing"
    assert all(words and " unit=" in words and " ucd=" in words for *_, words in seen[-1])
    for step, expected in reversed(list(zip(steps, seen, strict=True))):
        migrations.downgrade(engine(empty), step)
        assert columns(empty) == expected
    with connect(empty) as conn:
        assert conn.execute("SELECT source_id FROM survey.gaia_source").fetchall() == [(1,)]


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
