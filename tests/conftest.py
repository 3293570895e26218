"""A temporary PostgreSQL with Q3C for the whole run, and a fresh store for each test that asks for one."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = Path(os.environ.get("MSACAT_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")

# Nothing of the user's may be touched: no variable of theirs names a server, a home or a password file.
for name in [name for name in os.environ if name.startswith(("PG", "MSACAT_"))]:
    del os.environ[name]

from msacat import migrations  # noqa: E402  (after the environment is clean)
from msacat.catalog.connect import connect, engine  # noqa: E402
from msacat.catalog.private_server import PrivateServer  # noqa: E402

TEMPLATE = "migrated_store"
UNSAFE_BUT_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_connections": "60",
}


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder below /tmp that the server's account may enter, short enough for a socket's path."""
    folder = Path(tempfile.mkdtemp(prefix="msacat-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _home_folder(short_folder: Path) -> None:
    os.environ["MSACAT_HOME"] = str(short_folder / "home")


@pytest.fixture(scope="session")
def server(short_folder: Path) -> Iterator[PrivateServer]:
    """A running PostgreSQL with Q3C whose template database is migrated to head."""
    private = PrivateServer(short_folder / "server", settings=UNSAFE_BUT_FAST)
    try:
        private.initialise()
        private.start()
        migrations.upgrade(engine(private.create_database(TEMPLATE)))
        yield private
    finally:
        private.stop(immediate=True)


@pytest.fixture
def store(server: PrivateServer) -> Iterator[str]:
    """DSN of a fresh, migrated, empty store; dropped afterwards, whoever is still connected."""
    name = f"store_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn_of("postgres"), autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
        )
        yield server.dsn_of(name)
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def conn(store: str) -> Iterator[psycopg.Connection]:
    """A connection to the fresh store, as the product makes it; nothing is committed for the test."""
    with connect(store) as connection:
        yield connection
        connection.rollback()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real survey files that lie beside the checkout; MSACAT_SHARED_DATA names another place."""
    if not SHARED_DATA.is_dir():
        pytest.skip(
            f"real survey files are not here: {SHARED_DATA} (MSACAT_SHARED_DATA names another folder)"
        )
    return SHARED_DATA
