"""msacat query"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn
from msacat.cli.output import one_type_a_column, print_json, print_records, say, standard_output


def register(app: typer.Typer) -> None:
    app.command("query")(query)


def query(
    statement: Annotated[
        str | None, typer.Argument(help="One SELECT; '-' reads it from standard input.", show_default=False)
    ] = None,
    cone: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            help="RA and Dec in deg, radius in arcmin: all of enriched.stars inside, nearest first."
        ),
    ] = None,
    star: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="A source_id: all of enriched.stars for it.")
    ] = None,
    max_rows: Annotated[int, typer.Option(min=1, help="Stop after this many rows, and say so.")] = 1000,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds the server may take.")] = 60.0,
    out: Annotated[
        Path | None, typer.Option(help="Write a file instead: .parquet, .fits, .vot, .ecsv or .csv.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout; arrays are refused.")] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
) -> None:
    """Ask the store in SQL; it cannot change anything.

    Schemas: enriched (start with enriched.stars), survey, matched, learned, msacat. `msacat describe` lists columns.
    """
    from msacat.catalog.errors import UsageError
    from msacat.catalog.query.export_table import array_columns, as_text, export, require_format
    from msacat.catalog.query.find_stars import find_cone, find_star
    from msacat.catalog.query.query_stars import described
    from msacat.catalog.query.query_stars import query as run
    from msacat.catalog.server.connect import connect, require_store

    if sum(asked is not None for asked in (statement, cone, star)) != 1:
        raise UsageError("give one of a statement, --cone, --star", next_step='msacat query "SELECT …"')
    if sum((out is not None, as_csv, as_json)) > 1:
        raise UsageError("give one of --out, --csv, --json")
    if out is not None:
        require_format(out)
    with connect(dsn, read_only=True) as conn:
        require_store(conn)
        if cone is not None:
            result = find_cone(conn, *cone, max_rows, timeout)
        elif star is not None:
            result = find_star(conn, star, timeout)
        else:
            assert statement is not None
            result = run(conn, sys.stdin.read() if statement == "-" else statement, max_rows, timeout)
        about = described(conn, result) if out is not None else {}
    if result.truncated:
        say(f"only the first {max_rows} rows; raise --max-rows for more")
    if out is not None:
        export(result, about, out)
        say(f"{len(result.rows)} rows in {out}")
    elif as_json:
        result.require_distinct_names()
        typed = one_type_a_column(result.columns, result.types, result.rows)
        rows = [dict(zip(result.columns, row, strict=True)) for row in typed]
        print_json({"columns": result.columns, "rows": rows, "truncated": result.truncated})
    elif as_csv:
        if arrays := array_columns(result):
            raise UsageError(
                "CSV cannot hold arrays", found=", ".join(arrays), next_step="--out FILE.parquet, or --json"
            )
        with standard_output():
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(result.columns)
            writer.writerows(
                [as_text(v) if isinstance(v, dict | list | bytes) else v for v in row] for row in result.rows
            )
    else:
        shown = [tuple(map(_short, row, result.types)) for row in result.rows]
        print_records(result.columns, shown)
        if not shown:
            say("no rows")


def _short(value: object, kind: str) -> object:
    """Digits that mean something, and of arrays their beginning: a terminal is no place for 55 numbers."""
    if isinstance(value, dict) or (isinstance(value, list) and not kind.endswith("[]")):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        shown = ", ".join(str(_short(item, kind[:-2])) for item in value[: 3 if len(value) > 4 else None])
        return "{" + shown + (f", … {len(value)}}}" if len(value) > 4 else "}")
    if isinstance(value, bytes):
        return rf"\x{value.hex()}"
    if isinstance(value, float):
        return f"{value:.6g}" if kind == "float4" else f"{value:.10g}"  # positions to a milliarcsecond
    return value
