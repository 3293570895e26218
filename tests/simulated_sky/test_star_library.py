"""The physics under the simulated sky: spectra, dust, stars, instrument, against known values and astropy."""

from __future__ import annotations

import bz2
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msacat.catalog.simulated_sky import stellar_evolution as evolution
from msacat.catalog.simulated_sky.extinction_curve import extinction_terms
from msacat.catalog.simulated_sky.measure import from_maggies, to_maggies
from msacat.catalog.simulated_sky.parameters import load_parameters
from msacat.catalog.simulated_sky.read_sed_grids import read_grid
from msacat.catalog.simulated_sky.star_library import load_library
from msacat.catalog.simulated_sky.xp_background import OPERATORS, background_deficit


def one(*values: float) -> list[np.ndarray]:
    return [np.array([v]) for v in values]


def magnitudes(teff: float, logg: float, fe_h: float, radius: float, a_v: float = 0.0) -> dict[str, float]:
    """Absolute magnitudes by band."""
    library = load_library()
    flux = 10.0 ** library.log_flux_10pc(*one(teff, logg, fe_h, radius, 0.0)).astype(float)
    flux = library.dim(flux, *one(a_v, 3.1))
    return dict(
        zip(library.band_names, (-2.5 * np.log10(flux @ library.band_response.T))[0].tolist(), strict=True)
    )


def test_the_sun_has_the_suns_magnitudes() -> None:
    """Willmer 2018, ApJS 236, 47 (Vega J H Ks W1; AB in PS1) and Gaia's M_G = 4.66, BP-RP = 0.82."""
    sun = magnitudes(5772, 4.438, 0.0, 1.0)
    expected = {"gaia_g": 4.66, "twomass_j": 3.67, "twomass_h": 3.32, "twomass_ks": 3.27, "catwise_w1": 3.26,
                "ps1_g": 5.03, "ps1_r": 4.64, "ps1_i": 4.52}  # fmt: skip
    for band, mag in expected.items():
        assert sun[band] == pytest.approx(mag, abs=0.06), band
    assert sun["gaia_bp"] - sun["gaia_rp"] == pytest.approx(0.82, abs=0.02)


def test_hot_stars_have_no_colour_in_vega_bands() -> None:
    vega = magnitudes(9600, 4.0, 0.0, 2.4)
    for blue, red in (("gaia_bp", "gaia_rp"), ("twomass_j", "twomass_ks"), ("catwise_w1", "catwise_w2")):
        assert vega[blue] - vega[red] == pytest.approx(0.0, abs=0.05)


@given(st.floats(2600, 19000), st.floats(0, 5), st.floats(-4, 0.5))
def test_spectra_are_finite_everywhere_and_hold_their_luminosity(
    teff: float, logg: float, fe_h: float
) -> None:
    mags = magnitudes(teff, logg, fe_h, 1.0)
    optical = [m for band, m in mags.items() if not band.endswith("_u")]
    assert np.all(np.isfinite(optical))
    brighter = magnitudes(teff, logg, fe_h, 10.0)
    assert mags["gaia_g"] - brighter["gaia_g"] == pytest.approx(5.0, abs=1e-3)


def test_metal_poor_stars_are_brighter_in_the_ultraviolet() -> None:
    poor, rich = magnitudes(5500, 4.5, -2.0, 1.0), magnitudes(5500, 4.5, 0.0, 1.0)
    for band, reference in (("sdss_u", "sdss_g"), ("skymapper_v", "skymapper_g")):
        assert (rich[band] - rich[reference]) - (poor[band] - poor[reference]) > 0.3


def test_extinction_curve_through_its_anchors() -> None:
    """Cardelli, Clayton & Mathis 1989, Table 3 (R_V = 3.1): A/A_V at V, I, J, H, K, L."""
    a, b = extinction_terms(np.array([549.0, 900.0, 1250.0, 1600.0, 2200.0, 3400.0]))
    assert a + b / 3.1 == pytest.approx([1.0, 0.479, 0.282, 0.190, 0.114, 0.056], rel=0.05)
    wave = np.arange(300.0, 5600.0, 5.0)
    for r_v in (2.3, 3.1, 4.5):
        a, b = extinction_terms(wave)
        assert np.all(np.diff(a + b / r_v) < 0.002) and np.all(a + b / r_v > 0)
    with pytest.raises(ValueError, match="125 nm"):
        extinction_terms(np.array([90.0]))


def test_dust_dims_and_reddens() -> None:
    clear, dusty = magnitudes(5772, 4.4, 0, 1), magnitudes(5772, 4.4, 0, 1, a_v=1.0)
    assert 0.7 < dusty["gaia_g"] - clear["gaia_g"] < 1.0
    assert 0.02 < dusty["catwise_w1"] - clear["catwise_w1"] < 0.08


def test_the_sun_evolves_as_the_sun() -> None:
    teff, radius = evolution.dwarf(*one(1.0, 4.6, 0.0))
    assert teff[0] == pytest.approx(5772, abs=60) and radius[0] == pytest.approx(1.0, abs=0.04)
    assert evolution.giant_branch_age(*one(1.0, 0.0))[0] == pytest.approx(11.0, abs=1.0)


@given(st.floats(1.0, 12.5), st.floats(-2.3, 0.4))
def test_the_giants_mass_is_the_one_that_arrives(age: float, fe_h: float) -> None:
    mass = evolution.giant_mass(*one(age, fe_h))
    assert evolution.giant_branch_age(mass, np.array([fe_h]))[0] == pytest.approx(age, rel=0.03)


@given(st.floats(0.45, 1.0), st.floats(1.0, 12.0), st.floats(-2.5, 0.4), st.floats(0.0, 0.999))
def test_stars_stay_inside_the_library(mass: float, age: float, fe_h: float, u: float) -> None:
    arrived = evolution.giant_mass(*one(age, fe_h))
    for teff, radius in (
        evolution.dwarf(np.minimum(mass, arrived), *one(age, fe_h)),
        evolution.red_giant(arrived, *one(fe_h, u)),
        evolution.clump_giant(arrived, *one(fe_h, u, 0.0)),
    ):
        assert 2500 < teff[0] < 20000 and 0.1 < radius[0] < 500


@given(st.floats(10, 26))
def test_magnitudes_and_maggies_undo_each_other(mag: float) -> None:
    for softening in (None, 1.2e-10):
        assert from_maggies(to_maggies(np.array([mag]), softening), softening)[0] == pytest.approx(
            mag, abs=1e-6
        )


def test_asinh_magnitudes_are_sdss_s() -> None:
    """Zero flux has magnitude 24.80 in r, and bright ones are Pogson's (DR13 algorithms page)."""
    assert from_maggies(np.array([0.0]), 1.2e-10)[0] == pytest.approx(24.80, abs=0.01)
    assert from_maggies(np.array([1e-7]), 1.2e-10)[0] == pytest.approx(17.5, abs=1e-5)


def test_background_deficit_is_what_the_standardised_systems_add() -> None:
    deficit = background_deficit(load_parameters()["xp"]["background_deficit_mag"])
    with np.load(OPERATORS) as xp:
        for key, row, offset in zip(xp["band_keys"], xp["band_rows"], xp["band_offsets"], strict=True):
            if "_Std:" in key and key != "SDSS_Std:u":
                assert row @ deficit == pytest.approx(offset, rel=1e-6), key
    assert np.linalg.norm(deficit) < 5  # a faint source's coefficients are ~100


def test_library_and_instrument_operators_are_of_one_making() -> None:
    """star_library.npz holds its own copy of the SED operator: rebuild it when xp_operators.npz changes."""
    library = load_library()
    with np.load(OPERATORS) as xp:
        smooth = np.interp(xp["sed_nm"], library.wavelength_nm, 1e-16 / library.wavelength_nm**2)
        expected = xp["coefficients_from_sed"].astype(float) @ smooth
        rows = dict(zip(xp["band_keys"].tolist(), xp["band_rows"], strict=True))
    found = library.xp_operator.astype(float) @ (1e-16 / library.wavelength_nm**2)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4 * np.abs(expected).max())
    maggies = library.band_response[library.band_names.index("ps1_r")].astype(float) @ (
        1e-16 / library.wavelength_nm**2
    )
    assert maggies == pytest.approx(rows["PanSTARRS1_Std:rp"] @ expected, rel=1e-4)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    archive = tmp_path / "grids.tar.gz"
    body = bz2.compress(pickle.dumps(Evil()))
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("SEDFit/sed_kurucz.p")
        member.size = len(body)
        tar.addfile(member, io.BytesIO(body))
    with pytest.raises(pickle.UnpicklingError, match="no business"):
        read_grid(archive, "kurucz")
    assert not (tmp_path / "ran").exists()
