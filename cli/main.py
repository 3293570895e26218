"""The command `msacat`: verbs in the order in which a star meets them."""

from __future__ import annotations

import importlib
import signal
import sys
import threading

import psycopg
import typer

from msacat.catalog.errors import Interrupted, MsacatError, StoreUnavailable

# Verb -> one-line reason for its place. Each module has `register(app)`.
VERBS = (
    "db", "doctor", "survey", "simulate", "ingest", "adopt", "forget", "crossmatch",
    "train", "models", "enrich", "runs", "query", "status", "describe", "verify", "demo",
)  # fmt: skip

app = typer.Typer(
    name="msacat",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Survey files in, a crossmatched and enriched star catalogue out.\n\n"
    "Usual order: db start, ingest, crossmatch, train, enrich, query.",
    epilog="Exit codes: 0 done, 1 data refused or verification failed, 2 wrong usage, 3 server unreachable, "
    "4 locked by another job, 5 interrupted (the same command continues).",
)

for verb in VERBS:
    importlib.import_module(f"msacat.cli.{verb}").register(app)


@app.callback(invoke_without_command=False)
def _callback(
    version: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True,
                                 callback=lambda wanted: _print_version(wanted)),
) -> None:  # fmt: skip
    pass


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"msacat {version('msacat')}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; errors on purpose print without a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `msacat query … | head` ends quietly
        # not KeyboardInterrupt: typer would turn it into its own exit code
        signal.signal(signal.SIGINT, _interrupted)
        signal.signal(signal.SIGTERM, _interrupted)
    try:
        app(args=arguments, prog_name="msacat")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except MsacatError as error:
        return _fail(str(error), error.exit_code)
    except psycopg.OperationalError as error:
        return _fail(
            f"the server: {str(error).strip()}\n  next:     msacat doctor", StoreUnavailable.exit_code
        )
    return 0


def _interrupted(number: int, frame: object) -> None:
    raise Interrupted("interrupted; nothing is half-written", next_step="the same command continues")


def _fail(text: str, code: int) -> int:
    print(f"msacat: {text}", file=sys.stderr)
    return code
