"""What a store holds and what it lacks, in one look."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection

from msacat.catalog.crossmatch.crossmatch_stars import crossmatch_state
from msacat.catalog.enrich.enriched_tables import SHOWN
from msacat.catalog.ingest.ingest_ledger import files_that_lack_rows
from msacat.catalog.store.register_survey import registered_specs
from msacat.catalog.surveys.survey_spec import MATCHED_ROLES

ROLES = ("reference", "spectra", "inputs", "photometry", "labels", "matches", "lookup")


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
class ModelStatus:
    """One model; `why` it is stale or failed."""

    name: str
    state: str
    why: str | None
    n_train: int | None
    finished: datetime | None


@dataclass(frozen=True)
class RunStatus:
    """One enrichment run that was not dropped."""

    run_id: int
    model: str
    state: str
    why: str | None
    n_stars: int


@dataclass(frozen=True)
class StoreStatus:
    surveys: list[SurveyStatus]
    models: list[ModelStatus]
    runs: list[RunStatus]
    next_step: str


def list_surveys(conn: Connection) -> list[dict[str, Any]]:
    """The registered surveys in the order of their names: name, version, role, title, state, rows."""
    rows = conn.execute(
        "SELECT s.name, s.version, s.role, s.title, s.adopted_from, coalesce(sum(f.rows_kept), 0) "
        "FROM msacat.surveys s LEFT JOIN msacat.files f ON f.survey = s.name GROUP BY s.name ORDER BY s.name"
    ).fetchall()
    return [
        {"name": name, "version": version, "role": role, "title": title,
         "state": f"adopted from {adopted}" if adopted else "registered", "rows": int(n_rows)}
        for name, version, role, title, adopted, n_rows in rows
    ]  # fmt: skip


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
    surveys.sort(key=lambda survey: ROLES.index(survey.role))
    models = [
        ModelStatus(*row)
        for row in conn.execute(
            "SELECT name, state, stale_reason, n_train, finished::timestamp(0) FROM learned.models ORDER BY model_id"
        )
    ]
    runs = [
        RunStatus(*row)
        for row in conn.execute(
            "SELECT r.run_id, m.name, r.state, r.stale_reason, r.n_stars FROM msacat.runs r "
            "JOIN learned.models m USING (model_id) WHERE r.state <> 'dropped' ORDER BY 1"
        )
    ]
    lacking = files_that_lack_rows(conn)
    complete = f"msacat ingest {lacking[0][1]} {shlex.quote(lacking[0][2])}" if lacking else None
    again = _train_anew(conn) or _enrich_with_the_newest(conn) or _enrich_again(conn)
    return StoreStatus(surveys, models, runs, complete or _next_step(surveys, models, runs, again))


#: the newest model that was trained to its end: `msacat enrich` takes it, unless it went stale since
_NEWEST_MODEL = (
    "(SELECT * FROM learned.models WHERE state IN ('finished', 'imported', 'stale') AND finished IS NOT NULL "
    "ORDER BY finished DESC, model_id DESC LIMIT 1) m"
)


def _train_anew(conn: Connection) -> str | None:
    """The training that the store wants: its newest model is stale, or never heard of bands that matched stars have.

    `msacat enrich` would go on without a word: with an older model, or with NULL wherever such a band was not measured.
    """
    row = conn.execute(
        "SELECT m.name, m.state = 'stale', ARRAY(SELECT b.band FROM msacat.bands b "
        " JOIN msacat.crossmatches c ON c.dataset = b.survey WHERE c.n_matched > 0"
        " AND NOT m.features->'bands' @> jsonb_build_array(jsonb_build_object('name', b.band)) ORDER BY b.bit) "
        f"FROM {_NEWEST_MODEL}"
    ).fetchone()
    if row is None:
        return None
    name, stale, unknown = row
    if stale:
        return f"msacat train --name NAME   (model {name} is stale)"
    return (
        f"msacat train --name NAME   (model {name} does not know {', '.join(unknown)})" if unknown else None
    )


def _enrich_with_the_newest(conn: Connection) -> str | None:
    """The run that the newest model has not made yet, where the views show another's."""
    row = conn.execute(
        f"SELECT m.name FROM {_NEWEST_MODEL} WHERE EXISTS (SELECT FROM msacat.runs WHERE {SHOWN}) "
        "AND NOT EXISTS (SELECT FROM msacat.runs r WHERE r.model_id = m.model_id)"
    ).fetchone()
    return f"msacat enrich --model {row[0]}" if row else None


def _enrich_again(conn: Connection) -> str | None:
    """The command that brings the views up to date, if files or matches came or went since the newest run of all stars.

    From the ledgers alone: which stars changed only `enrich --new` finds out. A run of some stars (--where, --ids)
    says nothing of the others.
    """
    row = conn.execute(
        "SELECT r.state = 'stale', EXISTS (SELECT FROM msacat.crossmatches c WHERE c.finished > r.started) OR EXISTS ("
        " SELECT FROM msacat.files f JOIN msacat.surveys s ON s.name = f.survey"
        " WHERE s.role IN ('reference', 'spectra', 'inputs') AND f.file_id <> ALL (r.file_ids)) "
        f"FROM msacat.runs r WHERE {SHOWN} AND r.request->>'where' IS NULL AND r.request->>'ids' IS NULL "
        "ORDER BY r.run_id DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    if row[0]:  # of further inputs that are gone no run keeps a trace
        return "msacat enrich"
    return "msacat enrich --new" if row[1] else None


def _next_step(
    surveys: list[SurveyStatus], models: list[ModelStatus], runs: list[RunStatus], again: str | None
) -> str:
    if not any(s.role == "reference" and s.n_rows for s in surveys):
        return "msacat ingest gaia_source FILE…"
    stale = [
        s.name for s in surveys if (s.n_rows or s.n_matched) and s.crossmatch in ("missing", "out of date")
    ]
    if stale:
        return "msacat crossmatch " + " ".join(stale)
    if interrupted := [m.name for m in models if m.state == "training"]:
        return f"msacat train --name {interrupted[-1]} --resume   (unless it is at work)"
    if not any(m.state in ("finished", "imported") for m in models):
        return "msacat train --name NAME"
    if unfinished := [r.run_id for r in runs if r.state == "running"]:
        return f"msacat enrich --resume {unfinished[-1]}   (unless it is at work)"
    if again:
        return again
    if not any(r.state == "published" for r in runs):
        waiting = [r.run_id for r in runs if r.state == "verified"]
        return f"msacat runs publish {waiting[-1]}" if waiting else "msacat enrich"
    return 'msacat query "SELECT * FROM enriched.stars LIMIT 3"'
