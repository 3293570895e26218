"""The stored columns that are computed from published ones: the whole list, so that a survey file holds no code.

Every function takes numpy arrays (NaN = missing) and returns stored values with NaN = not measured.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msacat.catalog.errors import InputRejected
from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX

J2000_MJD = 51544.5
JULIAN_YEAR_D = 365.25
_GAIA_ID = r"^(?:(?P<release>.*\S)\s+)?(?P<id>[0-9]{1,19})$"
_LARGEST = str(2**63 - 1)


def jyear_from_mjd(mjd: np.ndarray) -> np.ndarray:
    """Modified Julian date -> Julian year (TT-UTC, a minute, does not matter at the precision of an epoch)."""
    return 2000.0 + (mjd - J2000_MJD) / JULIAN_YEAR_D


def jyear_from_jd(jd: np.ndarray) -> np.ndarray:
    """Julian date -> Julian year."""
    return jyear_from_mjd(jd - 2400000.5)


def mag_from_flux(flux: np.ndarray, zero_point: float) -> np.ndarray:
    """zero_point - 2.5 log10(flux); NaN where flux <= 0, which no magnitude can express."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flux > 0, zero_point - 2.5 * np.log10(np.where(flux > 0, flux, 1.0)), np.nan)


def mag_error_from_flux(flux: np.ndarray, flux_error: np.ndarray, floor_mag: float) -> np.ndarray:
    """1.0857 flux_error / flux, in quadrature with the zero point's own error; NaN where either is unusable."""
    usable = (flux > 0) & (flux_error > 0)
    relative = np.where(usable, flux_error, np.nan) / np.where(usable, flux, 1.0)
    return np.hypot(MAG_PER_RELATIVE_FLUX * relative, floor_mag)


def gaia_ids(text: pa.Array, release: str | None, path: str, column: str, first_row: int) -> pa.Array:
    """`Gaia DR3 123` or `123` -> int64 123; NULL where the text is no id or exceeds 2^63 - 1.

    Raises InputRejected where a name speaks of another release than `release` (spelled gaia_dr3):
    the same number may be another star there.
    """
    parts = pc.extract_regex(pc.utf8_trim_whitespace(text), _GAIA_ID)
    named, digits = pc.struct_field(parts, "release"), pc.struct_field(parts, "id")
    for name in pc.unique(named).drop_null().to_pylist():
        if name and release is not None and re.sub(r"[\s_]+", "_", name.strip().lower()) != release:
            row = pc.index(named, name).as_py()
            raise InputRejected(
                "identifiers of another Gaia release",
                file=path,
                row=first_row + row,
                column=column,
                expected=f"{release}, this store's reference release",
                found=text[row].as_py(),
                next_step="map them through the archive's neighbourhood table (gaiadr3.dr2_neighbourhood) first",
            )
    too_big = pc.and_(pc.equal(pc.utf8_length(digits), 19), pc.greater(digits, _LARGEST))
    return pc.cast(pc.if_else(too_big, pa.scalar(None, pa.string()), digits), pa.int64())


def coefficients(flux: np.ndarray, flux_error: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Sampled spectra (B, 343) -> {(part, 'value' or 'error'): (B, 55)}, half by half.

    A half is NaN where one of its samples is missing; its errors also where one of theirs is missing or not
    positive. The operator and its error model are those of msacat.catalog.xp.xp_operators.
    """
    from msacat.catalog.xp.xp_operators import coefficients_from_samples

    flux = np.where(np.isfinite(flux), flux, np.nan)
    flux_error = np.where(np.isfinite(flux_error) & (flux_error > 0), flux_error, np.nan)
    bp, bp_error, rp, rp_error = coefficients_from_samples(flux, flux_error)
    return {
        ("bp", "value"): bp,
        ("bp", "error"): np.where(np.isnan(bp), np.nan, bp_error),
        ("rp", "value"): rp,
        ("rp", "error"): np.where(np.isnan(rp), np.nan, rp_error),
    }
