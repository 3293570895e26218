"""Real files of every publisher we have: each ingests with the right counts, or is refused for a stated reason.

Bulk files that lie nowhere within reach (GaiaSource, best neighbours, CatWISE, SDSS photometry, LAMOST `|` files) are
covered in test_documented_formats.py, on files written from their documentation.
"""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from msacat.catalog.errors import InputRejected
from msacat.catalog.store.verify_catalog import verify

XP = "gaia-dpci__GaiaXPy/xp_continuous"
SKYMAPPER = "sarawebb__correcting_photom_to_skymapper"


@pytest.mark.parametrize(
    ("dataset", "path", "rows", "file_format"),
    [
        ("gaia_source", "astropy__astroquery/gaia/1710099405832VAL-result.vot", 2, "votable"),
        ("gaia_source", "astropy__astroquery/gaia/1712337806100O-result.ecsv", 5, "ecsv"),
        ("gaia_source", "adrn__pyia/gdr3_sm.fits", 1000, "fits"),
        ("xp_continuous", f"{XP}/XP_CONTINUOUS_RAW_colour_eq_dr3int6.csv", 3, "datalink-csv"),
        ("xp_continuous", "gaia-dpci__GaiaXPy/18Sco-XP-spectra.csv", 1, "datalink-csv"),
        ("xp_continuous", "fjaellet__xp_spectral_lines/xp_continuous_combined_weiler2023_examples.vot", 4, "votable"),
        ("skymapper_dr2", f"{SKYMAPPER}/14hr_SM.tsv", 2000, "tsv"),
        ("skymapper_dr2", f"{SKYMAPPER}/1hr_SM.tsv", 2000, "tsv"),
        ("skymapper_dr2", f"{SKYMAPPER}/CDFS_SM.tsv", 2000, "tsv"),
        ("skymapper_dr2", f"{SKYMAPPER}/dusty10.csv", 2000, "csv"),
        ("twomass_psc", "derived/2mass_psc_aaa_line1.txt", 1, "2mass-psc"),
        ("apogee_dr17", "fjaellet__xgboost_chem_ages/Montalban2021_X_APOGEE_DR17.fits", 95, "fits"),
        ("lamost_dr9", "grd349__LearningLAMOST/my_data3.csv", 3165, "csv"),
    ],
)  # fmt: skip
def test_ingests_whole(conn, ingest, shared_data, dataset, path, rows, file_format):
    [one] = ingest(dataset, shared_data / path).files
    assert (one.outcome, one.rows_read, one.rows_kept, one.rows_rejected) == ("ingested", rows, rows, {})
    assert one.format == file_format
    assert [r for r in verify(conn, files=True) if not r.passed] == []


@pytest.mark.parametrize(
    ("dataset", "path", "reason"),
    [
        ("panstarrs1", "AngelGSoto__PNe-LAMOST/SySt-akras-ps-list-match_csv_9_1_2022.csv", "stack table"),
        ("panstarrs1", "AngelGSoto__PNe-LAMOST/SySt-PS-Gaia.ecsv", "column gmag is given 2 times"),
        ("apogee_dr17", "alexji__alexmods/apogee_sgr.fits", "DR16 or earlier"),
        ("apogee_dr17", "fjaellet__xgboost_chem_ages/kepler_apogee_miglio2021.fit", "missing: apogee_id"),
        ("xp_continuous", f"{XP}/MeanSpectrumSolutionWithCov.avro", "AVRO"),
        ("xp_continuous", "fjaellet__xp_spectral_lines/xp_continuous_combined_chunk0.fits", "missing: bp_coefficients"),
        ("gaia_source", "fjaellet__xp_spectral_lines/test_xp_ids-result.fits", "missing: ra, dec"),
        ("gaia_source", "astronomy-commons__hats-import/gaia_minimum.csv", "missing: source_id"),
        ("gaia_source", "astropy__astroquery/gaia/gaia_dr3_source_id_5937083312263887616_dl_products_csv.zip", "ZIP"),
        ("sdss_dr13", "astropy__astroquery/sdss/xid_im.txt", "missing: psfMag_g"),
        ("sdss_dr13", "vedantchandra__mpms/skyserver.csv", "missing: objID"),
        ("lamost_dr9", "lior-linho__gaia-lamost-galactic-archaeology/gaia_lamost_larger_velocity_features.csv", "missing"),
        ("gaia_source", "joshspeagle__brutus/NGC_2682.fits", "missing: source_id"),
        ("skymapper_dr2", "comhy__SMSS-DR2-ZP--corrections/uv-zp-ebv.txt", "missing"),
    ],
)  # fmt: skip
def test_is_refused_for_a_stated_reason(conn, ingest, shared_data, dataset, path, reason):
    with pytest.raises(InputRejected, match=reason) as error:
        ingest(dataset, shared_data / path)
    assert error.value.file == str(shared_data / path) and error.value.next_step
    assert conn.execute("SELECT count(*) FROM msacat.files").fetchone() == (0,)


def test_gaia_values_are_those_of_the_file(conn, ingest, shared_data):
    """Every number of the FITS file, read by astropy, against the table; 77 stars without BP are NULL."""
    from astropy.io import fits

    ingest("gaia_source", shared_data / "adrn__pyia/gdr3_sm.fits")
    with fits.open(shared_data / "adrn__pyia/gdr3_sm.fits") as file:
        data = file[1].data
        order = np.argsort(data["source_id"])
        for name, kind in (
            ("ra", "f8"),
            ("parallax", "f8"),
            ("phot_bp_mean_mag", "f4"),
            ("ruwe", "f4"),
            ("pmra_error", "f4"),
        ):
            values = conn.execute(f"SELECT {name} FROM survey.gaia_source ORDER BY source_id").fetchall()
            stored = np.array([np.nan if v is None else v for (v,) in values], kind)
            assert np.array_equal(stored, np.asarray(data[name], kind)[order], equal_nan=True), name
        ids = [i for (i,) in conn.execute("SELECT source_id FROM survey.gaia_source ORDER BY 1")]
        assert ids == data["source_id"][order].tolist()
    assert conn.execute(
        "SELECT count(*) FROM survey.gaia_source WHERE phot_bp_mean_mag IS NULL"
    ).fetchone() == (77,)
    assert conn.execute(
        "SELECT count(*) FILTER (WHERE has_xp_continuous) FROM survey.gaia_source"
    ).fetchone() == (153,)


def test_one_star_in_every_encoding_is_one_row(conn, ingest, shared_data):
    """CSV, ECSV, FITS, VOTable of the same spectra: bit for bit the same coefficients, so nothing clashes."""
    names = ("RAW.csv", "RAW.ecsv", "RAW.fits", "RAW.xml", "RAW_plain.xml")
    report = ingest("xp_continuous", *(shared_data / XP / f"XP_CONTINUOUS_{name}" for name in names))
    assert [f.rows_kept for f in report.files] == [2, 0, 0, 0, 0]
    assert all(f.rows_rejected == {"already stored": 2} for f in report.files[1:])


def test_half_a_spectrum_is_kept_and_its_other_half_is_null(conn, ingest, shared_data):
    names = (
        "with_missing_BP.fits",
        "with_missing_BP.csv",
        "with_missing_BP.ecsv",
        "missing_BP_plain_dr3int6.xml",
    )
    report = ingest("xp_continuous", *(shared_data / XP / f"XP_CONTINUOUS_RAW_{name}" for name in names))
    assert [f.rows_kept for f in report.files] == [3, 0, 0, 0]
    row = conn.execute(
        "SELECT bp_coefficients, bp_coefficient_errors, cardinality(rp_coefficients), quality & 3 FROM survey.xp_continuous "
        "WHERE source_id = 5405570973190252288"
    ).fetchone()
    assert row == (None, None, 55, 1)


def test_sampled_spectra_become_coefficients_whatever_the_encoding(conn, ingest, shared_data):
    """The files carry dummy source_ids (6 and 4): a test of formats only."""
    folder = shared_data / "gaia-dpci__GaiaXPy/xp_sampled"
    report = ingest("xp_sampled", folder)
    assert sorted(f.rows_kept for f in report.files)[-1] == 2
    assert sum(f.rows_kept for f in report.files) == 2
    assert all(f.rows_rejected == {"already stored": 2} for f in report.files[1:])


def test_the_members_of_datalink_bundles(conn, ingest, shared_data, tmp_path):
    """One star, downloaded in four encodings, continuous and sampled (one row a wavelength), unzipped as advised."""
    folder = shared_data / "astropy__astroquery/gaia"
    for encoding in ("csv", "ecsv", "fits", "vot"):
        bundle = folder / f"gaia_dr3_source_id_5937083312263887616_dl_products_{encoding}.zip"
        with zipfile.ZipFile(bundle) as members:
            members.extractall(tmp_path / encoding)
    for dataset, name in (("xp_continuous", "XP_CONTINUOUS"), ("xp_sampled", "XP_SAMPLED")):
        report = ingest(dataset, *(tmp_path.glob(f"*/{name}-Gaia DR3 *")))
        assert sorted(f.rows_kept for f in report.files) == [0, 0, 0, 1]
        assert sum(f.rows_rejected == {"already stored": 1} for f in report.files) == 3
    row = conn.execute(
        "SELECT source_id, c.bp_coefficients[1], s.bp_coefficients[1], c.rp_coefficients[1], s.rp_coefficients[1] "
        "FROM survey.xp_continuous c JOIN survey.xp_sampled s USING (source_id)"
    ).fetchone()
    assert row[0] == 5937083312263887616
    assert row[2] == pytest.approx(row[1], rel=0.01) and row[4] == pytest.approx(row[3], rel=0.01)
    with pytest.raises(InputRejected, match="missing: bp_coefficients"):
        ingest("xp_continuous", next(tmp_path.glob("csv/MCMC_MSC*")))


def test_sixty_small_files(conn, ingest, shared_data):
    report = ingest("xp_continuous", shared_data / "opcruz__gaiaDR3ML/Sy")
    assert len(report.files) == 60 and report.rows_kept == 60
    assert conn.execute("SELECT count(*) FROM survey.xp_continuous WHERE quality & 3 = 0").fetchone() == (60,)


def test_skymapper_nulls_quality_and_ids(conn, ingest, shared_data):
    report = ingest("skymapper_dr2", shared_data / SKYMAPPER / "CDFS_SM.tsv")
    assert report.files[0].values_nulled == {"epoch: sentinel": 39}
    row = conn.execute(
        "SELECT count(*), count(*) FILTER (WHERE num_nonnulls(u_psf, v_psf, g_psf, r_psf, i_psf, z_psf) = 6), "
        "min(skymapper_id), count(epoch), min(epoch) > 2013, max(epoch) < 2019 FROM survey.skymapper_dr2"
    ).fetchone()
    assert row[1] == 227 and row[2] > 0 and row[3:] == (1960, True, True)  # one more cell is empty


def test_apogee_dr17_repeats_flags_and_labels(conn, ingest, shared_data):
    ingest("apogee_dr17", shared_data / "fjaellet__xgboost_chem_ages/Montalban2021_X_APOGEE_DR17.fits")
    row = conn.execute(
        "SELECT count(*), count(fe_h), min(fe_h), max(fe_h), count(DISTINCT gaia_source_id) FROM survey.apogee_dr17"
    ).fetchone()
    assert row[:2] == (95, 94) and row[2:4] == pytest.approx((-1.57, -0.55), abs=0.01) and row[4] == 95


def test_lamost_sentinels(conn, ingest, shared_data):
    [one] = ingest("lamost_dr9", shared_data / "grd349__LearningLAMOST/my_data3.csv").files
    assert one.values_nulled["snri: sentinel"] == 274 and one.values_nulled["snrg: sentinel"] == 2
    assert conn.execute("SELECT min(feh), max(feh) FROM survey.lamost_dr9").fetchone() == pytest.approx(
        (-2.29, 0.90), abs=0.01
    )


def test_twomass_line_from_the_archive(conn, ingest, shared_data):
    ingest("twomass_psc", shared_data / "derived/2mass_psc_aaa_line1.txt")
    line = (shared_data / "derived/2mass_psc_aaa_line1.txt").read_text().split("|")
    row = conn.execute(
        "SELECT twomass_id, ra, dec, j_m, ph_qual, cc_flg, epoch FROM survey.twomass_psc"
    ).fetchone()
    assert row[:3] == (line[5].strip(), float(line[0]), float(line[1]))
    assert row[3] == np.float32(line[6]) and row[4:6] == (line[18], line[21])
    assert row[6] == pytest.approx(2000 + (float(line[35]) - 2451545.0) / 365.25)
