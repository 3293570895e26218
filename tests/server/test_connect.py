"""Which server a command means, and what the user reads when it does not answer."""

import os
import signal
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import text

from msacat.catalog.errors import Interrupted, StoreUnavailable, UsageError
from msacat.catalog.server.check_server import check_all
from msacat.catalog.server.connect import (
    LIBPQ_VARIABLES,
    check_server_version,
    connect,
    engine,
    home_folder,
    private_server,
    resolve_dsn,
)


@pytest.fixture
def own_home(short_folder, tmp_path_factory, monkeypatch):
    home = short_folder / tmp_path_factory.mktemp("h").name
    monkeypatch.setenv("MSACAT_HOME", str(home))
    yield home
    private_server().stop(immediate=True)


def test_home_folder(monkeypatch):
    monkeypatch.setenv("MSACAT_HOME", "/some/where")
    assert str(home_folder()) == "/some/where"
    monkeypatch.delenv("MSACAT_HOME")
    assert str(home_folder()) == (
        "/var/lib/msacat" if os.geteuid() == 0 else f"{os.path.expanduser('~')}/.local/share/msacat"
    )


def test_order_argument_then_variable_then_libpq_then_private(own_home, copy_initialised, monkeypatch):
    with pytest.raises(StoreUnavailable, match="No database is named") as caught:
        resolve_dsn()
    assert caught.value.next_step.startswith("msacat db start")
    copy_initialised(own_home / "server")
    assert resolve_dsn() == private_server().dsn
    monkeypatch.setenv("PGUSER", "somebody")
    assert resolve_dsn() == private_server().dsn, "a user name alone names no server"
    for name in LIBPQ_VARIABLES:
        monkeypatch.setenv(name, "x")
        assert resolve_dsn() == "", f"{name} is libpq's to read"
        monkeypatch.delenv(name)
    monkeypatch.setenv("PGHOST", "x")
    monkeypatch.setenv("MSACAT_DSN", "host=y")
    assert resolve_dsn() == "host=y"
    assert resolve_dsn("host=z") == "host=z"


def test_a_dead_network_is_noticed_by_who_waits_and_by_who_sends(store):
    """Keepalives speak where nothing is under way; sent data that nobody confirms has a limit of its own."""
    with connect(store) as conn:
        asked = conn.info.get_parameters()
    assert (asked["keepalives_idle"], asked["keepalives_count"], asked["tcp_user_timeout"]) == (
        "30",
        "3",
        "60000",
    )
    with connect(f"{store} tcp_user_timeout=5000") as conn:
        assert conn.info.get_parameters()["tcp_user_timeout"] == "5000"


def test_sqlalchemys_spelling_is_understood():
    assert resolve_dsn("postgresql+psycopg://u@h/d") == "postgresql://u@h/d"


@pytest.mark.parametrize(
    "bad", ["hunter2", "host=h password hunter2", "postgresql://u:hunter2@h:port/d?x=hunter2"]
)
def test_an_unreadable_string_is_not_repeated(bad):
    with pytest.raises(UsageError) as caught:
        resolve_dsn(bad)
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_libpq_variables_and_service_files_reach_the_server(store, tmp_path, monkeypatch):
    parts = conninfo_to_dict(store)
    with monkeypatch.context() as env:
        for variable, key in {
            "PGHOST": "host",
            "PGPORT": "port",
            "PGUSER": "user",
            "PGDATABASE": "dbname",
        }.items():
            env.setenv(variable, str(parts[key]))
        with connect() as conn:
            assert conn.info.dbname == parts["dbname"]
    lines = "".join(f"{key}={value}\n" for key, value in parts.items())
    (tmp_path / "pg_service.conf").write_text(f"[stars]\n{lines}")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pg_service.conf"))
    monkeypatch.setenv("PGSERVICE", "stars")
    with connect() as conn:
        assert conn.info.dbname == parts["dbname"]
    with engine().connect() as connection:
        assert connection.execute(text("SELECT current_database()")).scalar() == parts["dbname"]


def test_an_unreachable_server_is_quoted_without_the_password(tmp_path):
    dsn = f"host={tmp_path} user=astronomer password=hunter2 dbname=stars"
    with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
        connect(dsn)
    assert "No such file or directory" in caught.value.found
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 3
    assert caught.value.next_step.startswith("msacat doctor")


def test_a_missing_database_is_the_servers_own_words(server):
    with pytest.raises(StoreUnavailable) as caught:
        connect(server.dsn_of("no_such_database"))
    assert 'database "no_such_database" does not exist' in caught.value.found


def test_a_stopped_private_server_is_named_or_started(own_home, copy_initialised):
    copy_initialised(own_home / "server")
    with pytest.raises(StoreUnavailable, match="not running") as caught:
        connect()
    assert caught.value.next_step == "msacat db start"
    with connect(start_private=True) as conn:
        assert conn.info.dbname == "msacat"


def test_modes_and_session_settings(store):
    with connect(store, application="msacat ingest") as conn:
        assert not conn.autocommit
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        shown = {
            name: conn.execute(f"SHOW {name}").fetchone()[0]
            for name in (
                "jit",
                "TimeZone",
                "client_connection_check_interval",
                "application_name",
                "client_encoding",
            )
        }
        assert shown == {
            "jit": "off",
            "TimeZone": "UTC",
            "client_connection_check_interval": "10s",
            "application_name": f"msacat ingest (process {os.getpid()})",
            "client_encoding": "UTF8",
        }
    for autocommit in (False, True):
        with connect(store, read_only=True, autocommit=autocommit) as conn:
            assert conn.autocommit is autocommit
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                conn.execute("CREATE TABLE public.t (i int)")


def test_a_role_made_read_only_stays_so(store, msacat_at):
    with connect(store, autocommit=True) as conn:
        conn.execute(
            sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(
                sql.Identifier(conn.info.dbname)
            )
        )
    with connect(store) as conn, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("CREATE TABLE public.t (i int)")
    ended = msacat_at(store, "survey", "add", "twomass_psc")
    assert ended.code == 3 and "read-only transaction" in ended.err
    [fault] = [check for check in check_all(store) if check.state == "fault"]
    assert (fault.name, fault.found[-31:]) == (
        "right to write the store",
        "(default_transaction_read_only)",
    )


def test_versions_below_14_are_refused():
    check_server_version(140000)
    with pytest.raises(StoreUnavailable) as caught:
        check_server_version(130014)
    assert (caught.value.expected, caught.value.found) == ("PostgreSQL 14 or newer", "PostgreSQL 13")


@contextmanager
def signal_in(seconds: float):
    """Interrupted is raised in the main thread after so many seconds, as a Ctrl-C in a command does."""

    def came(number, frame):
        raise Interrupted("interrupted")

    previous = signal.signal(signal.SIGALRM, came)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def copied(conn):
    with conn.cursor() as cursor, cursor.copy("COPY (SELECT generate_series(1, 10000000)) TO STDOUT") as copy:
        yield from copy


def test_an_interruption_leaves_no_command_at_work(store, caplog):
    with pytest.raises(Interrupted), connect(store) as reader, connect(store) as writer:
        for _ in copied(reader):
            with signal_in(0.3):
                writer.execute("SELECT pg_sleep(60)")
    assert caplog.records == [] and reader.closed and writer.closed
    with connect(store) as conn:
        with pytest.raises(Interrupted), signal_in(0.3), conn.transaction():
            conn.execute("SELECT pg_sleep(60)")
        assert conn.execute("SELECT 1").fetchone() == (1,), "the connection is of use afterwards"
        with pytest.raises(Interrupted), conn.cursor() as cursor:
            copy = cursor.copy("COPY (SELECT pg_sleep(60)) TO STDOUT")
            with signal_in(0.3), copy as reading:
                reading.read()
        conn.rollback()
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert caplog.records == []
