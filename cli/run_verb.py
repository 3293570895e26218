"""Runs a verb from within another one, as the user would type it."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import typer

from msacat.cli.output import be_quiet, say


def run_verb(arguments: list[str], outer: str) -> Any:
    """Its JSON if it prints any. Where it fails, says that `outer` stopped here and ends with its exit code.

    The verb decides what is quiet, and only while it runs.
    """
    from msacat.cli.main import main

    caught = io.StringIO()
    before = be_quiet(False)
    with contextlib.redirect_stdout(caught):
        code = main(arguments)
    be_quiet(before)
    if code != 0:
        say(f"{outer} stopped at: msacat {' '.join(arguments)}")
        raise typer.Exit(code)
    return json.loads(caught.getvalue()) if "--json" in arguments else None
