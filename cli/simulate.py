"""msacat simulate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msacat.cli.options import AsJson, Quiet
from msacat.cli.output import be_quiet, print_json, print_line, print_table, progress_bar


def register(app: typer.Typer) -> None:
    app.command("simulate")(simulate)


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to make; it must not exist or be empty.")],
    stars: Annotated[int, typer.Option(min=100, help="Stars to draw.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same bytes.")] = 1,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="Errors as quoted plus each survey's floor, no outliers, no zero-point errors, stars only.",
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make a simulated sky: survey files, and the truth beside them.

    OUT/<dataset>/ holds files in the publisher's own format that `msacat ingest <dataset>` takes; OUT/truth.parquet
    the noise-free magnitudes, XP coefficients and labels, to judge with what `msacat enrich` made of the files.
    """
    from msacat.catalog.simulated_sky.simulate_sky import simulate as make_sky

    be_quiet(quiet)
    with progress_bar("simulate", total=1.0) as update:
        sky = make_sky(
            out, stars, seed, clean=clean, on_progress=lambda what, share: update(share, note=what)
        )
    if as_json:
        print_json(sky)
        return
    print_table(
        ["dataset", "rows"], list(sky.rows.items()), title=f"{'clean' if clean else 'dirty'} sky in {out}"
    )
    print_line(f"truth: {out / 'truth.parquet'}")
    print_line(f"next: msacat ingest gaia_source {out / 'gaia_source'}, and so on for every folder")
