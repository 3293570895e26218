"""The recipe in docs/server.md for a server of one's own, run as printed: least rights suffice, and hold."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from msacat.catalog.errors import StoreUnavailable
from msacat.catalog.server.advisory_lock import lock_key
from msacat.catalog.server.check_server import check_all, exit_code
from msacat.catalog.server.connect import connect, require_store
from msacat.catalog.server.upgrade_store import upgrade_store
from msacat.catalog.store.store_status import store_status

PAGE = Path(__file__).resolve().parents[2] / "docs" / "server.md"


def sql_of_page() -> tuple[list[str], list[str]]:
    """(statements before the upgrade, the reader's) as the page prints them, comments removed."""
    blocks = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 2
    once, reader = (
        [line.strip() for line in re.sub(r"--[^\n]*", "", block).split(";") if line.strip()]
        for block in blocks
    )
    return once, reader


@pytest.fixture
def own_server(server):
    """DSN of the page's database for its owner `astronomer`, made by the page's own statements."""
    once, _ = sql_of_page()
    with psycopg.connect(server.dsn_of("postgres"), autocommit=True) as admin:
        for statement in once:
            if statement.startswith("\\c stars"):
                continue
            if "EXTENSION" in statement:
                break
            admin.execute(statement)
        try:
            with psycopg.connect(server.dsn_of("stars"), autocommit=True) as there:
                there.execute("CREATE EXTENSION q3c")
            yield make_conninfo(server.dsn_of("stars"), user="astronomer")
        finally:
            admin.execute("DROP DATABASE IF EXISTS stars WITH (FORCE)")
            admin.execute("DROP ROLE IF EXISTS reader")
            admin.execute("DROP ROLE astronomer")


def test_two_upgrades_at_once_of_a_database_without_q3c(server):
    with psycopg.connect(server.dsn_of("postgres"), autocommit=True) as admin:
        admin.execute("CREATE DATABASE upgraded_twice")
        try:
            with ThreadPoolExecutor(1) as pool, connect(server.dsn_of("upgraded_twice")) as first:
                first.execute("CREATE EXTENSION q3c")  # as far as another upgrade has come
                first.execute("SELECT pg_advisory_xact_lock(%s)", [lock_key("extension q3c")])
                second = pool.submit(upgrade_store, server.dsn_of("upgraded_twice"))
                with pytest.raises(TimeoutError):
                    second.result(1)
                first.commit()
                assert second.result(60)[0] is None
            assert exit_code(check_all(server.dsn_of("upgraded_twice"))) == 0
        finally:
            admin.execute("DROP DATABASE IF EXISTS upgraded_twice WITH (FORCE)")


def test_a_schema_of_the_users_own_with_a_table_in_the_way(own_server):
    with psycopg.connect(own_server) as archive:
        archive.execute("CREATE SCHEMA learned; CREATE TABLE learned.models (theirs int)")
    with pytest.raises(StoreUnavailable, match="has a name that msacat's schema needs") as caught:
        upgrade_store(own_server)
    assert (
        '"models" already exists' in caught.value.found and "ALTER SCHEMA learned" in caught.value.next_step
    )
    with psycopg.connect(own_server) as archive:
        archive.execute("ALTER SCHEMA learned RENAME TO lessons")
    upgrade_store(own_server)
    assert exit_code(check_all(own_server)) == 0


def test_recipe(own_server):
    upgrade_store(own_server)
    assert exit_code(check_all(own_server)) == 0
    _, reader_statements = sql_of_page()
    with psycopg.connect(make_conninfo(own_server, user="msacat"), autocommit=True) as superuser:
        for statement in reader_statements:
            superuser.execute(statement)
    with connect(own_server) as owner:
        owner.execute("CREATE TABLE enriched.made_later AS SELECT 1 AS one")
        owner.commit()
    with connect(make_conninfo(own_server, user="reader"), autocommit=True) as reader:
        require_store(reader)
        assert reader.execute("SELECT count(*) FROM msacat.files").fetchone() == (0,)
        assert store_status(reader).models == []
        assert reader.execute("SELECT one FROM enriched.made_later").fetchone() == (1,)
        for forbidden in (
            "DELETE FROM msacat.files",
            "DROP TABLE enriched.made_later",
            "CREATE TABLE survey.mine (i int)",
            "CREATE SCHEMA mine",
            "UPDATE msacat.alembic_version SET version_num = 'x'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(forbidden)
