"""The command `msacat`: verbs in the order in which a star meets them."""

from __future__ import annotations

import importlib
import os
import signal
import sys

import click
import typer

from msacat.catalog.errors import MsacatError

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
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `msacat query … | head` ends quietly
    try:
        code = app(args=arguments, prog_name="msacat", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        return _fail("stopped", 5)
    except click.ClickException as error:
        error.show()
        return 2
    except MsacatError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing is half-written, the same command continues", 5)
    except Exception as error:
        import psycopg

        if isinstance(error, psycopg.OperationalError) and not os.environ.get("MSACAT_TRACEBACK"):
            return _fail(f"the server: {str(error).strip()}\n  next:     msacat doctor", 3)
        raise


def _fail(text: str, code: int) -> int:
    print(f"msacat: {text}", file=sys.stderr)
    return code


def entry_point() -> None:
    """Console script."""
    sys.exit(main())
