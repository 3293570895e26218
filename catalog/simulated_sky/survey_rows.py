"""Which objects a photometric survey lists, where it saw them, and what it measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.simulated_sky.measure import Measurement, fades_out, measure_band
from msacat.catalog.simulated_sky.parameters import Parameters
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
    bands: dict[str, Measurement]

    def __len__(self) -> int:
        return len(self.object)

    def mag(self, band: str) -> np.ndarray:
        return self.bands[band].mag

    def err(self, band: str) -> np.ndarray:
        return self.bands[band].err


def observe(
    rng: np.random.Generator, dataset: str, objects: SkyObjects, names: list[str], p: Parameters
) -> SurveyRows:
    """The survey's rows of these objects; an object with no detected band has none.

    names : the bands of objects.mag
    """
    survey = p["surveys"][dataset]
    true = {band: objects.mag[:, names.index(f"{PREFIX[dataset]}_{band}")] for band in survey["bands"]}
    listed = in_footprint(dataset, objects.ra, objects.dec, p)
    listed &= rng.random(len(objects)) >= survey["gap_fraction"]
    limit = survey.get("limit")
    listed &= fades_out(rng, true[limit["band"]] if limit else objects.mag[:, 0], limit)
    index = np.flatnonzero(listed)
    n = len(index)
    epoch = rng.uniform(*survey["epochs"], n)
    years = epoch - p["gaia"]["reference_epoch"]
    ra, dec = move(objects.ra[index], objects.dec[index], objects.pmra[index], objects.pmdec[index], years)
    east, north = survey["position_mas"] * rng.standard_normal((2, n))
    ra, dec = move(ra, dec, east, north, 1.0)
    bands = {band: measure_band(rng, true[band][index], survey, band) for band in survey["bands"]}
    seen = np.any([np.isfinite(m.mag) for m in bands.values()], axis=0)
    bands = {b: Measurement(m.mag[seen], m.err[seen], m.limit[seen]) for b, m in bands.items()}
    return SurveyRows(
        dataset, index[seen], ra[seen], dec[seen], epoch[seen], np.zeros(int(seen.sum()), bool), bands
    )


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
