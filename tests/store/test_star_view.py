"""matched.stars: which of several surveys a star's values come from."""

from __future__ import annotations

from msacat.catalog.store.register_survey import register_survey
from msacat.catalog.surveys.load_specs import builtin_specs


def put_spectrum(conn, dataset: str, source_id: int, bp: float | None, rp: float | None) -> None:
    halves = [None if x is None else [x] * 55 for x in (bp, bp, rp, rp)]
    conn.execute(
        f"INSERT INTO survey.{dataset} (source_id, bp_coefficients, bp_coefficient_errors, rp_coefficients, "
        "rp_coefficient_errors, file_id) VALUES (%s, %s::real[], %s::real[], %s::real[], %s::real[], 1)",
        [source_id, *halves],
    )


def test_the_continuous_spectrum_comes_before_the_sampled_one_and_halves_are_not_mixed(conn):
    for name in ("gaia_source", "xp_sampled", "xp_continuous"):
        register_survey(conn, builtin_specs()[name])
    for source_id in (1, 2, 3, 4):
        conn.execute(
            "INSERT INTO survey.gaia_source (source_id, ra, dec, file_id) VALUES (%s, 10, 20, 1)", [source_id]
        )
    put_spectrum(conn, "xp_continuous", 1, 1.0, 1.5)
    put_spectrum(conn, "xp_sampled", 1, 7.0, 7.5)
    put_spectrum(conn, "xp_continuous", 2, None, 2.5)  # its BP is not published: NULL, not the sampled one's
    put_spectrum(conn, "xp_sampled", 2, 7.0, 7.5)
    put_spectrum(conn, "xp_sampled", 3, 3.0, 3.5)
    expected = [
        (1, 1.0, 1.5, "continuous"),
        (2, None, 2.5, "continuous"),
        (3, 3.0, 3.5, "sampled"),
    ]
    columns = "source_id, bp_coefficients[1], rp_coefficients[55], xp_origin"
    assert conn.execute(f"SELECT {columns} FROM survey.xp_spectra ORDER BY 1").fetchall() == expected
    assert conn.execute(f"SELECT {columns} FROM matched.stars ORDER BY 1").fetchall() == [
        *expected,
        (4, None, None, None),
    ]
