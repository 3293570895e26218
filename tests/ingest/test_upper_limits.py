"""A limit that stands where a magnitude would stand is no measurement, and a file must say which are limits."""

from __future__ import annotations

import pytest

from msacat.catalog.errors import InputRejected

CATWISE = {"ra": 10.0, "dec": 20.0, "w1mpro": 17.5, "w1sigmpro": 0.1, "w2mpro": 17.0, "w2sigmpro": 0.2}
TWOMASS = {"designation": "00400000+2000000", "ra": 10.0, "dec": 20.0, "j_m": 15.5, "h_m": 15.0, "k_m": 14.5}


def test_a_catwise_magnitude_without_an_error_is_a_limit(conn, ingest, write_csv):
    rows = [
        CATWISE | {"source_id": "both"},
        CATWISE | {"source_id": "w1 only", "w2sigmpro": None},
        CATWISE | {"source_id": "w2 only", "w1sigmpro": "null"},
    ]
    ingest("catwise2020", write_csv("catwise.csv", rows))
    clean = conn.execute(
        "SELECT catwise_id, w1mpro, w2mpro FROM survey.catwise2020_clean ORDER BY catwise_id"
    ).fetchall()
    assert clean == [("both", 17.5, 17.0), ("w1 only", 17.5, None), ("w2 only", None, 17.0)]
    kept = conn.execute("SELECT w2mpro FROM survey.catwise2020 WHERE catwise_id = 'w1 only'").fetchone()
    assert kept == (17.0,)


@pytest.mark.parametrize(
    ("dataset", "row", "missing"),
    [
        ("twomass_psc", TWOMASS, "ph_qual"),
        ("catwise2020", CATWISE | {"source_id": "x"}, "w1sigmpro"),
        ("catwise2020", CATWISE | {"source_id": "x"}, "w2sigmpro"),
    ],
)
def test_a_file_that_does_not_say_which_are_limits_is_refused(ingest, write_csv, dataset, row, missing):
    row = {key: value for key, value in row.items() if key != missing}
    with pytest.raises(InputRejected) as error:
        ingest(dataset, write_csv("limits.csv", [row]))
    assert missing in str(error.value)
