"""Simulates a sky: survey files in the publishers' formats, and the truth behind them.

Stars are drawn in chunks of whole HEALPix cells, each chunk one file a dataset, so memory does not grow with the
number of stars. The same stars, seed, clean and parameters give the same bytes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msacat.catalog.errors import UsageError
from msacat.catalog.healpix import separation_deg
from msacat.catalog.simulated_sky import publish_gaia, publish_infrared, publish_labels, publish_photometry
from msacat.catalog.simulated_sky.dirt import Dirt
from msacat.catalog.simulated_sky.dirty_objects import dirty_objects
from msacat.catalog.simulated_sky.parameters import Parameters, load_parameters
from msacat.catalog.simulated_sky.sky_objects import SkyObjects, stars_at
from msacat.catalog.simulated_sky.sky_positions import draw_positions, move, split_by_cell
from msacat.catalog.simulated_sky.star_library import load_library
from msacat.catalog.simulated_sky.survey_rows import PREFIX, SurveyRows, observe
from msacat.catalog.simulated_sky.truth_table import TruthFile

DATASETS = (
    "gaia_source", "xp_continuous", *PREFIX, "apogee_dr17", "lamost_dr9", "panstarrs1_best_neighbour",
)  # fmt: skip
#: Few stars still make several files a dataset; many stay within ~1 GB of memory.
CHUNK_STARS, MIN_CHUNKS = 25_000, 4
MAX_STARS = 100_000_000
_WRITERS = {
    "sdss_dr13": publish_photometry.write_sdss,
    "skymapper_dr2": publish_photometry.write_skymapper,
    "panstarrs1": publish_photometry.write_panstarrs,
    "twomass_psc": publish_infrared.write_twomass,
    "catwise2020": publish_infrared.write_catwise,
}


@dataclass
class SimulatedSky:
    """What was written."""

    folder: Path
    stars: int
    seed: int
    clean: bool
    parameters_sha256: str
    rows: dict[str, int] = field(default_factory=dict)  # rows written per dataset, and of 'truth'


def simulate(
    out: Path,
    stars: int,
    seed: int,
    clean: bool = False,
    on_progress: Callable[[str, float], None] | None = None,
) -> SimulatedSky:
    """Write a simulated sky of `stars` Gaia sources to OUT/<dataset>/..., OUT/truth.parquet and OUT/README.md.

    on_progress(words, fraction) is called as work goes on. Everything is written to a folder beside OUT that takes
    its name at the end: an interrupted run leaves no OUT. Raises UsageError for an OUT that exists and is not an empty
    folder, or numbers that mean nothing.
    """
    out = Path(out).resolve()  # "." has no name to put a folder beside
    _check(out, stars, seed)
    sky = SimulatedSky(
        out, stars, seed, clean, load_parameters().sha256, dict.fromkeys((*DATASETS, "truth"), 0)
    )
    partial = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        partial.mkdir(parents=True)
        _simulate_into(partial, sky, on_progress or (lambda words, fraction: None))
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise UsageError(
            f"cannot write the simulated sky: {error.strerror or error}", file=str(error.filename or out),
            next_step="choose a folder you may write to, on a disk with room (about 1.5 kB a star)",
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sky


def _check(out: Path, stars: int, seed: int) -> None:
    if not 1 <= stars <= MAX_STARS:
        raise UsageError("the number of stars makes no sky", expected=f"1 to {MAX_STARS}", found=str(stars))
    if not 0 <= seed < 2**32:
        raise UsageError("the seed is out of range", expected="0 to 4294967295", found=str(seed))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            "the folder for the simulated sky exists and is not empty", file=str(out),
            next_step="name a new folder, or remove this one yourself: nothing is ever overwritten",
        )  # fmt: skip


def _simulate_into(folder: Path, sky: SimulatedSky, on_progress: Callable[[str, float], None]) -> None:
    p, library = load_parameters(), load_library()
    names = library.band_names
    pairs = None if sky.clean else p["dirt"]["pairs"]
    positions = draw_positions(np.random.default_rng([sky.seed, 0]), sky.stars, p, pairs)
    chunks = split_by_cell(positions.source_id, min(CHUNK_STARS, -(-sky.stars // MIN_CHUNKS)))
    covered = max(1, int(p["best_neighbour"]["covered_share"] * len(chunks))) if len(chunks) > 1 else 0
    truth = TruthFile(folder / "truth.parquet", names)
    apogee, lamost = publish_labels.LabelRows(), publish_labels.LabelRows()
    for number, part in enumerate(chunks):
        on_progress(f"stars {part.start + 1} to {part.stop} of {sky.stars}", part.start / sky.stars)
        rng = np.random.default_rng([sky.seed, 1, number])
        at = positions.take(part)
        make = stars_at if sky.clean else dirty_objects
        objects = make(at, sky.seed, rng, p, library)
        dirt = None if sky.clean else Dirt(p, sky.seed, objects, names, library.band_wavelength_nm)
        gaia = _publish_gaia(folder, sky, rng, objects, names, p, dirt)
        ids: dict[str, dict[int, object]] = {}
        repeat_ids: dict[str, dict[int, object]] = {}
        for dataset in PREFIX:
            rows = observe(rng, dataset, objects, names, p, dirt)
            own = publish_photometry.make_ids(rows, number)
            sky.rows[dataset] += _WRITERS[dataset](folder, rows, own, objects, number)
            for which, chosen in ((ids, ~rows.repeat), (repeat_ids, rows.repeat)):
                which[dataset] = dict(zip(rows.object[chosen].tolist(), own[chosen].tolist(), strict=True))
            if dataset == "panstarrs1" and number < covered:
                sky.rows["panstarrs1_best_neighbour"] += _write_neighbours(
                    folder, objects, rows, own, p, dirt
                )
        odd = None if sky.clean else p["dirt"]["oddities"]
        sky.rows["apogee_dr17"] += apogee.add(publish_labels.apogee_rows(rng, objects, gaia, names, p, odd))
        sky.rows["lamost_dr9"] += lamost.add(publish_labels.lamost_rows(rng, objects, gaia, names, p, odd))
        sky.rows["truth"] += truth.add(objects, gaia, ids, repeat_ids)
    truth.close()
    publish_labels.write_apogee(folder, apogee)
    publish_labels.write_lamost(folder, lamost)
    (folder / "README.md").write_text(_readme(sky), encoding="utf-8")
    on_progress("written", 1.0)


def _publish_gaia(
    folder: Path, sky: SimulatedSky, rng: np.random.Generator, objects: SkyObjects, names: list[str],
    p: Parameters, dirt: Dirt | None,
) -> publish_gaia.GaiaChunk:  # fmt: skip
    noise, xp_noise, shifts, spoil, odd = 1.0, 1.0, None, None, None
    if dirt:
        noise, xp_noise = dirt.noise("gaia_source"), dirt.noise("xp_continuous")
        shifts, spoil = dirt.gaia_shifts(rng), dirt.xp_spoil(rng, np.flatnonzero(objects.in_gaia))
        odd = p["dirt"]["oddities"]
    gaia = publish_gaia.measure_gaia(rng, objects, names, p, noise, shifts, odd)
    sky.rows["gaia_source"] += publish_gaia.write_gaia_source(folder, rng, objects, gaia, p, odd)
    sky.rows["xp_continuous"] += publish_gaia.write_xp_continuous(
        folder, rng, objects, gaia, p, xp_noise, spoil
    )
    return gaia


def _write_neighbours(
    folder: Path, objects: SkyObjects, rows: SurveyRows, own: np.ndarray, p: Parameters, dirt: Dirt | None
) -> int:
    """The archive's matches of one chunk: each Gaia source with a Pan-STARRS row, its own or a shared one."""
    row_of = np.full(len(objects), -1)
    first = np.flatnonzero(~rows.repeat)
    row_of[rows.object[first]] = first
    mates = np.zeros(len(objects), int)
    if dirt:
        bright, faint = dirt.shared_rows("panstarrs1")
        row_of[faint] = row_of[bright]
        np.add.at(mates, np.append(bright, faint), 1)
    i = np.flatnonzero(objects.in_gaia & (row_of >= 0))
    row = row_of[i]
    years = rows.epoch[row] - p["gaia"]["reference_epoch"]
    at = move(objects.ra[i], objects.dec[i], objects.pmra[i], objects.pmdec[i], years)
    distance = separation_deg(*at, rows.ra[row], rows.dec[row]) * 3600
    return publish_gaia.write_best_neighbours(
        folder, objects.source_id[i], own[row], distance, mates[i], objects.source_id[objects.in_gaia]
    )


def _readme(sky: SimulatedSky) -> str:
    rows = "\n".join(f"| {name} | {count} |" for name, count in sky.rows.items())
    return f"""# A simulated sky

No number here was observed. `msacat simulate` made it: {sky.stars} Gaia sources, seed {sky.seed},
{"clean (noise as quoted, in quadrature with each survey file's floor_err; no outliers)" if sky.clean else "dirty (see catalog/simulated_sky/parameters.toml)"}.
Parameters sha256: {sky.parameters_sha256}

| dataset | rows |
|---|---|
{rows}

The files have their publishers' formats, names and sentinels; gaia_source has a subset of the published columns, and
the XP correlations are null. `truth.parquet`: for each source the noise-free mean magnitude of its own light in every
band's published system (an unresolved companion included; neighbours, variability's phase and zero-point errors
excluded), its XP coefficients without noise, what it is, and the ids of its rows in each survey (null: not seen).
Spectra: Kurucz and PHOENIX model atmospheres; evolution: analytic approximations, not isochrones.
"""
