"""Which objects a photometric survey lists, where it saw them, and what it measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.simulated_sky.dirt import Dirt
from msacat.catalog.simulated_sky.measure import Measurement, fades_out, measure_band
from msacat.catalog.simulated_sky.parameters import Parameters, pair
from msacat.catalog.simulated_sky.sky_objects import SkyObjects
from msacat.catalog.simulated_sky.sky_positions import in_footprint, move

#: dataset -> prefix of its bands' names.
PREFIX = {
    "sdss_dr13": "sdss",
    "skymapper_dr2": "skymapper",
    "panstarrs1": "ps1",
    "twomass_psc": "twomass",
    "catwise2020": "catwise",
}


@dataclass
class SurveyRows:
    """R rows of one survey: M of them per band."""

    dataset: str
    object: np.ndarray  # (R,) index into SkyObjects
    ra: np.ndarray  # deg, at the row's epoch, with the survey's position error
    dec: np.ndarray
    epoch: np.ndarray  # Julian year
    repeat: np.ndarray  # bool: a second row of an object already listed
    epoch_known: np.ndarray  # bool: False = the survey publishes none, or an impossible one
    bands: dict[str, Measurement]

    def __len__(self) -> int:
        return len(self.object)


def observe(
    rng: np.random.Generator,
    dataset: str,
    objects: SkyObjects,
    names: list[str],
    p: Parameters,
    dirt: Dirt | None = None,
) -> SurveyRows:
    """The survey's rows of these objects; an object with no detected band has none.

    names : the bands of objects.mag
    dirt : None for the clean sky
    """
    survey = p["surveys"][dataset]
    true = {band: objects.mag[:, names.index(f"{PREFIX[dataset]}_{band}")] for band in survey["bands"]}
    listed = in_footprint(dataset, objects.ra, objects.dec, p)
    listed &= rng.random(len(objects)) >= survey["gap_fraction"]
    limit = survey.get("limit")
    listed &= fades_out(rng, true[limit["band"]] if limit else objects.mag[:, 0], limit)
    if dirt:
        listed &= ~dirt.swallowed(dataset)
    index = np.flatnonzero(listed)
    repeat = np.zeros(len(index), bool)
    if dirt:
        again = index[dirt.repeats(rng, len(index))]
        index, repeat = np.append(index, again), np.append(repeat, np.ones(len(again), bool))
    n = len(index)
    epoch = rng.uniform(*pair(survey["epochs"]), n)
    years = epoch - p["gaia"]["reference_epoch"]
    ra, dec = move(objects.ra[index], objects.dec[index], objects.pmra[index], objects.pmdec[index], years)
    east, north = survey["position_mas"] * rng.standard_normal((2, n))
    ra, dec = move(ra, dec, east, north, 1.0)
    bands = _measure(rng, dataset, index, true, survey, dirt)
    epoch_known = np.ones(n, bool)
    if dirt:
        epoch_known = rng.random(n) >= p["dirt"]["oddities"]["epoch_missing"]
    seen = np.any([np.isfinite(m.mag) for m in bands.values()], axis=0)
    bands = {b: Measurement(m.mag[seen], m.err[seen], m.limit[seen]) for b, m in bands.items()}
    return SurveyRows(
        dataset, index[seen], ra[seen], dec[seen], epoch[seen], repeat[seen], epoch_known[seen], bands
    )


def _measure(
    rng: np.random.Generator,
    dataset: str,
    index: np.ndarray,
    true: dict[str, np.ndarray],
    survey: dict,
    dirt: Dirt | None,
) -> dict[str, Measurement]:
    """Every band of rows `index`; true magnitudes are over all objects."""
    if dirt is None:
        return {band: measure_band(rng, mag[index], survey, band) for band, mag in true.items()}
    prefix = PREFIX[dataset]
    shifts = dirt.shifts(rng, dataset, index, [f"{prefix}_{band}" for band in true])
    bias = dirt.p["dirt"]["oddities"]["saturation_bias"]
    bands = {}
    for band, mag in true.items():
        blend = dirt.blend_shift(mag, survey["beam_arcsec"], survey.get("asinh_b", {}).get(band))
        shift = shifts[f"{prefix}_{band}"] + blend[index]
        bands[band] = measure_band(rng, mag[index], survey, band, dirt.noise(dataset), shift, bias)
    dirt.spoil_cells(rng, bands)
    return bands


def julian_date(epoch: np.ndarray) -> np.ndarray:
    return 2451545.0 + (epoch - 2000.0) * 365.25


def modified_julian_date(epoch: np.ndarray) -> np.ndarray:
    return 51544.5 + (epoch - 2000.0) * 365.25


def sexagesimal_name(ra: np.ndarray, dec: np.ndarray, ra_digits: int = 2, dec_digits: int = 1) -> np.ndarray:
    """'hhmmssss+ddmmsss': truncated, as the IAU wants it; dots left out."""
    ra_units = np.floor(ra / 15 * 3600 * 10**ra_digits).astype(np.int64)
    dec_units = np.floor(np.abs(dec) * 3600 * 10**dec_digits).astype(np.int64)
    names = []
    ra_scale, dec_scale = 10**ra_digits, 10**dec_digits
    for a, d, negative in zip(ra_units.tolist(), dec_units.tolist(), (dec < 0).tolist(), strict=True):
        seconds, frac = divmod(a, ra_scale)
        arcsec, tenth = divmod(d, dec_scale)
        names.append(
            f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}{frac:0{ra_digits}d}"
            f"{'-' if negative else '+'}{arcsec // 3600:02d}{arcsec // 60 % 60:02d}{arcsec % 60:02d}{tenth:0{dec_digits}d}"
        )
    return np.array(names, object)
