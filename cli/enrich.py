"""msacat enrich: streams stars through a model into a run's tables, verifies, publishes"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from msacat.cli.options import AsJson, Device, Dsn, Quiet, Where
from msacat.cli.output import be_quiet, print_json, print_line, progress_bar, say
from msacat.cli.resumable import resumable
from msacat.cli.stop_signal import StopSignal

REFUSED = (1, 2, 3, 4)  # exit codes of a worker that would end the same way again


def register(app: typer.Typer) -> None:
    app.command("enrich")(enrich)


def enrich(
    model: Annotated[
        str | None, typer.Option("--model", help="Name of the model; the newest finished one if left out.")
    ] = None,
    where: Where = None,
    ids: Annotated[
        Path | None,
        typer.Option("--ids", help="Only these stars: a file with a column source_id.", exists=True),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Only stars added or changed since the last published run.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each takes chunks nobody holds.")] = 1,
    device: Device = "auto",
    publish: Annotated[bool, typer.Option(help="Show the run in the views once it is verified.")] = True,
    resume: Annotated[
        int | None, typer.Option("--resume", help="Go on with this run.", show_default=False)
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write what a model knows of every Gaia star into the store.

    Each run gets its own tables, written by chunks exactly once, invisible until counted and checked; then the
    views enriched.magnitudes, .xp_coefficients, .embeddings, .metallicities and .stars show it. Survey tables
    are never touched. Interrupted? `msacat enrich --resume RUN` continues.
    """
    from msacat.catalog.enrich.enrich_request import find_run, read_ids
    from msacat.catalog.enrich.publish_enriched import publish_run, verify_run
    from msacat.catalog.enrich.write_enriched import NoStars, RunRequest, start_run
    from msacat.catalog.errors import UsageError
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.store.register_survey import registered_specs
    from msacat.catalog.stream.model_ledger import find_model, require_usable
    from msacat.catalog.stream.training_ready import notes_on_matches

    be_quiet(quiet)
    if sum((where is not None, ids is not None, new)) > 1:
        raise UsageError("give one of --where, --ids, --new")
    if resume is not None and (model is not None or where is not None or ids is not None or new):
        raise UsageError("a run keeps its own --model, --where, --ids and --new; --resume goes without them")
    run_id = 0
    with ExitStack() as held:
        if resume is not None:
            held.enter_context(_alone(dsn, resume))
        with connect(dsn) as conn:
            require_store(conn)
            if resume is not None:
                run_id, found, request = find_run(conn, resume)
            else:
                found = find_model(conn, model)
                request = RunRequest(where, read_ids(ids) if ids else None, new)
            require_usable(found)
            notes = notes_on_matches(conn, registered_specs(conn))
        for note in notes:
            say(note)
        job = _Job(dsn, found.folder, device, run_id)
        kinds = job.load()
        views: list[str] = []
        with resumable(lambda: f"msacat enrich --resume {run_id}" if run_id else None):
            # Begun before the run is: a Ctrl-C just after it started must not lose its number.
            with StopSignal("stopping after this chunk") as stop:
                if resume is None:
                    try:
                        with connect(dsn) as conn:
                            run_id = start_run(conn, found.model_id, request, kinds, job.features.band_names)
                    except NoStars:
                        if not new:
                            raise
                        say("no star is new or changed since the last published run")
                        if as_json:
                            print_json(
                                {
                                    "run_id": None,
                                    "model": found.name,
                                    "rows": {},
                                    "published": [],
                                    "notes": notes,
                                }
                            )
                        return
                    held.enter_context(_alone(dsn, run_id))
                    say(f"run {run_id} by model {found.name}")
                job.run_id, job.kinds = run_id, kinds
                # The ids themselves lie in the store; that there are some must not be forgotten, when resumed neither.
                job.request = replace(request, ids=None if request.ids is None else [])
                _write(job, workers, stop.asked)
            with connect(dsn) as conn:
                rows = verify_run(conn, run_id)
            if publish:
                with connect(dsn) as conn:
                    views = publish_run(conn, run_id)
    if as_json:
        print_json({"run_id": run_id, "model": found.name, "rows": rows, "published": views, "notes": notes})
        return
    print_line(f"run {run_id}: {rows['magnitudes']} stars, verified" + (", published" if publish else ""))
    if "metallicities" not in kinds:
        say(f"model {found.name} learned from no labels: it gives no metallicities")
    if "xp_coefficients" not in kinds:
        say(f"model {found.name} learned from no spectra: it gives no XP coefficients")
    if publish:
        print_line("views: " + ", ".join(f"enriched.{view}" for view in views))
        print_line('next: msacat query "SELECT * FROM enriched.stars LIMIT 3"')
    else:
        print_line(f"next: msacat runs publish {run_id}")


@contextmanager
def _alone(dsn: str | None, run_id: int) -> Iterator[None]:
    """While this process works on a run, no other does: it would end with the last chunks still in the first's hands."""
    from msacat.catalog.server.connect import advisory_lock, connect, require_store

    with connect(dsn, application="msacat enrich") as conn:
        require_store(conn)
        with advisory_lock(conn, f"enrich run {run_id}"):
            yield


def _write(job: _Job, workers: int, asked: Callable[[], bool]) -> None:
    """All chunks that are not written yet; ends between two chunks once `asked`."""
    from msacat.catalog.enrich.run_ledger import progress
    from msacat.catalog.server.connect import connect

    with connect(job.dsn) as conn:
        total, done = progress(conn, job.run_id)
    with progress_bar("enrich", total=total) as update:
        if workers > 1:
            _with_workers(job, workers, update, asked)
            return
        so_far = [done]

        def on_progress(n: int) -> None:
            so_far[0] += n
            update(so_far[0])

        job.write(on_progress, asked)


class _Job:
    """What one worker process needs; the model is loaded where it is used."""

    def __init__(self, dsn: str | None, folder: Path, device: str, run_id: int) -> None:
        self.dsn, self.folder, self.device = dsn, folder, device
        self.run_id, self.kinds = run_id, list[str]()  # 0: the run is not begun yet
        self.request: Any = None  # RunRequest

    def load(self) -> list[str]:
        """Load the model, re-mapped to the run's bands; returns the kinds of output it can give."""
        from msacat.catalog.enrich.write_enriched import features_of_run
        from msacat.catalog.server.connect import connect
        from msacat.catalog.store.register_survey import registered_specs
        from msacat.catalog.store.star_view import star_features
        from msacat.model.predict_stars import StarModel

        with connect(self.dsn) as conn:
            self.features = star_features(conn, registered_specs(conn))
            if self.run_id:
                self.features = features_of_run(conn, self.run_id, self.features)
        self.model = StarModel.load(self.folder, self.device).remap(self.features)
        kinds = ["magnitudes", "embeddings"]
        if self.model.predicts_xp:
            kinds.insert(1, "xp_coefficients")
        if self.model.predicts_labels:
            kinds.append("metallicities")
        return kinds

    def write(self, on_progress=None, should_stop=None) -> int:
        import torch

        from msacat.catalog.enrich.write_enriched import LANES, write_chunks

        torch.set_num_threads(max(1, torch.get_num_threads() // LANES))  # each lane predicts for itself
        return write_chunks(
            self.dsn,
            self.run_id,
            self.request,
            self.features,
            self.model.predict,
            self.kinds,
            on_progress,
            should_stop,
        )


def _worker(
    dsn: str | None,
    folder: Path,
    device: str,
    run_id: int,
    request: Any,
    kinds: list[str],
    threads: int,
    stop: Any,
    parent: int,
) -> None:
    """One process: its own connection and its own copy of the model (never inherited through a fork)."""
    import os
    import signal
    import sys

    import torch

    from msacat.catalog.errors import MsacatError

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent passes it on
    torch.set_num_threads(threads)
    job = _Job(dsn, folder, device, run_id)
    job.request, job.kinds = request, kinds
    try:
        with resumable(lambda: None):
            job.load()
            job.write(None, lambda: stop.is_set() or os.getppid() != parent)
    except MsacatError as error:
        if not stop.is_set():
            say(f"worker {os.getpid()}: {error}")
        sys.exit(error.exit_code)


def _with_workers(job: _Job, workers: int, update: Callable[..., None], asked: Callable[[], bool]) -> None:
    """Run the workers to their end; raises Interrupted if one of them was stopped or died."""
    import os
    import signal
    import time

    from msacat.catalog.enrich.run_ledger import progress
    from msacat.catalog.errors import InputRejected, Interrupted
    from msacat.catalog.server.connect import connect

    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // workers)
    stop = context.Event()
    arguments = (
        job.dsn,
        job.folder,
        job.device,
        job.run_id,
        job.request,
        job.kinds,
        threads,
        stop,
        os.getpid(),
    )
    processes = [context.Process(target=_worker, args=arguments) for _ in range(workers)]
    # A terminal sends Ctrl-C to all: they inherit the mask, so that it cannot end them before they know to ignore it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for process in processes:
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        with connect(job.dsn, autocommit=True) as conn:
            while any(process.is_alive() for process in processes):
                if asked():
                    stop.set()
                time.sleep(0.2)
                update(progress(conn, job.run_id)[1])
    finally:
        for process in processes:  # alive only if this process is to end at once: their chunks roll back
            process.terminate()
            process.join()
    if stop.is_set() or asked():
        raise Interrupted(f"run {job.run_id} is stopped; what was committed stays")
    if any(process.exitcode in REFUSED for process in processes):
        raise InputRejected(f"run {job.run_id}: a worker failed for the reason above; what was committed stays",
                            next_step=f"mend it, then msacat enrich --resume {job.run_id}")  # fmt: skip
    if failed := [process.pid for process in processes if process.exitcode]:
        raise Interrupted(f"{len(failed)} of {workers} workers ended early; what was committed stays")
