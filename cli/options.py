"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Dsn = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        envvar="MSACAT_DSN",
        help="Server to use, as a libpq string or URL. Default: PG* variables, else the private server.",
        show_default=False,
        show_envvar=True,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no words on stderr; only errors.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do everything but write; print what would happen.")]
Where = Annotated[
    str | None,
    typer.Option("--where", help='SQL condition on matched.stars, e.g. "gaia_g < 17 AND dec > 0".'),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: cuda where there is one.")]
Paths = Annotated[list[Path], typer.Argument(help="Files, folders or globs.")]
