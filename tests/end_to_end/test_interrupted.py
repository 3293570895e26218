"""Ctrl-C, kill -9 and dead workers in training and enrichment: the next command goes on, nothing is done twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import psycopg
import pytest

from msacat.catalog.enrich import write_enriched
from msacat.catalog.errors import StoreLocked
from msacat.catalog.server.connect import advisory_lock, connect

PATIENCE_S = 120.0  # far beyond what a step needs: a machine under load must not fail a test


def wait_for(dsn: str, query: str, process: subprocess.Popen | None = None) -> tuple:
    """The first row of `query`, as soon as there is one; fails if the process ends before."""
    end = time.monotonic() + PATIENCE_S
    with psycopg.connect(dsn, autocommit=True) as conn:
        while time.monotonic() < end:
            if row := conn.execute(query).fetchone():
                return row
            if process is not None and process.poll() is not None:
                raise AssertionError(f"ended with {process.returncode}: {process.communicate()[1]}")
            time.sleep(0.005)
    raise AssertionError(f"nothing came of: {query}")


@contextmanager
def running(dsn: str, *arguments: str):
    """The command as a process and leader of a process group, as a terminal would start it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "msacat", *arguments, "--dsn", dsn], start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process: subprocess.Popen) -> tuple[int, str]:
    err = process.communicate(timeout=PATIENCE_S)[1]
    return process.returncode, err


def one_row(dsn: str, query: str) -> tuple:
    with psycopg.connect(dsn) as conn:
        return conn.execute(query).fetchone()


def forget_tables_of(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "SELECT relname FROM pg_class WHERE relname LIKE 'blocks%' OR relname LIKE '%requested'"
        )
        return [name for (name,) in rows]


@pytest.mark.slow
@pytest.mark.crash
def test_training_survives_ctrl_c_and_kill_9(trained, msacat_at):
    name, config = "often-stopped", ("--epochs", "5", "--seed", "4")
    last = "SELECT max(step) FROM learned.train_steps JOIN learned.models m USING (model_id) WHERE m.name = 'often-stopped' HAVING max(step) > {}"
    # kill -9 as soon as the ledger knows the training, mostly while stars are packed
    with running(trained, "train", "--name", name, *config) as process:
        wait_for(trained, f"SELECT 1 FROM learned.models WHERE name = '{name}'", process)
        process.kill()
    # Ctrl-C at work; meanwhile nobody else may touch this training
    with running(trained, "train", "--name", name, "--resume") as process:
        (stopped_at,) = wait_for(trained, last.format(0), process)
        assert msacat_at(trained, "train", "--name", name, "--resume").code == 4
        code, _, err = msacat_at(trained, "models", "drop", name)
        assert code == 4 and f"train {name}" in err
        os.killpg(process.pid, signal.SIGINT)
        code, err = ended(process)
    assert code == 5 and "--resume" in err and "Traceback" not in err
    # kill -9 after some more steps
    with running(trained, "train", "--name", name, "--resume") as process:
        wait_for(trained, last.format(stopped_at), process)
        process.kill()
    code, _, err = msacat_at(trained, "enrich", "--model", name)
    assert code == 1 and "is training" in err and "--resume" in err
    code, _, err = msacat_at(trained, "train", "--name", name)
    assert code == 2 and "--resume" in err
    code, _, err = msacat_at(trained, "train", "--name", name, "--resume", "--minutes", 1)
    assert code == 2 and "counts epochs" in err and "5 epochs" in err

    code, _, err = msacat_at(trained, "train", "--name", name, "--resume")
    assert code == 0, err
    state, resumed_from, steps, recorded, distinct, folder = one_row(
        trained,
        "SELECT m.state, (m.report->>'resumed_from')::int, (m.report->>'steps')::int, "
        "max(step), count(DISTINCT step) = count(*) FILTER (WHERE t.name = 'loss'), m.folder "
        "FROM learned.models m JOIN learned.train_steps t USING (model_id) "
        f"WHERE m.name = '{name}' GROUP BY m.model_id",
    )
    assert (state, recorded, distinct) == ("finished", steps, True)
    assert resumed_from is not None and 0 < resumed_from <= steps
    assert forget_tables_of(trained) == [] and not os.path.exists(os.path.join(folder, "checkpoints"))
    code, _, err = msacat_at(trained, "train", "--name", name, "--resume")
    assert code == 2 and "no interrupted training" in err


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks so small that workers have to share them; they are cut when a run starts."""
    monkeypatch.setattr(write_enriched, "STARS_A_CHUNK", 100)


def exactly_once(dsn: str, run_id: int, n_stars: int) -> None:
    for kind in ("magnitudes", "xp_coefficients", "embeddings", "metallicities"):
        counts = one_row(dsn, f"SELECT count(*), count(DISTINCT source_id) FROM enriched.r{run_id}_{kind}")
        assert counts == (n_stars, n_stars), kind
    assert one_row(dsn, "SELECT count(*), count(DISTINCT source_id) FROM enriched.stars") == (
        n_stars,
        n_stars,
    )


def kill_first_worker(dsn: str, how: Callable[[], None]) -> threading.Thread:
    def body() -> None:
        wait_for(dsn, "SELECT 1 FROM msacat.run_chunks WHERE run_id = 2 AND done")
        how()

    thread = threading.Thread(target=body)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.crash
def test_a_killed_worker_costs_nothing_but_its_chunk(trained, msacat_at, small_chunks):
    def kill() -> None:
        multiprocessing.active_children()[0].kill()

    thread = kill_first_worker(trained, kill)
    code, _, err = msacat_at(trained, "enrich", "--workers", 2)
    thread.join()
    assert code == 5 and "1 of 2 workers ended early" in err and "msacat enrich --resume 2" in err
    assert one_row(trained, "SELECT count(*) FROM enriched.stars WHERE run_id = 2") == (0,), "not shown yet"
    code, out, err = msacat_at(trained, "enrich", "--resume", 2, "--workers", 2)
    assert code == 0 and "run 2: 2500 stars" in out, err
    exactly_once(trained, 2, 2500)
    assert one_row(trained, "SELECT count(*) FROM enriched.stars WHERE run_id = 2") == (2500,)
    code, _, err = msacat_at(trained, "enrich", "--resume", 2)
    assert code == 2 and "is published" in err


@pytest.mark.crash
def test_a_run_at_work_is_left_to_the_process_that_works_on_it(trained, msacat_at, small_chunks):
    refused: list[StoreLocked] = []

    def try_it() -> None:
        with (
            connect(trained) as conn,
            pytest.raises(StoreLocked) as caught,
            advisory_lock(conn, "enrich run 2"),
        ):
            pass
        refused.append(caught.value)
        os.kill(os.getpid(), signal.SIGINT)

    thread = kill_first_worker(trained, try_it)
    assert msacat_at(trained, "enrich").code == 5
    thread.join()
    assert f"msacat enrich (process {os.getpid()})" in refused[0].found
    with connect(trained) as other, advisory_lock(other, "enrich run 2"):
        code, _, err = msacat_at(trained, "enrich", "--resume", 2)
        assert code == 4 and "'enrich run 2'" in err
    assert msacat_at(trained, "enrich", "--resume", 2).code == 0
    exactly_once(trained, 2, 2500)


@pytest.mark.slow
@pytest.mark.crash
def test_ctrl_c_reaches_the_workers(trained, msacat_at):
    with running(trained, "enrich", "--workers", "2") as process:
        wait_for(trained, "SELECT 1 FROM msacat.runs WHERE run_id = 2", process)
        os.killpg(process.pid, signal.SIGINT)
        code, err = ended(process)
    assert code == 5 and "--resume 2" in err and "Traceback" not in err, err
    assert one_row(trained, "SELECT state FROM msacat.runs WHERE run_id = 2") == ("running",)
    assert msacat_at(trained, "runs", "publish", 2).code == 2
    assert msacat_at(trained, "enrich", "--resume", 2).code == 0
    exactly_once(trained, 2, 2500)


@pytest.mark.crash
@pytest.mark.parametrize("workers", [1, 2])
def test_a_list_of_ids_stays_one_when_its_run_is_resumed(trained, msacat_at, tmp_path, small_chunks, workers):
    with psycopg.connect(trained) as conn:
        every = [i for (i,) in conn.execute("SELECT source_id FROM survey.gaia_source ORDER BY 1")]
    asked = tmp_path / "asked.csv"
    asked.write_text("source_id\n" + "\n".join(map(str, every[::3])) + "\n")
    thread = kill_first_worker(trained, lambda: os.kill(os.getpid(), signal.SIGINT))
    code, _, err = msacat_at(trained, "enrich", "--ids", asked)
    thread.join()
    assert code == 5 and "--resume 2" in err
    assert msacat_at(trained, "enrich", "--resume", 2, "--workers", workers).code == 0
    with psycopg.connect(trained) as conn:
        written = conn.execute("SELECT source_id FROM enriched.r2_magnitudes ORDER BY 1").fetchall()
    assert [i for (i,) in written] == every[::3]


def end_connections(dsn: str) -> None:
    """All but this one: what a server's restart looks like from outside."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )


@pytest.mark.crash
def test_a_lost_connection_names_the_command_that_continues(trained, msacat_at, small_chunks):
    thread = kill_first_worker(trained, lambda: end_connections(trained))
    code, _, err = msacat_at(trained, "enrich")
    thread.join()
    assert code == 5 and "connection" in err and "msacat enrich --resume 2" in err, err
    assert msacat_at(trained, "enrich", "--resume", 2).code == 0
    exactly_once(trained, 2, 2500)


@pytest.mark.slow
@pytest.mark.crash
def test_training_goes_on_after_the_server_was_away(trained, msacat_at):
    with running(trained, "train", "--name", "cut-off", "--epochs", "5") as process:
        wait_for(
            trained,
            "SELECT 1 FROM learned.train_steps JOIN learned.models USING (model_id) WHERE models.name = 'cut-off'",
            process,
        )
        end_connections(trained)
        code, err = ended(process)
    assert code == 5 and "msacat train --name cut-off --resume" in err and "Traceback" not in err, err
    assert one_row(trained, "SELECT state FROM learned.models WHERE name = 'cut-off'") == ("training",)
    code, _, err = msacat_at(trained, "train", "--name", "cut-off", "--resume")
    assert code == 0, err


@pytest.mark.crash
def test_ctrl_c_in_a_single_process(trained, msacat_at, small_chunks):
    thread = kill_first_worker(trained, lambda: os.kill(os.getpid(), signal.SIGINT))
    code, _, err = msacat_at(trained, "enrich")
    thread.join()
    assert code == 5 and "stopping after this chunk" in err and "--resume 2" in err
    done, left = one_row(
        trained, "SELECT count(*) FILTER (WHERE done), count(*) FILTER (WHERE NOT done) FROM msacat.run_chunks "
        "WHERE run_id = 2")  # fmt: skip
    assert done >= 1 and left >= 1
    assert msacat_at(trained, "enrich", "--resume", 2).code == 0
    exactly_once(trained, 2, 2500)
