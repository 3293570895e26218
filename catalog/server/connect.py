"""Find the store's PostgreSQL and connect to it: the user's own server, or msacat's private one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from msacat.catalog.errors import StoreUnavailable, UsageError
from msacat.catalog.server.act_as_owner import act_as_owner
from msacat.catalog.server.advisory_lock import advisory_lock
from msacat.catalog.server.postgres_binaries import OLDEST_MAJOR
from msacat.catalog.server.private_server import PrivateServer
from msacat.catalog.server.require_store import require_store
from msacat.catalog.server.store_connection import StoreConnection

__all__ = [
    "advisory_lock", "connect", "engine", "home_folder", "models_folder", "private_server", "require_store",
    "resolve_dsn",
]  # fmt: skip

LIBPQ_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGDATABASE")
"""Any of these says which server libpq is to use; PGUSER, PGPASSWORD and PGOPTIONS alone do not."""

# A dead network is noticed in a minute, not in two hours by who waits, or in a quarter of one by who sends.
CONNECTION_DEFAULTS: dict[str, str | int] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,  # ms; keepalives are silent while sent data waits for its receipt
    "client_encoding": "UTF8",
}

# A role or a database may have settings of its own: what msacat reads and writes does not depend on them.
SETTINGS = {
    "client_connection_check_interval": "10s",  # see server_settings for the reasons of these two
    "jit": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",  # psycopg reads no other
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",  # fewer, and numbers come rounded
    "quote_all_identifiers": "off",  # indexes and types are recognised by how the server writes them
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",  # whoever waited for a lock sees what its holder did
    # Limits for people who ask: a COPY, an index or a held lock takes as long as it takes. A query has its own.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}


def home_folder() -> Path:
    """Where msacat keeps the private server (`server/`) and its models (`models/`).

    MSACAT_HOME; else /var/lib/msacat for root, whose own home the server's account may not enter; else
    ~/.local/share/msacat.
    """
    if home := os.environ.get("MSACAT_HOME"):
        return Path(os.path.abspath(Path(home).expanduser()))
    if os.geteuid() == 0:
        return Path("/var/lib/msacat")
    return Path.home() / ".local/share/msacat"


def models_folder() -> Path:
    return home_folder() / "models"


def private_server() -> PrivateServer:
    """The private server of this home folder, initialised or not."""
    return PrivateServer(home_folder() / "server")


def resolve_dsn(dsn: str | None = None) -> str:
    """The connection string to use: `dsn`, MSACAT_DSN, libpq's PG* variables, else the private server's.

    With PG* variables the answer is "" and libpq reads them. Raises StoreUnavailable if there is nothing, UsageError
    if a string cannot be read (it is not repeated: it may hold a password).
    """
    given = dsn or os.environ.get("MSACAT_DSN")
    if given:
        given = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", given)  # SQLAlchemy's spelling
        try:
            conninfo_to_dict(given)
        except psycopg.ProgrammingError:
            raise UsageError(
                "The connection string (--dsn or MSACAT_DSN) cannot be read.",
                expected="postgresql://USER@HOST/DATABASE, or 'host=HOST dbname=DATABASE', or 'service=NAME'",
            ) from None
        return given
    if any(os.environ.get(name) for name in LIBPQ_VARIABLES):
        return ""
    server = private_server()
    if not server.is_initialised():
        raise StoreUnavailable(
            "No database is named, and there is no private server yet.",
            expected="--dsn, MSACAT_DSN, or libpq's PGHOST, PGDATABASE, PGSERVICE",
            next_step="msacat db start   (makes and starts a private server)",
        )
    return server.dsn


def connect(
    dsn: str | None = None,
    *,
    autocommit: bool = False,
    read_only: bool = False,
    as_owner: bool = True,
    application: str = "msacat",
    start_private: bool = False,
) -> psycopg.Connection:
    """Connect to the store.

    Unless `read_only`, as the role that owns the store where the connected one may take it on; without `as_owner`
    always as the connected one. `start_private` starts the private server if that is the one meant and it is stopped.
    The server sees `application` and this process's number, so that a waiting job can name the one it waits for.
    Raises StoreUnavailable with the server's own words; never with a password.
    """
    resolved = resolve_dsn(dsn)
    if start_private and is_private(resolved):
        private_server().start()
    given = conninfo_to_dict(resolved)
    options = {key: value for key, value in CONNECTION_DEFAULTS.items() if key not in given}
    options["application_name"] = f"{application} (process {os.getpid()})"[:63]
    try:
        conn = StoreConnection.connect(make_conninfo(resolved, **options), autocommit=True)
    except psycopg.OperationalError as error:
        raise _unreachable(resolved, error) from None
    try:
        check_server_version(conn.info.server_version)
        # Not as connection options, which connection poolers refuse.
        settings = SETTINGS if conn.info.server_version < 170000 else SETTINGS | {"transaction_timeout": "0"}
        conn.execute(
            "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS s(name, value)",
            [list(settings), list(settings.values())],
        )
        if read_only:  # never off: a role that its administrator made read only stays so
            conn.execute("SET default_transaction_read_only = on")
        elif as_owner:
            act_as_owner(conn)
    except BaseException:
        conn.close()
        raise
    conn.autocommit = autocommit
    return conn


def engine(dsn: str | None = None, *, application: str = "msacat") -> Engine:
    """SQLAlchemy engine on the same connections as `connect`; keeps none open between uses."""
    resolved = resolve_dsn(dsn)
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(resolved, application=application),
        poolclass=NullPool,
    )


def check_server_version(version: int) -> None:
    """Raise StoreUnavailable for a server (numbered like 150020) older than `OLDEST_MAJOR`."""
    if version < OLDEST_MAJOR * 10000:
        raise StoreUnavailable(
            "The server's PostgreSQL is too old.",
            expected=f"PostgreSQL {OLDEST_MAJOR} or newer",
            found=f"PostgreSQL {version // 10000}",
            next_step="upgrade it, or use a private server: msacat db start",
        )


def describe_server(conn: psycopg.Connection) -> str:
    """Where a connection leads, without its password."""
    info = conn.info
    return f"database {info.dbname!r} at {info.host or 'a local socket'}:{info.port} as user {info.user!r}"


def is_private(dsn: str) -> bool:
    """True if `dsn` means this home folder's private server."""
    return conninfo_to_dict(dsn).get("host") == str(private_server().socket_folder)


def _unreachable(dsn: str, error: psycopg.OperationalError) -> StoreUnavailable:
    if is_private(dsn) and private_server().status().state != "running":
        return StoreUnavailable("The private server is not running.", next_step="msacat db start")
    found = " ".join(str(error).split())
    if password := conninfo_to_dict(dsn).get("password"):
        found = found.replace(str(password), "********")
    return StoreUnavailable(
        "The database cannot be reached.",
        found=found,
        next_step="msacat doctor   (checks server, rights, versions)",
    )
