"""msacat db: the private server's life, and the schema of any server"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn, Quiet
from msacat.cli.output import be_quiet, print_json, print_line, print_table, say

app = typer.Typer(
    no_args_is_help=True,
    help="Start, stop and upgrade the store's server.\n\n"
    "start and stop concern the private server in MSACAT_HOME; your own server needs only `msacat db upgrade`.",
)


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="db")


@app.command()
def start(quiet: Quiet = False) -> None:
    """Start the private server; made if there is none.

    Its schema is brought up to date. A PostgreSQL of your user's own in a folder (MSACAT_HOME), reached by a Unix socket only. Started by root it
    runs as the account postgres. Debian's `main` cluster is not touched.
    """
    from msacat.catalog.server.connect import LIBPQ_VARIABLES, private_server
    from msacat.catalog.server.upgrade_store import upgrade_store

    be_quiet(quiet)
    server = private_server()
    if not server.is_initialised():
        say(f"Making a private PostgreSQL {server.binaries.major} in {server.folder}.")
        server.initialise()
    server.start(say)
    upgrade_store(server.dsn, say)
    say(
        f"The private server runs. Stop it with: msacat db stop\nOther programs reach it with: psql '{server.dsn}'"
    )
    others = [name for name in ("MSACAT_DSN", *LIBPQ_VARIABLES) if os.environ.get(name)]
    if others:
        say(f"Note: {', '.join(others)} is set, so other commands use that server, not this one.")


@app.command()
def stop(
    force: Annotated[
        bool, typer.Option("--force", help="Stop even while jobs are connected; they fail.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Stop the private server. Refused (exit code 4) while jobs are connected, unless --force."""
    from msacat.catalog.errors import StoreLocked
    from msacat.catalog.server.connect import private_server

    be_quiet(quiet)
    server = private_server()
    if server.status().state != "running":
        say("The private server is not running.")
        return
    if not force and (jobs := server.connected_jobs()):
        raise StoreLocked(
            "Jobs are connected to the private server.",
            found="; ".join(jobs),
            next_step="wait until they end, or: msacat db stop --force",
        )
    server.stop()
    say("The private server is stopped.")


@app.command()
def status(dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show the private server, and the one that commands use now.

    With version, schema and size. Exit code 3: none answers.
    """
    from msacat.catalog.errors import MsacatError
    from msacat.catalog.server.connect import connect, describe_server, private_server
    from msacat.catalog.server.require_store import store_revision

    private = private_server().status()
    used: dict[str, object] = {"server": None, "problem": None}
    code = 0
    try:
        with connect(dsn, autocommit=True, application="msacat db status") as conn:
            size = conn.execute("SELECT pg_database_size(current_database())").fetchone()
            used |= {
                "server": describe_server(conn),
                "postgresql": conn.info.parameter_status("server_version"),
                "schema_revision": store_revision(conn),
                "size_bytes": size[0] if size else None,
            }
    except MsacatError as error:
        used["problem"], code = f"{error.message} Next: {error.next_step or error.expected}", error.exit_code
    if as_json:
        print_json({"private": private, "used": used})
        raise typer.Exit(code)
    rows = [("private server", private.state), ("  folder", private.folder), ("  log", private.log)]
    if private.pid:
        rows.append(("  process", str(private.pid)))
    rows.append(("commands use", str(used["server"] or "no server")))
    if code == 0:
        rows.append(("  postgresql", str(used["postgresql"])))
        rows.append(("  schema", str(used["schema_revision"] or "none: msacat db upgrade")))
        rows.append(("  size", f"{int(str(used['size_bytes'])) / 2**20:.0f} MiB"))
    else:
        rows.append(("  problem", str(used["problem"])))
    print_table(["", ""], rows)
    raise typer.Exit(code)


@app.command()
def upgrade(dsn: Dsn = None, quiet: Quiet = False) -> None:
    """Bring the store's schema to this version of msacat.

    Safe to repeat and to call from two places at once. On your own server: needs the right to create schemas in the database, and Q3C (or a superuser to add it).
    """
    from msacat.catalog.server.connect import resolve_dsn
    from msacat.catalog.server.upgrade_store import upgrade_store

    be_quiet(quiet)
    before, after = upgrade_store(resolve_dsn(dsn), say)
    print_line(
        f"schema {after}" + (" (nothing to do)" if before == after else f" (was {before or 'absent'})")
    )
