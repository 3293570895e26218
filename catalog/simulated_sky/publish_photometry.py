"""Writes photometric surveys' files in their publishers' formats, with their own ids and sentinels.

SDSS: CasJobs CSV, -9999. SkyMapper: CSV of dr2.master, empty. Pan-STARRS: MAST mean-object CSV, -999. Each function
takes the survey's rows and their ids and returns the number of rows written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from msacat.catalog.simulated_sky.sky_objects import SkyObjects
from msacat.catalog.simulated_sky.sky_positions import galactic
from msacat.catalog.simulated_sky.survey_rows import SurveyRows, modified_julian_date, sexagesimal_name
from msacat.catalog.simulated_sky.text_tables import lines, text, write_lines

#: A_band / E(B-V)_SFD, Schlafly & Finkbeiner 2011, ApJ 737, 103, Table 6, R_V = 3.1.
SDSS_EXTINCTION = {"u": 4.239, "g": 3.303, "r": 2.285, "i": 1.698, "z": 1.263}
#: objInfoFlag: GOOD, in Gaia's valid subset; qualityFlag: good in several bands.
PS1_GOOD, PS1_QUALITY = 33554432 + 67108864, 52


def make_ids(rows: SurveyRows, chunk: int) -> np.ndarray:
    """The survey's identifiers, unique over the whole sky: int64, or text for 2MASS and CatWISE."""
    n = len(rows)
    k = np.arange(1, n + 1, dtype=np.int64)
    if rows.dataset == "sdss_dr13":
        # objID's bits: skyVersion 2, rerun 301, run, camcol, field, id (DR13 glossary).
        run = np.int64(94 + chunk)
        field, camcol = k // 4096 % 4096, k // (4096 * 4096) + 1
        head = np.int64(2) << 59 | np.int64(301) << 48
        return head | run << 32 | camcol << 29 | field << 16 | (k % 4096)
    if rows.dataset == "skymapper_dr2":
        return 300_000_000 + chunk * 1_000_000 + k
    if rows.dataset == "panstarrs1":
        # objID: declination zone of half an arcminute, right ascension, a running number.
        zone = np.floor((rows.dec + 90) * 120).astype(np.int64)
        return zone * 10**13 + np.floor(rows.ra * 1e6).astype(np.int64) * 10**4 + k % 10_000
    if rows.dataset == "twomass_psc":
        return _lettered(sexagesimal_name(rows.ra, rows.dec))
    return np.array([f"{chunk:04d}m{chunk % 1000:03d}_b0-{i:06d}" for i in k.tolist()], object)


def _lettered(names: np.ndarray) -> np.ndarray:
    """2MASS keeps designations unique by a letter: hhmmssss+ddmmsss[ABC...]."""
    seen: dict[str, int] = {}
    out = []
    for name in names.tolist():
        nth = seen[name] = seen.get(name, 0) + 1
        out.append(name if nth == 1 else name + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[nth - 2])
    return np.array(out, object)


def write_sdss(folder: Path, rows: SurveyRows, ids: np.ndarray, objects: SkyObjects, chunk: int) -> int:
    n = len(rows)
    e_bv = objects.a_v[rows.object] / 3.1
    galaxy = objects.kind[rows.object] == "galaxy"
    columns = {
        "objID": text(ids, ""),
        "ra": text(rows.ra, "", 8),
        "dec": text(rows.dec, "", 8),
        "mode": text(np.where(rows.repeat, 2, 1), ""),
        "type": text(np.where(galaxy, 3, 6), ""),
        "clean": text(np.ones(n, int), ""),
        "flags": text(np.full(n, 68987912704), ""),
    }
    columns |= {f"psfMag_{b}": text(m.mag, "-9999", 5) for b, m in rows.bands.items()}
    columns |= {f"psfMagErr_{b}": text(m.err, "-9999", 6) for b, m in rows.bands.items()}
    columns |= {f"extinction_{b}": text(k * e_bv, "", 6) for b, k in SDSS_EXTINCTION.items()}
    mjd = np.floor(modified_julian_date(rows.epoch)).astype(int)
    columns["mjd"] = text(np.where(rows.epoch_known, mjd, 0), "")
    return _write_csv(folder / "sdss_dr13" / f"PhotoObj_{chunk:04d}.csv", columns)


def write_skymapper(folder: Path, rows: SurveyRows, ids: np.ndarray, objects: SkyObjects, chunk: int) -> int:
    n = len(rows)
    zero, one = text(np.zeros(n, int), ""), text(np.ones(n, int), "")
    l_deg, b_deg = galactic(rows.ra, rows.dec)
    galaxy = objects.kind[rows.object] == "galaxy"
    good = {b: np.isfinite(m.mag) for b, m in rows.bands.items()}
    used = np.sum(list(good.values()), axis=0)
    columns = {
        "object_id": text(ids, ""),
        "raj2000": text(rows.ra, "", 6),
        "dej2000": text(rows.dec, "", 6),
        "e_raj2000": text(np.full(n, 120), ""),
        "e_dej2000": text(np.full(n, 120), ""),
        "mean_epoch": text(np.where(rows.epoch_known, modified_julian_date(rows.epoch), 0.0), "", 3),
        "rms_epoch": text(np.full(n, 120.5), "", 1),
        "glon": text(l_deg, "", 6),
        "glat": text(b_deg, "", 6),
        "flags": zero,
        "nimaflags": zero,
        "ngood": text(4 * used, ""),
        "ngood_min": text(np.full(n, 2), ""),
        "nch_max": one,
    }
    for b in rows.bands:
        count = pa.array(np.where(good[b], 4, 0)).cast(pa.string())
        columns |= {f"{b}_flags": zero, f"{b}_nimaflags": zero, f"{b}_ngood": count, f"{b}_nch": one}
    columns["class_star"] = text(np.where(galaxy, 0.08, 0.97), "", 3)
    columns["flags_psf"] = zero
    for b, m in rows.bands.items():
        columns |= {f"{b}_psf": text(m.mag, "", 4), f"e_{b}_psf": text(m.err, "", 4)}
    columns["ebmv_sfd"] = text(objects.a_v[rows.object] / 3.1, "", 4)
    columns["prox"] = text(np.full(n, 15.0), "", 1)
    name = f"SkyMapper.DR2.master.part{chunk:04d}.csv"
    return _write_csv(folder / "skymapper_dr2" / name, columns)


def write_panstarrs(folder: Path, rows: SurveyRows, ids: np.ndarray, objects: SkyObjects, chunk: int) -> int:
    n = len(rows)
    kron = np.where(objects.kind[rows.object] == "galaxy", -0.6, 0.01)
    count = {b: np.where(np.isfinite(m.mag), 10, 0) for b, m in rows.bands.items()}
    columns = {
        "objID": text(ids, ""),
        "raMean": text(rows.ra, "", 8),
        "decMean": text(rows.dec, "", 8),
        "raMeanErr": text(np.full(n, 0.015), "", 4),
        "decMeanErr": text(np.full(n, 0.015), "", 4),
        # Real files hold epochs long before Pan-STARRS.
        "epochMean": text(np.where(rows.epoch_known, modified_julian_date(rows.epoch), 51000.5), "", 6),
        "nDetections": text(np.sum(list(count.values()), axis=0), ""),
    }
    columns |= {f"n{b}": text(c, "") for b, c in count.items()}
    columns["qualityFlag"] = text(np.full(n, PS1_QUALITY), "")
    columns["objInfoFlag"] = text(np.full(n, PS1_GOOD), "")
    for b, m in rows.bands.items():
        columns |= {
            f"{b}MeanPSFMag": text(m.mag, "-999", 5),
            f"{b}MeanPSFMagErr": text(m.err, "-999", 6),
            f"{b}MeanKronMag": text(m.mag + kron, "-999", 5),
            f"{b}Flags": text(np.where(np.isfinite(m.mag), 115000, 0), ""),
        }
    return _write_csv(folder / "panstarrs1" / f"MeanObject_{chunk:04d}.csv", columns)


def _write_csv(path: Path, columns: dict[str, pa.Array]) -> int:
    write_lines(path, [",".join(columns)], lines(list(columns.values()), ","))
    return len(next(iter(columns.values())))
