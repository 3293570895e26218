"""A number that double precision holds and single precision does not ends no query over the stars."""

from __future__ import annotations

import numpy as np
import pytest
from psycopg import sql

from msacat.catalog.enrich.enriched_tables import create_run_tables
from msacat.catalog.enrich.publish_enriched import publish_run
from msacat.catalog.enrich.write_enriched import RunRequest, start_run
from msacat.catalog.store.register_survey import register_survey, registered_specs
from msacat.catalog.store.star_view import star_features
from msacat.catalog.stream.star_rows import read_rows, require_stars, unpack_rows
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import SurveySpec


@pytest.mark.parametrize(("stored", "read"), [("1e-50", 0.0), ("-1e-50", 0.0), ("1e300", np.nan)])
def test_a_double_that_is_no_real(conn, stored, read):
    gaia, twomass = (builtin_specs()[name].model_dump() for name in ("gaia_source", "twomass_psc"))
    for spec, names in ((gaia, ("parallax",)), (twomass, ("j_m", "j_msigcom"))):
        spec["columns"] = [
            c | {"type": "double precision", "range": (-1e307, 1e307)} if c["name"] in names else c
            for c in spec["columns"]
        ]
        register_survey(conn, SurveySpec.model_validate(spec))
    value = sql.SQL(stored)
    for words in (
        "INSERT INTO survey.gaia_source (source_id, ra, dec, file_id, parallax) VALUES (7, 1, 2, 1, {})",
        "INSERT INTO survey.twomass_psc (twomass_id, ra, dec, file_id, j_m, j_msigcom) VALUES ('a', 1, 2, 2, {0}, {0})",
        "INSERT INTO matched.twomass_psc (source_id, twomass_id) VALUES (7, 'a')",
        "INSERT INTO learned.models (name, state, folder, code_version) VALUES ('m', 'finished', '-', '-')",
        "INSERT INTO msacat.runs (model_id, state, file_ids, request, n_stars, code_version) "
        "SELECT model_id, 'verified', '{{}}', '{{\"new\": false}}', 0, '0' FROM learned.models",
    ):
        conn.execute(sql.SQL(words).format(value))
    features = star_features(conn, registered_specs(conn))
    [rows] = read_rows(conn, features, require_stars(conn), sql.SQL("FROM matched.stars s"), 10)
    block, _ = unpack_rows(rows, features)
    j = features.band_names.index("twomass_j")
    parallax = [scalar.name for scalar in features.scalars].index("parallax")
    np.testing.assert_array_equal(
        [block.mag_BM[0, j], block.mag_err_BM[0, j], block.scalar_BS[0, parallax]], [read] * 3
    )
    create_run_tables(conn, 1, ["magnitudes"])
    conn.execute("INSERT INTO enriched.r1_magnitudes (source_id, twomass_j, observed) VALUES (7, 12, 2)")
    publish_run(conn, 1)
    shown = "SELECT twomass_j, twomass_j_err, twomass_j_err95 FROM enriched.stars"
    assert conn.execute(shown).fetchone() == ((None,) * 3 if np.isnan(read) else (0.0,) * 3)
    start_run(conn, 1, RunRequest(new=True), ["magnitudes"])
