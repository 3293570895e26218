"""verify finds what was broken behind msacat's back, and passes what is whole."""

from __future__ import annotations

import pytest

from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.store import verify_catalog
from msacat.catalog.store.verify_catalog import verify


@pytest.fixture
def part(conn, gaia_rows, write_csv):
    rows = gaia_rows(6)
    rows[2]["dec"] = 99
    path = write_csv("part.csv", [*rows, rows[0]])
    run_ingest(conn, plan_ingest(conn, "gaia_source", [path]))
    return path


def failed(conn, **options) -> dict[str, str]:
    return {r.test: r.description for r in verify(conn, **options) if not r.passed}


def test_a_whole_store_passes_and_an_empty_one_has_nothing_to_check(conn, part):
    results = verify(conn, files=True)
    assert results and all(r.passed for r in results)
    assert {r.test for r in results} == {
        "ledger adds up", "rows are there", "values are finite", "positions are possible", "ids are unique",
        "table is as the survey file says", "source file agrees",
    }  # fmt: skip


def test_an_empty_store_has_nothing_to_check(conn):
    assert verify(conn, files=True) == []


@pytest.mark.parametrize(
    ("damage", "test"),
    [
        ("DELETE FROM survey.gaia_source WHERE ctid = (SELECT min(ctid) FROM survey.gaia_source)", "rows are there"),
        ("UPDATE survey.gaia_source SET file_id = 77 WHERE ctid = (SELECT min(ctid) FROM survey.gaia_source)", "rows are there"),
        ("UPDATE msacat.files SET rows_read = rows_read + 1", "ledger adds up"),
        ("ALTER TABLE survey.gaia_source DROP CONSTRAINT gaia_source_values; UPDATE survey.gaia_source SET parallax = 'NaN'",
         "values are finite"),
        ("ALTER TABLE survey.gaia_source DROP CONSTRAINT gaia_source_values; "
         "UPDATE survey.gaia_source SET pmra_error = '-Infinity'", "values are finite"),
        ("ALTER TABLE survey.gaia_source DROP CONSTRAINT gaia_source_values; UPDATE survey.gaia_source SET ra = 400",
         "positions are possible"),
        ("ALTER TABLE survey.gaia_source DROP CONSTRAINT gaia_source_pkey; INSERT INTO survey.gaia_source "
         "SELECT * FROM survey.gaia_source LIMIT 1", "ids are unique"),
        ("ALTER TABLE survey.gaia_source ALTER random_index TYPE numeric", "table is as the survey file says"),
        ("UPDATE msacat.files SET spec_fingerprint = 'other'", "table is as the survey file says"),
    ],
)  # fmt: skip
def test_damage_is_found(conn, part, damage, test):
    if "ALTER random_index" in damage:
        conn.execute("DROP VIEW survey.gaia_source_clean CASCADE; DROP VIEW IF EXISTS matched.stars")
    conn.execute(damage)
    conn.commit()
    assert test in failed(conn)


def test_a_file_that_may_not_be_read_is_a_failure_and_the_rest_is_checked(conn, part, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(verify_catalog, "file_checksums", forbidden)
    results = verify(conn, files=True)
    assert [r.description for r in results if not r.passed] == ["Permission denied: not verified"]
    assert len(results) > 5


def test_source_files_that_changed_or_went_are_failures(conn, part):
    whole = part.read_bytes()
    part.write_bytes(whole + b"\n")
    assert "other bytes" in failed(conn, files=True)["source file agrees"]
    part.unlink()
    assert "not verified" in failed(conn, files=True)["source file agrees"]
    part.write_bytes(whole)
    conn.execute("UPDATE msacat.files SET rows_read = rows_read + 1, rows_kept = rows_kept + 1")
    conn.commit()
    assert set(failed(conn, files=True)) == {"rows are there", "source file agrees"}


def test_matches_that_lead_nowhere(conn, part, ingest, shared_data):
    ingest("twomass_psc", shared_data / "derived/2mass_psc_aaa_line1.txt")
    conn.execute(
        "INSERT INTO msacat.crossmatches (dataset, reference, fingerprint, n_matched, n_unmatched, by_method, started, "
        "finished, code_version) VALUES ('twomass_psc', 'gaia_source', 'abc', 0, 0, '{}', now(), now(), '0')"
    )
    conn.execute(
        "INSERT INTO matched.twomass_psc (source_id, twomass_id) SELECT source_id, (SELECT twomass_id FROM survey.twomass_psc) "
        "FROM survey.gaia_source LIMIT 1"
    )
    conn.commit()
    assert failed(conn) == {}
    conn.execute("INSERT INTO matched.twomass_psc (source_id, twomass_id) VALUES (1, 'nowhere')")
    conn.commit()
    assert failed(conn) == {
        "matches lead to rows": "1 matches of stars that are not there; 1 matches to objects that are not there"
    }
    conn.execute("UPDATE msacat.crossmatches SET fingerprint = NULL")
    conn.commit()
    assert failed(conn) == {}
