"""msacat status"""

from __future__ import annotations

import typer

from msacat.cli.options import AsJson, Dsn
from msacat.cli.output import print_json, print_line, print_table


def register(app: typer.Typer) -> None:
    app.command("status")(status)


def status(dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show what the store holds, and what to do next.

    Surveys with their rows and how fresh their cross-matches are, models, runs.
    """
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.store.store_status import store_status

    with connect(dsn) as conn:
        require_store(conn)
        found = store_status(conn)
    if as_json:
        print_json(found)
        return
    if found.surveys:
        print_table(
            ["survey", "role", "files", "rows", "matched stars", "cross-match"],
            [(s.name, s.role, s.n_files, s.n_rows, s.n_matched, s.crossmatch) for s in found.surveys],
        )
        print_line("")
    if found.models:
        print_table(
            ["model", "state", "trained on stars", "finished", ""],
            [(m.name, m.state, m.n_train, m.finished, m.why) for m in found.models],
        )
        print_line("")
    if found.runs:
        print_table(
            ["run", "model", "state", "stars", ""],
            [(r.run_id, r.model, r.state, r.n_stars, r.why) for r in found.runs],
        )
        print_line("")
    print_line(f"next: {found.next_step}")
