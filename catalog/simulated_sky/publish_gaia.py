"""Writes Gaia's files as the DR3 archive's bulk download has them: ECSV text, gzip, `null` for what is missing.

gaia_source has the published columns a user of stars needs, in published order, not all 152.
XpContinuousMeanSpectrum is whole, except that the correlations (1,485 numbers a half, which msacat does not keep)
are null. Format: Gaia DR3 data model and GDR3 bulk files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msacat.catalog.healpix import cell_of
from msacat.catalog.simulated_sky.measure import gaia_errors, xp_errors
from msacat.catalog.simulated_sky.parameters import Parameters, pair
from msacat.catalog.simulated_sky.sky_objects import SkyObjects
from msacat.catalog.simulated_sky.sky_positions import galactic, move
from msacat.catalog.simulated_sky.text_tables import array_text, lines, text, write_lines
from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX

SOLUTION_ID, XP_SOLUTION_ID = 1636148068921376768, 4545469030156206081
#: Vega zero points of DR3 (Riello et al. 2021, A&A 649, A3, Table 5 as published in DR3's documentation).
ZERO_POINT = {"g": 25.6873668671, "bp": 25.3385422158, "rp": 24.7478955012}
BASIS_ID = {"bp": 56, "rp": 57}
#: The archive names its files by ranges of HEALPix cells of this level.
FILE_LEVEL = 8


@dataclass
class GaiaChunk:
    """What Gaia measured of one chunk's objects; arrays over the Gaia objects only."""

    object: np.ndarray  # index into SkyObjects
    mags: dict[str, np.ndarray]
    flux: dict[str, np.ndarray]
    flux_error: dict[str, np.ndarray]
    has_xp: np.ndarray
    errors: dict[str, np.ndarray]


def measure_gaia(
    rng: np.random.Generator,
    objects: SkyObjects,
    names: list[str],
    p: Parameters,
    noise_factor: float = 1.0,
    shift_mag: dict[str, np.ndarray] | None = None,
    odd: dict | None = None,
) -> GaiaChunk:
    """Gaia's photometry. noise_factor: real noise over quoted; shift_mag: per band, over the Gaia objects,
    what the mean photometry suffered beyond its noise; odd: the table dirt.oddities.
    """
    index = np.flatnonzero(objects.in_gaia)
    true = {b: objects.mag[index, names.index(f"gaia_{b}")] for b in ("g", "bp", "rp")}
    errors = gaia_errors(true["g"], true["bp"], true["rp"], p)
    mags, fluxes, flux_errors = {}, {}, {}
    for band, mag in true.items():
        shift = shift_mag[band] if shift_mag else 0.0
        flux = 10 ** (-0.4 * (mag + shift - ZERO_POINT[band]))
        quoted = flux * errors[band] / MAG_PER_RELATIVE_FLUX
        noise = np.hypot(noise_factor * quoted, flux * p["gaia"]["floor"][band] / MAG_PER_RELATIVE_FLUX)
        seen = flux + noise * rng.standard_normal(len(flux))
        positive = seen > 0
        fluxes[band] = np.where(positive, seen, np.nan)
        flux_errors[band] = np.where(positive, quoted, np.nan)
        mags[band] = ZERO_POINT[band] - 2.5 * np.log10(np.where(positive, seen, np.nan))
    bright = mags["g"] < p["magnitudes"]["g_xp_limit"]
    has_xp = bright & (rng.random(len(index)) >= p["xp"]["missing_fraction"])
    if odd:
        colourless = ~bright & (rng.random(len(index)) < odd["no_colour"])
        for band in ("bp", "rp"):
            for values in (mags, fluxes, flux_errors):
                values[band][colourless] = np.nan
    return GaiaChunk(index, mags, fluxes, flux_errors, has_xp, errors)


def file_range(source_id: np.ndarray) -> str:
    """'lo-hi', the level-8 cells a file holds, as in GaiaSource_000000-003111."""
    cells = cell_of(source_id[[0, -1]], FILE_LEVEL)
    return f"{cells[0]:06d}-{cells[1]:06d}"


def write_gaia_source(
    folder: Path,
    rng: np.random.Generator,
    objects: SkyObjects,
    gaia: GaiaChunk,
    p: Parameters,
    odd: dict | None = None,
) -> int:
    """odd: the table dirt.oddities, for sources without parallax and motion."""
    i, n, e = gaia.object, len(gaia.object), gaia.errors
    moves = rng.random(n) >= odd["no_motion"] if odd else np.ones(n, bool)
    parallax_error, motion_error = (np.where(moves, e[key], np.nan) for key in ("parallax", "motion"))
    position = e["position"]
    east, north = position * rng.standard_normal((2, n))
    ra, dec = move(objects.ra[i], objects.dec[i], east, north, 1.0)
    parallax = 1.0 / objects.distance_kpc[i] + parallax_error * rng.standard_normal(n)
    pmra = objects.pmra[i] + motion_error * rng.standard_normal(n)
    pmdec = objects.pmdec[i] + motion_error * rng.standard_normal(n)
    ruwe = (
        1.0
        + p["gaia"]["ruwe_scatter"] * np.abs(rng.standard_normal(n))
        + np.where(objects.binary[i], rng.lognormal(*pair(p["gaia"]["ruwe_binary_ln"]), n), 0.0)
    )
    l_deg, b_deg = galactic(ra, dec)
    excess = (gaia.flux["bp"] + gaia.flux["rp"]) / gaia.flux["g"]
    source_id = objects.source_id[i]
    columns: list[tuple[str, str, pa.Array]] = [
        ("solution_id", "int64", text(np.full(n, SOLUTION_ID), "null")),
        ("designation", "string", pc.binary_join_element_wise('"Gaia DR3 ', text(source_id, "null"), '"', "")),
        ("source_id", "int64", text(source_id, "null")),
        ("random_index", "int64", text(rng.integers(0, 1_811_709_771, n), "null")),
        ("ref_epoch", "float64", text(np.full(n, p["gaia"]["reference_epoch"]), "null")),
        ("ra", "float64", text(ra, "null")),
        ("ra_error", "float32", text(position.astype(np.float32), "null")),
        ("dec", "float64", text(dec, "null")),
        ("dec_error", "float32", text(position.astype(np.float32), "null")),
        ("parallax", "float64", text(parallax, "null", 8)),
        ("parallax_error", "float32", text(parallax_error.astype(np.float32), "null")),
        ("parallax_over_error", "float32", text((parallax / parallax_error).astype(np.float32), "null")),
        ("pm", "float32", text(np.hypot(pmra, pmdec).astype(np.float32), "null")),
        ("pmra", "float64", text(pmra, "null", 8)),
        ("pmra_error", "float32", text(motion_error.astype(np.float32), "null")),
        ("pmdec", "float64", text(pmdec, "null", 8)),
        ("pmdec_error", "float32", text(motion_error.astype(np.float32), "null")),
        ("visibility_periods_used", "int16", text(rng.integers(12, 30, n), "null")),
        ("ruwe", "float32", text(np.where(moves, ruwe, np.nan).astype(np.float32), "null")),
        ("duplicated_source", "bool", _boolean(rng.random(n) < p["gaia"]["duplicated_fraction"])),
    ]  # fmt: skip
    for band in ("g", "bp", "rp"):
        flux, error = gaia.flux[band], gaia.flux_error[band]
        columns += [
            (f"phot_{band}_mean_flux", "float64", text(flux, "null", 6)),
            (f"phot_{band}_mean_flux_error", "float32", text(error.astype(np.float32), "null")),
            (f"phot_{band}_mean_mag", "float32", text(gaia.mags[band], "null", 6)),
        ]
    columns += [
        ("phot_bp_rp_excess_factor", "float32", text(excess.astype(np.float32), "null")),
        ("l", "float64", text(l_deg, "null", 10)),
        ("b", "float64", text(b_deg, "null", 10)),
        ("has_xp_continuous", "bool", _boolean(gaia.has_xp)),
        ("has_xp_sampled", "bool", _boolean(gaia.has_xp & (gaia.mags["g"] < 15))),
    ]
    path = folder / "gaia_source" / f"GaiaSource_{file_range(source_id)}.csv.gz"
    header = _ecsv_header([(name, kind, None) for name, kind, _ in columns])
    write_lines(path, header, lines([c for _, _, c in columns], ","))
    return n


def write_xp_continuous(
    folder: Path,
    rng: np.random.Generator,
    objects: SkyObjects,
    gaia: GaiaChunk,
    p: Parameters,
    noise_factor: float = 1.0,
    spoil: np.ndarray | None = None,
) -> int:
    """noise_factor: real noise over quoted; spoil: (N_gaia, 110) added to the coefficients."""
    keep = np.flatnonzero(gaia.has_xp)
    if not len(keep):
        return 0
    i, n = gaia.object[keep], len(keep)
    true = objects.xp[i].astype(float)
    error = xp_errors(true, p)
    seen = true + noise_factor * error * rng.standard_normal(true.shape)
    if spoil is not None:
        seen += spoil[keep]
    no_bp = rng.random(n) < p["xp"]["missing_bp_fraction"]
    columns: list[tuple[str, str, str | None, pa.Array]] = [
        ("source_id", "int64", None, text(objects.source_id[i], "null")),
        ("solution_id", "int64", None, text(np.full(n, XP_SOLUTION_ID), "null")),
    ]
    for half, part, missing in (("bp", slice(0, 55), no_bp), ("rp", slice(55, 110), np.zeros(n, bool))):
        # Four decimals are far below the errors and halve the file.
        c, e = (np.round(x[:, part], 4).astype(np.float32) + np.float32(0) for x in (seen, error))
        measurements = rng.integers(300, 1800, n)
        bases = _relevant_bases(c, e)
        chi_squared = (measurements - 55) * rng.normal(1.05, 0.05, n)

        def scalar(values: np.ndarray, missing: np.ndarray = missing) -> pa.Array:
            return pc.if_else(pa.array(missing), "null", text(values, "null"))

        columns += [
            (f"{half}_basis_function_id", "int16", None, scalar(np.full(n, BASIS_ID[half]))),
            (f"{half}_degrees_of_freedom", "int16", None, scalar(measurements - 55)),
            (f"{half}_n_parameters", "int16", None, scalar(np.full(n, 55))),
            (f"{half}_n_measurements", "int16", None, scalar(measurements)),
            (f"{half}_n_rejected_measurements", "int16", None, scalar(rng.integers(0, 8, n))),
            (f"{half}_standard_deviation", "float32", None, scalar(np.sqrt(chi_squared / (measurements - 55)).astype(np.float32))),
            (f"{half}_chi_squared", "float32", None, scalar(chi_squared.astype(np.float32))),
            (f"{half}_coefficients", "string", "float64[null]", array_text(c, missing, "null", "[]")),
            (f"{half}_coefficient_errors", "string", "float32[null]", array_text(e, missing, "null", "[]")),
            (f"{half}_coefficient_correlations", "string", "float32[null]", pa.array(["null"] * n, pa.string())),
            (f"{half}_n_relevant_bases", "int16", None, scalar(bases)),
            (f"{half}_relative_shrinking", "float32", None, scalar(rng.uniform(0.01, 0.4, n).astype(np.float32))),
        ]  # fmt: skip
    path = (
        folder
        / "xp_continuous"
        / f"XpContinuousMeanSpectrum_{file_range(objects.source_id[gaia.object])}.csv.gz"
    )
    header = _ecsv_header([(name, kind, subtype) for name, kind, subtype, _ in columns])
    write_lines(path, header, lines([c for *_, c in columns], ","))
    return n


def write_best_neighbours(
    folder: Path,
    source_id: np.ndarray,
    ps1_id: np.ndarray,
    distance_arcsec: np.ndarray,
    mates: np.ndarray,
    chunk_ids: np.ndarray,
) -> int:
    """gaiadr3.panstarrs1_best_neighbour: plain CSV, one row a matched source."""
    columns = [
        text(source_id, ""),
        text(ps1_id % 2_000_000_000, ""),  # clean_panstarrs1_oid: the archive's own running number
        text(ps1_id, ""),
        text(distance_arcsec, "", 8),
        text(np.ones(len(source_id), int), ""),
        text(mates, ""),
        text(np.full(len(source_id), 8), ""),
    ]
    header = "source_id,clean_panstarrs1_oid,original_ext_source_id,angular_distance,number_of_neighbours,"
    header += "number_of_mates,xm_flag"
    name = f"Panstarrs1BestNeighbour_{file_range(chunk_ids)}.csv.gz"
    write_lines(folder / "panstarrs1_best_neighbour" / name, [header], lines(columns, ","))
    return len(source_id)


def _relevant_bases(c: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Number of leading coefficients up to the last one that stands 3 sigma out."""
    significant = np.abs(c) > 3 * e
    last = c.shape[1] - np.argmax(significant[:, ::-1], axis=1)
    return np.where(significant.any(axis=1), last, 1)


def _boolean(values: np.ndarray) -> pa.Array:
    return pc.if_else(pa.array(values), '"True"', '"False"')


def _ecsv_header(columns: list[tuple[str, str, str | None]]) -> list[str]:
    """The ECSV block and the header row."""
    head = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
    for name, kind, subtype in columns:
        head += ["# -", f"#   name: {name}", f"#   datatype: {kind}"]
        if subtype:
            head.append(f"#   subtype: '{subtype}'")
    head += ["# meta:", "#   description: 'simulated sky of msacat: not an observation'"]
    return [*head, ",".join(name for name, _, _ in columns)]
