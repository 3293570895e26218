"""Units by astropy, UCDs by the IVOA word list (v1.5) that astropy carries: unknown ones are refused."""

from __future__ import annotations

from functools import lru_cache

# astropy cannot spell these, yet the field writes them every day; kept as they are.
UNITS_KEPT = {"", "log(cm.s**-2)", "dex", "electron/s"}


@lru_cache(maxsize=512)
def check_unit(unit: str) -> str:
    """Return `unit` if astropy can parse it; ValueError otherwise."""
    if unit in UNITS_KEPT:
        return unit
    from astropy import units

    try:
        units.Unit(unit)
    except ValueError as error:
        reason = str(error).split(" If this is meant", maxsplit=1)[0]  # the rest tells how to program astropy
        raise ValueError(f"unknown unit '{unit}': {reason}") from None
    return unit


@lru_cache(maxsize=512)
def check_ucd(ucd: str) -> str:
    """Return `ucd` if every word is in the IVOA controlled vocabulary and in an allowed place."""
    if not ucd:
        return ucd
    from astropy.io.votable.ucd import parse_ucd

    try:
        parse_ucd(ucd, check_controlled_vocabulary=True)
    except ValueError as error:
        raise ValueError(f"unknown UCD '{ucd}': {error}") from None
    return ucd
