"""The shipped XP matrices against GaiaXPy itself, on real Gaia coefficients."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msacat.catalog.errors import UsageError
from msacat.catalog.xp import extract_xp_operators as extraction
from msacat.catalog.xp import xp_operators as xp

GAIAXPY_LABEL = {
    "Gaia_DR3_Vega": "GaiaDr3Vega", "SDSS": "Sdss", "SDSS_Std": "SdssStd", "PanSTARRS1": "Panstarrs1",
    "PanSTARRS1_Std": "Panstarrs1Std", "Sky_Mapper": "SkyMapper", "DECam": "Decam", "LSST": "Lsst",
    "Euclid_VIS": "EuclidVis",
}  # fmt: skip


def samples_from_coefficients(coefficients: np.ndarray) -> np.ndarray:
    """What gaiaxpy.calibrate gives on its default grid, W m-2 nm-1; NaN where a missing half is needed."""
    return xp._apply(xp.operators()["samples_from_coefficients"], coefficients)


@pytest.fixture(scope="module")
def gaiaxpy():
    """GaiaXPy as the matrices' judge; its import switches LaTeX on for every later figure, so undo that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("gaiaxpy")
        import matplotlib.pyplot as plt

        plt.rcParams["text.usetex"] = False
        yield module


@pytest.fixture(scope="module")
def real_spectra(shared_data):
    """(frame gaiaxpy accepts, xp (5, 110), errors): the archive spectra of GaiaXPy's own test files."""
    pandas = pytest.importorskip("pandas")
    folder = shared_data / "gaia-dpci__GaiaXPy/xp_continuous"
    csv.field_size_limit(10**8)
    rows = []
    for name in ("XP_CONTINUOUS_RAW.csv", "XP_CONTINUOUS_RAW_colour_eq_dr3int6.csv"):
        with open(folder / name, newline="") as file:
            rows += list(csv.DictReader(file))
    records = []
    for number, row in enumerate(rows):
        record = {"source_id": number + 1}
        for half in ("bp", "rp"):
            for key in ("coefficients", "coefficient_errors"):
                record[f"{half}_{key}"] = np.array(row[f"{half}_{key}"].strip("()[]").split(","), float)
            record[f"{half}_coefficient_correlations"] = np.zeros(1485)
            record[f"{half}_n_parameters"] = 55
            record[f"{half}_standard_deviation"] = float(row[f"{half}_standard_deviation"])
        records.append(record)
    coefficients = np.array([[*r["bp_coefficients"], *r["rp_coefficients"]] for r in records])
    errors = np.array([[*r["bp_coefficient_errors"], *r["rp_coefficient_errors"]] for r in records])
    assert len(records) == 5
    return pandas.DataFrame(records), coefficients, errors


@pytest.fixture(scope="module")
def archive_spectra(shared_data):
    """(xp, errors) of the bright ones among the first 2,000 XP sources of DR3."""
    from astropy.io import fits

    path = shared_data / "fjaellet__xp_spectral_lines/xp_continuous_combined_chunk0.fits"
    table = fits.getdata(path)
    names = [f"{half}_coeff_{k}" for half in ("bp", "rp") for k in range(55)]
    coefficients = np.stack([table[n] for n in names], 1).astype(float)
    errors = np.stack([table[f"e_{n}"] for n in names], 1).astype(float)
    bright = coefficients[:, 0] > 1000
    assert len(table) == 2000 and bright.sum() > 500
    return coefficients[bright], errors[bright]


def test_matrices_are_what_the_installed_gaiaxpy_gives(gaiaxpy):
    from gaiaxpy.core.version import __version__

    if __version__ != extraction.GAIAXPY_VERSION:
        pytest.skip(f"matrices come from gaiaxpy {extraction.GAIAXPY_VERSION}, installed is {__version__}")
    fresh, stored = extraction.extract(), xp.operators()
    assert set(fresh) == set(stored)
    for name, array in fresh.items():
        if array.dtype.kind == "U":
            assert array.tolist() == stored[name].tolist()
        else:  # BLAS builds differ in the last digits of the solved systems
            scale = np.abs(array).max()
            np.testing.assert_allclose(stored[name], array, rtol=0, atol=scale * 1e-7, err_msg=name)
    for exact in ("band_rows", "band_offsets", "samples_from_coefficients"):
        np.testing.assert_allclose(stored[exact], fresh[exact], rtol=1e-12)


def test_provenance_describes_the_file():
    stated = json.loads(extraction.JSON.read_text())
    assert stated["sha256"] == hashlib.sha256(extraction.NPZ.read_bytes()).hexdigest()
    assert set(stated["arrays"]) == set(xp.operators())
    assert list(stated["zero_points"]) == xp.band_keys()
    assert extraction.NPZ.stat().st_size < 2e6


def test_photometry_equals_gaiaxpy_generate(gaiaxpy, real_spectra):
    """All 42 bands of 5 real stars, magnitudes and errors, the SDSS u colour equation included."""
    frame, coefficients, errors = real_spectra
    systems = [gaiaxpy.PhotometricSystem[name] for name in GAIAXPY_LABEL]
    with contextlib.redirect_stdout(io.StringIO()):
        judge = gaiaxpy.generate(frame, photometric_system=systems, save_file=False)
    keys = xp.band_keys()
    mag, err = xp.synthetic_magnitudes(coefficients, keys, errors)
    for column, key in enumerate(keys):
        system, band = key.split(":")
        label = GAIAXPY_LABEL[system]
        expected = judge[f"{label}_mag_{band}"].to_numpy(float)
        np.testing.assert_array_equal(np.isnan(mag[:, column]), np.isnan(expected), err_msg=key)
        np.testing.assert_allclose(mag[:, column], expected, rtol=0, atol=1e-6, err_msg=key)
        flux = judge[f"{label}_flux_{band}"].to_numpy(float)
        relative = judge[f"{label}_flux_error_{band}"].to_numpy(float) / flux
        np.testing.assert_allclose(err[:, column] / 1.0857362, relative, rtol=1e-5, err_msg=key)
    assert np.isfinite(mag).mean() > 0.9


def test_samples_equal_gaiaxpy_calibrate(gaiaxpy, real_spectra):
    frame, coefficients, _ = real_spectra
    with contextlib.redirect_stdout(io.StringIO()):
        judge, grid = gaiaxpy.calibrate(frame, save_file=False)
    np.testing.assert_allclose(grid, xp.operators()["sample_nm"])
    ours = samples_from_coefficients(coefficients)
    for row, expected in zip(ours, judge["flux"], strict=True):
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_round_trip_through_samples_keeps_the_photometry(archive_spectra):
    """Coefficients -> 343 samples -> coefficients, float32 as a database holds them (mmag)."""
    coefficients, _ = archive_spectra
    samples = samples_from_coefficients(coefficients).astype(np.float32)
    bp, _, rp, _ = xp.coefficients_from_samples(samples, None)
    assert bp.dtype == rp.dtype == np.float32 and bp.shape == rp.shape == (len(samples), 55)
    worst = {"SDSS:g": 1, "SDSS:r": 8, "SDSS:i": 1, "Sky_Mapper:v": 1, "PanSTARRS1:zp": 2}
    worst |= {"Gaia_DR3_Vega:G": 5, "Gaia_DR3_Vega:BP": 8, "Gaia_DR3_Vega:RP": 10}
    before, _ = xp.synthetic_magnitudes(coefficients, list(worst))
    after, _ = xp.synthetic_magnitudes(np.hstack([bp, rp]), list(worst))
    mmag = np.abs(after - before) * 1e3
    for key, column in zip(worst, mmag.T, strict=True):
        assert column.max() < worst[key], key
        assert np.median(column) < 1, key
    y_before, _ = xp.synthetic_magnitudes(coefficients, ["PanSTARRS1:yp"])
    y_after, _ = xp.synthetic_magnitudes(np.hstack([bp, rp]), ["PanSTARRS1:yp"])
    assert abs(np.median(y_after - y_before)) < 0.003 and np.abs(y_after - y_before).max() < 0.15


def test_propagated_coefficient_errors_match_the_published_ones(archive_spectra):
    """Published coefficient errors -> errors of samples -> coefficient errors: nine orders in ten back within 30 %."""
    coefficients, errors = archive_spectra
    samples = samples_from_coefficients(coefficients)
    sample_errors = np.sqrt(errors**2 @ (xp.operators()["samples_from_coefficients"] ** 2).T)
    _, bp_err, _, rp_err = xp.coefficients_from_samples(
        samples.astype(np.float32), sample_errors.astype(np.float32)
    )
    ratio = np.median(np.hstack([bp_err, rp_err]) / errors, axis=0)
    assert 0.9 < np.median(ratio) < 1.15
    assert np.mean(np.abs(ratio - 1) < 0.3) > 0.85
    assert ratio.min() > 0.5 and ratio.max() < 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.floats(-50, 50))
def test_everything_is_linear(seed, a, b):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 100, (2, 3, 110))
    mixed = a * x + b * y
    keys = [k for k in xp.band_keys() if "_Std" not in k]
    for apply in (lambda c: xp.synthetic_maggies(c, keys), samples_from_coefficients):
        left, right = apply(mixed), a * apply(x) + b * apply(y)
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-9 * (np.abs(right).max() + 1e-300) + 1e-25)
    f, g = rng.uniform(1e-16, 1e-14, (2, 3, 343))
    left = np.hstack(xp.coefficients_from_samples(a * f + b * g, None)[::2])
    right = a * np.hstack(xp.coefficients_from_samples(f, None)[::2]) + b * np.hstack(
        xp.coefficients_from_samples(g, None)[::2]
    )
    scale = (abs(a) + abs(b)) * np.abs(np.hstack(xp.coefficients_from_samples(f + g, None)[::2])).max()
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-5 * scale + 1e-6)


def test_a_missing_half_spoils_only_what_needs_it(archive_spectra):
    coefficients, errors = (x[:3].copy() for x in archive_spectra)
    coefficients[1, :55] = np.nan  # no BP
    coefficients[2, 55:] = np.nan  # no RP
    errors[np.isnan(coefficients)] = np.nan
    keys = ["SDSS:g", "SDSS:r", "SDSS:i", "Gaia_DR3_Vega:G", "SDSS_Std:u"]
    mag, err = xp.synthetic_magnitudes(coefficients, keys, errors)
    seen = np.isfinite(mag)
    assert seen[0].all()
    assert seen[1].tolist() == [False, False, True, False, False]
    assert seen[2].tolist() == [True, False, False, False, False]
    np.testing.assert_array_equal(np.isfinite(err), seen)
    samples = samples_from_coefficients(coefficients)
    nm = xp.operators()["sample_nm"]
    assert nm[np.isfinite(samples[1])].min() == 644 and nm[np.isfinite(samples[2])].max() == 634


def test_missing_samples_blank_the_half_that_needs_them(archive_spectra):
    flux = samples_from_coefficients(archive_spectra[0][:4])
    error = np.abs(flux) * 0.01
    nm = xp.operators()["sample_nm"]
    flux[1, nm == 400] = np.nan
    flux[2, nm == 900] = np.nan
    error[3, nm == 650] = np.nan  # both halves see 650 nm
    bp, bp_err, rp, rp_err = xp.coefficients_from_samples(flux, error)
    finite = [np.isfinite(a).all(1).tolist() for a in (bp, rp, bp_err, rp_err)]
    assert finite == [
        [True, False, True, True],
        [True, True, False, True],
        [True, True, True, False],
        [True, True, True, False],
    ]
    whole = xp.coefficients_from_samples(flux[:1], error[:1])
    np.testing.assert_array_equal(whole[0][0], bp[0])


def test_flux_below_zero_has_no_magnitude():
    row, offset = xp.synthetic_row("SDSS:g")
    assert offset == 0
    negative = -row / np.linalg.norm(row)
    assert xp.synthetic_maggies(negative[None], ["SDSS:g"])[0, 0] < 0
    mag, err = xp.synthetic_magnitudes(negative[None], ["SDSS:g"], np.ones((1, 110)))
    assert np.isnan(mag[0, 0]) and np.isnan(err[0, 0])


def test_a_flat_ab_source_is_magnitude_zero_in_every_ab_band():
    """f_nu = 3631 Jy through the instrument: an absolute test that knows nothing of real spectra."""
    nm = np.arange(300.0, 1100.0, 0.7)
    f_lambda = 3631e-26 * 2.99792458e17 / nm**2  # W m-2 nm-1
    coefficients = xp.coefficients_from_sed(nm, f_lambda[None])
    inside = [f"{s}:{b}" for s in ("SDSS", "DECam", "LSST", "Sky_Mapper") for b in "gri"]
    inside += ["PanSTARRS1:gp", "PanSTARRS1:rp", "PanSTARRS1:ip", "PanSTARRS1:zp", "DECam:z", "Sky_Mapper:v"]
    mag, _ = xp.synthetic_magnitudes(coefficients, inside)
    assert np.abs(mag).max() < 0.002
    vega, _ = xp.synthetic_magnitudes(
        coefficients, ["Gaia_DR3_Vega:G", "Gaia_DR3_Vega:BP", "Gaia_DR3_Vega:RP"]
    )
    np.testing.assert_allclose(vega[0], [-0.1136, -0.0156, -0.3566], atol=0.002)


def test_a_black_body_comes_back_as_samples_whatever_its_sampling():
    nm = np.arange(320.0, 1060.0, 0.25)
    planck = 1e-13 / (nm / 500) ** 5 / np.expm1(1.4387769e7 / (nm * 6000))
    fine = xp.coefficients_from_sed(nm, planck[None])
    coarse = xp.coefficients_from_sed(nm[::8], planck[None, ::8])
    np.testing.assert_allclose(coarse, fine, rtol=0, atol=2e-4 * fine.max())
    samples = samples_from_coefficients(fine)[0]
    relative = samples / np.interp(xp.operators()["sample_nm"], nm, planck) - 1
    assert np.sqrt(np.mean(relative**2)) < 0.01


def test_wrong_questions_are_refused():
    with pytest.raises(UsageError, match="TwoMASS:J"):
        xp.synthetic_row("TwoMASS:J")
    with pytest.raises(ValueError, match=r"329\.5"):
        xp.coefficients_from_sed(np.arange(400.0, 900.0), np.ones((1, 500)))
