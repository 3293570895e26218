"""msacat forget"""

from __future__ import annotations

from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn, Quiet
from msacat.cli.output import be_quiet, print_json, print_line, say


def register(app: typer.Typer) -> None:
    app.command("forget")(forget)


def forget(
    target: Annotated[str, typer.Argument(help="A file that was ingested (path or file_id), or a dataset.")],
    dataset: Annotated[
        str | None, typer.Option(help="Which dataset, where one file was ingested as several.")
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take a file's rows, or a dataset's, out of the store again.

    Models and runs built on them stay and are marked stale; the next crossmatch redoes the dataset. An adopted
    dataset loses its view; the archive's own table is not touched.
    """
    from msacat.catalog.ingest.forget_files import forget as take_out
    from msacat.catalog.server.connect import connect, require_store

    be_quiet(quiet)
    with connect(dsn) as conn:
        require_store(conn)
        reports = take_out(conn, target, dataset)
    if as_json:
        print_json(reports)
        return
    for report in reports:
        if report.adopted_from:
            print_line(f"{report.dataset}: no longer adopted from {report.adopted_from}")
        else:
            print_line(f"{report.dataset}: {report.rows} rows of {len(report.files)} files taken out")
        if report.models:
            say(f"stale now: models {', '.join(report.models)}")
        if report.runs:
            say(f"stale now: runs {', '.join(map(str, report.runs))}")
        if report.incomplete:
            say(
                "these files had skipped rows that were stored from the forgotten ones; ingest them again: "
                + ", ".join(report.incomplete)
            )
