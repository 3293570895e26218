"""A PostgreSQL server of msacat's own: one folder, a Unix socket, no TCP, never run as root."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from msacat.catalog.errors import StoreUnavailable
from msacat.catalog.server.install_q3c import install_q3c
from msacat.catalog.server.postgres_binaries import (
    PostgresBinaries,
    apt_install,
    installed_binaries,
    no_binaries,
)
from msacat.catalog.server.postmaster_pid import Postmaster, read_postmaster
from msacat.catalog.server.server_account import account_name, give_to, run_as, server_account
from msacat.catalog.server.server_settings import server_settings

PORT = 5432
"""Only part of the socket's name: nothing listens on TCP."""
LONGEST_SOCKET_PATH = 107
"""Bytes of a socket's path on Linux (sun_path, less its closing zero)."""
DATABASE = SUPERUSER = "msacat"
SECONDS_TO_START = 300
"""Long, since a server that was killed first replays up to max_wal_size of write-ahead log."""


@dataclass(frozen=True)
class ServerStatus:
    """What `PrivateServer.status` found. `state`: absent, stopped, running, or crashed (stale pid file)."""

    state: str
    folder: str
    dsn: str
    log: str
    major: int | None = None
    pid: int | None = None


class PrivateServer:
    """A private PostgreSQL cluster below `folder`: `data/`, `socket/`, `server.log`.

    Started by root it runs as the owner of its data, at first the account `postgres`; started by anyone else it
    runs as that user. `settings` are laid over `server_settings()`, `binaries` replaces the ones found.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        settings: Mapping[str, str] | None = None,
        binaries: PostgresBinaries | None = None,
    ) -> None:
        self.folder = Path(os.path.abspath(folder))
        self._settings = dict(settings or {})
        self._given_binaries = binaries

    @property
    def data_folder(self) -> Path:
        return self.folder / "data"

    @property
    def socket_folder(self) -> Path:
        return self.folder / "socket"

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    @property
    def dsn(self) -> str:
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """Connection string of one database of this server."""
        return make_conninfo(host=str(self.socket_folder), port=PORT, user=SUPERUSER, dbname=database)

    @property
    def binaries(self) -> PostgresBinaries:
        """The programs that fit the data folder; StoreUnavailable if they are not installed."""
        made_by = self.data_major()
        installed = [self._given_binaries] if self._given_binaries else installed_binaries()
        fitting = [binaries for binaries in installed if made_by in (None, binaries.major)]
        if fitting:
            return fitting[0]
        if made_by is None:
            raise no_binaries()
        raise StoreUnavailable(
            "The data folder was made by another major version of PostgreSQL than those installed.",
            file=str(self.data_folder),
            expected=f"PostgreSQL {' or '.join(str(binaries.major) for binaries in installed) or made_by}",
            found=f"PostgreSQL {made_by}",
            next_step=f"{apt_install(f'postgresql-{made_by}', f'postgresql-{made_by}-q3c')}, "
            "or begin anew in another folder (MSACAT_HOME)",
        )

    def is_initialised(self) -> bool:
        self._require_access()
        return (self.data_folder / "PG_VERSION").exists()

    def data_major(self) -> int | None:
        """Major version that made the data folder, None before initialise()."""
        if not self.is_initialised():
            return None
        return int((self.data_folder / "PG_VERSION").read_text().strip().split(".")[0])

    def status(self) -> ServerStatus:
        """State of the server, without changing anything."""
        initialised = self.is_initialised()
        postmaster = read_postmaster(self.data_folder)
        if not initialised:
            state = "absent"
        elif postmaster is None:
            state = "stopped"
        else:
            state = "running" if postmaster.serves_folder else "crashed"
        return ServerStatus(
            state,
            str(self.folder),
            self.dsn,
            str(self.log_path),
            self.data_major(),
            postmaster.pid if postmaster and state == "running" else None,
        )

    def initialise(self) -> None:
        """Make the data folder (initdb) if there is none. Whole or not at all: it is renamed into place."""
        self._check_folder()
        with self._one_caller():
            if self.is_initialised():
                return
            if self.data_folder.exists() and any(self.data_folder.iterdir()):
                raise StoreUnavailable(
                    "The data folder is not empty, and is not PostgreSQL's.",
                    file=str(self.data_folder),
                    next_step=f"move it away, e.g. mv {shlex.quote(str(self.data_folder))}{{,.old}}",
                )
            unfinished = self.folder / "data.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            self._run(
                "initdb", "-D", unfinished, "-U", SUPERUSER, "--auth=trust", "-E", "UTF8", "--locale=C",
                "--data-checksums", "--no-instructions",
                *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
            )  # fmt: skip
            settings = server_settings() | self._settings
            lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
            self._append(
                unfinished / "msacat.conf",
                "# Written once by msacat. Change settings with ALTER SYSTEM SET, which wins over this file.\n"
                + lines,
            )
            self._append(unfinished / "postgresql.conf", "include 'msacat.conf'\n")
            unfinished.rename(self.data_folder)

    def start(self, tell: Callable[[str], None] = lambda words: None) -> None:
        """Start the server if it is not running, and make its database with Q3C if there is none.

        `tell` hears what the user should know. Raises StoreUnavailable with a next step.
        """
        self._check_folder()
        if not self.is_initialised():
            raise StoreUnavailable(
                "There is no private server yet.", file=str(self.folder), next_step="msacat db start"
            )
        with self._one_caller():
            postmaster = read_postmaster(self.data_folder)
            if postmaster is None or not postmaster.serves_folder:
                if postmaster is not None:
                    self._mend_stale_pid(postmaster, tell)
                self._launch()
            self.create_database(DATABASE)

    def require_startable(self) -> None:
        """Raise what would keep the server from being made or started, changing nothing."""
        self._require_short_socket_path()
        self._require_access()
        self._require_traversable(nearest_existing(self.folder))
        self._require_traversable(self.binaries.folder)
        postmaster = read_postmaster(self.data_folder)
        if postmaster is not None and postmaster.is_alive and not postmaster.serves_folder:
            raise self._pid_taken(postmaster)

    def stop(self, immediate: bool = False) -> None:
        """Stop the server; `immediate` leaves it as a power cut would. Nothing to do if it is not running."""
        if self.status().state != "running":
            return
        with self._one_caller():
            mode = "immediate" if immediate else "fast"
            self._run("pg_ctl", "-D", self.data_folder, "-w", "-t", "120", "-m", mode, "stop")

    def connected_jobs(self) -> list[str]:
        """Sessions that stopping would harm: msacat's own, and others with a query running."""
        with psycopg.connect(self.dsn_of("postgres"), autocommit=True, connect_timeout=10) as conn:
            rows = conn.execute(
                "SELECT coalesce(nullif(application_name, ''), 'a session') || ', server process ' || pid "
                "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() "
                "AND (application_name LIKE 'msacat%' OR state = 'active') ORDER BY backend_start"
            ).fetchall()
        return [row[0] for row in rows]

    def create_database(self, name: str) -> str:
        """Make the database `name` with Q3C if it is missing; returns its DSN."""
        with psycopg.connect(self.dsn_of("postgres"), autocommit=True, connect_timeout=10) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(self.dsn_of(name), connect_timeout=10) as conn:
            install_q3c(conn)
        return self.dsn_of(name)

    # --- privileges -----------------------------------------------------------------------------------

    def _account(self) -> pwd.struct_passwd:
        return server_account(self.data_folder)

    def _run_unchecked(self, *command: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        return run_as(self._account(), self.binaries.folder, *command, given=given)

    def _run(self, program: str, *arguments: str | Path, given: str = "") -> None:
        done = self._run_unchecked(program, *arguments, given=given)
        if done.returncode:
            raise StoreUnavailable(
                f"{program} failed (exit code {done.returncode}).",
                file=str(self.folder),
                found="\n            ".join(done.stdout.strip().splitlines()[-12:]),
                next_step="msacat doctor",
            )

    def _append(self, path: Path, text: str) -> None:
        """Write as the server's account: root follows no link that this account may have laid in its folder."""
        self._run("tee", "-a", path, given=text)

    def _give_to_server(self, path: Path) -> None:
        give_to(self._account(), path)

    def _check_folder(self) -> None:
        """Make `folder` and `socket/`, owned by the server's account, or say why that cannot be."""
        self._require_short_socket_path()
        self._require_access()
        try:
            # Parents keep the usual mode: the server's account must be able to pass through them.
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            for folder in (self.folder, self.socket_folder):
                if not folder.exists():
                    folder.mkdir(mode=0o700)
                    self._give_to_server(folder)
        except OSError as error:
            raise StoreUnavailable(
                f"The server's folder cannot be made: {error.strerror}.",
                file=str(error.filename),
                next_step="choose a folder of yours, e.g. export MSACAT_HOME=$HOME/.local/share/msacat",
            ) from error
        self._require_traversable(self.folder)
        self._require_traversable(self.binaries.folder)

    def _require_short_socket_path(self) -> None:
        socket_path = f"{self.socket_folder}/.s.PGSQL.{PORT}"
        if len(os.fsencode(socket_path)) > LONGEST_SOCKET_PATH:
            raise StoreUnavailable(
                "The path of the server's socket is too long for the operating system.",
                file=socket_path,
                expected=f"at most {LONGEST_SOCKET_PATH} bytes",
                found=f"{len(os.fsencode(socket_path))} bytes",
                next_step="choose a shorter folder, e.g. export MSACAT_HOME=/var/lib/msacat",
            )

    def _require_access(self) -> None:
        """The folder of another account's server can neither be read nor started."""
        elsewhere = (
            "use one of your own: export MSACAT_HOME=$HOME/.local/share/msacat; or another server: MSACAT_DSN"
        )
        owner = None
        # One may enter the folder and not the data in it.
        for place in (self.folder, self.data_folder, self.data_folder / "PG_VERSION"):
            try:
                owner = place.stat().st_uid
                unreadable = None if os.access(place, os.R_OK) else os.strerror(errno.EACCES)
            except FileNotFoundError:
                return
            except OSError as error:
                unreadable = error.strerror
            if owner is not None and os.geteuid() not in (0, owner):
                raise StoreUnavailable(
                    f"This private server belongs to the account {account_name(owner)!r}.",
                    file=str(self.folder),
                    next_step=f"run msacat from that account or as root, or {elsewhere}",
                )
            if unreadable is not None:
                whose = "" if owner is None else f" (it belongs to the account {account_name(owner)!r})"
                raise StoreUnavailable(
                    f"The server's folder cannot be read: {unreadable}{whose}.",
                    file=str(place),
                    next_step=elsewhere,
                )

    def _require_traversable(self, target: Path) -> None:
        account = self._account()
        for folder in [*reversed(target.parents), target]:
            if self._run_unchecked("/usr/bin/test", "-x", folder).returncode:
                raise StoreUnavailable(
                    f"The server runs as the account {account.pw_name!r}, which may not enter this folder.",
                    file=str(folder),
                    next_step=f"chmod a+x {shlex.quote(str(folder))}, "
                    "or a folder elsewhere, e.g. export MSACAT_HOME=/var/lib/msacat",
                )

    # --- starting -------------------------------------------------------------------------------------

    def _mend_stale_pid(self, postmaster: Postmaster, tell: Callable[[str], None]) -> None:
        """A server that was killed leaves its pid file; remove it only where that process is surely dead."""
        if postmaster.is_alive:
            raise self._pid_taken(postmaster)
        postmaster.path.unlink()
        tell(f"The server was not stopped cleanly (process {postmaster.pid} is gone); it replays its log.")

    @staticmethod
    def _pid_taken(postmaster: Postmaster) -> StoreUnavailable:
        return StoreUnavailable(
            f"A pid file is left from a server that was killed; its number {postmaster.pid} now belongs to "
            f"another program ({postmaster.command}), so PostgreSQL will not start.",
            file=str(postmaster.path),
            next_step=f"rm {shlex.quote(str(postmaster.path))} && msacat db start",
        )

    def _launch(self) -> None:
        # Left by a server that was killed; this folder has no other. PostgreSQL would take a zombie for its owner.
        for leftover in self.socket_folder.glob(".s.PGSQL.*"):
            leftover.unlink()
        log_begins = self.log_path.stat().st_size if self.log_path.exists() else 0
        options = f"-p {PORT} -k {shlex.quote(str(self.socket_folder))}"
        done = self._run_unchecked(
            "pg_ctl", "-D", self.data_folder, "-w", "-t", str(SECONDS_TO_START),
            "-l", self.log_path, "-o", options, "start",
        )  # fmt: skip
        if done.returncode:
            with self.log_path.open("rb") if self.log_path.exists() else open(os.devnull, "rb") as log:
                log.seek(log_begins)
                said = log.read().decode(errors="replace").strip() or done.stdout.strip()
            raise StoreUnavailable(
                "The private server did not start.",
                file=str(self.log_path),
                found="\n            ".join(said.splitlines()[-12:]),
                next_step="mend what the log says, then: msacat db start",
            )

    @contextmanager
    def _one_caller(self) -> Iterator[None]:
        """Two commands starting or stopping the server at once take turns."""
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._give_to_server(self.folder / "lock")
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def nearest_existing(path: Path) -> Path:
    """The folder itself, or the parent in which it would be made."""
    while not os.path.exists(path):  # unlike Path.exists, no error below a closed folder
        path = path.parent
    return path
