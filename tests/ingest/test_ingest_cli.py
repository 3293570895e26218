"""The verbs ingest, forget, adopt and verify: exit codes, JSON on stdout, words on stderr."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.checksums import mark_of_start
from msacat.catalog.server.advisory_lock import advisory_lock
from msacat.catalog.server.connect import connect
from msacat.catalog.server.free_space import free_bytes, require_space
from msacat.cli.main import main


@pytest.fixture
def msacat(store, capsys):
    """msacat("ingest", ...) -> (exit code, stdout, stderr)"""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(a) for a in (*arguments, "--dsn", store)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def test_ingest_prints_a_table_or_json(msacat, write_csv, gaia_rows):
    rows = gaia_rows(4)
    rows[1]["parallax"], rows[2]["dec"], rows[0]["seeing"] = 1e6, 91, 1.5
    path = write_csv("part.csv", rows, [*rows[1], "seeing"])
    code, out, err = msacat("ingest", "gaia_source", path, "--dry-run", "--json")
    assert code == 0 and json.loads(out)["files"][0]["outcome"] == "would be ingested"
    code, out, err = msacat("ingest", "gaia_source", path)
    assert code == 0 and "ingested" in out and "dec outside [-90, 90] 1" in out
    assert "parallax: outside range 1" in err and "does not name: seeing" in err
    # a name misspelled in a survey file of one's own shows nowhere else
    assert "part.csv: NULL throughout, not in the file: " in err and "ruwe" in err.split("NULL throughout")[1]
    code, out, err = msacat("ingest", "gaia_source", path, "--json", "--quiet")
    assert (code, json.loads(out)["files"][0]["outcome"], err) == (0, "already there", "")


def test_exit_codes(msacat, write_csv, gaia_rows):
    good, bad = write_csv("a.csv", gaia_rows(2)), write_csv("b.csv", gaia_rows(2, start=5))
    bad.write_text(bad.read_text() + "1,2\n")
    assert msacat("ingest", "gaia_sauce", good)[0] == 2
    assert msacat("ingest", "gaia_source", "absent.csv")[0] == 2
    code, out, err = msacat("ingest", "gaia_source", bad, good)
    assert (code, out) == (1, "") and str(bad) in err and "row 3" in err
    code, out, err = msacat("ingest", "gaia_source", bad, good, "--keep-going", "--json")
    assert code == 1 and [f["outcome"] for f in json.loads(out)["files"]] == ["refused", "ingested"]
    assert msacat("ingest", "gaia_source", bad, "--max-bad-rows", 1)[0] == 0
    write_csv("a.csv", gaia_rows(1))
    assert msacat("ingest", "gaia_source", good)[0] == 1
    assert msacat("ingest", "gaia_source", good, "--replace")[0] == 0
    assert main(["ingest", "gaia_source", str(good), "--dsn", "host=/nowhere dbname=x"]) == 3


def test_a_refused_file_does_not_hide_those_that_went_in(msacat, write_csv, gaia_rows):
    """The report of what is in the store comes first, then the error that ended the run."""
    files = [
        write_csv(f"{name}.csv", gaia_rows(2, start=start)) for name, start in (("a", 1), ("b", 5), ("c", 9))
    ]
    bad = files[1]
    bad.write_text(bad.read_text() + "1,2\n")
    code, out, err = msacat("ingest", "gaia_source", *files)
    assert code == 1 and "a.csv" in out and "refused" in out and "c.csv" not in out
    assert err.count("row 3") == 1 and "msacat: " in err
    code, out, err = msacat("ingest", "gaia_source", files[2], bad, "--json")
    assert code == 1 and "row 3" in err
    assert [(f["outcome"], f["rows_kept"]) for f in json.loads(out)["files"]] == [
        ("ingested", 2),
        ("refused", 0),
    ]


def test_verify_and_forget(msacat, store, write_csv, gaia_rows):
    path = write_csv("a.csv", gaia_rows(3))
    assert msacat("ingest", "gaia_source", path)[0] == 0
    code, out, _ = msacat("verify", "--files", "--json")
    assert code == 0 and json.loads(out)["passed"]
    with connect(store, autocommit=True) as conn:
        conn.execute("UPDATE msacat.files SET rows_kept = 7")
    code, out, _ = msacat("verify")
    assert code == 1 and "FAILED" in out and "ledger adds up" in out
    code, out, _ = msacat("forget", path)
    assert code == 0 and "3 rows" in out
    assert msacat("forget", path)[0] == 2


def test_what_a_replaced_file_makes_stale_is_said(msacat, store, write_csv, gaia_rows):
    path = write_csv("a.csv", gaia_rows(3))
    assert msacat("ingest", "gaia_source", path)[0] == 0
    with connect(store, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO learned.models (name, state, folder, file_ids, code_version, finished) "
            "VALUES ('old', 'finished', '/', '{1}', '0', now())"
        )
        conn.execute(
            "INSERT INTO msacat.runs (model_id, state, file_ids, request, n_stars, code_version) "
            "SELECT model_id, 'published', '{1}', '{}', 3, '0' FROM learned.models"
        )
    write_csv("a.csv", gaia_rows(4))
    code, _, err = msacat("ingest", "gaia_source", path, "--replace")
    assert code == 0 and "stale now: models old\n" in err and "stale now: runs 1\n" in err


def test_adopt(msacat, store):
    with connect(store, autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE public.g (id bigint PRIMARY KEY, ra double precision, dec double precision, phot_g_mean_mag real)"
        )
    code, _, err = msacat("adopt", "gaia_source", "public.g", "--column", "source_id=id")
    assert code == 1 and 'CREATE INDEX "g_q3c" ON "public"."g" (q3c_ang2ipix("ra", "dec"))' in err
    with connect(store, autocommit=True) as conn:
        conn.execute("CREATE INDEX ON public.g (q3c_ang2ipix(ra, dec))")
    code, out, err = msacat("adopt", "gaia_source", "public.g", "--column", "source_id=id")
    assert code == 0 and "source_id" in out and "NULL throughout" in err
    assert msacat("adopt", "gaia_source", "public.g", "--column", "source_id")[0] == 2


@pytest.mark.crash
def test_ctrl_c_ends_after_the_current_file_with_exit_code_5(store, write_csv, gaia_rows):
    paths = [write_csv(f"{i}.csv", gaia_rows(100, start=1000 * i)) for i in range(1, 5)]
    third = f"ingest of gaia_source {mark_of_start(paths[2])[0][:16]}"
    with connect(store, autocommit=True) as conn:
        with advisory_lock(conn, third):  # so that it cannot be done before the signal comes
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    code = main(["ingest", "gaia_source", *map(str, paths), "--dsn", store, "--quiet"])
                finally:
                    os._exit(code)
            while conn.execute("SELECT count(*) FROM msacat.files").fetchone() != (2,):
                assert os.waitpid(pid, os.WNOHANG) == (0, 0)
                time.sleep(0.02)
            os.kill(pid, signal.SIGINT)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
        n = conn.execute("SELECT count(*) FROM msacat.files").fetchone()[0]
        assert 2 <= n < 4
        assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (100 * n,)
    assert main(["ingest", "gaia_source", *map(str, paths), "--dsn", store, "--quiet"]) == 0


def test_a_rehearsal_that_will_not_fit_is_refused(conn):
    free = free_bytes(conn)
    assert free is not None and free > 0  # the test's server is on this machine
    assert require_space(conn, 1000) > 0
    with pytest.raises(InputRejected, match="too small") as error:
        require_space(conn, free)
    assert "bytes free" in error.value.expected
