"""What the files say against what is true: noise, systems, coverage, matches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy.io import fits
from astropy.table import Table, vstack

from msacat.catalog.simulated_sky.parameters import load_parameters
from msacat.catalog.surveys.load_specs import builtin_specs

SURVEY_OF = {"sdss": "sdss_dr13", "skymapper": "skymapper_dr2", "ps1": "panstarrs1", "twomass": "twomass_psc",
             "catwise": "catwise2020"}  # fmt: skip
XP_OPERATORS = Path(__file__).parents[2] / "catalog" / "xp" / "xp_operators.npz"


def spread(values: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def published(sky, prefix: str) -> tuple[list, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Survey ids and per band (magnitude, error) of all rows, NaN where the publisher has none."""
    if prefix == "sdss":
        t, names = sky.csv("sdss_dr13", "-9999"), ("objID", "psfMag_{}", "psfMagErr_{}")
    elif prefix == "skymapper":
        t, names = sky.csv("skymapper_dr2", ""), ("object_id", "{}_psf", "e_{}_psf")
    elif prefix == "ps1":
        t, names = sky.csv("panstarrs1", "-999"), ("objID", "{}MeanPSFMag", "{}MeanPSFMagErr")
    else:
        t = vstack(
            [Table.read(f, format="ascii.ipac") for f in sky.files("catwise2020")],
            metadata_conflicts="silent",
        )
        bands = {
            b: tuple(np.ma.filled(t[c].astype(float), np.nan) for c in (f"{b}mpro", f"{b}sigmpro"))
            for b in ("w1", "w2")
        }
        return list(t["source_id"]), bands
    bands = {}
    for band in load_parameters()["surveys"][SURVEY_OF[prefix]]["bands"]:
        columns = (pc.cast(t[name.format(band)], "double") for name in names[1:])
        bands[band] = tuple(c.to_numpy(zero_copy_only=False) for c in columns)
    return t[names[0]].to_pylist(), bands


def scaled_residuals(sky, prefix: str, band_floor: dict[str, float]) -> dict[str, np.ndarray]:
    """(published - true) / (quoted error and unquoted floor) of well-measured cells, by band."""
    ids, bands = published(sky, prefix)
    row = {x: i for i, x in enumerate(sky.truth.column(f"{prefix}_id").to_pylist()) if x is not None}
    at = [(k, row[x]) for k, x in enumerate(ids) if x in row]
    mine, theirs = (np.array(x) for x in zip(*at, strict=True))
    out = {}
    for band, (mag, err) in bands.items():
        residual = mag[mine] - sky.array(f"{prefix}_{band}")[theirs]
        sigma = np.hypot(err[mine], band_floor[band])
        ok = np.isfinite(residual) & (sigma < 0.08)
        out[band] = residual[ok] / sigma[ok]
    return out


@pytest.mark.parametrize("prefix", ["sdss", "skymapper", "ps1", "catwise"])
def test_clean_noise_is_the_quoted_error_and_the_floor(clean_sky, prefix: str) -> None:
    floor = load_parameters()["surveys"][SURVEY_OF[prefix]]["floor"]
    for band, scaled in scaled_residuals(clean_sky, prefix, floor).items():
        error = 1.6 / np.sqrt(len(scaled))  # of a spread, with margin
        assert len(scaled) > 200, band
        assert abs(spread(scaled) - 1) < 3 * error, (band, spread(scaled), len(scaled))
        assert abs(np.median(scaled)) < 4 * error, (band, np.median(scaled))


@pytest.mark.parametrize("prefix", ["sdss", "skymapper", "ps1", "catwise"])
def test_dirty_noise_is_larger_with_outliers(dirty_sky, prefix: str) -> None:
    floor = load_parameters()["surveys"][SURVEY_OF[prefix]]["floor"]
    scaled = np.concatenate(list(scaled_residuals(dirty_sky, prefix, floor).values()))
    assert 1.1 < spread(scaled) < 2.5
    assert 0.01 < np.mean(np.abs(scaled) > 6) < 0.15


def test_floors_are_those_the_survey_files_assume() -> None:
    """Then a model that adds a band's floor_err to the quoted error knows the clean sky's noise exactly."""
    for prefix, dataset in SURVEY_OF.items():
        floor = load_parameters()["surveys"][dataset]["floor"]
        for band in builtin_specs()[dataset].bands:
            assert floor[band.name.removeprefix(f"{prefix}_")] == pytest.approx(band.floor_err), band.name


def test_gaia_photometry_and_astrometry_scatter_as_quoted(clean_sky) -> None:
    t = clean_sky.csv("gaia_source", "null")
    for band in ("g", "bp", "rp"):
        flux, error, mag = (t[f"phot_{band}_mean_{x}"].to_numpy() for x in ("flux", "flux_error", "mag"))
        floor = load_parameters()["gaia"]["floor"][band]
        scaled = (mag - clean_sky.array(f"gaia_{band}")) / np.hypot(1.0857 * error / flux, floor)
        assert abs(spread(scaled) - 1) < 0.08 and abs(np.median(scaled)) < 0.1, band
    parallax, error = t["parallax"].to_numpy(), t["parallax_error"].to_numpy()
    assert abs(spread((parallax - 1 / clean_sky.array("distance_kpc")) / error) - 1) < 0.08


def coefficients(sky) -> np.ndarray:
    halves = (sky.truth.column(f"{h}_coefficients").to_pylist() for h in ("bp", "rp"))
    return np.hstack([np.array(h, float) for h in halves])


def test_synthetic_photometry_of_the_true_xp_gives_the_true_magnitudes(clean_sky) -> None:
    """SDSS and Pan-STARRS through GaiaXPy's standardised systems: to a mmag at every brightness with XP.

    The systems that are not standardised miss XP's background deficit, up to a few hundredths at the faint end.
    """
    with np.load(XP_OPERATORS) as xp:
        row = {key: k for k, key in enumerate(xp["band_keys"].tolist())}
        matrix, offset = xp["band_rows"], xp["band_offsets"]
    true_xp, bright = coefficients(clean_sky), clean_sky.array("gaia_g") < 17.65
    for band, key, limit in [
        *[(f"sdss_{b}", f"SDSS_Std:{b}", 0.002) for b in "griz"],
        *[(f"ps1_{b}", f"PanSTARRS1_Std:{b}p", 0.002) for b in "grizy"],
        *[(f"gaia_{b.lower()}", f"Gaia_DR3_Vega:{b}", 0.03) for b in ("G", "BP", "RP")],
        *[(f"skymapper_{b}", f"Sky_Mapper:{b}", 0.05) for b in "griz"],
    ]:
        flux = true_xp @ matrix[row[key]] + offset[row[key]]
        error = np.abs(-2.5 * np.log10(flux[bright]) - clean_sky.array(band)[bright])
        assert np.percentile(error, 99) < limit, (band, np.percentile(error, 99))


def test_published_xp_scatters_around_the_true_one(clean_sky, dirty_sky) -> None:
    widths = []
    for sky in (clean_sky, dirty_sky):
        t = sky.csv("xp_continuous", "null")
        where = {s: i for i, s in enumerate(sky.array("source_id").tolist())}
        truth = coefficients(sky)[[where[s] for s in t["source_id"].to_pylist()], 55:]
        seen, error = (
            np.array([json.loads(x) for x in t[f"rp_{name}"].to_pylist()])
            for name in ("coefficients", "coefficient_errors")
        )
        widths.append(spread(((seen - truth) / error).ravel()))
    assert widths[0] == pytest.approx(1.0, abs=0.02)
    assert widths[1] == pytest.approx(load_parameters()["dirt"]["noise"]["xp_continuous"], abs=0.05)


def test_star_mix_and_coverage_are_near_the_reference(clean_sky) -> None:
    def share(values) -> float:
        return float(np.mean(values))

    g = clean_sky.array("gaia_g")
    assert share(g < 17.65) == pytest.approx(0.58, abs=0.04)
    assert share(clean_sky.array("giant")) == pytest.approx(0.13, abs=0.03)
    assert share(clean_sky.array("binary")) == pytest.approx(0.23, abs=0.03)
    assert np.median(clean_sky.array("a_v")) == pytest.approx(0.25, abs=0.08)
    expected = {"sdss_id": 0.40, "skymapper_id": 0.50, "ps1_id": 0.75, "twomass_id": 0.53, "catwise_id": 0.92}
    for name, fraction in expected.items():
        seen = np.array([x is not None for x in clean_sky.truth.column(name).to_pylist()])
        assert share(seen) == pytest.approx(fraction, abs=0.07), name


def test_footprints_end_where_the_surveys_do(dirty_sky) -> None:
    assert dirty_sky.csv("skymapper_dr2", "")["dej2000"].to_numpy().max() < 2.1
    assert dirty_sky.csv("panstarrs1", "-999")["decMean"].to_numpy().min() > -30.1
    assert dirty_sky.csv("sdss_dr13", "-9999")["dec"].to_numpy().min() > -1.35
    gaia = dirty_sky.csv("gaia_source", "null")
    assert gaia["dec"].to_numpy().max() > 40 and gaia["dec"].to_numpy().min() < -50


def test_dust_belongs_to_the_cell(clean_sky) -> None:
    """Far stars of one cell share most of their extinction; cells differ."""
    far = clean_sky.array("distance_kpc") > 3
    cell, a_v = clean_sky.array("source_id")[far] >> 49, np.log(clean_sky.array("a_v")[far])
    _cells, index, counts = np.unique(cell, return_inverse=True, return_counts=True)
    means = np.bincount(index, a_v) / counts
    assert np.std(a_v - means[index]) < 0.2 < 0.4 < np.std(means[counts > 3])


def test_repeats_have_their_own_ids_and_are_told_in_the_truth(clean_sky, dirty_sky) -> None:
    for prefix in ("sdss", "skymapper", "ps1", "catwise"):
        first = dirty_sky.truth.column(f"{prefix}_id").to_pylist()
        again = dirty_sky.truth.column(f"repeat_{prefix}_id").to_pylist()
        share = sum(x is not None for x in again) / sum(x is not None for x in first)
        assert 0.03 < share < 0.07, prefix
        assert not set(filter(None, first)) & set(filter(None, again))
        assert clean_sky.truth.column(f"repeat_{prefix}_id").null_count == len(clean_sky.truth)


def test_best_neighbours_are_the_true_pairs_of_a_leading_share(clean_sky) -> None:
    t = clean_sky.csv("panstarrs1_best_neighbour", "none")
    true_id = dict(
        zip(clean_sky.array("source_id").tolist(), clean_sky.truth.column("ps1_id").to_pylist(), strict=True)
    )
    ids = t["source_id"].to_pylist()
    assert [true_id[s] for s in ids] == t["original_ext_source_id"].to_pylist()
    assert t["angular_distance"].to_numpy().max() < 0.2
    covered = {s for s in true_id if s <= max(ids)}
    assert 0.3 < len(covered) / len(true_id) < 0.9
    assert {s for s in covered if true_id[s] is not None} == set(ids)


def test_labels_scatter_as_quoted_on_their_scales(clean_sky) -> None:
    true_fe_h = dict(
        zip(clean_sky.array("source_id").tolist(), clean_sky.array("fe_h").tolist(), strict=True)
    )
    apogee = fits.getdata(clean_sky.files("apogee_dr17")[0], 1)
    residual = apogee["FE_H"] - [true_fe_h[s] for s in apogee["GAIAEDR3_SOURCE_ID"]]
    assert abs(np.median(residual)) < 0.005 and abs(spread(residual / apogee["FE_H_ERR"]) - 1) < 0.2
    lamost = clean_sky.csv("lamost_dr9", "-9999", "|")
    residual = lamost["feh"].to_numpy() - [true_fe_h[s] for s in lamost["gaia_source_id"].to_pylist()]
    offset = load_parameters()["labels"]["lamost_fe_h_offset"]
    assert np.median(residual) == pytest.approx(offset, abs=0.02)


def test_truth_excludes_a_neighbours_light_that_wise_includes(dirty_sky) -> None:
    """Sources with a Gaia neighbour inside 3 arcsec are too bright in W1, and the truth does not know it."""
    gaia = dirty_sky.csv("gaia_source", "null")
    ra, dec, g = (gaia[x].to_numpy() for x in ("ra", "dec", "phot_g_mean_mag"))
    x, y = ra * np.cos(np.radians(dec)), dec
    order = np.argsort(dec)
    close = set()
    for step in range(1, 40):
        a, b = order[:-step], order[step:]
        near = np.hypot(x[a] - x[b], y[a] - y[b]) * 3600 < 2.8
        bright = np.where(g[a] < g[b], a, b)
        close |= set(bright[near & (np.abs(g[a] - g[b]) < 1.5)].tolist())
    assert len(close) > 5
    ids, bands = published(dirty_sky, "catwise")
    w1 = dict(zip(ids, bands["w1"][0], strict=True))
    true_id, true_w1 = dirty_sky.truth.column("catwise_id").to_pylist(), dirty_sky.array("catwise_w1")
    excess = [w1[true_id[k]] - true_w1[k] for k in close if true_id[k] is not None]
    assert np.median(excess) < -0.1
