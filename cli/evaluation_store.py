"""A store for one evaluation: the sky's files ingested and matched, by the verbs a user would type."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from msacat.cli.output import say


@contextlib.contextmanager
def evaluation_store(sky: Path, dsn: str | None) -> Iterator[str]:
    """DSN of a store that holds the sky and nothing else.

    Without `dsn` a database on the private server, dropped at the end (a server that was not running is stopped
    again). Raises UsageError for a `dsn` whose store holds other files.
    """
    if dsn is not None:
        _require_own(sky, dsn)
        _fill(sky, dsn)
        yield dsn
        return
    from psycopg import sql

    from msacat import migrations
    from msacat.catalog.server.connect import connect, engine, private_server

    server = private_server()
    was_running = server.status().state == "running"
    run(["db", "start", "--quiet"])
    database = f"evaluation_{os.getpid()}"
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
    try:
        with connect(server.dsn_of("postgres"), autocommit=True) as conn:
            conn.execute(drop)  # of a killed evaluation that had this process id
        made = server.create_database(database)
        migrations.upgrade(engine(made))
        _fill(sky, made)
        yield made
    finally:
        with connect(server.dsn_of("postgres"), autocommit=True) as conn:
            conn.execute(drop)
        if not was_running:
            server.stop()


def run(arguments: list[str]) -> Any:
    """Run a verb; its JSON if it prints any. Ends with its exit code where it fails. The verb decides what is quiet."""
    from msacat.cli.main import main

    caught = io.StringIO()
    with contextlib.redirect_stdout(caught):
        code = main(arguments)
    if code != 0:
        say(f"the evaluation stopped at: msacat {' '.join(arguments)}")
        raise typer.Exit(code)
    return json.loads(caught.getvalue()) if "--json" in arguments else None


def datasets_of(sky: Path) -> list[str]:
    """Folders of the sky, in an order in which they may be ingested."""
    names = sorted(path.name for path in sky.iterdir() if path.is_dir())
    return sorted(names, key=lambda name: (name != "gaia_source", "neighbour" in name, name))


def _fill(sky: Path, dsn: str) -> None:
    for dataset in datasets_of(sky):
        run(["ingest", dataset, str(sky / dataset), "--dsn", dsn, "--quiet", "--json"])
    run(["crossmatch", "--dsn", dsn, "--quiet", "--json"])


def _require_own(sky: Path, dsn: str) -> None:
    from msacat.catalog.errors import UsageError
    from msacat.catalog.server.connect import connect, require_store

    with connect(dsn) as conn:
        require_store(conn)
        paths = [Path(path) for (path,) in conn.execute("SELECT path FROM msacat.files")]
    if foreign := [path for path in paths if not path.resolve().is_relative_to(sky.resolve())]:
        raise UsageError(
            "this store holds other files than the sky's: an evaluation needs a store of its own",
            found=f"{len(foreign)} files, e.g. {foreign[0]}",
            next_step="leave out --dsn for a temporary database, or give an empty, upgraded one",
        )
