"""Real files of every publisher we have: each ingests with the right counts, or is refused for a stated reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from msacat.catalog.ingest_files import plan_ingest, run_ingest


def ingest(conn, dataset: str, *paths: Path, **options):
    return run_ingest(conn, plan_ingest(conn, dataset, paths, **options))


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("astropy__astroquery/gaia/1710099405832VAL-result.vot", 2),
        ("astropy__astroquery/gaia/1712337806100O-result.ecsv", 5),
        ("adrn__pyia/gdr3_sm.fits", 1000),
    ],
)
def test_gaia_source(conn, shared_data, path, rows):
    report = ingest(conn, "gaia_source", shared_data / path)
    [one] = report.files
    assert (one.outcome, one.rows_read, one.rows_kept, one.rows_rejected) == ("ingested", rows, rows, {})
    assert conn.execute("SELECT count(*), min(file_id), max(file_id) FROM survey.gaia_source").fetchone() == (
        rows, one.file_id, one.file_id)  # fmt: skip
