"""A PostgreSQL of the benchmark's own: msacat's private server with its own settings and durability, then gone."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from msacat.catalog.server.private_server import PrivateServer
from msacat.catalog.server.upgrade_store import upgrade_store

EMPTY = "empty_store"


class TemporaryServer:
    """Stores on a server below `folder`; `files` is a folder that the server itself may read and write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = PrivateServer(folder / "server")
        self.server.initialise()
        self.server.start()
        upgrade_store(self.server.create_database(EMPTY))
        self.files = self.server.data_folder
        self.psql = self.server.binaries.folder / "psql"
        self._made = 0

    def new_store(self) -> str:
        """DSN of a migrated, empty store."""
        self._made += 1
        name = f"store_{self._made}"
        with psycopg.connect(self.server.dsn_of("postgres"), autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(EMPTY))
            )
        return self.server.dsn_of(name)

    def drop_store(self, dsn: str) -> None:
        name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
        with psycopg.connect(self.server.dsn_of("postgres"), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))


@contextmanager
def temporary_server(parent: Path | None = None) -> Iterator[TemporaryServer]:
    """Made below `parent` (default: the folder for temporary files), stopped and removed at the end.

    No variable of the user's leads anywhere: PG* and MSACAT_* are dropped from this process's environment.
    """
    for name in [name for name in os.environ if name.startswith(("PG", "MSACAT_"))]:
        del os.environ[name]
    before = signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # a killed benchmark, too, leaves nothing behind
    folder = Path(tempfile.mkdtemp(prefix="msacat-bench-", dir=parent))
    folder.chmod(0o755)  # the server's account passes through it
    os.environ["MSACAT_HOME"] = str(folder / "home")
    server: TemporaryServer | None = None
    try:
        server = TemporaryServer(folder)
        yield server
    finally:
        (server.server if server else PrivateServer(folder / "server")).stop(immediate=True)
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
