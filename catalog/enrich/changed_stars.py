"""Which stars the published runs do not know, or know from other measurements: what `enrich --new` covers."""

from __future__ import annotations

from psycopg import Connection, sql

from msacat.catalog.store.register_survey import reference_spec, registered_specs
from msacat.catalog.store.star_view import view_columns
from msacat.catalog.store.survey_table import MATCHED_ROLES


def store_changed_stars(conn: Connection, table: sql.Identifier) -> None:
    """CREATE `table`(source_id) with the stars that have no published row or whose measurements changed since.

    Changed: a row of theirs came from a file the newest published run did not have, or the set of measured
    bands differs from the published one (a match gained or lost, a file forgotten).
    """
    reference = reference_spec(conn)
    assert reference is not None
    stars = sql.Identifier("survey", reference.name)
    if not view_columns(conn, "enriched", "magnitudes"):
        conn.execute(sql.SQL("CREATE TABLE {} AS SELECT source_id FROM {}").format(table, stars))
    else:
        row = conn.execute(
            "SELECT file_ids FROM msacat.runs WHERE state = 'published' ORDER BY run_id DESC LIMIT 1"
        ).fetchone()
        known = row[0] if row else []
        parts = [
            sql.SQL(
                "SELECT s.source_id FROM matched.stars s LEFT JOIN enriched.magnitudes p ON p.source_id = s.source_id "
                "WHERE p.source_id IS NULL OR p.observed <> {}"
            ).format(observed_mask(conn))
        ]
        for spec in registered_specs(conn).values():
            survey = sql.Identifier("survey", spec.name)
            new = sql.SQL("x.file_id <> ALL ({}::integer[])").format(sql.Literal(known))
            if spec.role in ("reference", "spectra"):
                parts.append(sql.SQL("SELECT x.source_id FROM {} x WHERE {}").format(survey, new))
            elif spec.role in MATCHED_ROLES:
                parts.append(
                    sql.SQL("SELECT m.source_id FROM {} m JOIN {} x ON x.{} = m.{} WHERE {}").format(
                        sql.Identifier("matched", spec.name), survey,
                        sql.Identifier(spec.id.column), sql.Identifier(spec.id.column), new,
                    )
                )  # fmt: skip
        conn.execute(
            sql.SQL(
                "CREATE TABLE {} AS SELECT DISTINCT c.source_id FROM ({}) c JOIN {} r USING (source_id)"
            ).format(table, sql.SQL(" UNION ALL ").join(parts), stars)
        )
    conn.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (source_id)").format(table))


def observed_mask(conn: Connection, alias: str = "s") -> sql.Composable:
    """SQL expression on matched.stars: bits of the bands that hold a measurement now."""
    present = set(view_columns(conn, "matched", "stars"))
    rows = conn.execute("SELECT band, bit FROM msacat.bands ORDER BY bit").fetchall()
    terms = [
        sql.SQL("CASE WHEN {} IS NULL THEN 0 ELSE {}::bigint END").format(
            sql.Identifier(alias, band), 1 << bit
        )
        for band, bit in rows
        if band in present
    ]
    return sql.SQL("({})").format(sql.SQL(" | ").join(terms)) if terms else sql.SQL("0::bigint")
