"""msacat doctor"""

from __future__ import annotations

import typer

from msacat.cli.options import AsJson, Dsn
from msacat.cli.output import print_json, print_line, print_table, say


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Check the server and this machine; name what mends each fault.

    Extension, rights, versions, folders, disk; with the exact command for each fault. Changes nothing. Exit code 0: all well; 3: the database cannot be used; 1: another fault.
    """
    from msacat.catalog.server.check_server import check_all, exit_code

    checks = check_all(dsn)
    code = exit_code(checks)
    if as_json:
        print_json({"ok": code == 0, "checks": checks})
        raise typer.Exit(code)
    print_table(["check", "", "found"], [(check.name, check.state, check.found) for check in checks])
    amiss = [check for check in checks if check.state != "ok"]
    if amiss:
        print_line("")
        for check in amiss:
            print_line(f"{check.name}: {check.found}\n  mend: {check.mend}")
    say("All well." if code == 0 else f"{sum(check.state == 'fault' for check in checks)} to mend.")
    raise typer.Exit(code)
