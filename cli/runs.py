"""msacat runs: enrichment runs, their provenance and their place in the views"""

from __future__ import annotations

from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn
from msacat.cli.output import print_json, print_line, print_table

app = typer.Typer(no_args_is_help=True, help="List, publish and drop enrichment runs.")
RunId = Annotated[int, typer.Argument(help="Number of the run.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="runs")


@app.command("list")
def list_(dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show every run: model, stars, state, when."""
    from msacat.catalog.enrich.run_ledger import list_runs
    from msacat.catalog.enrich.write_enriched import RunRequest
    from msacat.catalog.server.connect import connect, require_store

    with connect(dsn) as conn:
        require_store(conn)
        runs = list_runs(conn)
    if as_json:
        print_json(runs)
    elif runs:
        shown = [run | {"request": RunRequest.in_words(run["request"])} for run in runs]
        print_table(list(shown[0]), [tuple(run.values()) for run in shown])
    else:
        print_line("no run yet; next: msacat enrich")


@app.command()
def publish(run_id: RunId, dsn: Dsn = None) -> None:
    """Show a verified run in the views of schema enriched.

    In one transaction: readers see the old views or the new ones. A run of all stars takes the place of the runs
    shown so far, a run of some stars is laid over them. A view of yours in the way is named, and nothing changes.
    """
    from msacat.catalog.enrich.publish_enriched import publish_run
    from msacat.catalog.server.connect import connect, require_store

    with connect(dsn) as conn:
        require_store(conn)
        views = publish_run(conn, run_id)
    print_line(f"run {run_id} is published: " + ", ".join(f"enriched.{view}" for view in views))


@app.command()
def drop(run_id: RunId, dsn: Dsn = None) -> None:
    """Take a run out of the views and delete its tables.

    Its ledger row stays. The views then show the runs that are still published; to go back to one that was
    replaced, publish it again.
    """
    from msacat.catalog.enrich.publish_enriched import drop_run
    from msacat.catalog.server.connect import connect, require_store

    with connect(dsn) as conn:
        require_store(conn)
        drop_run(conn, run_id)
    print_line(f"run {run_id} is dropped")
