"""msacat ingest"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn, Paths, Quiet
from msacat.cli.output import be_quiet, print_json, print_table, progress_bar, say


def register(app: typer.Typer) -> None:
    app.command("ingest")(ingest)


def ingest(
    dataset: Annotated[str, typer.Argument(help="Dataset keyword; `msacat survey list` shows them.")],
    paths: Paths,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Read and check every file, estimate the space, write nothing. Rows are not compared with others of their id.",
        ),
    ] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on after a refused file; list all of them at the end.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="A file of the same name with other contents replaces the old rows."),
    ] = False,
    max_bad_rows: Annotated[
        int,
        typer.Option(min=0, help="Malformed lines a file may have before it is refused; they are counted."),
    ] = 0,
    dsn: Dsn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Load survey files as their publisher wrote them.

    The format is recognised from the content, columns are bound by name. A file is in with all its rows and a
    row in msacat.files, or not at all; the same bytes twice are stored once. Values that mean "not measured"
    become NULL, counted by reason; quality cuts set bits and never delete. Ctrl-C ends after the current file,
    a second Ctrl-C at once: the same command continues.
    """
    from msacat.catalog.errors import Interrupted, MsacatError, printable
    from msacat.catalog.ingest.ingest_files import plan_ingest, rehearse_ingest, run_ingest
    from msacat.catalog.ingest.ingest_report import IngestReport
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.server.free_space import require_space
    from msacat.cli.stop_signal import StopSignal

    be_quiet(quiet)
    with connect(dsn) as conn, StopSignal("finishing this file; Ctrl-C again stops at once") as stop:
        require_store(conn)
        plan = plan_ingest(conn, dataset, paths, replace, max_bad_rows)
        for path in plan.skipped:
            say(f"skipped, not a table of {dataset}: {printable(str(path))}")
        report = IngestReport(dataset)
        try:
            with progress_bar(f"ingest {dataset}", total=plan.bytes) as update:
                run = rehearse_ingest if dry_run else run_ingest
                run(
                    conn,
                    plan,
                    keep_going=keep_going,
                    on_progress=lambda done, total, note: update(done, total, note),
                    should_stop=stop.asked,
                    report=report,
                )
        except Exception:
            if any(f.outcome != "refused" for f in report.files):  # these are in, whatever ended the run
                with suppress(MsacatError):  # unwritable: the error that ended the run is the one to say
                    _show(report, as_json, error_follows=True)
            raise
        free = require_space(conn, sum(f.bytes_stored for f in report.files)) if dry_run else None
    _show(report, as_json, free)
    if dry_run and not as_json:
        need = sum(f.bytes_stored for f in report.files)
        say(f"needs about {_size(need)}" + (f" of {_size(free)} free" if free is not None else ""))
    if report.interrupted:
        raise Interrupted(
            f"stopped after {len(report.files)} of {len(plan.files)} files",
            next_step="repeat the command: it continues with the next file",
        )
    if report.refused:
        raise typer.Exit(1)


def _show(report, as_json: bool, free: int | None = None, error_follows: bool = False) -> None:
    if as_json:
        print_json({**vars(report), "files": report.files, "rows_kept": report.rows_kept, "bytes_free": free})
    else:
        _print(report, error_follows)


def _print(report, error_follows: bool) -> None:
    print_table(
        ["file", "outcome", "rows read", "kept", "rejected", "values made NULL", "unused columns", "seconds"],
        [
            (f.path.rsplit("/", 1)[-1], f.outcome, f.rows_read, f.rows_kept, _counts(f.rows_rejected),
             sum(f.values_nulled.values()), len(f.columns_unused), f"{f.seconds:.1f}")
            for f in report.files
        ],
    )  # fmt: skip
    for f in report.files:
        if f.error and not error_follows:
            say(f"refused: {f.error}")
        if f.values_nulled:
            say(f"{f.path.rsplit('/', 1)[-1]}: made NULL: {_counts(f.values_nulled)}")
        if f.incomplete:
            say(
                "these files had skipped rows that the replaced file held; ingest them again: "
                + ", ".join(f.incomplete)
            )
        for what, gone in (("models", f.stale_models), ("runs", f.stale_runs)):
            if gone:
                say(f"stale now: {what} {', '.join(map(str, gone))}")
    for unused, names in _by_columns(report.files, "columns_unused").items():
        say(f"{_listed(names)}: columns the survey file does not name: {_listed(unused, at_most=12)}")
    for absent, names in _by_columns(report.files, "columns_absent").items():
        say(f"{_listed(names)}: NULL throughout, not in the file: {_listed(absent, at_most=12)}")


def _by_columns(files: list, which: str) -> dict[tuple[str, ...], list[str]]:
    """Files of one publisher mostly leave the same columns unused, or lack the same: said once for all of them."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for f in files:
        if columns := getattr(f, which):
            groups.setdefault(tuple(columns), []).append(f.path.rsplit("/", 1)[-1])
    return groups


def _listed(names: Sequence[str], at_most: int = 3) -> str:
    shown = ", ".join(name or "(unnamed)" for name in names[:at_most])
    return shown + (f" and {len(names) - at_most} more" if len(names) > at_most else "")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items(), key=lambda item: -item[1]))


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"
