"""Labels that the survey file's quality cuts hide in matched.stars."""

from __future__ import annotations

import numpy as np

from msacat.catalog.server.connect import connect
from msacat.catalog.store.register_survey import find_spec
from msacat.catalog.store.uncut_labels import uncut_labels


def test_cut_or_not_every_label_is_there(trained_once):
    with connect(trained_once) as conn:
        known = uncut_labels(conn, find_spec(conn, "apogee_dr17"), ["teff", "fe_h"])
        shown = conn.execute(
            "SELECT source_id, apogee_dr17_teff, apogee_dr17_teff_err, apogee_dr17_fe_h, apogee_dr17_fe_h_err "
            "FROM matched.stars WHERE apogee_id IN "
            "(SELECT apogee_id FROM survey.apogee_dr17 GROUP BY 1 HAVING count(*) = 1)"
        ).fetchall()
    assert shown and {row[0] for row in shown} <= known.keys()
    for source_id, *values in shown:
        seen = np.array(values, np.float32).reshape(2, 2)
        there = np.isfinite(seen)
        np.testing.assert_array_equal(known[source_id][there], seen[there])
    all_shown = sum(value is not None for row in shown for value in row[1:])
    assert sum(np.isfinite(label).sum() for label in known.values()) >= all_shown
