"""Spectroscopic labels: APOGEE DR17's allStar (FITS) and LAMOST DR9's stellar catalogue (`|` CSV, gzip).

Both are one file for the whole sky, so their rows are gathered over the chunks and written at the end: labels are few.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from msacat.catalog.simulated_sky.parameters import Parameters, pair
from msacat.catalog.simulated_sky.publish_gaia import GaiaChunk
from msacat.catalog.simulated_sky.sky_objects import SkyObjects
from msacat.catalog.simulated_sky.survey_rows import sexagesimal_name
from msacat.catalog.simulated_sky.text_tables import lines, text, write_lines

#: ASPCAPFLAG bit 23 and EXTRATARG bit 4 (DR17 bitmasks page).
STAR_BAD, DUPLICATE = 1 << 23, 1 << 4


@dataclass
class LabelRows:
    """Columns of one labels survey, chunk after chunk."""

    parts: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add(self, columns: dict[str, np.ndarray]) -> int:
        self.parts.append(columns)
        return len(next(iter(columns.values())))

    def all(self) -> dict[str, np.ndarray]:
        return {key: np.concatenate([part[key] for part in self.parts]) for key in self.parts[0]}


def apogee_rows(
    rng: np.random.Generator, objects: SkyObjects, gaia: GaiaChunk, names: list[str], p: Parameters,
    odd: dict | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Bright giants, fewer dwarfs; on the reference scale of [Fe/H]. odd: the table dirt.oddities."""
    a, e = p["labels"]["apogee"], p["labels"]["apogee_error"]
    i = gaia.object
    h = objects.mag[i, names.index("twomass_h")]
    chance = np.where(objects.giant[i], a["fraction_giants"], a["fraction_dwarfs"]) * (h < a["h_max"])
    chance = chance * _inside(objects, i, a)
    i = i[rng.random(len(i)) < chance]
    i, repeat = _with_repeats(rng, i, odd)
    n = len(i)
    snr = np.exp(rng.uniform(*pair(np.log(a["snr"])), n)) * np.where(
        repeat, odd["label_repeat_snr"] if odd else 1.0, 1.0
    )
    quality = np.hypot(1.0, 100.0 / snr) / np.sqrt(2)
    teff, logg, fe_h = (
        _noisy(rng, truth[i], e[key] * np.sqrt(2) * quality)
        for key, truth in (("teff", objects.teff), ("logg", objects.logg), ("fe_h", objects.fe_h))
    )
    bad, flagged = np.zeros(n, np.int64), np.zeros(n, np.int32)
    if odd:
        wrong = rng.random(n) < odd["label_bad"]
        bad[wrong] = STAR_BAD
        fe_h[0][wrong] += rng.normal(0, odd["label_bad_dex"], int(wrong.sum())).astype(np.float32)
        missing = rng.random(n) < odd["label_missing"]
        fe_h[0][missing], flagged[missing] = np.nan, 1
    h = objects.mag[i, names.index("twomass_h")]
    return {
        "APOGEE_ID": np.array([f"2M{x}" for x in sexagesimal_name(objects.ra[i], objects.dec[i])], "S18").reshape(n),
        "TELESCOPE": np.where(objects.dec[i] > -10, b"apo25m", b"lco25m").astype("S8"),
        "FIELD": np.full(n, b"SIMULATED", "S16"),
        "RA": objects.ra[i],
        "DEC": objects.dec[i],
        "H": h.astype(np.float32),
        "H_ERR": np.full(n, 0.025, np.float32),
        "SNR": snr.astype(np.float32),
        "STARFLAG": np.zeros(n, np.int64),
        "ASPCAPFLAG": bad,
        "EXTRATARG": np.where(repeat, DUPLICATE, 0).astype(np.int32),
        "TEFF": teff[0], "TEFF_ERR": teff[1],
        "LOGG": logg[0], "LOGG_ERR": logg[1],
        "M_H": fe_h[0], "M_H_ERR": fe_h[1],
        "ALPHA_M": objects.alpha[i].astype(np.float32),
        "FE_H": fe_h[0], "FE_H_ERR": fe_h[1],
        "FE_H_FLAG": flagged,
        "VHELIO_AVG": rng.normal(0, 60, n).astype(np.float32),
        "GAIAEDR3_SOURCE_ID": objects.source_id[i],
    }  # fmt: skip


def lamost_rows(
    rng: np.random.Generator, objects: SkyObjects, gaia: GaiaChunk, names: list[str], p: Parameters,
    odd: dict | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Northern stars, on LAMOST's own scale of [Fe/H] (shifted). odd: the table dirt.oddities."""
    a, e = p["labels"]["lamost"], p["labels"]["lamost_error"]
    i = gaia.object
    g = objects.mag[i, names.index("gaia_g")]
    chance = a["fraction"] * (g < a["g_max"]) * _inside(objects, i, a)
    chance = chance * (objects.dec[i] > a["dec"][0]) * (objects.dec[i] < a["dec"][1])
    i = i[rng.random(len(i)) < chance]
    i, _ = _with_repeats(rng, i, odd)
    n = len(i)
    snr = np.exp(rng.uniform(*pair(np.log(a["snr"])), n))
    factor = np.hypot(0.7, 40.0 / snr * 0.7)
    teff, logg, fe_h = (
        _noisy(rng, truth[i], e[key] * factor)
        for key, truth in (("teff", objects.teff), ("logg", objects.logg), ("fe_h", objects.fe_h))
    )
    if odd:
        missing = rng.random(n) < odd["label_missing"]
        fe_h[0][missing] = fe_h[1][missing] = np.nan
        wrong = rng.random(n) < odd["label_bad_lamost"]  # LAMOST does not flag these
        fe_h[0][wrong] += rng.normal(0, odd["label_bad_dex"], int(wrong.sum())).astype(np.float32)
    return {
        "source_id": objects.source_id[i],
        "ra": objects.ra[i], "dec": objects.dec[i], "g": objects.mag[i, names.index("gaia_g")],
        "snr": snr, "teff": teff[0], "teff_err": teff[1], "logg": logg[0], "logg_err": logg[1],
        "feh": fe_h[0] + np.float32(p["labels"]["lamost_fe_h_offset"]), "feh_err": fe_h[1],
        "rv": rng.normal(0, 60, n), "alpha_m": objects.alpha[i],
    }  # fmt: skip


def write_apogee(folder: Path, rows: LabelRows) -> int:
    from astropy.io import fits

    columns = rows.all()
    if not len(columns["SNR"]):
        return 0
    kinds = [(name, values.dtype) for name, values in columns.items()]
    table = np.rec.fromarrays(list(columns.values()), dtype=kinds)
    path = folder / "apogee_dr17" / "allStar-dr17-synspec_rev1.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table)]).writeto(path)
    return len(table)


def write_lamost(folder: Path, rows: LabelRows) -> int:
    c = rows.all()
    n = len(c["source_id"])
    k = np.arange(1, n + 1)
    mjd = 56000 + k % 2500
    columns = {
        "obsid": text(100_000_000 + k, ""),
        "uid": text(np.array([f"G{x}" for x in c["source_id"].tolist()], object), ""),
        "designation": text(np.array([f"J{x}" for x in sexagesimal_name(c["ra"], c["dec"])], object), ""),
        "obsdate": text(np.datetime_as_string(np.datetime64("1858-11-17") + mjd).astype(object), ""),
        "lmjd": text(mjd + 1, ""), "mjd": text(mjd, ""),
        "planid": text(np.full(n, "SIM", object), ""), "spid": text(k % 16 + 1, ""), "fiberid": text(k % 250 + 1, ""),
        "ra_obs": text(c["ra"], "", 6), "dec_obs": text(c["dec"], "", 6),
        "snru": text(c["snr"] * 0.3, "-9999", 2), "snrg": text(c["snr"], "-9999", 2),
        "snrr": text(c["snr"] * 1.3, "-9999", 2), "snri": text(c["snr"] * 1.4, "-9999", 2),
        "snrz": text(c["snr"] * 1.1, "-9999", 2),
        "class": text(np.full(n, "STAR", object), ""), "subclass": text(np.full(n, "G", object), ""),
        "z": text(c["rv"] / 299792.458, "-9999", 8), "z_err": text(np.full(n, 2e-5), "-9999"),
        "gaia_source_id": text(c["source_id"], ""), "gaia_g_mean_mag": text(c["g"], "-9999", 4),
        "teff": text(c["teff"], "-9999", 2), "teff_err": text(c["teff_err"], "-9999", 2),
        "logg": text(c["logg"], "-9999", 3), "logg_err": text(c["logg_err"], "-9999", 3),
        "feh": text(c["feh"], "-9999", 3), "feh_err": text(c["feh_err"], "-9999", 3),
        "rv": text(c["rv"], "-9999", 2), "rv_err": text(np.full(n, 5.0), "-9999", 2),
        "alpha_m": text(c["alpha_m"], "-9999", 3), "alpha_m_err": text(np.full(n, 0.05), "-9999", 3),
        "vsini": text(np.full(n, -9999.0), "-9999"), "vsini_err": text(np.full(n, -9999.0), "-9999"),
        "ra": text(c["ra"], "", 6), "dec": text(c["dec"], "", 6), "fibermask": text(np.zeros(n, int), ""),
    }  # fmt: skip
    path = folder / "lamost_dr9" / "dr9_v2.0_LRS_stellar.csv.gz"
    write_lines(path, ["|".join(columns)], lines(list(columns.values()), "|"))
    return n


def _with_repeats(rng: np.random.Generator, i: np.ndarray, odd: dict | None) -> tuple[np.ndarray, np.ndarray]:
    """Objects with some listed twice, and which entries are the second ones."""
    again = i[rng.random(len(i)) < odd["label_repeat"]] if odd else i[:0]
    return np.append(i, again), np.append(np.zeros(len(i), bool), np.ones(len(again), bool))


def _inside(objects: SkyObjects, i: np.ndarray, limits: dict) -> np.ndarray:
    """Stars a stellar pipeline can handle: NaN temperatures (no star) are outside."""
    teff, fe_h = objects.teff[i], objects.fe_h[i]
    (t_lo, t_hi), (m_lo, m_hi) = limits["teff_range"], limits["fe_h_range"]
    ordinary = objects.logg[i] < 6.0  # no white dwarfs
    return ordinary & (teff > t_lo) & (teff < t_hi) & (fe_h > m_lo) & (fe_h < m_hi)


def _noisy(rng: np.random.Generator, truth: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    seen = truth + error * rng.standard_normal(len(truth))
    return seen.astype(np.float32), error.astype(np.float32)
