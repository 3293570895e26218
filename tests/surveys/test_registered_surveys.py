"""Survey files in a real store: tables, comments, bands, and cuts that take out single labels."""

from __future__ import annotations

from msacat.catalog.store.register_survey import register_survey
from msacat.catalog.surveys.load_specs import builtin_specs

APOGEE = builtin_specs()["apogee_dr17"]
BIT = {q.name: 1 << q.bit for q in APOGEE.quality}


def test_a_bad_metallicity_leaves_the_temperature(conn):
    register_survey(conn, builtin_specs()["gaia_source"])
    register_survey(conn, APOGEE)
    rows = [
        ("good", 0),
        ("fe_h_flagged", BIT["fe_h_flagged"]),
        ("teff_bad", BIT["teff_bad"]),
        ("star_bad", BIT["star_bad"]),
        ("both", BIT["fe_h_flagged"] | BIT["low_snr"]),
    ]
    for i, (name, quality) in enumerate(rows):
        conn.execute(
            "INSERT INTO survey.apogee_dr17 (apogee_id, ra, dec, snr, fe_h, fe_h_err, teff, teff_err, quality, "
            "file_id, file_row) VALUES (%s, 10, 20, 100, -0.5, 0.02, 5000, 50, %s, 1, %s)",
            [name, quality, i + 1],
        )
    clean = conn.execute(
        "SELECT apogee_id, fe_h IS NULL, fe_h_err IS NULL, teff IS NULL, teff_err IS NULL "
        "FROM survey.apogee_dr17_clean ORDER BY 1"
    ).fetchall()
    assert clean == [
        ("fe_h_flagged", True, True, False, False),
        ("good", False, False, False, False),
        ("teff_bad", False, False, True, True),
    ]


def test_every_survey_file_becomes_a_table_with_comments(conn):
    for spec in builtin_specs().values():
        register_survey(conn, spec)
    undescribed = conn.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'survey' AND "
        "col_description(format('%I.%I', table_schema, table_name)::regclass, ordinal_position) IS NULL"
    ).fetchall()
    assert undescribed == []
    bands = {name for (name,) in conn.execute("SELECT band FROM msacat.bands").fetchall()}
    assert bands == {b.name for s in builtin_specs().values() for b in s.bands}
