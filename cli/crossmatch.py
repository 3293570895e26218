"""msacat crossmatch"""

from __future__ import annotations

from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn, Quiet
from msacat.cli.output import be_quiet, print_json, print_table, progress_bar, say


def register(app: typer.Typer) -> None:
    app.command("crossmatch")(crossmatch)


def crossmatch(
    datasets: Annotated[
        list[str] | None, typer.Argument(help="Surveys to match; all that have rows if none is named.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Connections that read and search at once.")] = 1,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Match everything again: an adopted table's rows may have changed."),
    ] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find which survey object is which Gaia star.

    Uses the archive's best-neighbour tables where they were ingested; elsewhere mutual nearest pairs within
    the survey file's radius, at the survey's epoch, with Gaia's proper motions. Only what changed since the
    last time is matched again.
    """
    from msacat.catalog.crossmatch.crossmatch_stars import crossmatch as match
    from msacat.catalog.crossmatch.crossmatch_stars import datasets_to_match
    from msacat.catalog.server.connect import connect, require_store

    be_quiet(quiet)
    with connect(dsn) as conn:
        require_store(conn)
        names = datasets or datasets_to_match(conn)
    reports = []
    for name in names:
        with progress_bar(f"crossmatch {name}") as update:
            reports.append(match(dsn, name, workers=workers, restart=restart, on_progress=update))
    if as_json:
        print_json(reports)
        return
    if not reports:
        say(
            "nothing to match: no survey of photometry or labels holds rows; next: msacat ingest DATASET FILE…"
        )
        return
    print_table(
        ["survey", "did", "objects searched", "matched", "of them by", "lost or ambiguous", "seconds"],
        [
            (r.dataset, r.how, r.n_objects, r.n_matched, ", ".join(f"{k} {v}" for k, v in r.by_method.items()),
             r.n_unmatched, f"{r.seconds:.1f}")
            for r in reports
        ],
    )  # fmt: skip
    for r in reports:
        if r.n_silenced:
            say(
                f"{r.dataset}: {r.n_silenced} stars with an object within the radius lie where an archive's table speaks, "
                "and it names nobody for them: they stay without a match (a table for a selection of stars? ingest it "
                "for whole patches of sky, docs/crossmatch.md)"
            )
