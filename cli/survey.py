"""msacat survey: the declarative files, and what they turned into"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from msacat.cli.options import AsJson, DryRun, Dsn
from msacat.cli.output import print_json, print_line, print_table, say

app = typer.Typer(
    no_args_is_help=True,
    help="Surveys are data: one TOML file each (docs/survey_files.md).\n\n"
    "Built-in ones register themselves at their first ingest; add your own with `msacat survey add FILE`.",
)
File = Annotated[Path, typer.Argument(help="A survey's TOML file.", exists=True, dir_okay=False)]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="survey")


@app.command("list")
def list_(dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show every survey msacat knows, and what this store holds of it."""
    from msacat.catalog.errors import StoreUnavailable
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.store.store_status import list_surveys
    from msacat.catalog.surveys.load_specs import builtin_specs

    surveys: list[dict] = []
    try:
        with connect(dsn) as conn:
            require_store(conn)
            surveys = list_surveys(conn)
    except StoreUnavailable:
        if as_json:
            raise
        say("no store is running; these are the built-in surveys")
    held = {survey["name"] for survey in surveys}
    surveys += [
        {
            "name": s.name,
            "version": s.version,
            "role": s.role,
            "title": s.title,
            "state": "built in",
            "rows": 0,
        }
        for s in builtin_specs().values()
        if s.name not in held
    ]
    if as_json:
        print_json(surveys)
    else:
        print_table(list(surveys[0]), [tuple(s.values()) for s in sorted(surveys, key=lambda s: s["name"])])


@app.command()
def add(
    file: Annotated[str, typer.Argument(help="A survey's TOML file, or the keyword of a built-in one.")],
    dsn: Dsn = None,
    dry_run: DryRun = False,
) -> None:
    """Register a survey; then ingest into it.

    Its table, views, bands and match table appear. Built-in surveys register themselves at their first ingest; adding one by its keyword makes its bands known
    before, so that a model may learn to reach them through the XP spectra. With --dry-run the file is only
    checked: keys, units, UCDs, names (no server needed).
    """
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.store.register_survey import register_survey
    from msacat.catalog.surveys.load_specs import builtin_or_file

    spec = builtin_or_file(file)
    if dry_run:
        print_line(f"{file}: valid; survey {spec.name}, {len(spec.columns)} columns, {len(spec.bands)} bands")
        return
    with connect(dsn) as conn:
        require_store(conn)
        new = register_survey(conn, spec)
    print_line(
        f"survey {spec.name} version {spec.version} " + ("registered" if new else "was registered already")
    )
    print_line(f"next: msacat ingest {spec.name} FILE…")


@app.command()
def update(file: File, dsn: Dsn = None) -> None:
    """Migrate a registered survey to a newer version of its file.

    New columns, bands and quality bits are added and every change is listed; what cannot be migrated is refused.
    A survey without rows, new or after `msacat forget NAME`, may change more: all but its role, id and bands.
    """
    from msacat.catalog.ingest.redefine_survey import redefine_survey
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.surveys.load_specs import load_spec

    spec = load_spec(file)
    with connect(dsn) as conn:
        require_store(conn)
        changes = redefine_survey(conn, spec)
    for change in changes or ["nothing to do: this very file is registered"]:
        print_line(f"{spec.name}: {change}")


@app.command()
def refresh(dsn: Dsn = None) -> None:
    """Make the views of all surveys anew.

    For you who replaced a survey's table, by a partitioned one, say: views follow a renamed table.
    """
    from msacat.catalog.enrich.publish_enriched import recreate_views
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.store.register_survey import refresh_views

    with connect(dsn) as conn:
        require_store(conn)
        refresh_views(conn)
        recreate_views(conn)
    print_line("the surveys' views, matched.stars and the enriched views are made anew")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Dataset keyword.")], dsn: Dsn = None, as_json: AsJson = False
) -> None:
    """Show one survey: its columns, bands and quality bits.

    With publishers' names, units and meaning; the store's version of the survey file, else the built-in one.
    """
    from msacat.catalog.errors import StoreUnavailable
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.store.register_survey import find_spec
    from msacat.catalog.surveys.load_specs import builtin_specs

    try:
        with connect(dsn) as conn:
            require_store(conn)
            spec = find_spec(conn, name)
    except StoreUnavailable:
        if name not in builtin_specs():
            raise
        spec = builtin_specs()[name]
    if as_json:
        print_json(spec.model_dump(mode="json"))
        return
    print_line(f"{spec.name}: {spec.title} ({spec.release}, {spec.role}, version {spec.version})")
    print_line(f"{spec.description}\n{spec.reference}\n{spec.attribution}\n")
    print_table(
        ["column", "published as", "type", "unit", "meaning"],
        [
            (c.name, ", ".join(c.published) or f"{c.computed.transform}({', '.join(map(' or '.join, c.computed.inputs))})"  # type: ignore[union-attr]
             + (" (unverified)" if c.unverified else ""), c.type, c.unit, c.description)
            for c in spec.columns
        ],
    )  # fmt: skip
    for source in dict.fromkeys(c.source for c in spec.columns if c.source):
        named = [c.name for c in spec.columns if c.source == source]
        of = "all columns" if len(named) == len(spec.columns) else ", ".join(named)
        print_line(f"source of the names of {of}: {source}")
    if spec.bands:
        print_line("")
        print_table(
            ["band", "system", "wavelength nm", "width nm", "typical error mag", "through XP"],
            [
                (b.name, b.system, b.wavelength_nm, b.width_nm, b.typical_err, b.xp or "never")
                for b in spec.bands
            ],
        )
    print_quality(spec)


def print_quality(spec: Any) -> None:
    """What each bit of the column quality means, after an empty line; nothing of a survey without cuts."""
    if spec.quality:
        print_line("")
        print_table(
            ["bit", "quality cut", "set if", "effect in _clean", "meaning"],
            [
                (q.bit, q.name, f"{q.column} {q.bad_if} {_compared(q.value)}",
                 ("NULLs " + ", ".join([*q.bands, *q.labels]) if q.bands or q.labels else "drops the row")
                 if q.removes else "none", q.description)
                for q in spec.quality
            ],
        )  # fmt: skip


def _compared(value: Any) -> Any:
    """A cut's number as its survey file writes it: masks are whole."""
    return "" if value is None else int(value) if isinstance(value, float) and value.is_integer() else value
