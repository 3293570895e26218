"""One survey under several publishers' names: Pan-STARRS1 at MAST, in Gaia's archive and at VizieR."""

from __future__ import annotations

import pytest

from msacat.catalog.ingest.adopt_table import adopt
from msacat.catalog.store.register_survey import register_survey, update_survey
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import SurveySpec

MJD, YEAR = 56000.0, 2000 + (56000.0 - 51544.5) / 365.25
BANDS = "grizy"
MAST = {"objID": 7, "raMean": 10.0, "decMean": 20.0, "raMeanErr": 0.5, "decMeanErr": 0.25, "epochMean": MJD,
        "objInfoFlag": 2**25, "qualityFlag": 52, "nDetections": 1} | {f"{b}MeanPSFMag": 17.5 for b in BANDS}  # fmt: skip
GAIA = {"obj_id": 7, "ra": 10.0, "dec": 20.0, "ra_error": 0.5, "dec_error": 0.25, "epoch_mean": MJD,
        "obj_info_flag": 2**25, "quality_flag": 52, "n_detections": 1} | {f"{b}_mean_psf_mag": 17.5 for b in BANDS}  # fmt: skip
VIZIER = {"objID": 7, "RAJ2000": 10.0, "DEJ2000": 20.0, "e_RAJ2000": 0.5, "e_DEJ2000": 0.25, "Epoch": MJD,
          "f_objID": 2**25, "Qual": 52, "Nd": 1} | {f"{b}mag": 17.5 for b in BANDS}  # fmt: skip
STORED = "SELECT ps1_id, ra, dec, ra_error, dec_error, epoch, objinfoflag, qualityflag, ndetections, quality, ymeanpsfmag"


@pytest.mark.parametrize("row", [MAST, GAIA, VIZIER], ids=["MAST", "Gaia", "VizieR"])
def test_each_publisher_s_names_give_the_same_row(conn, ingest, write_csv, row):
    [one] = ingest("panstarrs1", write_csv("ps1.csv", [row])).files
    assert one.columns_unused == []
    [stored] = conn.execute(f"{STORED} FROM survey.panstarrs1").fetchall()
    assert stored == (7, 10.0, 20.0, 0.5, 0.25, pytest.approx(YEAR), 2**25, 52, 1, 1, 17.5)


def test_the_first_name_found_is_read(conn, ingest, write_csv):
    ingest("panstarrs1", write_csv("ps1.csv", [{"Epoch": 2012.5} | MAST]))
    assert conn.execute("SELECT epoch FROM survey.panstarrs1").fetchone() == (pytest.approx(YEAR),)


@pytest.mark.parametrize(("name", "value"), [("epoch_mean", MJD), ("epoch", YEAR)])
def test_an_adopted_epoch_is_computed_unless_it_has_our_name(conn, name, value):
    mags = ", ".join(f"{b}meanpsfmag real" for b in BANDS)
    conn.execute(
        f"CREATE TABLE public.ps1 (objid bigint PRIMARY KEY, ra float8, dec float8, {name} float8, {mags})"
    )
    conn.execute("CREATE INDEX ON public.ps1 (q3c_ang2ipix(ra, dec))")
    conn.execute("INSERT INTO public.ps1 VALUES (7, 10, 20, %s)", [value])
    conn.commit()
    adopt(conn, "panstarrs1", "public.ps1")
    assert conn.execute("SELECT epoch FROM survey.panstarrs1").fetchone() == (pytest.approx(YEAR),)


def test_a_store_of_the_older_file_takes_further_names(conn):
    new = builtin_specs()["panstarrs1"]
    columns = [c.model_dump() for c in new.columns]
    next(c for c in columns if c["name"] == "epoch")["computed"]["columns"] = ["epochMean"]
    older = {"version": new.version - 1, "columns": columns}
    register_survey(conn, SurveySpec.model_validate(new.model_dump() | older))
    (change,) = update_survey(conn, new)
    assert change.startswith("column epoch: computed changed")
