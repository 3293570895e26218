"""Computed columns against independent definitions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from astropy.time import Time

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest.compute_columns import (
    coefficients,
    gaia_ids,
    jyear_from_jd,
    jyear_from_mjd,
    mag_error_from_flux,
    mag_from_flux,
)


def test_julian_years_agree_with_astropy():
    mjd = np.array([50000.25, 51544.5, 57388.0, 60000.0])
    assert jyear_from_mjd(mjd) == pytest.approx(Time(mjd, format="mjd", scale="tt").jyear, abs=1e-9)
    assert jyear_from_jd(mjd + 2400000.5) == pytest.approx(jyear_from_mjd(mjd), abs=1e-9)


def test_magnitudes_of_real_gaia_fluxes(shared_data):
    """G and its error from flux: DR3's published magnitude, and the error of a numerical derivative."""
    from astropy.io import fits

    with fits.open(shared_data / "adrn__pyia/gdr3_sm.fits") as file:
        data = file[1].data
        flux, error, mag = (
            np.asarray(data[name], np.float64)
            for name in ("phot_g_mean_flux", "phot_g_mean_flux_error", "phot_g_mean_mag")
        )
    assert mag_from_flux(flux, 25.6873668671) == pytest.approx(mag, abs=2e-5)
    numerical = (mag_from_flux(flux - error, 0) - mag_from_flux(flux + error, 0)) / 2
    bright = error < 0.01 * flux
    assert mag_error_from_flux(flux, error, 0.0)[bright] == pytest.approx(numerical[bright], rel=1e-3)
    assert mag_error_from_flux(flux, error, 0.0028).min() >= 0.0028


def test_gaia_ids_out_of_text():
    text = pa.array(
        [
            "Gaia DR3 123",
            " 456 ",
            "gaia_dr3  9223372036854775807",
            "9223372036854775808",
            "J1234",
            None,
            "12.0",
            "",
        ]
    )
    ids = gaia_ids(text, "gaia_dr3", "file", "id", 1)
    assert ids.to_pylist() == [123, 456, 2**63 - 1, None, None, None, None, None]


def test_gaia_ids_of_another_release_name_the_row():
    with pytest.raises(InputRejected) as error:
        gaia_ids(pa.array(["Gaia DR3 1", None, "Gaia DR2 2"]), "gaia_dr3", "file", "id", 11)
    assert (error.value.row, error.value.found) == (13, "Gaia DR2 2")


@pytest.mark.parametrize(
    ("nm", "halves"), [(340, {"bp"}), (650, {"bp", "rp"}), (1000, {"rp"})], ids=["BP", "both", "RP"]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_sample_takes_the_halves_that_need_it_and_a_bad_error_their_errors(nm: int, halves: set, bad):
    rng = np.random.default_rng(1)
    flux = rng.uniform(1e-16, 2e-16, (4, 343))
    error = flux / 50
    sample = (nm - 336) // 2
    flux[1, sample] = bad
    error[2, sample] = bad
    error[3, sample] = 0.0
    arrays = coefficients(flux, error)
    for part in ("bp", "rp"):
        lost = part in halves
        for what, expected in (("value", [False, lost, False, False]), ("error", [False, lost, lost, lost])):
            missing = np.isnan(arrays[part, what])
            assert missing.all(axis=1).tolist() == missing.any(axis=1).tolist() == expected, (part, what)
