"""A store for one evaluation: the sky's files ingested and matched, by the verbs a user would type."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msacat.cli.output import say
from msacat.cli.run_verb import run_verb


@contextlib.contextmanager
def evaluation_store(files: Path, dsn: str | None, name: str) -> Iterator[str]:
    """DSN of a store that holds these files and nothing else.

    Without `dsn` the database evaluation_<name> on the private server: kept if the evaluation does not come to its
    end, so that it can go on, else dropped. A server that was not running is stopped again, unless others have come
    to use it. Raises UsageError for a `dsn` whose store holds other files, StoreLocked where another evaluation is
    at work in a temporary one.
    """
    from msacat.catalog.server.advisory_lock import advisory_lock
    from msacat.catalog.server.connect import connect

    if dsn is not None:
        with connect(dsn) as conn, advisory_lock(conn, "evaluation", wait=True, tell=say):
            _require_own(files, conn)
            _fill(files, dsn)
        yield dsn
        return
    from psycopg import sql

    from msacat import migrations
    from msacat.catalog.server.connect import engine, private_server

    server = private_server()
    was_running = server.status().state == "running"
    _run(["db", "start", "--quiet"])
    database = f"evaluation_{name}"
    made = server.create_database(database)
    try:
        migrations.upgrade(engine(made))
        with connect(made) as conn, advisory_lock(conn, "evaluation, until it is dropped"):
            _fill(files, made)
            yield made
        with connect(server.dsn_of("postgres"), autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
    finally:
        if not was_running and server.status().state == "running":
            if jobs := server.connected_jobs():
                say(f"The private server runs on for {len(jobs)} others: stop it with `msacat db stop`.")
            else:
                server.stop()


def datasets_of(sky: Path) -> list[str]:
    """Folders of the sky, in an order in which they may be ingested."""
    names = sorted(path.name for path in sky.iterdir() if path.is_dir())
    return sorted(names, key=lambda name: (name != "gaia_source", "neighbour" in name, name))


def listing(files: Path) -> str:
    """Hash of the names and sizes of the files in the folders of the datasets."""
    found = [
        [str(path.relative_to(files)), path.stat().st_size]
        for dataset in datasets_of(files)
        for path in sorted((files / dataset).rglob("*"))
        if path.is_file()
    ]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _fill(files: Path, dsn: str) -> None:
    for dataset in datasets_of(files):
        _run(["ingest", dataset, str(files / dataset), "--dsn", dsn, "--quiet", "--json"])
    _run(["crossmatch", "--dsn", dsn, "--quiet", "--json"])


def _run(arguments: list[str]) -> None:
    run_verb(arguments, "the evaluation")


def _require_own(files: Path, conn: Any) -> None:
    from msacat.catalog.errors import UsageError
    from msacat.catalog.ingest.ingest_ledger import ingested_paths
    from msacat.catalog.server.connect import require_store

    require_store(conn)
    paths = [Path(path) for path in ingested_paths(conn)]
    conn.commit()
    # One that was there and is gone is another sky's too.
    own = files.resolve()
    if foreign := [path for path in paths if not (path.resolve().is_relative_to(own) and path.exists())]:
        raise UsageError(
            "this store holds other files: an evaluation needs a store of its own",
            found=f"{len(foreign)} files, e.g. {foreign[0]}",
            next_step="leave out --dsn for a temporary database, or give an empty, upgraded one",
        )
