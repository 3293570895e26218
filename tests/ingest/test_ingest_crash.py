"""Killed at any point, interrupted, cut off or run twice at once: every file is wholly in or wholly out."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

import psycopg
import pytest

from msacat.catalog.errors import Interrupted
from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.server.connect import connect
from msacat.catalog.server.fault_points import INGEST_POINTS
from msacat.catalog.store.verify_catalog import verify


class Child:
    """An ingest in a forked process: dies, stops and waits like one from the command line, and starts at once."""

    def __init__(
        self, dsn: str, *paths: Path, replace: bool = False, fault: str | None = None, ctrl_c_at: str = ""
    ) -> None:
        reading, writing = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            os.close(writing)
            self.lines = os.fdopen(reading)
            return
        code = 1
        try:
            os.close(reading)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if fault:
                os.environ["MSACAT_FAULT"] = fault
            with connect(dsn) as conn, os.fdopen(writing, "w", buffering=1) as out:
                plan = plan_ingest(conn, "gaia_source", paths, replace=replace)

                def tell(done: float, total: float, words: str) -> None:
                    print(words, file=out)
                    if ctrl_c_at and ctrl_c_at in words:
                        os.kill(os.getpid(), signal.SIGINT)

                report = run_ingest(conn, plan, on_progress=tell)
                print(" ".join(f.outcome.replace(" ", "-") for f in report.files), file=out)
            code = 0
        finally:
            os._exit(code)

    def finish(self) -> list[str]:
        """Its lines, once it has ended; `returncode` is negative for a signal, as in subprocess."""
        lines = self.lines.read().splitlines()
        self.lines.close()
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return lines


def run_child(dsn: str, *paths: Path, **options) -> Child:
    child = Child(dsn, *paths, **options)
    child.finish()
    return child


def whole_files(conn) -> dict[str, tuple[int, int]]:
    """path -> (rows the ledger says, rows in the table); every row has its file."""
    if conn.execute("SELECT to_regclass('survey.gaia_source')").fetchone() == (None,):
        assert conn.execute("SELECT count(*) FROM msacat.files").fetchone() == (0,)
        return {}
    rows = conn.execute(
        "SELECT f.path, f.rows_kept, t.n FROM msacat.files f FULL JOIN "
        "(SELECT file_id, count(*) AS n FROM survey.gaia_source GROUP BY 1) t USING (file_id)"
    ).fetchall()
    conn.commit()
    return {path: (kept, n) for path, kept, n in rows}


@pytest.fixture
def files(gaia_rows, write_csv) -> list[Path]:
    """The second file overlaps the first, so that it goes through the staging table."""
    return [write_csv("a.csv", gaia_rows(300)), write_csv("b.csv", gaia_rows(300, start=151))]


@pytest.fixture
def undisturbed(server, files, digest):
    dsn = server.create_database(f"undisturbed_{uuid.uuid4().hex[:8]}")
    from msacat import migrations
    from msacat.catalog.server.connect import engine

    migrations.upgrade(engine(dsn))
    with connect(dsn) as conn:
        run_ingest(conn, plan_ingest(conn, "gaia_source", files))
        return digest(conn, "gaia_source")


@pytest.mark.crash
def test_killed_at_any_point_a_file_is_in_or_out_and_a_rerun_completes(store, files, digest, undisturbed):
    """One store through every point in turn: each leaves it whole, and the rest is added at the end."""
    for point in INGEST_POINTS:
        assert run_child(store, *files, fault=point).returncode == -signal.SIGKILL, point
        with connect(store) as conn:
            for path, (kept, found) in whole_files(conn).items():
                assert kept == found, (point, path)
    assert run_child(store, *files).returncode == 0
    with connect(store) as conn:
        assert digest(conn, "gaia_source") == undisturbed
        assert len(whole_files(conn)) == 2
        assert all(r.passed for r in verify(conn))


@pytest.mark.crash
@pytest.mark.parametrize("point", ["ingest.ledger_row", "ingest.copied", "ingest.before_commit"])
def test_killed_while_replacing_the_old_rows_stay(store, digest, gaia_rows, write_csv, point):
    path = write_csv("a.csv", gaia_rows(50))
    with connect(store) as conn:
        run_ingest(conn, plan_ingest(conn, "gaia_source", [path]))
        before = digest(conn, "gaia_source")
    write_csv("a.csv", gaia_rows(40, parallax=2.0))
    assert run_child(store, path, replace=True, fault=point).returncode == -signal.SIGKILL
    with connect(store) as conn:
        assert digest(conn, "gaia_source") == before
    assert run_child(store, path, replace=True).returncode == 0
    with connect(store) as conn:
        assert whole_files(conn) == {str(path): (40, 40)}


@pytest.mark.crash
def test_ctrl_c_in_the_middle_of_a_file_leaves_nothing_of_it(store, gaia_rows, write_csv):
    path = write_csv("a.csv", gaia_rows(100_000))
    child = Child(store, path, ctrl_c_at="65536 rows")
    assert child.finish()[-1].endswith("65536 rows") and child.returncode != 0
    with connect(store) as conn:
        assert whole_files(conn) == {}


@pytest.mark.crash
def test_a_lost_connection_says_so_and_leaves_nothing(store, gaia_rows, write_csv):
    path = write_csv("a.csv", gaia_rows(100))
    with connect(store) as conn, psycopg.connect(store, autocommit=True) as other:
        pid = conn.info.backend_pid

        def cut(done, total, words):
            if words.endswith("100 rows"):
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        with pytest.raises(Interrupted, match="connection was lost"):
            run_ingest(conn, plan_ingest(conn, "gaia_source", [path]), on_progress=cut)
    with connect(store) as conn:
        assert whole_files(conn) == {}
        run_ingest(conn, plan_ingest(conn, "gaia_source", [path]))
        assert whole_files(conn) == {str(path): (100, 100)}


@pytest.mark.crash
def test_two_ingests_of_the_same_files_at_once(store, files, digest, undisturbed):
    both = [Child(store, *files), Child(store, *reversed(files))]
    outputs = [child.finish() for child in both]
    assert [child.returncode for child in both] == [0, 0], outputs
    outcomes = sorted(outcome for lines in outputs for outcome in lines[-1].split())
    assert outcomes == ["already-there", "already-there", "ingested", "ingested"]
    with connect(store) as conn:
        assert digest(conn, "gaia_source") == undisturbed
        assert all(r.passed for r in verify(conn))


@pytest.mark.crash
def test_the_second_ingest_of_a_file_waits_and_says_for_whom(store, gaia_rows, write_csv):
    from msacat.catalog.read.checksums import mark_of_start
    from msacat.catalog.server.connect import advisory_lock

    path = write_csv("a.csv", gaia_rows(10))
    with (
        connect(store) as holder,
        advisory_lock(holder, f"ingest of gaia_source {mark_of_start(path)[0][:16]}"),
    ):
        child = Child(store, path)
        assert "held by" in next(line for line in child.lines if "Waiting" in line)
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
    assert child.finish()[-1] == "ingested" and child.returncode == 0
