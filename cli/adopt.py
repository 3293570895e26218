"""msacat adopt"""

from __future__ import annotations

from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn, Quiet
from msacat.cli.output import be_quiet, print_json, print_table, say


def register(app: typer.Typer) -> None:
    app.command("adopt")(adopt)


def adopt(
    dataset: Annotated[str, typer.Argument(help="Dataset keyword; `msacat survey list` shows them.")],
    table: Annotated[
        str, typer.Argument(help="The archive's own table, schema.table, in the same database.")
    ],
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="OURS=THEIRS, where the table uses another name. May be repeated."),
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Use a survey table that the database already holds.

    Nothing is copied: checks its columns, types, units and indexes against the survey file and makes the
    read-only view survey.DATASET, in which sentinels and NaN are NULL and quality bits are set. The table is never written to.
    A missing index is refused with the CREATE INDEX that makes it.
    """
    from msacat.catalog.errors import UsageError
    from msacat.catalog.ingest.adopt_table import adopt as show
    from msacat.catalog.server.connect import connect, require_store

    be_quiet(quiet)
    pairs = [item.partition("=") for item in column or []]
    if bad := [ours for ours, mark, theirs in pairs if not (mark and ours and theirs)]:
        raise UsageError(f"--column {bad[0]}: not a pair", expected="--column OURS=THEIRS")
    with connect(dsn) as conn:
        require_store(conn)
        report = show(conn, dataset, table, {ours: theirs for ours, _, theirs in pairs})
    if as_json:
        print_json(report)
        return
    print_table(
        ["column", "from"],
        [
            (ours, theirs + (f" * {report.converted[ours]:g}" if ours in report.converted else ""))
            for ours, theirs in report.columns.items()
        ],
    )
    if report.absent:
        say(f"NULL throughout, since {report.table} has no such column: {', '.join(report.absent)}")
    say(f"{report.view} shows {report.table}, about {report.rows_estimated} rows")
