"""The survey files that come with msacat: complete, consistent, and their names frozen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from msacat.catalog.ingest.compute_columns import jyear_from_mjd, mag_from_flux
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_column import Column
from msacat.catalog.surveys.survey_spec import XP_RANGE_NM, SurveySpec
from msacat.catalog.surveys.units_and_ucds import check_ucd, check_unit
from msacat.catalog.xp.xp_operators import coefficients_from_sed, synthetic_magnitudes

SPECS = builtin_specs()
FROZEN = json.loads((Path(__file__).parent / "names_for_ever.json").read_text())
BANDS = [
    "gaia_g", "gaia_bp", "gaia_rp",
    "sdss_u", "sdss_g", "sdss_r", "sdss_i", "sdss_z",
    "skymapper_u", "skymapper_v", "skymapper_g", "skymapper_r", "skymapper_i", "skymapper_z",
    "ps1_g", "ps1_r", "ps1_i", "ps1_z", "ps1_y",
    "twomass_j", "twomass_h", "twomass_ks",
    "catwise_w1", "catwise_w2",
    "delve_g", "delve_r", "delve_i", "delve_z",
    "lsst_u", "lsst_g", "lsst_r", "lsst_i", "lsst_z", "lsst_y",
    "euclid_vis", "euclid_y", "euclid_j", "euclid_h",
]  # fmt: skip
BEYOND_XP = {
    "twomass_j",
    "twomass_h",
    "twomass_ks",
    "catwise_w1",
    "catwise_w2",
    "euclid_y",
    "euclid_j",
    "euclid_h",
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
bands = {b.name: (s, b) for s in SPECS.values() for b in s.bands}
every_band = pytest.mark.parametrize("name", bands)


def test_every_dataset_keyword_is_there():
    assert set(SPECS) == {
        "gaia_source", "xp_continuous", "xp_sampled", "sdss_dr13", "skymapper_dr2", "panstarrs1", "twomass_psc",
        "catwise2020", "apogee_dr17", "lamost_dr9", "delve_dr2", "galah_dr3", "lsst", "euclid",
        "panstarrs1_best_neighbour", "sdssdr13_best_neighbour", "skymapperdr2_best_neighbour",
        "tmass_psc_xsc_best_neighbour", "tmass_psc_xsc_join", "reddening_sfd",
    }  # fmt: skip


def test_band_names_are_those_published_for_ever():
    assert sorted(bands) == sorted(BANDS)


@every_spec
def test_names_types_and_bits_never_change(spec: SurveySpec):
    """A frozen name may not go, nor change its type or bit; a new one is added to names_for_ever.json."""
    frozen = FROZEN[spec.name]
    assert spec.id.column == frozen["id"]
    assert {c.name: c.type for c in spec.columns} == frozen["columns"]
    assert [b.name for b in spec.bands] == frozen["bands"]
    assert [x.quantity for x in spec.labels] == frozen["labels"]
    assert {q.name: q.bit for q in spec.quality} == frozen["quality"]


@every_spec
def test_every_column_says_what_it_is(spec: SurveySpec):
    for column in spec.columns:
        where = f"{spec.name}.{column.name}"
        assert column.description.endswith("."), where
        assert column.description[0].isupper() or column.description[0] in "(0123456789SEJW", where
        assert column.ucd and check_ucd(column.ucd) == column.ucd, where
        assert check_unit(column.unit) == column.unit
        if "phot.mag" in column.ucd:
            assert (column.unit, column.type) == ("mag", "real"), where
        if "pos.pm" in column.ucd:
            assert column.unit == "mas/yr", where
        if column.unit == "deg":
            assert column.type == "double precision", where


@every_spec
def test_every_spec_owes_someone_thanks(spec: SurveySpec):
    assert len(spec.attribution) > 40 and len(spec.reference) > 20 and spec.description.endswith(".")
    assert spec.release


def _as_stored(column: Column, published: float) -> float:
    """What a sentinel would become if nobody recognised it."""
    if column.computed and column.computed.transform == "mjd_to_jyear":
        return float(jyear_from_mjd(np.array(published)))
    if column.computed and column.computed.transform == "mag_from_flux":
        return float(mag_from_flux(np.array(published), column.computed.zero_point or 0.0))
    return published


@every_spec
def test_ranges_exclude_the_sentinels(spec: SurveySpec):
    for column in spec.columns:
        for sentinel in column.sentinels:
            if column.range is not None and not isinstance(sentinel, str):
                stored = _as_stored(column, sentinel)
                assert not column.range[0] <= stored <= column.range[1], (
                    f"{spec.name}.{column.name} {sentinel}"
                )


@every_spec
def test_magnitudes_epochs_and_labels_have_a_range(spec: SurveySpec):
    named = {b.mag for b in spec.bands} | {b.err for b in spec.bands}
    named |= {x for label in spec.labels for x in (label.value, label.err) if x}
    named |= {spec.position.epoch_column} - {None} if spec.position else set()
    for name in named:
        assert spec.column(name).range is not None, f"{spec.name}.{name}"


@every_spec
def test_a_huge_error_takes_its_magnitude_out(spec: SurveySpec):
    """NULL would make it an unknown error, which counts as a typical one: the range must let it through to a cut."""
    for band in spec.bands:
        if spec.role == "reference":
            continue  # Gaia's faint BP is cut by magnitude
        low, high = spec.column(band.err).range
        assert low > 0
        cuts = [
            q for q in spec.quality if q.column == band.err and q.bad_if == ">" and q.bands == [band.name]
        ]
        assert cuts and cuts[0].removes and cuts[0].value < high, band.name


@every_spec
def test_the_row_epoch_holds_the_default(spec: SurveySpec):
    if spec.position and spec.position.epoch_column:
        low, high = spec.column(spec.position.epoch_column).range
        assert low <= spec.position.epoch <= high


def test_the_reference_keeps_every_source():
    """Each Gaia source has one row from file to enriched table, so no cut may take a row out."""
    assert all(q.bands or not q.removes for q in SPECS["gaia_source"].quality)


def test_one_reference_and_every_match_table_fits_its_survey():
    assert [s.name for s in SPECS.values() if s.role == "reference"] == ["gaia_source"]
    tables = [s for s in SPECS.values() if s.role == "matches"]
    assert len(tables) == 4
    for spec in tables:
        other = SPECS[spec.matches.survey]
        assert spec.release == SPECS["gaia_source"].release
        assert spec.column(spec.matches.id).type == other.column(other.id.column).type


@every_band
def test_xp_reaches_only_what_lies_inside_the_spectra(name: str):
    _, band = bands[name]
    assert (band.xp is None) == (name in BEYOND_XP)
    assert (XP_RANGE_NM[0] < band.wavelength_nm < XP_RANGE_NM[1]) == (name not in BEYOND_XP)
    assert (band.xp_weight < 1) == name.endswith("_u")
    standardised = band.xp is not None and ("_Std:" in band.xp or band.xp.startswith("Gaia_DR3_Vega:"))
    assert band.xp_offset == (band.xp is not None and not standardised)


@every_band
def test_xp_names_a_band_that_gaiaxpy_has(name: str):
    gaiaxpy = pytest.importorskip("gaiaxpy")
    key = bands[name][1].xp
    if key is not None:
        system, band = key.split(":")
        assert band in gaiaxpy.PhotometricSystem[system].get_bands()


@every_band
def test_zero_points_follow_the_system(name: str):
    _, band = bands[name]
    if band.system == "AB":
        assert band.zero_point_jy == 3631.0
    elif band.system == "asinh AB":
        shift = {"sdss_u": -0.04, "sdss_z": 0.02}.get(name, 0.0)  # m_AB - m_SDSS
        assert band.zero_point_jy == pytest.approx(3631.0 * 10 ** (-0.4 * shift), rel=1e-3)
    else:
        assert band.zero_point_jy < 3631.0
    assert 0 < band.typical_err < 0.2 and band.width_nm < band.wavelength_nm


def test_vega_zero_points_give_the_standard_ab_offsets():
    """AB minus Vega: J 0.91, H 1.39, Ks 1.85, W1 2.699, W2 3.339."""
    standard = {
        "twomass_j": 0.91,
        "twomass_h": 1.39,
        "twomass_ks": 1.85,
        "catwise_w1": 2.699,
        "catwise_w2": 3.339,
    }
    for name, offset in standard.items():
        assert -2.5 * np.log10(bands[name][1].zero_point_jy / 3631.0) == pytest.approx(offset, abs=0.035), (
            name
        )


def test_gaia_s_zero_points_are_those_of_its_published_magnitudes():
    """Zero points of DR3's documentation (AB, Vega); an AB source of 3631 Jy seen through the XP agrees."""
    published = {"gaia_g": (25.8010, 25.6874), "gaia_bp": (25.3540, 25.3385), "gaia_rp": (25.1040, 24.7479)}
    nm = np.arange(320.0, 1061.0)
    flat = coefficients_from_sed(nm, 3631e-26 * 2.99792458e17 / nm**2)
    through_xp, _ = synthetic_magnitudes(flat, [bands[name][1].xp for name in published])
    for (name, (ab, vega)), seen in zip(published.items(), through_xp[0], strict=True):
        ab_minus_vega = -2.5 * np.log10(bands[name][1].zero_point_jy / 3631.0)
        assert ab_minus_vega == pytest.approx(ab - vega, abs=1e-5), name
        assert ab_minus_vega == pytest.approx(-seen, abs=0.003), name


def test_fluxes_become_ab_magnitudes():
    """1 nJy is AB 31.4 and 1 uJy AB 23.9."""
    for dataset, column, jansky in (("lsst", "r_psfmag", 1e-9), ("euclid", "vis_mag", 1e-6)):
        zero_point = SPECS[dataset].column(column).computed.zero_point
        assert zero_point == pytest.approx(-2.5 * np.log10(jansky / 3631.0), abs=1e-3)


def test_labels_are_brought_to_the_apogee_scale():
    scales = {s.name: {x.scale for x in s.labels} for s in SPECS.values() if s.labels}
    assert scales == {
        "apogee_dr17": {"reference"}, "lamost_dr9": {"fitted_offset"}, "galah_dr3": {"fitted_offset"},
    }  # fmt: skip


def test_names_not_seen_in_a_file_or_data_model_are_marked():
    for spec in SPECS.values():
        unverified = {c.name for c in spec.columns if c.unverified}
        assert bool(unverified) == (spec.name in {"delve_dr2", "euclid", "tmass_psc_xsc_join"})
        assert all(c.source for c in spec.columns if c.unverified)
    assert all(c.source for name in ("delve_dr2", "galah_dr3", "lsst", "euclid") for c in SPECS[name].columns)
