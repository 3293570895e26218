"""A file is in or out, counted, and never in twice."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
from unittest.mock import patch

import psycopg
import pytest

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.ingest import ingest_files
from msacat.catalog.ingest.ingest_files import plan_ingest, rehearse_ingest, run_ingest
from msacat.catalog.server.connect import connect
from msacat.catalog.store.star_view import view_columns


def test_ledger_holds_what_the_report_says(conn, ingest, gaia_rows, write_csv):
    rows = gaia_rows(5)
    rows[0]["parallax"] = 5000  # outside the spec's range
    rows[1]["dec"] = 95
    rows[2]["source_id"] = "614517-614573"
    rows[3]["ra"] = ""
    path = write_csv("part.csv", rows)
    [one] = ingest("gaia_source", path).files
    assert (one.outcome, one.rows_read, one.rows_kept) == ("ingested", 5, 2)
    assert one.rows_rejected == {"dec outside [-90, 90]": 1, "source_id unreadable": 1, "ra missing": 1}
    assert one.values_nulled == {"parallax: outside range": 1}
    assert "designation" not in one.columns_unused  # read, though not stored: it names the release
    [entry] = conn.execute(
        "SELECT path, rows_read, rows_kept, rows_rejected, values_nulled FROM msacat.files"
    ).fetchall()
    assert entry == (str(path), 5, 2, one.rows_rejected, one.values_nulled)
    row = conn.execute(
        "SELECT bytes, raw_sha256 = content_sha256, format, min_source_id, max_source_id, spec_version, "
        "code_version, host, started < committed FROM msacat.files"
    ).fetchone()
    assert row[:5] == (path.stat().st_size, True, "csv", rows[0]["source_id"], rows[4]["source_id"])
    assert row[8]
    assert conn.execute("SELECT epoch FROM msacat.releases WHERE is_reference").fetchone() == (2016.0,)


def test_same_bytes_are_stored_once_whatever_the_name_or_packing(
    ingest, digest, conn, gaia_rows, write_csv, tmp_path
):
    path = write_csv("part.csv", gaia_rows(20))
    ingest("gaia_source", path)
    before = digest(conn, "gaia_source")
    copy = shutil.copy(path, tmp_path / "copy.csv")
    packed = [tmp_path / f"part{level}.csv.gz" for level in (1, 9)]
    for level, other in zip((1, 9), packed, strict=True):
        other.write_bytes(gzip.compress(path.read_bytes(), level))
    report = ingest("gaia_source", path, copy, *packed)
    assert {f.outcome for f in report.files} == {"already there"}
    assert digest(conn, "gaia_source") == before
    assert conn.execute("SELECT count(*) FROM msacat.files").fetchone() == (1,)


def test_the_unpacked_twin_of_a_packed_file_is_known_once_it_is_read(
    ingest, digest, conn, gaia_rows, write_csv, tmp_path
):
    path = write_csv("part.csv", gaia_rows(20))
    packed = tmp_path / "part.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    ingest("gaia_source", packed)
    sums = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in (packed, path))
    entries = conn.execute("SELECT raw_sha256, content_sha256 FROM msacat.files").fetchall()
    assert entries == [sums]
    before = digest(conn, "gaia_source")
    assert [f.outcome for f in ingest("gaia_source", path).files] == ["already there"]
    assert digest(conn, "gaia_source") == before
    assert conn.execute("SELECT raw_sha256, content_sha256 FROM msacat.files").fetchall() == [sums]


def test_files_of_one_length_are_told_apart(ingest, conn, gaia_rows, write_csv):
    paths = [write_csv(f"{i}.csv", gaia_rows(20, start=1000 * i)) for i in (1, 2)]
    longest = max(path.stat().st_size for path in paths)
    for path in paths:
        path.write_text(path.read_text() + "\n" * (longest - path.stat().st_size))
    assert paths[0].stat().st_size == paths[1].stat().st_size
    assert [f.outcome for f in ingest("gaia_source", *paths).files] == ["ingested"] * 2
    assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (40,)


def test_the_rows_that_make_a_table_are_never_written_again(conn, ingest, gaia_rows, write_csv):
    """Known to be committed and visible to all from the start: neither the first reader nor vacuum marks them."""
    ingest("gaia_source", write_csv("a.csv", gaia_rows(200)))
    visible, pages = conn.execute(
        "SELECT relallvisible, relpages FROM pg_class WHERE oid = 'survey.gaia_source'::regclass"
    ).fetchone()
    assert visible == pages > 1


def test_the_planner_knows_the_table_after_every_run(conn, ingest, gaia_rows, write_csv):
    """Whether a file makes the table or adds to it, and whatever came with it."""

    def known() -> tuple[int, int]:
        return conn.execute(
            "SELECT reltuples::int, (SELECT count(*) FROM pg_statistic WHERE starelid = c.oid AND stadistinct <> 0) "
            "FROM pg_class c WHERE oid = 'survey.gaia_source'::regclass"
        ).fetchone()

    rows = gaia_rows(60)
    [first] = ingest("gaia_source", write_csv("a.csv", rows[:10])).files
    assert first.table_created
    assert known()[0] == 10 and known()[1] > 5
    [second] = ingest("gaia_source", write_csv("b.csv", rows[10:30])).files
    assert not second.table_created
    assert known()[0] == 30
    ingest("gaia_source", write_csv("c.csv", rows[30:40]), write_csv("d.csv", rows[40:]))
    assert known()[0] == 60


def test_same_name_with_other_bytes_needs_replace(conn, ingest, digest, gaia_rows, write_csv):
    path = write_csv("part.csv", gaia_rows(10))
    ingest("gaia_source", path)
    before = digest(conn, "gaia_source")
    write_csv("part.csv", gaia_rows(7, parallax=1.5))
    with pytest.raises(InputRejected, match="with other contents") as error:
        ingest("gaia_source", path)
    assert "--replace" in error.value.next_step
    assert digest(conn, "gaia_source") == before
    [one] = ingest("gaia_source", path, replace=True).files
    assert (one.outcome, one.rows_kept) == ("replaced", 7)
    assert conn.execute(
        "SELECT count(*), min(parallax), max(parallax) FROM survey.gaia_source"
    ).fetchone() == (7, 1.5, 1.5)
    assert conn.execute("SELECT count(*) FROM msacat.files").fetchone() == (1,)


def test_replace_by_what_another_file_brought_takes_the_old_rows_out(conn, ingest, gaia_rows, write_csv):
    first, second = write_csv("a.csv", gaia_rows(5)), write_csv("b.csv", gaia_rows(5, start=4))
    ingest("gaia_source", first, second)
    (kept,) = conn.execute("SELECT file_id FROM msacat.files WHERE path LIKE '%b.csv'").fetchone()
    first.write_bytes(second.read_bytes())
    [foreseen] = rehearse_ingest(conn, plan_ingest(conn, "gaia_source", [first], replace=True)).files
    assert foreseen.outcome == "would be replaced"
    [one] = ingest("gaia_source", first, replace=True).files
    assert (one.outcome, one.file_id, one.rows_kept) == ("replaced", kept, 0)
    assert one.incomplete == [str(second)], "it had skipped two rows that the first file held"
    assert conn.execute("SELECT file_id, count(*) FROM survey.gaia_source GROUP BY 1").fetchall() == [
        (kept, 3)
    ]
    assert conn.execute("SELECT file_id FROM msacat.files").fetchall() == [(kept,)]
    for outcome in ("completed", "already there"):
        [again] = ingest("gaia_source", first, replace=True).files
        assert (again.outcome, again.file_id) == (outcome, kept)
        assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (5,)


def test_failed_replace_keeps_the_old_rows(conn, ingest, digest, gaia_rows, write_csv):
    path = write_csv("part.csv", gaia_rows(10))
    ingest("gaia_source", path)
    before = digest(conn, "gaia_source")
    path.write_text(path.read_text() + "1,2\n")
    with pytest.raises(InputRejected):
        ingest("gaia_source", path, replace=True)
    assert digest(conn, "gaia_source") == before


def test_rows_two_files_share_are_counted_if_equal_and_refused_if_not(
    conn, ingest, digest, gaia_rows, write_csv
):
    first = write_csv("a.csv", gaia_rows(10))
    ingest("gaia_source", first)
    [one] = ingest("gaia_source", write_csv("b.csv", gaia_rows(10, start=6))).files
    assert (one.rows_read, one.rows_kept, one.rows_rejected) == (10, 5, {"already stored": 5})
    before = digest(conn, "gaia_source")
    clash = gaia_rows(10, start=12)
    clash[2]["parallax"] = 9.75
    with pytest.raises(InputRejected, match=f"{clash[2]['source_id']} is stored with other values") as error:
        ingest("gaia_source", write_csv("c.csv", clash))
    assert "b.csv" in error.value.expected and "parallax 9.75 instead of" in error.value.found
    assert error.value.row == 3
    assert digest(conn, "gaia_source") == before
    assert before[0] == 15


def test_files_that_had_skipped_the_replaced_rows_are_named(ingest, gaia_rows, write_csv):
    first, second = write_csv("a.csv", gaia_rows(5)), write_csv("b.csv", gaia_rows(5, start=4))
    ingest("gaia_source", first, second)
    write_csv("a.csv", gaia_rows(2))
    [one] = ingest("gaia_source", first, replace=True).files
    assert (one.outcome, one.incomplete) == ("replaced", [str(second)])


def test_rows_that_came_while_a_file_was_read_are_counted(conn, store, gaia_rows, write_csv):
    """Both bring the rows 3 and 4; the one that finds them only when it writes begins again."""
    rows = gaia_rows(4)
    slow = write_csv("slow.csv", [*rows, rows[0]])  # a repeat: through the staging table
    quick = write_csv("quick.csv", gaia_rows(5, start=3))
    run_ingest(conn, plan_ingest(conn, "gaia_source", [write_csv("first.csv", gaia_rows(1, start=90))]))
    merge, came = ingest_files.merge_staged, []

    def too_late(*arguments):
        if came:
            return merge(*arguments)
        with connect(store) as other:
            came.extend(run_ingest(other, plan_ingest(other, "gaia_source", [quick])).files)
        raise psycopg.errors.UniqueViolation("what the server says if these rows came after its last look")

    with patch.object(ingest_files, "merge_staged", too_late):
        [one] = run_ingest(conn, plan_ingest(conn, "gaia_source", [slow])).files
    assert (one.rows_kept, one.rows_rejected) == (2, {"repeated in file": 1, "already stored": 2})


def test_a_new_survey_does_not_hold_up_readers_while_it_comes_in(conn, store, gaia_rows, write_csv):
    run_ingest(conn, plan_ingest(conn, "gaia_source", [write_csv("a.csv", gaia_rows(3))]))
    seen = []

    def look(done: float, total: float, words: str) -> None:
        if words.endswith("rows"):
            with connect(store) as other:
                other.execute("SET lock_timeout = '2s'")
                seen.append(other.execute("SELECT count(*) FROM matched.stars").fetchone())

    stars = [
        {"designation": "a", "ra": 1.0, "dec": 2.0, "j_m": 12.5, "h_m": 12.0, "k_m": 11.9, "ph_qual": "AAA"}
    ]
    plan = plan_ingest(conn, "twomass_psc", [write_csv("b.csv", stars)])
    assert run_ingest(conn, plan, on_progress=look).rows_kept == 1
    assert seen == [(3,)]
    assert "twomass_j" in view_columns(conn, "matched", "stars")


def test_rows_a_file_repeats_are_counted_if_equal_and_refused_if_not(conn, ingest, gaia_rows, write_csv):
    rows = gaia_rows(4)
    [one] = ingest("gaia_source", write_csv("a.csv", [*rows, rows[0], rows[0], rows[3]])).files
    assert (one.rows_read, one.rows_kept, one.rows_rejected) == (7, 4, {"repeated in file": 3})
    more = gaia_rows(3, start=10)
    with pytest.raises(InputRejected, match="two rows of this file share source_id") as error:
        ingest("gaia_source", write_csv("b.csv", [*more, more[1] | {"phot_g_mean_mag": 20.5}]))
    assert (error.value.row, error.value.expected) == (4, "the values of row 2")
    assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (4,)


def test_order_of_files_does_not_matter(store, server, gaia_rows, write_csv, digest):
    from msacat.catalog.server.connect import connect

    parts = [write_csv(f"{i}.csv", gaia_rows(8, start=5 * i)) for i in range(4)]
    digests = []
    for order in (parts, parts[::-1]):
        with connect(store) as conn:
            run_ingest(conn, plan_ingest(conn, "gaia_source", order))
            digests.append(digest(conn, "gaia_source"))
            conn.execute("DELETE FROM survey.gaia_source")
            conn.execute("DELETE FROM msacat.files")
            conn.commit()
    assert digests[0] == digests[1] and digests[0][0] == 23


def test_a_refused_file_leaves_nothing_and_the_others_go_on(conn, ingest, gaia_rows, write_csv):
    good = [write_csv(f"{i}.csv", gaia_rows(3, start=10 * i)) for i in (1, 3)]
    bad = write_csv("2.csv", gaia_rows(3, start=20))
    bad.write_text(bad.read_text() + "half a li")
    report = ingest("gaia_source", good[0], bad, good[1], keep_going=True)
    assert [f.outcome for f in report.files] == ["ingested", "refused", "ingested"]
    assert str(bad) in report.refused[0].error and "row 4" in report.refused[0].error
    assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (6,)
    with pytest.raises(InputRejected):
        ingest("gaia_source", bad)
    [one] = ingest("gaia_source", bad, max_bad_rows=1).files
    assert (one.rows_read, one.rows_kept, one.rows_rejected) == (4, 3, {"unreadable line": 1})


def test_a_refused_first_file_does_not_even_register_the_survey(conn, ingest, gaia_rows, write_csv):
    with pytest.raises(InputRejected):
        ingest("gaia_source", write_csv("a.csv", [{"source_id": 1, "ra": 2}]))
    assert conn.execute("SELECT count(*) FROM msacat.surveys").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM msacat.releases").fetchone() == (0,)


def test_rehearsal_writes_nothing_and_predicts_the_counts(conn, gaia_rows, write_csv):
    rows = gaia_rows(50)
    rows[7]["dec"] = None
    path = write_csv("part.csv", rows)
    plan = plan_ingest(conn, "gaia_source", [path])
    [one] = rehearse_ingest(conn, plan).files
    assert one.outcome == "would be ingested" and one.bytes_stored > 0
    assert conn.execute("SELECT count(*) FROM msacat.surveys").fetchone() == (0,)
    [real] = run_ingest(conn, plan).files
    assert (real.rows_read, real.rows_kept, real.rows_rejected) == (
        one.rows_read,
        one.rows_kept,
        one.rows_rejected,
    )
    [again] = rehearse_ingest(conn, plan).files
    assert again.outcome == "already there"


def test_rehearsal_goes_on_after_a_refusal_and_foresees_a_replacement(conn, ingest, gaia_rows, write_csv):
    old, bad, new = (
        write_csv(f"{name}.csv", gaia_rows(3, start=i)) for i, name in ((1, "old"), (5, "bad"), (9, "new"))
    )
    ingest("gaia_source", old)
    bad.write_text(bad.read_text() + "1,2\n")
    write_csv("old.csv", gaia_rows(2))
    plan = plan_ingest(conn, "gaia_source", [old, bad, new], replace=True)
    report = rehearse_ingest(conn, plan, keep_going=True)
    assert [f.outcome for f in report.files] == ["would be replaced", "refused", "would be ingested"]
    assert "row 4" in report.files[1].error
    assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (3,)
    with pytest.raises(InputRejected):
        rehearse_ingest(conn, plan)


def test_rehearsal_predicts_the_space(conn, gaia_rows, write_csv):
    plan = plan_ingest(conn, "gaia_source", [write_csv("part.csv", gaia_rows(20_000))])
    [one] = rehearse_ingest(conn, plan).files
    run_ingest(conn, plan)
    (size,) = conn.execute("SELECT pg_total_relation_size('survey.gaia_source')").fetchone()
    assert 0.6 * size < one.bytes_stored < 2.5 * size


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ref_epoch": 2015.5}, "of another release"),
        ({"designation": "Gaia DR2 4000000000000000001"}, "another Gaia release"),
        ({"designation": "Gaia EDR3 4000000000000000001"}, "another Gaia release"),
    ],
)
def test_another_release_is_refused(ingest, gaia_rows, write_csv, changes, message):
    rows = gaia_rows(3)
    rows[1] |= changes
    with pytest.raises(InputRejected, match=message) as error:
        ingest("gaia_source", write_csv("dr2.csv", rows))
    assert error.value.row == 2


@pytest.mark.parametrize("text", ["4.000000000000000001e18", "4000000000000000001.0"])
def test_ids_that_went_through_floating_point_refuse_the_file(ingest, gaia_rows, write_csv, text):
    rows = gaia_rows(3)
    rows[2]["source_id"] = text
    with pytest.raises(InputRejected, match="floating-point") as error:
        ingest("gaia_source", write_csv("float.csv", rows))
    assert (error.value.row, error.value.column) == (3, "source_id")


def test_ids_beyond_2_53_that_differ_by_one_stay_apart(conn, ingest, write_csv, gaia_rows):
    rows = gaia_rows(2)
    rows[0]["source_id"], rows[1]["source_id"] = 2**62 + 1, 2**62
    rows[0]["designation"] = rows[1]["designation"] = None
    ingest("gaia_source", write_csv("ids.csv", rows))
    assert conn.execute(
        "SELECT array_agg(source_id ORDER BY source_id) FROM survey.gaia_source"
    ).fetchone() == ([2**62, 2**62 + 1],)


@pytest.mark.parametrize(
    "identifier", ["-5", "0", "9223372036854775808", "9223372036854775807", "abc", "null"]
)
def test_impossible_ids_cost_their_row(ingest, gaia_rows, write_csv, identifier):
    rows = gaia_rows(3)
    rows[1]["source_id"] = identifier
    [one] = ingest("gaia_source", write_csv("ids.csv", rows)).files
    assert one.rows_kept == 2 and sum(one.rows_rejected.values()) == 1


def test_folders_globs_and_names(conn, gaia_rows, write_csv, tmp_path):
    paths = [write_csv(f"folder/{name}.csv", gaia_rows(1, start=i)) for i, name in enumerate("ba")]
    (tmp_path / "folder/README.md").write_text("These are stars.\n")
    (tmp_path / "folder/.hidden.csv").write_text("source_id\n1\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    (tmp_path / "words/notes.md").write_text("nothing here\n")
    plan = plan_ingest(conn, "gaia_source", [tmp_path / "folder", str(tmp_path / "fol*/a.csv")])
    assert [p.name for p in plan.files] == ["a.csv", "b.csv"]
    assert [p.name for p in plan.skipped] == ["README.md"]
    os.symlink(paths[0], tmp_path / "link.csv")
    assert plan_ingest(conn, "gaia_source", [tmp_path / "link.csv", paths[0]]).files == (paths[0],)
    for folder in ("empty", "words"):
        with pytest.raises(InputRejected, match="nothing in this folder is a survey file"):
            plan_ingest(conn, "gaia_source", [tmp_path / folder])
    for nowhere in (tmp_path / "absent.csv", str(tmp_path / "*.fits")):
        with pytest.raises(UsageError):
            plan_ingest(conn, "gaia_source", [nowhere])
    with pytest.raises(UsageError, match="no survey called 'gaia_sauce'"):
        plan_ingest(conn, "gaia_sauce", paths)


def test_a_damaged_file_in_a_folder_is_never_skipped(conn, gaia_rows, write_csv, tmp_path):
    write_csv("folder/a.csv.gz", gaia_rows(1))
    whole = write_csv("folder/b.csv.gz", gaia_rows(500, start=5))
    whole.write_bytes(whole.read_bytes()[:-200])
    report = run_ingest(conn, plan_ingest(conn, "gaia_source", [tmp_path / "folder"]), keep_going=True)
    assert [f.outcome for f in report.files] == ["ingested", "refused"]


def test_stop_between_files_keeps_what_is_in(conn, gaia_rows, write_csv):
    parts = [write_csv(f"{i}.csv", gaia_rows(2, start=10 * i)) for i in range(1, 4)]
    plan = plan_ingest(conn, "gaia_source", parts)
    asked = iter([False, True])
    report = run_ingest(conn, plan, should_stop=lambda: next(asked))
    assert report.interrupted and [f.outcome for f in report.files] == ["ingested"]
    assert [f.outcome for f in run_ingest(conn, plan).files] == ["already there", "ingested", "ingested"]


def test_a_file_that_grows_while_it_is_read_is_refused(conn, gaia_rows, write_csv):
    path = write_csv("part.csv", gaia_rows(5))
    plan = plan_ingest(conn, "gaia_source", [path])

    def grow(done, total, words):
        if words.endswith("5 rows"):
            with path.open("a") as file:
                file.write("\n")

    with pytest.raises(InputRejected, match="changed while it was read"):
        run_ingest(conn, plan, on_progress=grow)
    assert conn.execute("SELECT to_regclass('survey.gaia_source')").fetchone() == (None,)


def test_spectra_of_another_release_than_the_stores_are_refused(
    conn, ingest, gaia_rows, write_csv, shared_data
):
    ingest("gaia_source", write_csv("a.csv", gaia_rows(1)))
    conn.execute("UPDATE msacat.releases SET release = 'gaia_dr4'")
    conn.commit()
    with pytest.raises(InputRejected, match="another release") as error:
        ingest("xp_continuous", shared_data / "gaia-dpci__GaiaXPy/xp_continuous/XP_CONTINUOUS_RAW.csv")
    assert "gaia_dr4" in error.value.expected and error.value.found == "gaia_dr3"
