"""The survey files' published names and ranges against real headers and values of the publishers' files."""

from __future__ import annotations

import csv
import io
import json
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.votable import parse_single_table

from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_column import Column
from msacat.catalog.surveys.survey_spec import SurveySpec

SPECS = builtin_specs()
XP = "gaia-dpci__GaiaXPy/xp_continuous/"
DATALINK = "astropy__astroquery/gaia/gaia_dr3_source_id_5937083312263887616_dl_products_csv.zip"


def header(path: Path) -> list[str]:
    """Column names of a real file, read without any code of ours."""
    if path.suffix in (".fits", ".fit"):
        return [c.name for c in fits.open(path)[1].columns]
    if path.suffix in (".vot", ".xml"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [f.name for f in parse_single_table(path).fields]
    if path.suffix == ".json":
        data = json.loads(path.read_text())
        rows = data[0].get("Rows", data)
        return [row["name"] for row in rows]
    with path.open(encoding="utf-8") as file:
        line = next(line for line in file if not line.startswith("#"))
    return next(csv.reader([line.rstrip("\n")], delimiter="\t" if path.suffix == ".tsv" else ","))


def published(column: Column) -> list[list[str]]:
    """The alternatives for each name a column needs."""
    return column.computed.inputs if column.computed else [column.published]


def absent(spec: SurveySpec, names: list[str]) -> set[str]:
    present = {name.lower() for name in names}
    return {
        c.name
        for c in spec.columns
        if not all(any(alias.lower() in present for alias in names) for names in published(c))
    }


OPTIONAL_GAIA = {"position_approximate"}  # ours, not the archive's
SKYMAPPER_41 = {"ebmv_sfd", *(f"{b}_flags" for b in "uvgriz")}  # the default web selection


@pytest.mark.parametrize(
    ("dataset", "path", "missing"),
    [
        ("gaia_source", "adrn__pyia/gdr3_sm.fits", OPTIONAL_GAIA),
        ("gaia_source", "astropy__astroquery/gaia/1712337806100O-result.ecsv", OPTIONAL_GAIA),
        ("gaia_source", "astropy__astroquery/gaia/1710099405832VAL-result.vot", OPTIONAL_GAIA),
        ("xp_continuous", XP + "XP_CONTINUOUS_RAW.csv", set()),
        ("xp_continuous", XP + "XP_CONTINUOUS_RAW_with_missing_BP.ecsv", set()),
        ("xp_continuous", XP + "XP_CONTINUOUS_RAW.fits", set()),
        ("xp_continuous", XP + "XP_CONTINUOUS_RAW_plain.xml", set()),
        ("xp_sampled", "gaia-dpci__GaiaXPy/xp_sampled/XP_SAMPLED_RAW_dr3int6.csv", set()),
        ("xp_sampled", "gaia-dpci__GaiaXPy/xp_sampled/XP_SAMPLED_RAW_dr3int6.fits", set()),
        ("apogee_dr17", "fjaellet__xgboost_chem_ages/Montalban2021_X_APOGEE_DR17.fits", set()),
        ("sdss_dr13", "astropy__astroquery/sdss/PhotoObjAll_dr12.json", set()),
        ("panstarrs1", "astropy__astroquery/mast/panstarrs_columns.json", set()),
        ("skymapper_dr2", "sarawebb__correcting_photom_to_skymapper/14hr_SM.tsv", set()),
        ("skymapper_dr2", "sarawebb__correcting_photom_to_skymapper/1hr_SM.tsv", SKYMAPPER_41),
        ("skymapper_dr2", "sarawebb__correcting_photom_to_skymapper/dusty10.csv", SKYMAPPER_41),
        (  # LAMOST DR1 style, with columns of its authors
            "lamost_dr9",
            "grd349__LearningLAMOST/my_data3.csv",
            {"uid", "gaia_source_id", "alpha_m", "fibermask"},
        ),
    ],
)
def test_names_are_those_of_the_real_header(shared_data, dataset, path, missing):
    assert absent(SPECS[dataset], header(shared_data / path)) == missing


@pytest.mark.parametrize(
    ("dataset", "path", "by"),
    [
        ("apogee_dr17", "alexji__alexmods/apogee_sgr.fits", "refused"),  # DR16: Gaia ids of DR2
        ("panstarrs1", "AngelGSoto__PNe-LAMOST/SySt-akras-ps-list-match_csv_9_1_2022.csv", "refused"),  # stack table
        ("apogee_dr17", "fjaellet__xgboost_chem_ages/kepler_apogee_miglio2021.fit", "required"),
        ("sdss_dr13", "vedantchandra__mpms/skyserver.csv", "required"),  # spectra's ids, no photometry
        ("sdss_dr13", "astropy__astroquery/sdss/xid_im.txt", "required"),
        ("gaia_source", "astronomy-commons__hats-import/gaia_minimum.csv", "required"),
        ("lamost_dr9", "lior-linho__gaia-lamost-galactic-archaeology/gaia_lamost_larger_velocity_features.csv", "required"),
    ],
)  # fmt: skip
def test_the_wrong_product_shows_in_its_header(shared_data, dataset, path, by):
    spec, names = SPECS[dataset], header(shared_data / path)
    refused = {n.lower() for n in spec.refuse_columns} & {n.lower() for n in names}
    required = {c.name for c in spec.columns if c.required} & absent(spec, names)
    assert bool(refused) == (by == "refused")
    assert required or by == "refused"


def test_the_mast_list_is_not_taken_for_the_stack_table(shared_data):
    names = {n.lower() for n in header(shared_data / "astropy__astroquery/mast/panstarrs_columns.json")}
    assert not names & {n.lower() for n in SPECS["panstarrs1"].refuse_columns}


def test_the_units_of_mast_and_sdss_are_ours(shared_data):
    """Units as the publishers' own column lists state them."""
    same = {"degrees": "deg", "ab magnitudes": "mag", "magnitudes": "mag", "mag": "mag", "deg": "deg",
            "arcsec": "arcsec", "arcseconds": "arcsec"}  # fmt: skip
    checked = 0
    for dataset, path in (
        ("panstarrs1", "astropy__astroquery/mast/panstarrs_columns.json"),
        ("sdss_dr13", "astropy__astroquery/sdss/PhotoObjAll_dr12.json"),
    ):
        data = json.loads((shared_data / path).read_text())
        rows = data[0].get("Rows", data)
        units = {row["name"].lower(): row["unit"].lower() for row in rows}
        for column in SPECS[dataset].columns:
            for name in column.published:
                # MAST calls the position errors degrees, yet real ones are 0.06 and 0.02: arcsec
                if name not in ("raMeanErr", "decMeanErr") and units.get(name.lower()) in same:
                    assert same[units[name.lower()]] == column.unit, f"{dataset}.{column.name}"
                    checked += 1
    assert checked > 30


def test_the_2mass_line_fits_the_sixty_columns(shared_data):
    line = (shared_data / "derived/2mass_psc_aaa_line1.txt").read_text().rstrip("\n")
    spec = SPECS["twomass_psc"]
    values = dict(zip(spec.file_columns, line.split("|"), strict=True))
    assert len(values) == 60 and absent(spec, spec.file_columns) == set()
    assert values["designation"].strip() == "00042876-8955069"
    assert (values["ra"], values["decl"]) == ("1.119851", "-89.91861")
    assert [values[f"{b}_m"] for b in "jhk"] == ["12.467", "12.131", "11.963"]
    assert (values["ph_qual"], values["cc_flg"], values["rd_flg"]) == ("AAA", "000", "222")
    assert values["date"] == "2000-09-22" and values["jdate"] == "2451809.7124"
    assert values["b_m_opt"] == r"\N"


def test_datalink_names_are_ours_too(shared_data):
    with zipfile.ZipFile(shared_data / DATALINK) as archive:
        name = next(n for n in archive.namelist() if "XP_CONTINUOUS" in n)
        line = io.TextIOWrapper(archive.open(name), "utf-8").readline()
    assert absent(SPECS["xp_continuous"], line.rstrip("\n").split(",")) == set()


def outside(column: Column, values: np.ndarray) -> int:
    """How many real measurements the range would throw away."""
    values = values[np.isfinite(values)]
    for sentinel in column.sentinels:
        values = values[values != sentinel]
    low, high = column.range
    return int(((values < low) | (values > high)).sum())


@pytest.mark.parametrize(
    ("dataset", "path"),
    [
        ("gaia_source", "adrn__pyia/gdr3_sm.fits"),
        ("apogee_dr17", "fjaellet__xgboost_chem_ages/Montalban2021_X_APOGEE_DR17.fits"),
        ("apogee_dr17", "alexji__alexmods/apogee_sgr.fits"),
    ],
)
def test_ranges_keep_every_real_value_of_a_fits_file(shared_data, dataset, path):
    table, checked = fits.open(shared_data / path)[1], 0
    names = {c.name.lower(): c.name for c in table.columns}
    for column in SPECS[dataset].columns:
        for name in column.published:
            if column.range is not None and name in names:
                assert outside(column, np.asarray(table.data[names[name]], float)) == 0, column.name
                checked += 1
    assert checked > 8


@pytest.mark.parametrize("file", ["14hr_SM.tsv", "1hr_SM.tsv", "CDFS_SM.tsv", "dusty10.csv"])
def test_ranges_keep_every_real_value_of_skymapper(shared_data, file):
    path = shared_data / "sarawebb__correcting_photom_to_skymapper" / file
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t" if path.suffix == ".tsv" else ","))
    assert len(rows) == 2000
    spec = SPECS["skymapper_dr2"]
    for column in spec.columns:
        if column.range is not None and not column.computed and column.published[0] in rows[0]:
            values = np.array([float(row[column.published[0]] or "nan") for row in rows])
            assert outside(column, values) == 0, column.name
    epochs = np.array([float(row["mean_epoch"] or 0) for row in rows])
    years = 2000 + (epochs[epochs != 0] - 51544.5) / 365.25
    low, high = spec.column("epoch").range
    assert ((years >= low) & (years <= high)).all()


def test_impossible_epochs_of_pan_starrs_fall_out(shared_data):
    """42 rows of this real download are dated before the survey began; the others are inside the range."""
    path = shared_data / "AngelGSoto__PNe-LAMOST/SySt-akras-ps-list-match_csv_9_1_2022.csv"
    with path.open(encoding="utf-8") as lines:
        mjd = np.array([float(row["epochMean"]) for row in csv.DictReader(lines)])
    years = 2000 + (mjd[mjd != -999] - 51544.5) / 365.25
    low, high = SPECS["panstarrs1"].column("epoch").range
    assert int((years < low).sum()) == 42 and int((years > high).sum()) == 0


def test_m67_shows_what_the_sdss_range_is_for(shared_data):
    """Real SDSS magnitudes reach u = 32.2: inside the range, taken out by the cut on their error."""
    with (shared_data / "derived/m67_flat.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    spec, noisy, faintest = SPECS["sdss_dr13"], 0, 0.0
    for band in "ugriz":
        mag = np.array([float(row[f"{band}_sdss"] or "nan") for row in rows])
        error = np.array([float(row[f"e_{band}_sdss"] or "nan") for row in rows])
        assert outside(spec.column(f"psfmag_{band}"), mag) == 0
        absurd = mag > 27
        assert (error[absurd] > 0.5).all()
        noisy, faintest = noisy + int(absurd.sum()), np.nanmax([faintest, np.nanmax(mag)])
    assert noisy > 0 and faintest > 32
