"""Views are made anew while others read them: whoever comes second waits, and nobody for ever."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from msacat.catalog.enrich.enriched_tables import create_run_tables
from msacat.catalog.enrich.publish_enriched import drop_run, publish_run, recreate_views
from msacat.catalog.ingest.redefine_survey import redefine_survey
from msacat.catalog.server.connect import connect
from msacat.catalog.store.register_survey import (
    refresh_views,
    register_survey,
    registered_specs,
    update_survey,
)
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import SurveySpec


@pytest.fixture
def published(made_up) -> str:
    """DSN of a store with one published run, of no star: enriched.stars is there."""
    with connect(made_up.dsn) as conn:
        conn.execute(
            "INSERT INTO learned.models (name, state, folder, code_version) VALUES ('m', 'finished', '-', '-')"
        )
        conn.execute(
            "INSERT INTO msacat.runs (model_id, state, file_ids, request, n_stars, code_version) "
            "SELECT model_id, 'verified', '{}', '{\"new\": false}', 0, '0' FROM learned.models"
        )
        create_run_tables(conn, 1, ["magnitudes", "embeddings"])
        publish_run(conn, 1)
    return made_up.dsn


def refresh(conn: psycopg.Connection) -> None:
    refresh_views(conn)
    recreate_views(conn)


def version_2(conn: psycopg.Connection, name: str) -> SurveySpec:
    """A survey's file with one column more."""
    old = registered_specs(conn)[name].model_dump()
    more = {"name": "extra", "type": "real", "published": ["extra"], "description": "A new column."}
    return SurveySpec.model_validate(old | {"version": 2, "columns": [*old["columns"], more]})


def update(name: str):
    return lambda conn: update_survey(conn, version_2(conn, name))


def in_a_thread(dsn: str, make_anew) -> tuple[threading.Thread, list[Exception]]:
    """(a thread, not started, that makes views anew; what went wrong in it)"""
    failed: list[Exception] = []

    def work() -> None:
        try:
            with connect(dsn, application="maker of views") as conn:
                make_anew(conn)
        except psycopg.Error as error:
            failed.append(error)

    return threading.Thread(target=work), failed


@pytest.mark.parametrize(
    ("view", "make_anew"),
    [
        ("enriched.stars", lambda conn: publish_run(conn, 1)),
        ("enriched.stars", refresh),
        ("matched.stars", refresh),
        ("survey.xp_spectra", refresh),
        ("matched.stars", update("phot_made_up")),
        ("survey.phot_made_up_clean", update("phot_made_up")),
        ("survey.xp_spectra", update("xp_made_up")),
    ],
)
def test_a_reader_who_came_first_is_not_waited_for_with_what_it_needs_next(published, view, make_anew):
    maker, failed = in_a_thread(published, make_anew)
    with psycopg.connect(published) as reader, psycopg.connect(published, autocommit=True) as observer:
        # As far as a query comes before it opens the view: `view` is locked, and nothing below it yet.
        reader.execute(f"CREATE TEMPORARY VIEW looked_at AS SELECT * FROM {view}")  # type: ignore[arg-type]
        maker.start()
        _until_it_waits(observer)
        reader.execute(f"SELECT count(*) FROM {view}")  # type: ignore[arg-type]
        reader.rollback()
        maker.join()
    assert failed == []


def _until_it_waits(observer: psycopg.Connection) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        waiting = observer.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'maker of views%' AND wait_event_type = 'Lock'"
        ).fetchone()
        if waiting:
            return
        time.sleep(0.02)
    raise AssertionError("nothing waits for the reader")


def test_readers_see_no_deadlock_while_runs_are_published(published):
    stop, failed, asked = threading.Event(), [], [0]

    def read() -> None:
        with psycopg.connect(published, autocommit=True) as conn:
            while not stop.is_set():
                try:
                    conn.execute("SELECT count(*) FROM enriched.stars WHERE source_id = 1")
                    asked[0] += 1
                except psycopg.Error as error:
                    failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(4):
        with connect(published) as conn:
            publish_run(conn, 1)
        time.sleep(0.1)
    stop.set()
    for reader in readers:
        reader.join()
    assert failed == [] and asked[0]


@pytest.mark.parametrize(
    ("view", "make_anew"),
    [
        ("enriched.stars", lambda conn: publish_run(conn, 1)),
        ("enriched.stars", lambda conn: drop_run(conn, 1)),
        ("enriched.r1_magnitudes", lambda conn: drop_run(conn, 1)),
        ("matched.stars", lambda conn: register_survey(conn, builtin_specs()["twomass_psc"])),
        ("matched.stars", lambda conn: redefine_survey(conn, version_2(conn, "phot_made_up"))),
    ],
)
def test_nobody_waits_for_a_long_query_because_views_are_to_be_made_anew(published, view, make_anew):
    maker, failed = in_a_thread(published, make_anew)
    with psycopg.connect(published) as long_query, psycopg.connect(published, autocommit=True) as others:
        long_query.execute(f"SELECT count(*) FROM {view}")  # type: ignore[arg-type]
        maker.start()
        try:
            _until_it_waits(others)
            others.execute("SET statement_timeout = '10s'")
            others.execute(f"SELECT count(*) FROM {view}")  # type: ignore[arg-type]
            assert maker.is_alive()
        finally:
            long_query.rollback()
            maker.join()
    assert failed == []
