"""Exchanges a survey's table for a view or back: what stands on it is dropped and made again in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import psycopg
from psycopg import Connection, sql

from msacat.catalog.enrich.publish_enriched import stars_view_aside
from msacat.catalog.errors import UsageError
from msacat.catalog.store.hold_views import between_readers
from msacat.catalog.store.keep_grants import grant_again, grants_on
from msacat.catalog.store.register_survey import registered_specs
from msacat.catalog.store.star_view import refresh_star_view
from msacat.catalog.store.survey_table import comments, create_clean_view
from msacat.catalog.surveys.survey_spec import SurveySpec


def replace_relation(
    conn: Connection,
    spec: SurveySpec,
    kind: Literal["TABLE", "VIEW"],
    statements: Sequence[sql.Composed],
    adopted_from: str | None,
) -> None:
    """Drop survey.<name>, which is a `kind`, run `statements`, and rebuild msacat's own views on it, grants and all.

    Raises UsageError naming a user's view that stands in the way. The caller commits.
    """

    def replace() -> None:
        views = (("matched", "stars"), ("survey", "xp_spectra"), ("survey", f"{spec.name}_clean"))
        grants = {relation: grants_on(conn, *relation) for relation in (*views, ("survey", spec.name))}
        with stars_view_aside(conn):
            try:
                for schema, name in views:
                    conn.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier(schema, name)))
                conn.execute(sql.SQL("DROP {} {}").format(sql.SQL(kind), sql.Identifier("survey", spec.name)))
                for statement in statements:
                    conn.execute(statement)
            except psycopg.errors.DependentObjectsStillExist as error:
                raise UsageError(
                    f"other views stand on what msacat made of {spec.name}",
                    found=error.diag.message_detail,
                    next_step="drop them, repeat the command, and make them again",
                ) from error
            for statement in [*comments(spec, spec.name), *create_clean_view(spec)]:
                conn.execute(statement)
            conn.execute(
                "UPDATE msacat.surveys SET adopted_from = %s WHERE name = %s", [adopted_from, spec.name]
            )
            refresh_star_view(conn, registered_specs(conn))
            for (schema, name), kept in grants.items():
                grant_again(conn, schema, name, kept)

    between_readers(conn, replace)
