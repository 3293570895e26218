"""What the dirty sky is promised to hold, item by item, seen in its files; and the depths of both skies."""

from __future__ import annotations

import json

import numpy as np
import pytest

from msacat.catalog.simulated_sky.measure import measure_band
from msacat.catalog.simulated_sky.parameters import load_parameters
from msacat.catalog.simulated_sky.sky_positions import in_footprint

P = load_parameters()


def residuals(sky, prefix: str, band: str, repeat: bool = False) -> np.ndarray:
    """(S,) published minus true magnitude of each Gaia source, NaN where the survey has none."""
    names = {
        "sdss": ("sdss_dr13", "-9999", "objID", f"psfMag_{band}"),
        "skymapper": ("skymapper_dr2", "", "object_id", f"{band}_psf"),
        "ps1": ("panstarrs1", "-999", "objID", f"{band}MeanPSFMag"),
    }
    dataset, null, identifier, column = names[prefix]
    table = sky.csv(dataset, null)
    mags = dict(zip(table[identifier].to_pylist(), table[column].to_pylist(), strict=True))
    ids = sky.truth.column(f"{'repeat_' if repeat else ''}{prefix}_id").to_pylist()
    published = np.array([mags.get(i) if i is not None else None for i in ids], float)
    return published - sky.array(f"{prefix}_{band}")


def spread(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def test_classes_come_in_the_shares_of_the_file(dirty_sky) -> None:
    classes, n = dirty_sky.array("class"), len(dirty_sky.truth)
    for name in ("m_dwarf", "white_dwarf", "quasar", "galaxy"):
        share = P["dirt"]["classes"][name]
        assert np.mean(classes == name) == pytest.approx(share, abs=4 * np.sqrt(share / n)), name
    teff = dirty_sky.array("teff")
    assert teff[classes == "m_dwarf"].max() < 4000 < 5000 < teff[classes == "white_dwarf"].min()
    assert np.isnan(teff[classes == "quasar"]).all()


def test_some_stars_are_alpha_enhanced_and_some_very_metal_poor(clean_sky, dirty_sky) -> None:
    alpha, fe_h = (dirty_sky.array(x)[dirty_sky.array("class") == "star"] for x in ("alpha", "fe_h"))
    assert 0.1 < np.mean(alpha > 0.2) < 0.4
    assert np.mean(fe_h < -2.6) > 0.002 and fe_h.min() > -4.01
    assert clean_sky.array("fe_h").min() > -2.91 and not clean_sky.array("alpha").any()


def test_variables_differ_between_epochs_and_the_truth_is_their_mean(dirty_sky) -> None:
    amplitude = dirty_sky.array("amplitude")
    variable, constant = amplitude > 0.15, amplitude == 0
    assert 0.02 < np.mean(variable) < 0.1
    between = residuals(dirty_sky, "ps1", "r") - residuals(dirty_sky, "sdss", "r")
    assert spread(between[variable]) > 3 * spread(between[constant])
    again = residuals(dirty_sky, "ps1", "r", repeat=True) - residuals(dirty_sky, "ps1", "r")
    assert spread(again[constant]) < 0.05
    brighter = residuals(dirty_sky, "ps1", "r")[variable]
    assert abs(np.nanmedian(brighter)) < 3 * np.nanstd(brighter) / np.sqrt(np.isfinite(brighter).sum())


def common_error(sky, prefix: str, band: str) -> float:
    """mag^2: mean product of the residuals of two constant stars of one level-5 cell, outliers left out."""
    residual = residuals(sky, prefix, band)
    chosen = (np.abs(residual) < 0.1) & (sky.array(f"{prefix}_{band}") < 18) & (sky.array("amplitude") == 0)
    r, cell = residual[chosen] - np.median(residual[chosen]), sky.array("source_id")[chosen] >> 49
    _, index, n = np.unique(cell, return_inverse=True, return_counts=True)
    products = np.bincount(index, r) ** 2 - np.bincount(index, r**2)
    return float(products.sum() / (n * (n - 1)).sum())


def test_zero_points_belong_to_the_cell_and_not_to_the_truth(clean_sky, dirty_sky) -> None:
    for prefix, dataset in (("skymapper", "skymapper_dr2"), ("ps1", "panstarrs1")):
        expected = P["dirt"]["zero_points"][dataset] ** 2
        assert abs(common_error(clean_sky, prefix, "i")) < 0.1 * expected, prefix
        assert 0.5 * expected < common_error(dirty_sky, prefix, "i") < 1.7 * expected, prefix


def test_three_spectra_in_a_hundred_have_a_bad_bp(clean_sky, dirty_sky) -> None:
    shares = []
    for sky in (clean_sky, dirty_sky):
        table = sky.csv("xp_continuous", "null")
        row = {s: i for i, s in enumerate(sky.array("source_id").tolist())}
        truth = np.array(sky.truth.column("bp_coefficients").to_pylist(), float)
        published = [
            (row[s], json.loads(bp), json.loads(error))
            for s, bp, error in zip(
                *(table[c].to_pylist() for c in ("source_id", "bp_coefficients", "bp_coefficient_errors")),
                strict=True,
            )
            if bp is not None
        ]
        where, seen, error = (np.array(x) for x in zip(*published, strict=True))
        off = np.abs(seen - truth[where]) / error
        shares.append(np.mean(np.median(off[:, : P["dirt"]["bad_bp"]["orders"]], axis=1) > 4))
    assert shares[0] == 0
    # neighbours inside Gaia's beam add a few
    assert P["dirt"]["bad_bp"]["fraction"] - 0.015 < shares[1] < P["dirt"]["bad_bp"]["fraction"] + 0.025


def test_twomass_has_repeats_too(dirty_sky) -> None:
    first, again = (dirty_sky.truth.column(f"{x}twomass_id").to_pylist() for x in ("", "repeat_"))
    share = sum(x is not None for x in again) / sum(x is not None for x in first)
    assert 0.03 < share < 0.07 and not set(filter(None, first)) & set(filter(None, again))


def test_strengths_are_those_of_the_reference(dirty_sky) -> None:
    """Real noise 1.2 to 1.6 times the quoted, 2.5 to 5 % outliers, zero points off by 6 to 18 mmag, 3 % bad BP."""
    dirt = P["dirt"]
    surveys = ("sdss_dr13", "skymapper_dr2", "panstarrs1", "twomass_psc", "catwise2020")
    assert all(1.2 <= dirt["noise"][s] <= 1.6 for s in surveys) and dirt["noise"]["xp_continuous"] == 1.25
    assert all(0.025 <= dirt["outliers"][s] <= 0.05 for s in surveys) and dirt["outliers"]["size_mag"] == 0.35
    assert all(0.006 <= dirt["zero_points"][s] <= 0.018 for s in surveys)
    assert (dirt["bad_bp"]["fraction"], dirt["repeats"]["fraction"]) == (0.03, 0.05)
    assert P["surveys"]["catwise2020"]["beam_arcsec"] == 6.0


@pytest.mark.parametrize(
    ("dataset", "band", "depth"),
    [("sdss_dr13", "g", 23.13), ("skymapper_dr2", "g", 21.7), ("panstarrs1", "g", 23.5)],
)
def test_five_sigma_depths(dataset: str, band: str, depth: float) -> None:
    """Half of the sources at the depth are detected, at 5 sigma; hardly one a magnitude beyond."""
    rng = np.random.default_rng(0)
    survey = P["surveys"][dataset] | {"band_gap": {}}
    at, beyond = (measure_band(rng, np.full(4000, depth + dm), survey, band) for dm in (0.0, 1.0))
    assert np.mean(np.isfinite(at.mag)) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.isfinite(beyond.mag)) < 0.01
    assert np.nanmedian(at.err) == pytest.approx(1.0857 / 5, rel=0.2)


@pytest.mark.parametrize(
    ("name", "band", "limit"), [("twomass", "twomass_j", 15.8), ("catwise", "catwise_w1", 17.7)]
)
def test_limits_of_the_infrared_lists(clean_sky, name: str, band: str, limit: float) -> None:
    true = clean_sky.array(band)
    listed = np.array([x is not None for x in clean_sky.truth.column(f"{name}_id").to_pylist()])
    assert np.mean(listed[(true > limit - 2) & (true < limit - 0.7)]) > 0.95
    assert np.mean(listed[true > limit + 0.7]) < 0.05
    near = np.abs(true - limit) < 0.2
    assert 0.3 < np.mean(listed[near]) < 0.7


def test_gaps_inside_the_footprints(clean_sky) -> None:
    gaia = clean_sky.csv("gaia_source", "null")
    ra, dec = (gaia[x].to_numpy() for x in ("ra", "dec"))
    bright = (clean_sky.array("gaia_g") > 15) & (clean_sky.array("gaia_g") < 18)
    for prefix, dataset in (("sdss", "sdss_dr13"), ("ps1", "panstarrs1"), ("skymapper", "skymapper_dr2")):
        listed = np.array([x is not None for x in clean_sky.truth.column(f"{prefix}_id").to_pylist()])
        inside = bright & in_footprint(dataset, ra, dec, P)
        gap = P["surveys"][dataset]["gap_fraction"]
        assert np.mean(~listed[inside]) == pytest.approx(gap, abs=0.02), prefix
        assert not listed[bright & ~in_footprint(dataset, ra, dec, P)].any(), prefix
