"""Runs are published, dropped and made stale by several at once: whoever comes second waits, and nobody for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from msacat.catalog.enrich.enriched_tables import create_run_tables
from msacat.catalog.enrich.publish_enriched import drop_run, publish_run
from msacat.catalog.errors import InputRejected, MsacatError
from msacat.catalog.ingest.adopt_table import adopt
from msacat.catalog.ingest.forget_files import forget
from msacat.catalog.server.connect import connect

RUNS = 3


@pytest.fixture
def with_runs(made_up) -> str:
    """DSN of a store with three verified runs, 1 and 3 of them shown, all built on an adopted table."""
    with connect(made_up.dsn) as conn:
        conn.execute(
            "CREATE TABLE public.objects (phot_id text PRIMARY KEY, ra float8, dec float8, u real, u_err real, "
            "z real, z_err real, bad int); CREATE INDEX ON public.objects (q3c_ang2ipix(ra, dec)); "
            "DELETE FROM survey.phot_made_up; DELETE FROM msacat.files WHERE survey = 'phot_made_up'"
        )
        adopt(conn, "phot_made_up", "public.objects")
        conn.execute(
            "INSERT INTO learned.models (name, state, folder, code_version, finished) "
            "VALUES ('m', 'finished', '-', '-', now())"
        )
        for run in range(1, RUNS + 1):
            conn.execute(
                "INSERT INTO msacat.runs (model_id, state, file_ids, request, n_stars, code_version) "
                "SELECT 1, 'verified', array_agg(file_id), '{\"new\": false}', 0, '0' FROM msacat.files"
            )
            create_run_tables(conn, run, ["magnitudes"])
        publish_run(conn, 1)
        publish_run(conn, 3)
        conn.execute("UPDATE msacat.runs SET state = 'published', published = now() WHERE run_id = 1")
    return made_up.dsn


class AtOnce:
    """Jobs in threads of their own; `failed` says which were ended, and why."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.failed, self._threads = dsn, dict[str, Exception](), list[threading.Thread]()

    def start(self, name: str, work: Callable[[psycopg.Connection], object]) -> None:
        """Returns once the job waits for a lock."""

        def body() -> None:
            try:
                with connect(self.dsn, application=name) as conn:
                    work(conn)
            except (psycopg.Error, MsacatError) as error:
                self.failed[name] = error

        self._threads.append(threading.Thread(target=body))
        self._threads[-1].start()
        until = time.monotonic() + 20
        with psycopg.connect(self.dsn, autocommit=True) as observer:
            while time.monotonic() < until:
                waiting = observer.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE starts_with(application_name, %s) AND wait_event_type = 'Lock'",
                    [name],
                ).fetchone()
                if waiting:
                    return
                time.sleep(0.02)
        raise AssertionError(f"{name} waits for nobody")

    def finish(self) -> dict[str, Exception]:
        for thread in self._threads:
            thread.join(60)
        return self.failed


@pytest.mark.parametrize("second", [lambda conn: publish_run(conn, 2), lambda conn: drop_run(conn, 2)])
def test_two_runs_at_once(with_runs, second):
    jobs = AtOnce(with_runs)
    with psycopg.connect(with_runs) as holder:
        holder.execute("SELECT 1 FROM msacat.runs WHERE run_id = 1 FOR SHARE")
        with psycopg.connect(
            with_runs, autocommit=True
        ) as conn:  # all shown runs are the first job's to change
            conn.execute("UPDATE msacat.runs SET state = 'published', published = now() WHERE run_id = 2")
        jobs.start("first", lambda conn: publish_run(conn, 3))
        jobs.start("second", second)
    assert jobs.finish() == {}


def test_a_run_is_published_while_its_files_are_forgotten(with_runs):
    jobs = AtOnce(with_runs)
    with psycopg.connect(with_runs) as holder:
        holder.execute("SELECT 1 FROM msacat.runs WHERE run_id = 2 FOR SHARE")
        jobs.start("forget", lambda conn: forget(conn, "phot_made_up"))
        jobs.start("publish", lambda conn: publish_run(conn, 3))
    failed = jobs.finish()
    assert failed.keys() == {"publish"} and isinstance(failed["publish"], InputRejected), failed
    assert "run 3 is stale" in str(failed["publish"])


def test_a_run_at_work_reads_on_while_its_files_are_forgotten(with_runs):
    jobs = AtOnce(with_runs)
    with psycopg.connect(with_runs) as worker:
        # As far as a chunk comes before it opens the view.
        worker.execute("SELECT state FROM msacat.runs WHERE run_id = 2 FOR SHARE")
        jobs.start("forget", lambda conn: forget(conn, "phot_made_up"))
        worker.execute("SELECT count(*) FROM matched.stars")
    assert jobs.finish() == {}
