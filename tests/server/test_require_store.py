"""A store at another revision, or without Q3C, is refused with the command that mends it."""

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from msacat import migrations
from msacat.catalog.errors import StoreUnavailable
from msacat.catalog.server.connect import connect, engine, require_store


def test_a_migrated_store_passes_and_no_transaction_stays_open(conn):
    require_store(conn)
    assert conn.info.transaction_status == TransactionStatus.IDLE


def test_an_empty_database_is_told_to_upgrade(server):
    with connect(server.dsn_of("postgres")) as conn, pytest.raises(StoreUnavailable) as caught:
        require_store(conn)
    assert caught.value.next_step == "msacat db upgrade"
    assert caught.value.exit_code == 3


def test_a_newer_store_asks_for_a_newer_msacat(conn):
    conn.execute("UPDATE msacat.alembic_version SET version_num = '9999_from_the_future'")
    conn.commit()
    with pytest.raises(StoreUnavailable, match="newer msacat") as caught:
        require_store(conn)
    assert "pip install --upgrade msacat" in caught.value.next_step
    assert caught.value.found == "9999_from_the_future"


def test_a_downgraded_store_holds_none_and_upgrades_again(store):
    migrations.downgrade(engine(store), "base")
    with connect(store) as conn, pytest.raises(StoreUnavailable, match="no msacat store"):
        require_store(conn)
    migrations.upgrade(engine(store))
    with connect(store) as conn:
        require_store(conn)


def test_an_older_store_is_told_to_upgrade(conn, monkeypatch):
    known = conn.execute("SELECT version_num FROM msacat.alembic_version").fetchone()[0]
    monkeypatch.setattr(migrations, "head_revision", lambda: "the_next_one")
    with pytest.raises(StoreUnavailable, match="older than this msacat") as caught:
        require_store(conn)
    assert (caught.value.found, caught.value.next_step) == (known, "msacat db upgrade")


def test_a_store_without_q3c_is_refused(conn):
    conn.execute("DROP EXTENSION q3c CASCADE")
    with pytest.raises(StoreUnavailable, match="lacks the extension Q3C") as caught:
        require_store(conn)
    assert "CREATE EXTENSION q3c" in caught.value.next_step


def test_q3c_in_another_schema_is_moved_not_made(conn):
    conn.execute("CREATE SCHEMA hidden")
    conn.execute("ALTER EXTENSION q3c SET SCHEMA hidden")
    with pytest.raises(StoreUnavailable, match="in schema 'hidden'") as caught:
        require_store(conn)
    conn.execute(caught.value.next_step.split(" -c '", 1)[1].rstrip("'"))
    require_store(conn)


def test_reading_needs_no_rights_beyond_select(conn, store):
    """The checks themselves must not need ownership."""
    conn.execute("CREATE ROLE plain_reader LOGIN")
    try:
        conn.execute("GRANT USAGE ON SCHEMA msacat TO plain_reader")
        conn.execute("GRANT SELECT ON msacat.alembic_version TO plain_reader")
        conn.commit()
        with connect(psycopg.conninfo.make_conninfo(store, user="plain_reader")) as reader:
            require_store(reader)
    finally:
        conn.rollback()
        conn.execute("DROP OWNED BY plain_reader")
        conn.execute("DROP ROLE plain_reader")
        conn.commit()
