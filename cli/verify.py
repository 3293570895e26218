"""msacat verify"""

from __future__ import annotations

from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn, Quiet
from msacat.cli.output import be_quiet, print_json, print_table, say


def register(app: typer.Typer) -> None:
    app.command("verify")(verify)


def verify(
    files: Annotated[
        bool, typer.Option("--files", help="Also read every source file again and compare the counts.")
    ] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Count again what the ledgers say.

    Exit code 1 if anything does not agree: rows of each file, NaN and infinities, impossible positions, repeated ids, matches that lead nowhere,
    tables that are not as their survey file says. With --files a source file that is gone counts as a failure:
    what cannot be checked is not verified.
    """
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.store.verify_catalog import verify as check

    be_quiet(quiet)
    with connect(dsn, read_only=True) as conn:
        require_store(conn)
        results = check(conn, files=files)
    failed = [r for r in results if not r.passed]
    if as_json:
        print_json({"passed": not failed, "results": results})
    else:
        print_table(
            ["", "test", "target", "found"],
            [("ok" if r.passed else "FAILED", r.test, r.target, r.description) for r in results],
        )
        say(
            f"{len(results) - len(failed)} of {len(results)} checks passed"
            if results
            else "the store is empty"
        )
    if failed:
        raise typer.Exit(1)
