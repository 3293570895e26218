"""forget takes out exactly what it names and marks what stood on it."""

from __future__ import annotations

import pytest

from msacat.catalog.errors import StoreLocked, UsageError
from msacat.catalog.ingest.adopt_table import adopt
from msacat.catalog.ingest.forget_files import forget
from msacat.catalog.ingest.ingest_files import plan_ingest, rehearse_ingest, run_ingest
from msacat.catalog.server.connect import connect
from msacat.catalog.store.store_status import store_status
from msacat.catalog.store.verify_catalog import verify


@pytest.fixture
def parts(conn, gaia_rows, write_csv):
    paths = [write_csv(f"{i}.csv", gaia_rows(5, start=10 * i)) for i in (1, 2, 3)]
    run_ingest(conn, plan_ingest(conn, "gaia_source", paths))
    return paths


def models_and_runs(conn, *file_ids: int) -> None:
    for i in file_ids:
        conn.execute(
            "INSERT INTO learned.models (name, state, folder, file_ids, code_version) VALUES (%s, 'finished', '/', %s, '0')",
            [f"model{i}", [i]],
        )
        conn.execute(
            "INSERT INTO msacat.runs (model_id, state, file_ids, request, n_stars, code_version) "
            "SELECT max(model_id), 'published', %s, '{}', 1, '0' FROM learned.models",
            [[i, 99]],
        )
    conn.commit()


def test_one_file_by_path_or_number(conn, parts):
    ids = [i for (i,) in conn.execute("SELECT file_id FROM msacat.files ORDER BY 1")]
    models_and_runs(conn, *ids)
    [report] = forget(conn, str(parts[1]))
    assert (report.dataset, report.files, report.rows) == ("gaia_source", [str(parts[1])], 5)
    assert (report.models, len(report.runs)) == ([f"model{ids[1]}"], 1)
    assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (10,)
    states = dict(conn.execute("SELECT name, state FROM learned.models"))
    assert states == {f"model{i}": "stale" if i == ids[1] else "finished" for i in ids}
    (reason,) = conn.execute("SELECT stale_reason FROM msacat.runs WHERE state = 'stale'").fetchone()
    assert str(parts[1]) in reason
    [report] = forget(conn, str(ids[0]))
    assert report.files == [str(parts[0])]
    assert all(r.passed for r in verify(conn))
    [again] = run_ingest(conn, plan_ingest(conn, "gaia_source", [parts[1]])).files
    assert again.outcome == "ingested"


def test_what_was_at_work_when_the_file_came_in_is_stale_too(conn, gaia_rows, write_csv, ingest):
    """It began without the file, so that its list of files lacks it, and may have read its rows all the same."""
    first, second = write_csv("a.csv", gaia_rows(5)), write_csv("b.csv", gaia_rows(5, start=10))
    ingest("gaia_source", first)
    models_and_runs(conn, 1)  # neither says when it ended: an older msacat's
    for name in ("ended before", "ended after", "at work"):
        conn.execute(
            "INSERT INTO learned.models (name, state, folder, code_version) VALUES (%s, 'training', '/', '0')",
            [name],
        )
        conn.execute(
            "INSERT INTO msacat.runs (model_id, state, request, n_stars, code_version) "
            "SELECT max(model_id), 'running', '{}', 1, '0' FROM learned.models"
        )

    def end(name: str) -> None:
        conn.execute("UPDATE learned.models SET state = 'finished', finished = now() WHERE name = %s", [name])
        conn.execute(
            "UPDATE msacat.runs SET state = 'published', verified = now() "
            "WHERE model_id = (SELECT model_id FROM learned.models WHERE name = %s)",
            [name],
        )
        conn.commit()

    end("ended before")
    ingest("gaia_source", second)
    end("ended after")
    conn.execute(
        "INSERT INTO learned.models (name, state, folder, code_version, finished) "
        "VALUES ('of another store', 'imported', '/', '0', now())"
    )
    conn.commit()
    [report] = forget(conn, str(second))
    assert report.models == ["at work", "ended after"] and len(report.runs) == 2
    stale = "SELECT name FROM learned.models WHERE state = 'stale' ORDER BY 1"
    assert [name for (name,) in conn.execute(stale)] == report.models
    stale_runs = "SELECT name FROM learned.models m JOIN msacat.runs r USING (model_id) WHERE r.state = 'stale' ORDER BY 1"
    assert [name for (name,) in conn.execute(stale_runs)] == report.models
    conn.execute("UPDATE learned.models SET state = 'training' WHERE name = 'at work'")
    assert forget(conn, "gaia_source")[0].models.count("at work") == 1
    conn.execute("UPDATE learned.models SET state = 'training' WHERE name = 'at work'")
    assert forget(conn, "gaia_source")[0].models == [], "no file, nothing built on it"


def test_a_file_that_is_gone_from_disk_can_be_forgotten(conn, parts, monkeypatch):
    monkeypatch.chdir(parts[0].parent)
    parts[0].unlink()
    [report] = forget(conn, "1.csv")
    assert report.rows == 5


def test_a_whole_dataset(conn, parts):
    conn.execute(
        "INSERT INTO msacat.crossmatches (dataset, reference, fingerprint, n_matched, n_unmatched, by_method, started, "
        "finished, code_version) VALUES ('gaia_source', 'gaia_source', 'abc', 0, 0, '{}', now(), now(), '0')"
    )
    conn.commit()
    [report] = forget(conn, "gaia_source")
    assert (len(report.files), report.rows) == (3, 15)
    assert conn.execute("SELECT fingerprint FROM msacat.crossmatches").fetchone() == (None,)
    assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM msacat.files").fetchone() == (0,)
    assert forget(conn, "gaia_source")[0].rows == 0


def test_files_that_had_skipped_the_forgotten_rows_are_named(conn, gaia_rows, write_csv):
    first, second = write_csv("a.csv", gaia_rows(5)), write_csv("b.csv", gaia_rows(5, start=4))
    run_ingest(conn, plan_ingest(conn, "gaia_source", [first, second]))
    [report] = forget(conn, str(first))
    assert report.incomplete == [str(second)]


def not_passed(conn) -> str:
    return " ".join(r.description for r in verify(conn) if not r.passed)


@pytest.mark.parametrize("name", ["b.csv", "b.csv.gz"])
def test_rows_that_went_with_a_forgotten_file_come_back(conn, gaia_rows, write_csv, ingest, digest, name):
    """b.csv repeats rows of a.csv and of c.csv; only the former go."""
    first, third = write_csv("a.csv", gaia_rows(5)), write_csv("c.csv", gaia_rows(3, start=8))
    second = write_csv(name, gaia_rows(6, start=4))
    ingest("gaia_source", first, third, second)
    ids = {path: i for i, path in conn.execute("SELECT file_id, path FROM msacat.files")}
    models_and_runs(conn, ids[str(second)])
    whole = digest(conn, "gaia_source")
    assert not_passed(conn) == ""
    [report] = forget(conn, str(first))
    assert report.incomplete == [str(second)]
    assert "up to 2 rows of" in not_passed(conn) and f"`msacat ingest gaia_source {second}`" in not_passed(
        conn
    )
    assert store_status(conn).next_step == f"msacat ingest gaia_source {second}"
    assert (
        rehearse_ingest(conn, plan_ingest(conn, "gaia_source", [second])).files[0].outcome
        == "would be completed"
    )
    repacked = write_csv("again.csv.gz", gaia_rows(6, start=4))
    [again] = ingest("gaia_source", repacked).files
    assert (again.outcome, again.rows_kept, again.rows_rejected) == ("completed", 4, {"already stored": 2})
    assert again.file_id == ids[str(second)]
    assert not_passed(conn) == "" and store_status(conn).next_step.startswith("msacat query")
    assert dict(conn.execute("SELECT name, state FROM learned.models")) == {
        f"model{again.file_id}": "finished"
    }
    assert ingest("gaia_source", second).files[0].outcome == "already there"
    ingest("gaia_source", first)
    assert digest(conn, "gaia_source") == whole
    [report] = forget(conn, str(third))
    assert report.incomplete == [str(second)]


def test_rows_that_went_with_a_replaced_file_come_back(conn, gaia_rows, write_csv, ingest):
    first, second = write_csv("a.csv", gaia_rows(5)), write_csv("b.csv", gaia_rows(5, start=4))
    ingest("gaia_source", first, second)
    first = write_csv("a.csv", gaia_rows(1))
    [replaced] = ingest("gaia_source", first, replace=True).files
    assert replaced.incomplete == [str(second)] and str(second) in not_passed(conn)
    assert ingest("gaia_source", second).files[0].rows_kept == 5
    assert not_passed(conn) == "" and conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (
        6,
    )


def test_an_older_ledger_does_not_say_which_file_held_the_rows(conn, gaia_rows, write_csv, ingest):
    first, second = write_csv("a.csv", gaia_rows(5)), write_csv("b.csv", gaia_rows(5, start=4))
    ingest("gaia_source", first, second)
    conn.execute(
        "UPDATE msacat.files SET rows_rejected = '{\"already stored\": 2}' WHERE path = %s", [str(second)]
    )
    assert forget(conn, str(first))[0].incomplete == [str(second)]
    assert "up to 2 rows of" in not_passed(conn)


def test_nothing_is_forgotten_while_a_file_comes_in(conn, store, gaia_rows, write_csv):
    """The file on its way may skip rows because the other holds them: were that one gone, they would be in neither."""
    first, second = write_csv("a.csv", gaia_rows(5)), write_csv("b.csv", gaia_rows(5, start=4))
    run_ingest(conn, plan_ingest(conn, "gaia_source", [first]))
    refused = []

    def forget_meanwhile(done: float, total: float, words: str) -> None:
        if words.endswith("rows"):  # the rows are on their way
            with connect(store) as other, pytest.raises(StoreLocked) as error:
                forget(other, str(first))
            refused.append(error.value.message)

    run_ingest(conn, plan_ingest(conn, "gaia_source", [second]), on_progress=forget_meanwhile)
    assert refused and "files of gaia_source" in refused[0]
    [report] = forget(conn, str(first))
    assert report.incomplete == [str(second)]


@pytest.mark.parametrize("named_by", ["path", "file_id"])
def test_an_adopted_table_by_its_ledger_row(conn, parts, named_by):
    """Its one file is the table itself: the view goes, and the table is not touched."""
    conn.execute("CREATE TABLE public.old AS SELECT * FROM survey.gaia_source")
    conn.execute("CREATE UNIQUE INDEX ON public.old (source_id)")
    conn.execute("CREATE INDEX ON public.old (q3c_ang2ipix(ra, dec))")
    forget(conn, "gaia_source")
    adopt(conn, "gaia_source", "public.old")
    (target,) = conn.execute(f"SELECT {named_by}::text FROM msacat.files").fetchone()
    [report] = forget(conn, target)
    assert (report.dataset, report.adopted_from, report.rows) == ("gaia_source", "public.old", 0)
    assert conn.execute("SELECT count(*) FROM msacat.files").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM public.old").fetchone() == (15,)
    [again] = run_ingest(conn, plan_ingest(conn, "gaia_source", [parts[1]])).files
    assert again.outcome == "ingested"


def test_what_was_never_ingested(conn, parts):
    for target in ("nothing.csv", "twomass_psc", "12345"):
        with pytest.raises(UsageError, match="was ingested"):
            forget(conn, target)
    with pytest.raises(UsageError):
        forget(conn, str(parts[0]), dataset="xp_continuous")
