"""Settings that an administrator gave the database or the role change nothing in what is read, written and waited for."""

from __future__ import annotations

import time

import psycopg
import pytest
from psycopg import sql

from msacat.catalog.errors import StoreLocked
from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.query.query_stars import query
from msacat.catalog.server.connect import advisory_lock, connect
from msacat.catalog.server.q3c import has_q3c_index
from msacat.catalog.store.verify_catalog import verify

OTHERS = {
    "DateStyle": "German",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
}
LIMITS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")


def set_for(store: str, settings: dict[str, str]) -> None:
    """For every session of this database from now on."""
    with psycopg.connect(store, autocommit=True) as admin:
        for name, value in settings.items():
            admin.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(admin.info.dbname), sql.Identifier(name), sql.Literal(value)
                )
            )


def test_how_the_database_writes_values_does_not_matter(store, gaia_rows, write_csv):
    set_for(store, OTHERS)
    path = write_csv("a.csv", gaia_rows(30, ra=12.3456789012345, phot_g_mean_mag=15.123456))
    with connect(store) as conn:
        outcomes = [
            run_ingest(conn, plan_ingest(conn, "gaia_source", [path])).files[0].outcome for _ in range(2)
        ]
        assert outcomes == ["ingested", "already there"]
        assert has_q3c_index(conn, "survey", "gaia_source", "ra", "dec")
        assert [r for r in verify(conn, files=True) if not r.passed] == []
        found = query(
            conn, "SELECT ra, phot_g_mean_mag, committed FROM survey.gaia_source JOIN msacat.files USING (file_id)", 9, 9
        )  # fmt: skip
        assert found.rows[0][:2] == (12.3456789012345, pytest.approx(15.123456, abs=1e-6))


def test_limits_of_a_role_do_not_end_a_job(store):
    set_for(store, dict.fromkeys(LIMITS, "30ms"))
    with connect(store) as conn, connect(store) as other, advisory_lock(conn, "a job"):
        time.sleep(0.1)  # as a training does that computes
        with pytest.raises(StoreLocked), advisory_lock(other, "a job"):
            pass
        conn.execute("SELECT pg_sleep(0.1)")
        time.sleep(0.1)
        conn.execute("SELECT 1")
