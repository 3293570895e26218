"""What a store holds and what it lacks, in one look."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection, sql

from msacat.catalog.crossmatch.crossmatch_stars import crossmatch_state
from msacat.catalog.store.register_survey import registered_specs
from msacat.catalog.store.survey_table import MATCHED_ROLES


@dataclass(frozen=True)
class SurveyStatus:
    """One registered survey; `crossmatch` is fresh, out of date, missing or '' where none applies."""

    name: str
    role: str
    n_files: int
    n_rows: int
    n_matched: int | None
    crossmatch: str


@dataclass(frozen=True)
class StoreStatus:
    surveys: list[SurveyStatus]
    models: list[tuple]
    runs: list[tuple]
    next_step: str


def store_status(conn: Connection) -> StoreStatus:
    """Counts come from the ledgers, match counts from the match ledger."""
    surveys = []
    for name, spec in registered_specs(conn).items():
        row = conn.execute(
            "SELECT count(*), coalesce(sum(rows_kept), 0)::bigint FROM msacat.files WHERE survey = %s", [name]
        ).fetchone()
        assert row is not None
        matched, state = None, ""
        if spec.role in MATCHED_ROLES:
            state = crossmatch_state(conn, name)
            found = conn.execute(
                "SELECT n_matched FROM msacat.crossmatches WHERE dataset = %s", [name]
            ).fetchone()
            matched = found[0] if found else 0
        surveys.append(SurveyStatus(name, spec.role, row[0], row[1], matched, state))
    models = conn.execute(
        "SELECT name, state || coalesce(': ' || stale_reason, ''), n_train, finished::timestamp(0) "
        "FROM learned.models ORDER BY model_id"
    ).fetchall()
    runs = conn.execute(
        "SELECT r.run_id, m.name, r.state || coalesce(': ' || r.stale_reason, ''), r.n_stars "
        "FROM msacat.runs r JOIN learned.models m USING (model_id) WHERE r.state <> 'dropped' ORDER BY 1"
    ).fetchall()
    return StoreStatus(surveys, models, runs, _next_step(conn, surveys, models, runs))


def _next_step(conn: Connection, surveys: list[SurveyStatus], models: list[tuple], runs: list[tuple]) -> str:
    if not any(s.role == "reference" and s.n_rows for s in surveys):
        return "msacat ingest gaia_source FILE…"
    stale = [s.name for s in surveys if s.n_rows and s.crossmatch in ("missing", "out of date")]
    if stale:
        return "msacat crossmatch " + " ".join(stale)
    if not any(m[1] in ("finished", "imported") for m in models):
        return "msacat train --name NAME"
    if not any(r[2] == "published" for r in runs):
        waiting = conn.execute(
            "SELECT run_id FROM msacat.runs WHERE state = 'verified' ORDER BY 1 DESC LIMIT 1"
        ).fetchone()
        return f"msacat runs publish {waiting[0]}" if waiting else "msacat enrich"
    return sql.SQL('msacat query "SELECT * FROM enriched.stars LIMIT 3"').as_string(conn)
