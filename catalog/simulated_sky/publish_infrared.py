"""Writes 2MASS (`|`-separated, no header, 60 columns, \\N) and CatWISE2020 (IPAC tables, null)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from msacat.catalog.simulated_sky.sky_objects import SkyObjects
from msacat.catalog.simulated_sky.sky_positions import galactic
from msacat.catalog.simulated_sky.survey_rows import (
    SurveyRows,
    julian_date,
    modified_julian_date,
    sexagesimal_name,
)
from msacat.catalog.simulated_sky.text_tables import fixed_width_lines, lines, text, write_lines
from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX

NULL_2MASS = "\\N"
#: The epoch to which CatWISE refers its motion-fitted positions (MJD 57170).
CATWISE_EPOCH = 2015.4


def write_twomass(folder: Path, rows: SurveyRows, ids: np.ndarray, objects: SkyObjects, chunk: int) -> int:
    """psc_*.gz; a band not detected is an upper limit: a magnitude without an error, graded U."""
    n = len(rows)
    null = pa.array([NULL_2MASS] * n, pa.string())
    l_deg, b_deg = galactic(rows.ra, rows.dec)
    band_columns: list[pa.Array] = []
    grades, ones, blends = [], [], []
    for m in rows.bands.values():
        seen = np.isfinite(m.mag)
        shown = np.where(seen, m.mag, m.limit)
        snr = np.where(seen, MAG_PER_RELATIVE_FLUX / np.where(seen, m.err, 1.0), np.nan)
        band_columns += [
            text(shown, NULL_2MASS, 3),
            text(m.err * 0.9, NULL_2MASS, 3),
            text(m.err, NULL_2MASS, 3),
            text(snr, NULL_2MASS, 1),
        ]
        grades.append(
            np.where(~seen, "U", np.where(snr > 10, "A", np.where(snr > 7, "B", np.where(snr > 5, "C", "D"))))
        )
        ones.append(np.where(seen, "2", "0"))
        blends.append(np.where(seen, "1", "0"))
    stdap = [
        x
        for m in rows.bands.values()
        for x in (text(m.mag + 0.005, NULL_2MASS, 3), text(m.err, NULL_2MASS, 3))
    ]
    jd = julian_date(rows.epoch)
    jd_known = np.where(rows.epoch_known, jd, np.nan)
    zero = text(np.zeros(n, int), "")
    key = text(chunk * 1_000_000 + np.arange(1, n + 1), "")
    columns = [
        text(rows.ra, "", 6), text(rows.dec, "", 6), text(np.full(n, 0.08), "", 2), text(np.full(n, 0.08), "", 2),
        text(np.full(n, 90), ""), text(np.array([f"{name:<17}" for name in ids], object), ""),
        *band_columns,
        _joined(grades), _joined(ones), _joined(blends), text(np.full(n, "000", object), ""),
        text(np.full(n, "666666", object), ""), text(np.full(n, 25.0), "", 1), text(np.full(n, 200), ""), null,
        zero, zero, key, text(np.where(rows.dec < 0, "s", "n").astype(object), ""),
        text(_calendar_day(jd), ""), text(np.full(n, 20), ""), text(l_deg, "", 3), text(b_deg, "", 3),
        text(np.full(n, 100.0), "", 1), text(jd_known, NULL_2MASS, 4), *[text(np.full(n, 1.0), "", 2)] * 3,
        *stdap, text(np.full(n, 500), ""), text(np.full(n, 200), ""), text(np.full(n, "nw", object), ""),
        zero, text(np.ones(n, int), ""), zero, null, null, null, null, zero, null,
        text(np.full(n, 60000 + chunk), ""), text(np.full(n, 1400000 + chunk), ""), text(np.full(n, 150), ""),
    ]  # fmt: skip
    letters = "".join(chr(ord("a") + chunk // 26**k % 26) for k in (2, 1, 0))
    write_lines(folder / "twomass_psc" / f"psc_{letters}.gz", [], lines(columns, "|"))
    return n


def write_catwise(folder: Path, rows: SurveyRows, ids: np.ndarray, objects: SkyObjects, chunk: int) -> int:
    """*_cat_b0.tbl.gz; a band not detected is null, where CatWISE has an upper limit without an error."""
    n = len(rows)
    i = rows.object
    flags = np.full(n, "00", object)
    snr = {
        b: np.where(np.isfinite(m.mag), MAG_PER_RELATIVE_FLUX / np.nan_to_num(m.err, nan=1.0), 1.5)
        for b, m in rows.bands.items()
    }
    names = sexagesimal_name(rows.ra, rows.dec, 2, 1)
    pm_noise = 0.02  # arcsec/yr, the typical error of CatWISE motions at the faint end
    table: list[tuple[str, str, str, pa.Array, int]] = [
        ("source_name", "char", "", text(np.array([_wise_name(x) for x in names], object), "null"), 21),
        ("source_id", "char", "", text(ids, "null"), 25),
        ("ra", "double", "deg", text(rows.ra, "null", 7), 12),
        ("dec", "double", "deg", text(rows.dec, "null", 7), 12),
        ("sigra", "real", "arcsec", text(np.full(n, 0.09), "null", 4), 9),
        ("sigdec", "real", "arcsec", text(np.full(n, 0.09), "null", 4), 9),
    ]
    for b, m in rows.bands.items():
        table.append((f"{b}snr", "real", "", text(snr[b], "null", 1), 8))
        table.append((f"{b}mpro", "real", "mag", text(m.mag, "null", 3), 8))
        table.append((f"{b}sigmpro", "real", "mag", text(m.err, "null", 3), 10))
        table.append((f"{b}rchi2", "real", "", text(np.full(n, 1.02), "null", 3), 10))
    table.append(("rchi2", "real", "", text(np.full(n, 1.01), "null", 3), 10))
    table.append(
        (
            "MeanObsMJD",
            "double",
            "days",
            text(np.where(rows.epoch_known, modified_julian_date(rows.epoch), np.nan), "null", 6),
            15,
        )
    )
    table.append(
        (
            "ra_pm",
            "double",
            "deg",
            text(
                rows.ra
                + objects.pmra[i] * (CATWISE_EPOCH - rows.epoch) / 3.6e6 / np.cos(np.radians(rows.dec)),
                "null",
                7,
            ),
            12,
        )
    )
    table.append(
        (
            "dec_pm",
            "double",
            "deg",
            text(rows.dec + objects.pmdec[i] * (CATWISE_EPOCH - rows.epoch) / 3.6e6, "null", 7),
            12,
        )
    )
    table.append(("pmra", "real", "arcsec/yr", text(objects.pmra[i] / 1000, "null", 5), 10))
    table.append(("pmdec", "real", "arcsec/yr", text(objects.pmdec[i] / 1000, "null", 5), 10))
    table.append(("sigpmra", "real", "arcsec/yr", text(np.full(n, pm_noise), "null", 4), 10))
    table.append(("sigpmdec", "real", "arcsec/yr", text(np.full(n, pm_noise), "null", 4), 10))
    for b, m in rows.bands.items():
        table.append((f"{b}mpro_pm", "real", "mag", text(m.mag, "null", 3), 10))
        table.append((f"{b}sigmpro_pm", "real", "mag", text(m.err, "null", 3), 12))
    table.append(("nb", "int", "", text(np.ones(n, int), "null"), 4))
    table.append(("na", "int", "", text(np.zeros(n, int), "null"), 4))
    table.append(("cc_flags", "char", "", text(np.full(n, "0000", object), "null"), 10))
    table.append(("ab_flags", "char", "", text(flags, "null"), 10))
    widths = [row[4] for row in table]
    header = [
        "\\fixlen = T",
        f"\\RowsRetrieved = {n}",
        "\\ simulated sky of msacat: not an observation",
        *(_ipac_line(list(cells), widths) for cells in list(zip(*table, strict=True))[:3]),
        _ipac_line(["null"] * len(table), widths),
    ]
    body = fixed_width_lines([(row[3], row[4]) for row in table])
    tile = f"{chunk:04d}m{chunk % 1000:03d}"
    path = folder / "catwise2020" / f"{tile}_opt1_20191208_213403_ab_v5_cat_b0.tbl.gz"
    write_lines(path, header, body)
    return n


def _joined(letters: list[np.ndarray]) -> pa.Array:
    """'AAU' from one letter a band."""
    out = letters[0].astype(object)
    for more in letters[1:]:
        out = out + more.astype(object)
    return text(out, "")


def _calendar_day(jd: np.ndarray) -> np.ndarray:
    days = np.floor(jd - 2440587.5).astype("datetime64[D]")
    return np.datetime_as_string(days).astype(object)


def _wise_name(name: str) -> str:
    """'Jhhmmss.ss+ddmmss.s' from 'hhmmssss+ddmmsss'."""
    return f"J{name[:6]}.{name[6:8]}{name[8:15]}.{name[15:]}"


def _ipac_line(cells: list[str], widths: list[int]) -> str:
    """A header line: a bar before each column stands where the data have a blank."""
    return "|" + "|".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + "|"
