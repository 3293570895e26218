"""Small survey files and a digest of a table, for every test of ingest."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.ingest.ingest_report import IngestReport
from msacat.catalog.store.register_survey import find_spec

#: the fewest columns a gaia_source file may have, with a few more that tests look at
GAIA_COLUMNS = ("source_id", "ra", "dec", "ref_epoch", "parallax", "phot_g_mean_mag", "designation")


def gaia_row(number: int, **changes: Any) -> dict[str, Any]:
    """An invented but possible Gaia source; `number` gives its id, position and magnitude."""
    source_id = 4_000_000_000_000_000_000 + number
    row = {
        "source_id": source_id,
        "ra": (number * 7.3) % 360,
        "dec": (number * 3.1) % 180 - 90,
        "ref_epoch": 2016.0,
        "parallax": 0.25 + number / 1000,
        "phot_g_mean_mag": 10 + number % 8 + 0.125,
        "designation": f"Gaia DR3 {source_id}",
    }
    return row | changes


@pytest.fixture
def gaia_rows() -> Callable[..., list[dict[str, Any]]]:
    return lambda n, start=1, **changes: [gaia_row(i, **changes) for i in range(start, start + n)]


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """write_csv(name, rows, columns=...) -> path; gzipped where the name ends in .gz; None is an empty cell."""

    def write(name: str, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Path:
        rows = list(rows)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") if name.endswith(".gz") else path.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, columns or list(rows[0]), extrasaction="ignore", lineterminator="\n"
            )
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def ingest(conn: psycopg.Connection) -> Callable[..., IngestReport]:
    def run(dataset: str, *paths: Path | str, keep_going: bool = False, **options: Any) -> IngestReport:
        return run_ingest(conn, plan_ingest(conn, dataset, paths, **options), keep_going=keep_going)

    return run


@pytest.fixture
def digest() -> Callable[[psycopg.Connection, str], tuple]:
    """(rows, order-free hash) of what a survey table holds, whatever file brought it."""

    def of(conn: psycopg.Connection, dataset: str) -> tuple:
        names = [c.name for c in find_spec(conn, dataset).columns] + ["quality"]
        row = conn.execute(
            sql.SQL("SELECT count(*), sum(hashtextextended(ROW({})::text, 0)::numeric) FROM {}").format(
                sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier("survey", dataset)
            )
        ).fetchone()
        conn.commit()
        assert row is not None
        return row

    return of
