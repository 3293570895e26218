"""Every real file at hand: exact counts, values equal to astropy's, one star equal in every encoding."""

from __future__ import annotations

import csv
import gzip
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from astropy.table import Table

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.read_survey_file import open_survey_file

LIST = pa.list_(pa.float32())
COEFFICIENTS = {
    f"{band}_{part}": LIST for band in ("bp", "rp") for part in ("coefficients", "coefficient_errors")
}
XP = {"source_id": pa.int64(), "solution_id": pa.int64(), "bp_n_relevant_bases": pa.int16(), **COEFFICIENTS}
NO_BP = 5405570973190252288
PSC_COLUMNS = [
    "ra",
    "decl",
    "err_maj",
    "err_min",
    "err_ang",
    "designation",
    "j_m",
    "j_cmsig",
    "j_msigcom",
    "j_snr",
    "h_m",
    "h_cmsig",
    "h_msigcom",
    "h_snr",
    "k_m",
    "k_cmsig",
    "k_msigcom",
    "k_snr",
    "ph_qual",
    "rd_flg",
    "bl_flg",
    "cc_flg",
    "ndet",
    "prox",
    "pxpa",
    "pxcntr",
    "gal_contam",
    "mp_flg",
    "pts_key",
    "hemis",
    "date",
    "scan",
    "glon",
    "glat",
    "x_scan",
    "jdate",
    "j_psfchi",
    "h_psfchi",
    "k_psfchi",
    "j_m_stdap",
    "j_msig_stdap",
    "h_m_stdap",
    "h_msig_stdap",
    "k_m_stdap",
    "k_msig_stdap",
    "dist_edge_ns",
    "dist_edge_ew",
    "dist_edge_flg",
    "dup_src",
    "use_src",
    "a",
    "dist_opt",
    "phi_opt",
    "b_m_opt",
    "vr_m_opt",
    "nopt_mchs",
    "ext_key",
    "scan_key",
    "coadd_key",
    "coadd",
]

#: file, format, columns, rows: as the manifest beside the files counts them
FILES = [
    ("fjaellet__xp_spectral_lines/xp_continuous_combined_chunk0.fits", "fits", 223, 2000),
    ("fjaellet__xp_spectral_lines/test_xp_ids-result.fits", "fits", 1, 2000),
    ("fjaellet__xp_spectral_lines/xp_continuous_combined_weiler2023_examples.vot", "votable", 26, 4),
    *[
        (f"gaia-dpci__GaiaXPy/xp_continuous/XP_CONTINUOUS_RAW{part}.{end}", kind, 26, rows)
        for part, rows in (("", 2), ("_with_missing_BP", 3), ("_missing_BP_dr3int6", 1))
        for end, kind in (("csv", "datalink-csv"), ("ecsv", "ecsv"), ("fits", "fits"), ("xml", "votable"))
    ],
    ("gaia-dpci__GaiaXPy/xp_continuous/XP_CONTINUOUS_RAW_plain.xml", "votable", 26, 2),
    ("gaia-dpci__GaiaXPy/xp_continuous/XP_CONTINUOUS_RAW_with_missing_BP_plain.xml", "votable", 26, 3),
    ("gaia-dpci__GaiaXPy/xp_continuous/XP_CONTINUOUS_RAW_missing_BP_plain_dr3int6.xml", "votable", 26, 1),
    ("gaia-dpci__GaiaXPy/xp_continuous/XP_CONTINUOUS_RAW_missing_BP_votable_dr3int6.xml", "votable", 26, 1),
    (
        "gaia-dpci__GaiaXPy/xp_continuous/XP_CONTINUOUS_RAW_missing_BP_votable_plain_dr3int6.xml",
        "votable",
        26,
        1,
    ),
    ("gaia-dpci__GaiaXPy/xp_continuous/XP_CONTINUOUS_RAW_colour_eq_dr3int6.csv", "datalink-csv", 26, 3),
    ("gaia-dpci__GaiaXPy/xp_sampled/XP_SAMPLED_RAW_dr3int6.csv", "datalink-csv", 6, 2),
    ("gaia-dpci__GaiaXPy/xp_sampled/XP_SAMPLED_RAW_dr3int6.ecsv", "ecsv", 6, 2),
    ("gaia-dpci__GaiaXPy/xp_sampled/XP_SAMPLED_RAW_dr3int6.fits", "fits", 6, 2),
    ("gaia-dpci__GaiaXPy/xp_sampled/XP_SAMPLED_RAW_votable_dr3int6.xml", "votable", 6, 2),
    ("gaia-dpci__GaiaXPy/xp_sampled/XP_SAMPLED_RAW_votable_plain_dr3int6.xml", "votable", 6, 2),
    ("gaia-dpci__GaiaXPy/18Sco-XP-spectra.csv", "datalink-csv", 10, 1),
    ("astropy__astroquery/gaia/1710099405832VAL-result.vot", "votable", 152, 2),
    ("astropy__astroquery/gaia/1712337806100O-result.ecsv", "ecsv", 153, 5),
    ("astropy__astroquery/sdss/xid_im.txt", "skyserver-csv", 7, 18),
    ("astropy__astroquery/sdss/xid_sp.txt", "skyserver-csv", 14, 1),
    ("adrn__pyia/gdr3_sm.fits", "fits", 152, 1000),
    ("AngelGSoto__PNe-LAMOST/SySt-PS-Gaia.ecsv", "ecsv", 261, 214),
    ("AngelGSoto__PNe-LAMOST/SySt-akras-ps-list-match_csv_9_1_2022.csv", "csv", 301, 778),
    ("sarawebb__correcting_photom_to_skymapper/14hr_SM.tsv", "tsv", 102, 2000),
    ("sarawebb__correcting_photom_to_skymapper/1hr_SM.tsv", "tsv", 41, 2000),
    ("sarawebb__correcting_photom_to_skymapper/CDFS_SM.tsv", "tsv", 41, 2000),
    ("sarawebb__correcting_photom_to_skymapper/dusty10.csv", "csv", 41, 2000),
    ("comhy__SMSS-DR2-ZP--corrections/uv-zp-ebv.txt", "csv", 4, 23),
    ("vedantchandra__mpms/skyserver.csv", "skyserver-csv", 6, 37408),
    ("joshspeagle__brutus/NGC_2682.fits", "fits", 312, 1585),
    ("derived/m67_flat.csv", "csv", 48, 1585),
    ("derived/syst_joint.csv", "csv", 57, 60),
    ("fjaellet__xgboost_chem_ages/Montalban2021_X_APOGEE_DR17.fits", "fits", 214, 95),
    ("fjaellet__xgboost_chem_ages/kepler_apogee_miglio2021.fit", "fits", 41, 3315),
    ("alexji__alexmods/apogee_sgr.fits", "fits", 208, 400),
    ("grd349__LearningLAMOST/my_data3.csv", "csv", 53, 3165),
    (
        "lior-linho__gaia-lamost-galactic-archaeology/gaia_lamost_larger_velocity_features.csv",
        "csv",
        47,
        1838,
    ),
    ("astronomy-commons__hats-import/gaia_epoch.ecsv", "ecsv", 50, 3),
    ("astronomy-commons__hats-import/gaia_minimum.csv", "csv", 8, 5),
]


@pytest.mark.parametrize(
    ("name", "kind", "n_columns", "n_rows"), FILES, ids=lambda v: str(v).rsplit("/", 1)[-1]
)
def test_counts_of_every_file(shared_data, read_all, name, kind, n_columns, n_rows):
    with open_survey_file(shared_data / name) as file:
        assert file.format == kind
        assert len(file.columns) == n_columns
        first = next(c.name for c in file.columns if c.name)
        as_integer = kind in ("fits", "votable") and first in ("source_id", "solution_id")
    assert read_all(shared_data / name, {first: pa.int64() if as_integer else pa.string()}).num_rows == n_rows


def test_sixty_datalink_files(shared_data, read_all):
    paths = sorted((shared_data / "opcruz__gaiaDR3ML" / "Sy").glob("*.csv"))
    assert len(paths) == 60
    for path in paths:
        table = read_all(path, XP)
        assert table["source_id"].to_pylist() == [int(path.stem.split()[-1])]
        for name in COEFFICIENTS:
            assert len(table[name][0]) == 55
            assert table[name].combine_chunks().flatten().null_count == 0


def test_what_is_not_read_says_why(shared_data):
    for name, why in [
        ("gaia-dpci__GaiaXPy/xp_continuous/MeanSpectrumSolutionWithCov.avro", "AVRO.*covariance"),
        (
            "astropy__astroquery/gaia/gaia_dr3_source_id_5937083312263887616_dl_products_csv.zip",
            "(?s)ZIP.*unzip",
        ),
        ("astropy__astroquery/mast/panstarrs_columns.json", "JSON"),
    ]:
        with pytest.raises(InputRejected, match=why):
            open_survey_file(shared_data / name)


@pytest.mark.parametrize(
    "names",
    [
        ["XP_CONTINUOUS_RAW" + e for e in (".csv", ".ecsv", ".fits", ".xml", "_plain.xml")],
        ["XP_CONTINUOUS_RAW_with_missing_BP" + e for e in (".csv", ".ecsv", ".fits", ".xml", "_plain.xml")],
        [
            f"XP_CONTINUOUS_RAW_missing_BP_{e}"
            for e in (
                *("dr3int6.csv", "dr3int6.ecsv", "dr3int6.fits", "dr3int6.xml", "plain_dr3int6.xml"),
                *("votable_dr3int6.xml", "votable_plain_dr3int6.xml"),
            )
        ],
    ],
    ids=["two_bands", "one_without_bp", "only_rp"],
)
def test_one_star_is_equal_in_every_encoding(shared_data, read_all, names):
    wanted = {
        **XP,
        "bp_n_parameters": pa.int16(),
        "bp_chi_squared": pa.float32(),
        "rp_relative_shrinking": pa.float32(),
        "rp_n_measurements": pa.int32(),
    }
    tables = [read_all(shared_data / "gaia-dpci__GaiaXPy" / "xp_continuous" / name, wanted) for name in names]
    for name, table in zip(names, tables, strict=True):
        # solution_id differs between these files, and is no part of the star
        assert table.drop("solution_id").equals(tables[0].drop("solution_id")), name
    for row in tables[0].to_pylist():
        assert len(row["rp_coefficients"]) == 55
        if row["source_id"] == NO_BP:
            missing = [name for name, value in row.items() if value is None]
            assert missing == [n for n in wanted if n.startswith("bp_")]
        else:
            assert None not in row.values()


def test_sampled_spectra_in_every_encoding(shared_data, read_all):
    wanted = {"source_id": pa.int64(), "ra": pa.float64(), "flux": LIST, "flux_error": LIST}
    folder = shared_data / "gaia-dpci__GaiaXPy" / "xp_sampled"
    tables = [read_all(path, wanted) for path in sorted(folder.iterdir())]
    assert len(tables) == 5
    assert all(table.equals(tables[0]) for table in tables)
    assert tables[0]["source_id"].to_pylist() == [6, 4]
    assert pc.list_value_length(tables[0]["flux"]).to_pylist() == [343, 343]


def test_one_row_a_wavelength_becomes_one_row_a_star(datalink, read_all, tmp_path):
    wanted = {"source_id": pa.int64(), "flux": pa.list_(pa.float64()), "flux_error": pa.list_(pa.float64())}
    tables = {}
    for kind, members in datalink.items():
        with open_survey_file(members["XP_SAMPLED"]) as file:
            assert file.format == "xp-samples-long"
            assert "wavelength" not in [c.name for c in file.columns]
        tables[kind] = read_all(
            members["XP_SAMPLED"], {n: LIST if n != "source_id" else k for n, k in wanted.items()}
        )
        assert tables[kind].equals(tables["csv"])
    assert tables["csv"]["source_id"].to_pylist() == [5937083312263887616]
    with open(datalink["csv"]["XP_SAMPLED"], newline="") as lines:
        flux = [float(row["flux"]) for row in csv.DictReader(lines)]
    np.testing.assert_array_equal(tables["csv"]["flux"][0].values.to_numpy(), np.float32(flux))

    # the header, not the name, says whose spectrum a FITS, ECSV or VOTable product is
    for kind in ("ecsv", "fits", "vot"):
        anonymous = tmp_path / f"anonymous.{kind}"
        anonymous.write_bytes(datalink[kind]["XP_SAMPLED"].read_bytes())
        assert read_all(anonymous, {"source_id": pa.int64()})["source_id"].to_pylist() == [
            5937083312263887616
        ]


def test_a_sampled_spectrum_without_a_star_is_refused(datalink, read_all, tmp_path):
    lines = datalink["csv"]["XP_SAMPLED"].read_text().splitlines()
    bare = ["wavelength,flux,flux_error", *(",".join(line.split(",")[4:]) for line in lines[1:])]
    anonymous = tmp_path / "spectrum.csv"
    anonymous.write_text("\n".join(bare))
    with pytest.raises(InputRejected, match="which star") as refused:
        open_survey_file(anonymous)
    assert "Gaia DR3 <source_id>" in refused.value.expected
    named = tmp_path / "XP_SAMPLED-Gaia DR3 5937083312263887616.csv"
    named.write_text("\n".join(bare))
    assert read_all(named, {"source_id": pa.int64()})["source_id"].to_pylist() == [5937083312263887616]
    named.write_text("\n".join(bare[:-3]))
    with pytest.raises(InputRejected, match="incomplete") as refused:
        read_all(named, {"flux": LIST})
    assert refused.value.found == "340 samples"


def test_several_sampled_spectra_in_one_file(datalink, read_all, tmp_path):
    lines = datalink["csv"]["XP_SAMPLED"].read_text().splitlines()
    stars = [5937083312263887616, 5937083312263887617, 2**62 + 1]
    rows = [line.replace(str(stars[0]), str(star), 1) for star in stars for line in lines[1:]]
    path = tmp_path / "three.csv"
    path.write_text("\n".join([lines[0], *rows]))
    wanted = {"source_id": pa.int64(), "flux": LIST, "ra": pa.float64()}
    for n_rows in (1, 2, 1000):
        table = pa.Table.from_batches([b for _, b in open_survey_file(path).batches(wanted, n_rows)])
        assert table["source_id"].to_pylist() == stars
        assert pc.list_value_length(table["flux"]).to_pylist() == [343] * 3
    rows[400] = rows[400].replace(str(stars[1]), str(stars[0]), 1)
    path.write_text("\n".join([lines[0], *rows]))
    with pytest.raises(InputRejected, match="row 2") as refused:
        read_all(path, wanted)
    assert "two stars" in refused.value.found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adrn__pyia/gdr3_sm.fits", "fits"),
        ("alexji__alexmods/apogee_sgr.fits", "fits"),
        ("fjaellet__xgboost_chem_ages/Montalban2021_X_APOGEE_DR17.fits", "fits"),
        ("fjaellet__xgboost_chem_ages/kepler_apogee_miglio2021.fit", "fits"),
        ("astropy__astroquery/gaia/1710099405832VAL-result.vot", "votable"),
        ("astropy__astroquery/gaia/1712337806100O-result.ecsv", "ascii.ecsv"),
        ("AngelGSoto__PNe-LAMOST/SySt-PS-Gaia.ecsv", "ascii.ecsv"),
    ],
)
def test_every_scalar_column_equals_astropys(shared_data, read_all, name, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = Table.read(shared_data / name, format=kind)
    with open_survey_file(shared_data / name) as file:
        published = [c.name for c in file.columns]
    assert [n.lower() for n in published] == [n.lower() for n in expected.colnames]
    columns = [c for c in expected.itercols() if c.ndim == 1]
    names = [n for n, c in zip(published, expected.itercols(), strict=True) if c.ndim == 1]
    types = {
        "f": pa.float64(),
        "i": pa.int64(),
        "b": pa.bool_(),
        "S": pa.string(),
        "U": pa.string(),
        "O": pa.string(),
    }
    table = read_all(
        shared_data / name, {n: types[c.dtype.kind] for n, c in zip(names, columns, strict=True)}, 333
    )
    for column, got in zip(columns, table.itercolumns(), strict=True):
        missing = np.ma.getmaskarray(column).copy()
        values = np.asarray(column)
        if values.dtype.kind == "f":
            missing |= np.isnan(values)
            # float32 columns in text keep their published digits when asked for in double precision
            both = got.to_numpy(), np.where(missing, np.nan, values)
            both = tuple(np.float32(x) for x in both) if values.dtype.itemsize == 4 else both
            np.testing.assert_array_equal(*both, err_msg=column.name)
        elif values.dtype.kind in "SUO":
            text = [x.decode() if isinstance(x, bytes) else str(x) for x in values.tolist()]
            text = [
                None if m or x.strip() in ("", "null") else x.strip()
                for x, m in zip(text, missing, strict=True)
            ]
            assert got.to_pylist() == text, column.name
        else:
            assert got.to_pylist() == np.ma.array(values, mask=missing).tolist(), column.name
        np.testing.assert_array_equal(got.is_null().to_numpy() >= missing, True)


def test_units_are_those_the_file_declares(shared_data, datalink):
    def units(path: Path) -> dict[str, str | None]:
        with open_survey_file(path) as file:
            return {c.name: c.unit for c in file.columns}

    fits = units(shared_data / "adrn__pyia" / "gdr3_sm.fits")
    assert (fits["ra"], fits["parallax"], fits["pmra"], fits["source_id"]) == (
        "deg",
        "mas",
        "mas.yr**-1",
        None,
    )
    ecsv = units(shared_data / "astropy__astroquery" / "gaia" / "1712337806100O-result.ecsv")
    assert (ecsv["ra"], ecsv["parallax"], ecsv["phot_g_mean_mag"], ecsv["source_id"]) == (
        "deg",
        "mas",
        "mag",
        None,
    )
    votable = units(shared_data / "astropy__astroquery" / "gaia" / "1710099405832VAL-result.vot")
    assert (votable["ra"], votable["parallax"]) == ("deg", "mas")
    for kind in ("ecsv", "fits", "vot"):
        assert units(datalink[kind]["XP_SAMPLED"])["flux"] == "W.m**-2.nm**-1"
    assert set(units(shared_data / "derived" / "m67_flat.csv").values()) == {None}


def test_twomass_line_without_header(shared_data, read_all, tmp_path):
    path = shared_data / "derived" / "2mass_psc_aaa_line1.txt"
    wanted = {
        "designation": pa.string(),
        "ra": pa.float64(),
        "decl": pa.float64(),
        "j_m": pa.float32(),
        "cc_flg": pa.string(),
        "rd_flg": pa.string(),
        "ndet": pa.string(),
        "pts_key": pa.int64(),
        "jdate": pa.float64(),
        "ext_key": pa.int64(),
        "dup_src": pa.int16(),
    }
    with open_survey_file(path, file_columns=PSC_COLUMNS) as file:
        assert file.format == "2mass-psc"
    row = read_all(path, wanted, file_columns=PSC_COLUMNS).to_pylist()[0]
    assert row["designation"] == "00042876-8955069"  # the file pads it to 17 characters
    assert (row["cc_flg"], row["rd_flg"], row["ndet"]) == ("000", "222", "666666")
    assert (row["ra"], row["decl"], row["j_m"]) == (1.119851, -89.91861, np.float32(12.467))
    assert (row["pts_key"], row["jdate"], row["ext_key"], row["dup_src"]) == (
        1101364107,
        2451809.7124,
        None,
        1,
    )
    packed = tmp_path / "psc_aaa"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_all(packed, wanted, file_columns=PSC_COLUMNS).to_pylist() == [row]
    for columns in ((), PSC_COLUMNS[:-1]):
        with pytest.raises(InputRejected, match="no header") as refused:
            open_survey_file(path, file_columns=columns)
        assert "60 columns" in refused.value.found


def test_ids_beyond_int64_are_refused_or_kept_as_text(shared_data, read_all):
    path = shared_data / "vedantchandra__mpms" / "skyserver.csv"
    text = read_all(path, {"specobjid": pa.string(), "plate": pa.int32()})
    too_large = [i for i, x in enumerate(text["specobjid"].to_pylist()) if int(x) >= 2**63]
    assert len(too_large) == 641
    with pytest.raises(InputRejected, match="out of range") as refused:
        read_all(path, {"specobjid": pa.int64()})
    assert refused.value.row == too_large[0] + 1
    assert refused.value.found == text["specobjid"][too_large[0]].as_py()


def test_skymapper_schemas_and_separators(shared_data, read_all):
    folder = shared_data / "sarawebb__correcting_photom_to_skymapper"
    wanted = {"object_id": pa.int64(), "raj2000": pa.float64(), "smss_j": pa.string(), "flags": pa.int16()}
    for name in ("14hr_SM.tsv", "1hr_SM.tsv", "CDFS_SM.tsv", "dusty10.csv"):
        table = read_all(folder / name, {**wanted, "u_psf": pa.float32()}, rows=700)
        assert table["object_id"].null_count == 0
        assert len(set(table["object_id"].to_pylist())) == 2000
        assert 0 < table["u_psf"].null_count < 2000
        with open(folder / name, encoding="utf-8") as lines:
            separator = "\t" if name.endswith("tsv") else ","
            rows = list(csv.reader(lines, delimiter=separator))
        at = rows[0].index("smss_j")
        assert table["smss_j"].to_pylist() == [row[at] for row in rows[1:]]
    gaia = read_all(folder / "14hr_SM.tsv", {"gaia_dr2_id1": pa.int64(), "twomass_key": pa.int64()})
    assert 2000 - gaia["gaia_dr2_id1"].null_count == 1997
    assert 2000 - gaia["twomass_key"].null_count == 1384


def test_ids_above_two_to_the_53_are_exact(shared_data, read_all):
    joint = read_all(
        shared_data / "derived" / "syst_joint.csv", {"source_id": pa.int64(), "ps1_objid": pa.int64()}
    )
    joined = read_all(
        shared_data / "AngelGSoto__PNe-LAMOST" / "SySt-PS-Gaia.ecsv",
        {"objID": pa.int64(), "Source": pa.int64()},
    )
    pairs = dict(zip(joined["Source"].to_pylist(), joined["objID"].to_pylist(), strict=True))
    for source_id, objid in zip(joint["source_id"].to_pylist(), joint["ps1_objid"].to_pylist(), strict=True):
        assert pairs[source_id] == objid
        assert objid > 2**53


def test_sentinels_are_left_to_cleaning(shared_data, read_all):
    path = shared_data / "AngelGSoto__PNe-LAMOST" / "SySt-akras-ps-list-match_csv_9_1_2022.csv"
    table = read_all(path, {"MatchID": pa.int64(), "gPSFMag": pa.float64(), "objAltName1": pa.string()})
    assert len(set(table["MatchID"].to_pylist())) == 461
    assert pc.sum(pc.equal(table["gPSFMag"], -999.0)).as_py() > 300
    assert table["gPSFMag"].null_count == 0
    assert table["objAltName1"].to_pylist()[0] == "-999"


def test_signed_numbers_and_padded_cells(shared_data, read_all):
    table = read_all(
        shared_data / "comhy__SMSS-DR2-ZP--corrections" / "uv-zp-ebv.txt",
        {"Delta u (mag)": pa.float64(), "Delta v (mag)": pa.float64(), "SFD_EBV_Min": pa.float64()},
    )
    assert table.slice(0, 2).to_pylist() == [
        {"Delta u (mag)": -0.0020, "Delta v (mag)": 0.0014, "SFD_EBV_Min": 0.0},
        {"Delta u (mag)": 0.0072, "Delta v (mag)": 0.0098, "SFD_EBV_Min": 0.02},
    ]


def test_arrays_with_nan_elements(shared_data, read_all):
    name = "bp_flux_over_error"
    table = read_all(shared_data / "astronomy-commons__hats-import" / "gaia_epoch.ecsv", {name: LIST})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = Table.read(
            shared_data / "astronomy-commons__hats-import" / "gaia_epoch.ecsv", format="ascii.ecsv"
        )
    assert table[name].combine_chunks().flatten().null_count > 0
    for got, want in zip(table[name].to_pylist(), expected[name], strict=True):
        filled = np.ma.filled(np.ma.asarray(want, np.float32), np.nan)
        np.testing.assert_array_equal(np.array(got, np.float32), filled)
