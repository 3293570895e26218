"""The private server's life, and each fault of its folder with its own message. Real servers, no mocks."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from msacat.catalog.errors import StoreUnavailable
from msacat.catalog.server.postgres_binaries import PostgresBinaries, installed_binaries, no_binaries
from msacat.catalog.server.private_server import PrivateServer

FAST = {"fsync": "off", "shared_buffers": "64MB", "max_wal_size": "256MB"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops privileges")


@pytest.fixture
def folder(short_folder):
    path = short_folder / uuid.uuid4().hex[:8]
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def private(folder, copy_initialised):
    """An initialised, stopped server of the test's own."""
    server = copy_initialised(folder / "server")
    yield server
    server.stop(immediate=True)


def words(server: PrivateServer) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        server.start()
    assert caught.value.exit_code == 3
    assert caught.value.next_step
    return caught.value


def test_life(folder):
    server = PrivateServer(folder / "server", settings=FAST)
    assert server.status().state == "absent"
    server.initialise()
    assert server.status().state == "stopped"
    server.start()
    status = server.status()
    assert status.state == "running"
    assert status.major == server.binaries.major
    with psycopg.connect(server.dsn) as conn:
        assert conn.execute("SELECT q3c_version()").fetchone()[0] >= "2.0.0"
        assert conn.execute("SHOW listen_addresses").fetchone()[0] == ""
        assert conn.execute("SHOW synchronous_commit").fetchone()[0] == "on"
        assert conn.execute("SHOW jit").fetchone()[0] == "off"
        conn.execute("CREATE TABLE kept AS SELECT 1 AS one")
    assert Path(f"/proc/{status.pid}").stat().st_uid != 0, "never run as root"
    assert server.socket_folder.stat().st_mode & 0o077 == 0, "nobody else may connect"
    server.start()
    assert server.status().pid == status.pid, "starting twice is one start"
    server.stop()
    assert server.status().state == "stopped"
    server.stop()
    server.initialise()
    server.start()
    with psycopg.connect(server.dsn) as conn:
        assert conn.execute("SELECT one FROM kept").fetchone() == (1,)
    server.stop()


def test_two_callers_start_one_server(private):
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(PrivateServer(private.folder).start) for _ in range(2)]:
            done.result()
    with psycopg.connect(private.dsn) as conn:
        assert conn.execute("SELECT count(*) FROM pg_extension WHERE extname = 'q3c'").fetchone() == (1,)


def test_starting_before_initialising_names_the_command(folder):
    assert words(PrivateServer(folder / "server")).next_step == "msacat db start"


def test_a_killed_server_starts_again_and_says_so(private):
    private.start()
    killed = private.status().pid
    with psycopg.connect(private.dsn) as conn:
        conn.execute("CREATE TABLE committed AS SELECT 1 AS one")
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while private.status().state == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert private.status().state == "crashed"
    heard: list[str] = []
    private.start(heard.append)
    assert str(killed) in heard[0]
    with psycopg.connect(private.dsn) as conn:
        assert conn.execute("SELECT one FROM committed").fetchone() == (1,)


def test_a_pid_file_that_names_another_program(private):
    """After a reboot the number may belong to anything; PostgreSQL would refuse without saying why."""
    other = subprocess.Popen(["sleep", "60"])
    try:
        pid_file = private.data_folder / "postmaster.pid"
        pid_file.write_text(f"{other.pid}\n{private.data_folder}\n")
        assert private.status().state == "crashed"
        error = words(private)
        assert f"{other.pid} now belongs to another program (sleep)" in error.message
        assert error.next_step == f"rm {pid_file} && msacat db start"
        pid_file.unlink()
        private.start()
    finally:
        other.kill()
        other.wait()


def test_a_data_folder_of_another_major(private):
    (private.data_folder / "PG_VERSION").write_text("9\n")
    error = words(PrivateServer(private.folder))
    assert "another major version" in error.message
    assert error.found == "PostgreSQL 9"
    assert "apt-get install postgresql-9 postgresql-9-q3c" in error.next_step


def test_a_socket_path_too_long_for_the_system(short_folder, copy_initialised):
    def folder_with_socket_path_of(length: int) -> Path:
        fixed = len(str(short_folder / "x/socket/.s.PGSQL.5432")) - 1
        return short_folder / ("x" * (length - fixed))

    error = words(PrivateServer(folder_with_socket_path_of(108)))
    assert (error.expected, error.found) == ("at most 107 bytes", "108 bytes")
    assert "MSACAT_HOME" in error.next_step
    longest = copy_initialised(folder_with_socket_path_of(107))
    longest.start()
    longest.stop(immediate=True)


@as_root
def test_a_parent_the_servers_account_may_not_enter(folder):
    closed = folder / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(StoreUnavailable, match="'postgres', which may not enter") as caught:
        PrivateServer(closed / "home" / "server").initialise()
    assert caught.value.file == str(closed)
    assert f"chmod a+x {closed}" in caught.value.next_step
    assert "MSACAT_HOME=/var/lib/msacat" in caught.value.next_step


def test_a_folder_that_cannot_be_made(folder):
    folder.mkdir()
    (folder / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="Not a directory") as caught:
        PrivateServer(folder / "file" / "server").initialise()
    assert "MSACAT_HOME" in caught.value.next_step


def test_a_data_folder_that_holds_something_else(folder):
    (folder / "server" / "data").mkdir(parents=True)
    (folder / "server" / "data" / "thesis.tex").write_text("")
    if os.geteuid() == 0:
        shutil.chown(folder / "server", "postgres")
    with pytest.raises(StoreUnavailable, match="not PostgreSQL's"):
        PrivateServer(folder / "server").initialise()
    assert (folder / "server" / "data" / "thesis.tex").exists()


def test_an_interrupted_initdb_is_begun_again(private):
    private.data_folder.rename(private.folder / "data.unfinished")
    assert private.status().state == "absent"
    private.initialise()
    assert private.status().state == "stopped"
    assert not (private.folder / "data.unfinished").exists()


def test_a_server_that_does_not_start_shows_its_log(private):
    with (private.data_folder / "postgresql.conf").open("a") as conf:
        conf.write("no_such_setting = 1\n")
    error = words(private)
    assert 'unrecognized configuration parameter "no_such_setting"' in error.found
    assert error.file == str(private.log_path)


def test_a_postgres_without_q3c(private, folder):
    """A real server from a copy of the installed PostgreSQL that lacks the extension's files."""
    installed = installed_binaries()[0]
    major, original = installed.major, installed.folder.parent
    if original.parts[:4] != ("/", "usr", "lib", "postgresql"):
        pytest.skip("PostgreSQL is not laid out as Debian does it")
    bin_copy = folder / f"lib/postgresql/{major}/bin"
    bin_copy.mkdir(parents=True)
    for program in ("initdb", "pg_ctl", "postgres", "pg_config"):
        shutil.copy2(installed.folder / program, bin_copy)
    (bin_copy.parent / "lib").symlink_to(original / "lib")
    share = folder / f"share/postgresql/{major}"
    (share / "extension").mkdir(parents=True)
    for part in Path(f"/usr/share/postgresql/{major}").iterdir():
        if part.name != "extension":
            (share / part.name).symlink_to(part)
    for part in Path(f"/usr/share/postgresql/{major}/extension").glob("plpgsql*"):
        (share / "extension" / part.name).symlink_to(part)
    without = PostgresBinaries(bin_copy, major)
    assert installed.has_q3c()
    assert not without.has_q3c()
    server = PrivateServer(private.folder, binaries=without)
    error = words(server)
    assert f"Q3C, the sky index msacat needs, is not installed for PostgreSQL {major}" in error.message
    assert f"apt-get install postgresql-{major}-q3c" in error.next_step
    server.stop()
    private.start()  # once the package is there, the same folder goes on
    with psycopg.connect(private.dsn) as conn:
        conn.execute("SELECT q3c_version()")


def test_a_machine_without_postgres_gets_the_command(monkeypatch, folder):
    monkeypatch.setattr("msacat.catalog.server.postgres_binaries.DEBIAN_VERSIONS", folder / "nowhere")
    monkeypatch.setenv("PATH", str(folder))
    assert installed_binaries() == []
    with pytest.raises(StoreUnavailable, match="is not installed on this machine") as caught:
        PrivateServer(folder / "server").initialise()
    assert caught.value.next_step == no_binaries().next_step
    assert "apt-get install postgresql-15 postgresql-15-q3c" in caught.value.next_step
