"""Survey files of any length with a known content: published names and types, made-up numbers."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from msacat.catalog.healpix import nested_pixel
from msacat.catalog.simulated_sky.text_tables import array_text, lines, text
from msacat.catalog.surveys.source_id import SOURCE_ID_LEVEL, SOURCE_ID_SHIFT

PUBLISHED_COLUMNS = 152
CORRELATIONS = 1485  # of one XP half: the lower triangle of 55 x 55
STARS_IN_STRIP = 0.4  # share; the strip of 0.5 deg stands for the galactic plane
WRITE_ROWS = 20_000


@dataclass(frozen=True)
class MadeUpStars:
    """13 gaia_source columns of N stars, in order of source_id; a 20 deg x 20 deg field with a dense strip."""

    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["source_id"])

    def take(self, rows: slice) -> MadeUpStars:
        # copies: what is written to files wants no strides
        return MadeUpStars({name: values[rows].copy() for name, values in self.columns.items()})

    def batch(self) -> pa.RecordBatch:
        arrays = [pa.array(v) for v in self.columns.values()]
        return pa.RecordBatch.from_arrays(arrays, names=list(self.columns))


def made_up_stars(n: int, seed: int = 1) -> MadeUpStars:
    """Positions and motions; one star in a hundred moves fast (up to 1 arcsec/yr)."""
    rng = np.random.default_rng(seed)
    ra = rng.uniform(170, 190, n)
    dec = np.where(rng.random(n) < STARS_IN_STRIP, rng.uniform(10, 10.5, n), rng.uniform(0, 20, n))
    cell = nested_pixel(SOURCE_ID_LEVEL, ra, dec)
    order = np.argsort(cell, kind="stable")
    ra, dec, cell = ra[order], dec[order], cell[order]
    first = np.searchsorted(cell, cell)  # a running number inside each cell makes the ids distinct
    source_id = (cell << SOURCE_ID_SHIFT) + (np.arange(n) - first + 1) * 128
    speed = np.where(rng.random(n) < 0.01, 500.0, 5.0)
    g = rng.uniform(10, 20.5, n)
    f4 = np.float32
    return MadeUpStars({
        "source_id": source_id.astype(np.int64),
        "random_index": rng.permutation(n).astype(np.int64),
        "ref_epoch": np.full(n, 2016.0),
        "ra": ra,
        "dec": dec,
        "parallax": rng.exponential(1.0, n),
        "parallax_error": rng.uniform(0.02, 0.5, n).astype(f4),
        "pmra": rng.normal(0, speed),
        "pmdec": rng.normal(0, speed),
        "ruwe": rng.uniform(0.9, 1.3, n).astype(f4),
        "phot_g_mean_mag": g.astype(f4),
        "phot_bp_mean_mag": (g + rng.uniform(0, 1, n)).astype(f4),
        "phot_rp_mean_mag": (g - rng.uniform(0, 1, n)).astype(f4),
    })  # fmt: skip


def write_parquet(stars: MadeUpStars, path: Path) -> None:
    pq.write_table(pa.Table.from_batches([stars.batch()]), path)


def write_published(stars: MadeUpStars, path: Path, seed: int = 2) -> None:
    """gaia_source as published: ECSV in gzip, 152 columns, of which msacat knows some 20 and skips the others.

    Of the unknown columns one in ten is an integer, one in ten a boolean, one in ten mostly null, the rest floats.
    """
    rng = np.random.default_rng(seed)
    n = len(stars)
    flux = 10 ** (-0.4 * (stars.columns["phot_g_mean_mag"].astype(float) - 25.7))
    known = dict(stars.columns)
    for band in ("g", "bp", "rp"):
        known[f"phot_{band}_mean_flux"] = flux
        known[f"phot_{band}_mean_flux_error"] = (0.01 * flux).astype(np.float32)
    columns = [text(values, "null") for values in known.values()]
    names = list(known)
    designation = pc.binary_join_element_wise('"Gaia DR3 ', columns[0], '"', "")
    columns.insert(0, designation)
    names.insert(0, "designation")
    kinds = ["int", "bool", "null", *["float"] * 7]
    for i in range(PUBLISHED_COLUMNS - len(names)):
        kind = kinds[i % len(kinds)]
        names.append(f"other_{kind}_{i:03d}")
        if kind == "int":
            columns.append(text(rng.integers(0, 1000, n), "null"))
        elif kind == "bool":
            columns.append(pc.if_else(pa.array(rng.random(n) < 0.1), '"True"', '"False"'))
        else:
            values = rng.normal(0, 1, n)
            values[rng.random(n) < (0.8 if kind == "null" else 0.05)] = np.nan
            columns.append(text(values if i % 2 else values.astype(np.float32), "null"))
    _write(path, names, columns)


def write_xp(source_id: np.ndarray, path: Path, seed: int = 3) -> dict[str, np.ndarray]:
    """XP continuous spectra as published, correlations included; returns the float32 coefficients (N, 55) by half."""
    rng = np.random.default_rng(seed)
    n = len(source_id)
    none_missing = np.zeros(n, bool)
    kept: dict[str, np.ndarray] = {}
    names, columns = (
        ["source_id", "solution_id"],
        [text(source_id, "null"), text(np.full(n, 4545469030156206080), "null")],
    )
    for half, basis in (("bp", 56), ("rp", 57)):
        coefficients = np.round(rng.normal(0, 100, (n, 55)), 9)
        kept[half] = coefficients.astype(np.float32)
        scalars = {
            "basis_function_id": np.full(n, basis), "degrees_of_freedom": rng.integers(300, 1500, n),
            "n_parameters": np.full(n, 55), "n_measurements": rng.integers(400, 1600, n),
            "n_rejected_measurements": rng.integers(0, 5, n),
            "standard_deviation": rng.uniform(0.9, 1.2, n).astype(np.float32),
            "chi_squared": rng.uniform(300, 1500, n).astype(np.float32),
        }  # fmt: skip
        arrays = {
            "coefficients": coefficients,
            "coefficient_errors": rng.uniform(0.1, 1, (n, 55)).astype(np.float32),
            "coefficient_correlations": rng.uniform(-1, 1, (n, CORRELATIONS)).astype(np.float32),
        }
        after = {
            "n_relevant_bases": rng.integers(1, 55, n),
            "relative_shrinking": rng.uniform(0, 1, n).astype(np.float32),
        }
        for name, values in scalars.items():
            names.append(f"{half}_{name}")
            columns.append(text(values, "null"))
        for name, values in arrays.items():
            names.append(f"{half}_{name}")
            columns.append(array_text(values, none_missing, "null", "[]"))
        for name, values in after.items():
            names.append(f"{half}_{name}")
            columns.append(text(values, "null"))
    _write(path, names, columns, {f"{half}_{what}" for half in ("bp", "rp") for what in arrays})
    return kept


def unpacked(path: Path) -> Path:
    """The file without its gzip, beside it."""
    plain = path.with_suffix("")
    with gzip.open(path) as source, plain.open("wb") as target:
        while chunk := source.read(1 << 22):
            target.write(chunk)
    return plain


def _write(
    path: Path, names: list[str], columns: list[pa.Array], array_names: set[str] | None = None
) -> None:
    head = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
    for name in names:
        head += ["# -", f"#   name: {name}"]
        if name in (array_names or ()):
            head += ["#   datatype: string", "#   subtype: 'float64[null]'"]
        else:
            head += [f"#   datatype: {'int64' if name.endswith('_id') else 'float64'}"]
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, 0) as packed:
        packed.write("\n".join([*head, ",".join(names), ""]).encode())
        for start in range(0, len(columns[0]), WRITE_ROWS):
            rows = lines([column.slice(start, WRITE_ROWS) for column in columns], ",")
            packed.write(("\n".join(rows.to_pylist()) + "\n").encode())
