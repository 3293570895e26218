"""The command `msacat`: verbs in the order in which a star meets them."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import typer
from typer.core import TyperGroup

from msacat.catalog.errors import Interrupted, MsacatError, StoreUnavailable, full_disk
from msacat.cli.output import be_quiet, flush_results

# In the order of `msacat --help`; each is a module of msacat.cli with `register(app)`.
VERBS = (
    "db", "doctor", "survey", "simulate", "ingest", "adopt", "forget", "reddening", "crossmatch",
    "train", "models", "enrich", "runs", "query", "status", "describe", "verify", "evaluate", "demo",
)  # fmt: skip

# Before torch is loaded: threads that wait spin by default, and on a busy machine a training or an enrichment
# with two threads then runs several times slower than with one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class _InOrder(TyperGroup):
    """`msacat --help` lists the verbs as VERBS does, groups like `db` in their place."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=VERBS.index)


app = typer.Typer(
    name="msacat",
    cls=_InOrder,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Survey files in, a crossmatched and enriched star catalogue out.\n\n"
    "Usual order: db start, ingest, crossmatch, train, enrich, query.",
    epilog="Exit codes: 0 done, 1 data refused or verification failed, 2 wrong usage, 3 server unreachable, "
    "4 locked by another job, 5 interrupted (the message names the command that continues).",
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
    be_quiet(False)
    try:
        with _signals():
            try:
                app(args=arguments, prog_name="msacat")
            except SystemExit as done:
                flush_results()
                return done.code if isinstance(done.code, int) else int(done.code is not None)
    except MsacatError as error:
        return _fail(str(error), error.exit_code)
    except (
        psycopg.OperationalError,
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.ReadOnlySqlTransaction,
    ) as error:
        return _fail(
            f"the server: {str(error).strip()}\n  next:     msacat doctor", StoreUnavailable.exit_code
        )
    except OSError as error:
        if error.filename is None and (full := full_disk(error)):
            return _fail(
                f"no space left to write: {full.strerror}\n"
                "  next:     free space where this command writes, and in the folder of temporary files (TMPDIR)",
                MsacatError.exit_code,
            )
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}", MsacatError.exit_code)
    return 0


@contextmanager
def _signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Interrupted (typer would turn KeyboardInterrupt into its own exit code)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted: dict[int, Any] = {
        signal.SIGPIPE: signal.SIG_DFL,  # `msacat query … | head` ends quietly
        signal.SIGINT: _interrupted,
        signal.SIGTERM: _interrupted,
    }
    previous = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupted(number: int, frame: object) -> None:
    raise Interrupted("interrupted; nothing is half-written", next_step="the same command continues")


def _fail(text: str, code: int) -> int:
    with suppress(
        MsacatError
    ):  # results come before the error; should they be unwritable, the error is one enough
        flush_results()
    print(f"msacat: {text}", file=sys.stderr)
    return code
