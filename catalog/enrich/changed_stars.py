"""Which stars the published runs do not know, or know from other measurements: what `enrich --new` covers."""

from __future__ import annotations

from psycopg import Connection, sql

from msacat.catalog.enrich.enriched_tables import SHOWN
from msacat.catalog.store.as_real import reals_of_stars
from msacat.catalog.store.register_survey import reference_spec, registered_specs
from msacat.catalog.store.star_view import view_columns
from msacat.catalog.surveys.survey_spec import MATCHED_ROLES


def store_changed_stars(conn: Connection, table: sql.Identifier) -> None:
    """CREATE `table`(source_id) with the stars that have no published row or whose measurements changed since.

    Changed: a measurement differs from the published one, or appeared, or is gone (a file more or less, another
    match), or is shared with other stars now; half a spectrum appeared or is gone; or a row of theirs came from a file
    that the run which gives their published row did not have. Of further inputs (reddening) that are gone no run keeps
    a trace: enrich all stars then.
    """
    reference = reference_spec(conn)
    assert reference is not None
    stars = sql.Identifier("survey", reference.name)
    if not view_columns(conn, "enriched", "magnitudes"):
        conn.execute(sql.SQL("CREATE TABLE {} AS SELECT source_id FROM {}").format(table, stars))
    else:
        spectra, other_spectrum = _other_spectrum(conn)
        parts = [
            sql.SQL(
                "SELECT s.source_id FROM matched.stars s LEFT JOIN enriched.magnitudes p ON p.source_id = s.source_id {}"
                "WHERE p.source_id IS NULL OR p.observed <> {} OR s.shared & p.observed & ~p.suspect <> 0 OR {} OR {}"
            ).format(spectra, observed_mask(conn), _other_values(conn), other_spectrum)
        ]
        # files that all published runs had cannot make a difference, and are not joined
        known = sql.SQL("{}::integer[]").format(sql.Literal(_files_of_all_published(conn)))
        unknown_to_its_run = sql.SQL(
            "EXISTS (SELECT FROM enriched.magnitudes p JOIN msacat.runs u ON u.run_id = p.run_id "
            "WHERE p.source_id = {id} AND x.file_id <> ALL (u.file_ids))"
        )
        for spec in registered_specs(conn).values():
            survey = sql.Identifier("survey", spec.name)
            if spec.role in ("reference", "spectra", "inputs"):
                parts.append(
                    sql.SQL("SELECT x.source_id FROM {} x WHERE x.file_id <> ALL ({}) AND {}").format(
                        survey, known, unknown_to_its_run.format(id=sql.SQL("x.source_id"))
                    )
                )
            elif spec.role in MATCHED_ROLES:
                parts.append(
                    sql.SQL(
                        "SELECT m.source_id FROM {} m JOIN {} x ON x.{} = m.{} WHERE x.file_id <> ALL ({}) AND {}"
                    ).format(
                        sql.Identifier("matched", spec.name), survey, sql.Identifier(spec.id.column),
                        sql.Identifier(spec.id.column), known, unknown_to_its_run.format(id=sql.SQL("m.source_id")),
                    )
                )  # fmt: skip
        conn.execute(
            sql.SQL(
                "CREATE TABLE {} AS SELECT DISTINCT c.source_id FROM ({}) c JOIN {} r USING (source_id)"
            ).format(table, sql.SQL(" UNION ALL ").join(parts), stars)
        )
    conn.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (source_id)").format(table))


def observed_mask(conn: Connection) -> sql.Composable:
    """SQL expression on matched.stars s: bits of the bands that hold a measurement now."""
    present = set(view_columns(conn, "matched", "stars"))
    rows = conn.execute("SELECT band, bit FROM msacat.bands ORDER BY bit").fetchall()
    terms = [
        sql.SQL("CASE WHEN {} IS NULL THEN 0 ELSE {}::bigint END").format(sql.Identifier("s", band), 1 << bit)
        for band, bit in rows
        if band in present
    ]
    return sql.SQL("({})").format(sql.SQL(" | ").join(terms)) if terms else sql.SQL("0::bigint")


def _other_values(conn: Connection) -> sql.Composable:
    """A measured band whose published value is another: measurements pass through a run unchanged, to the last bit."""
    present = set(view_columns(conn, "matched", "stars")) & set(view_columns(conn, "enriched", "magnitudes"))
    bands = [
        band for (band,) in conn.execute("SELECT band FROM msacat.bands ORDER BY bit") if band in present
    ]
    as_real = reals_of_stars(conn)
    terms = [sql.SQL("{} <> p.{}").format(as_real(band), sql.Identifier(band)) for band in bands]
    return sql.SQL("({})").format(sql.SQL(" OR ").join(terms)) if terms else sql.SQL("false")


def _other_spectrum(conn: Connection) -> tuple[sql.Composable, sql.Composable]:
    """A join, and a condition on it: a half of the spectrum is there now and was not in the run, or was and is gone."""
    if not view_columns(conn, "enriched", "xp_coefficients"):
        return sql.SQL(""), sql.SQL("false")
    # An older run's spectrum stays where a newer run gave magnitudes alone: that run is not to be repeated for ever.
    return (
        sql.SQL("LEFT JOIN enriched.xp_coefficients x ON x.source_id = s.source_id AND x.run_id = p.run_id "),
        sql.SQL(
            "x.bp_observed <> (s.bp_coefficients IS NOT NULL) OR x.rp_observed <> (s.rp_coefficients IS NOT NULL)"
        ),
    )


def _files_of_all_published(conn: Connection) -> list[int]:
    rows = conn.execute(f"SELECT file_ids FROM msacat.runs WHERE {SHOWN}").fetchall()
    return sorted(set.intersection(*(set(row[0]) for row in rows))) if rows else []
