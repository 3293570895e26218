"""A newer version of a survey file: a survey that holds rows is migrated, one without is made anew."""

from __future__ import annotations

from psycopg import Connection, sql

from msacat.catalog.ingest.ingest_ledger import files_lock
from msacat.catalog.ingest.replace_relation import replace_relation
from msacat.catalog.server.advisory_lock import advisory_lock
from msacat.catalog.store.hold_views import between_readers
from msacat.catalog.store.register_survey import (
    newer_version,
    only_the_version,
    record_version,
    update_survey,
)
from msacat.catalog.store.survey_changes import changes_without_rows
from msacat.catalog.store.survey_table import create_match_table, create_table
from msacat.catalog.surveys.survey_spec import MATCHED_ROLES, SurveySpec


def redefine_survey(conn: Connection, spec: SurveySpec) -> list[str]:
    """Put a newer version of a survey file in force, in one transaction; returns what changed.

    Of a survey without rows and files every column may change, since nothing stored is read otherwise than before:
    its table is made anew. Otherwise what update_survey() allows. Raises UsageError for the rest, StoreLocked while
    a file of the survey comes in.
    """
    conn.commit()
    # Files that come in hold the table; the update would wait for them, and readers of matched.stars for the update.
    with advisory_lock(conn, files_lock(spec.name)), conn.transaction():
        if _is_empty(conn, spec.name):
            return _make_anew(conn, spec)
        return between_readers(conn, lambda: update_survey(conn, spec))


def _is_empty(conn: Connection, name: str) -> bool:
    """A registered survey with a table of its own, without files or rows."""
    row = conn.execute(
        "SELECT adopted_from IS NULL AND NOT EXISTS (SELECT FROM msacat.files f WHERE f.survey = s.name) "
        "FROM msacat.surveys s WHERE name = %s",
        [name],
    ).fetchone()
    if row is None or not row[0]:
        return False
    held = conn.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier("survey", name))
    ).fetchone()
    return held == (False,)


def _make_anew(conn: Connection, spec: SurveySpec) -> list[str]:
    old = newer_version(conn, spec)
    if old is None:
        return []
    changes = changes_without_rows(old, spec)
    record_version(conn, spec)
    statements = create_table(spec)
    if spec.role in MATCHED_ROLES and _type_of_id(old) != _type_of_id(spec):
        statements += [
            sql.SQL("DROP TABLE {}").format(sql.Identifier("matched", spec.name)),
            *create_match_table(spec),
        ]
        conn.execute("DELETE FROM msacat.crossmatches WHERE dataset = %s", [spec.name])
    replace_relation(conn, spec, "TABLE", statements, adopted_from=None)
    return changes or [only_the_version(old, spec)]


def _type_of_id(spec: SurveySpec) -> str:
    return spec.column(spec.id.column).type
