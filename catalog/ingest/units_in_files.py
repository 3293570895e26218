"""The units files declare (FITS TUNIT, ECSV, VOTable), laid against the unit a spec expects."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import NoReturn

from msacat.catalog.errors import InputRejected

_SYSTEM = re.compile(r"\b(AB|Vega|ST)\b", re.IGNORECASE)
#: spellings the field uses that no standard parser reads
_SPELLINGS = {
    "electron/s": "electron / s",
    "'electron'.s**-1": "electron / s",
    "e-/s": "electron / s",
    "e-.s-1": "electron / s",
    "log(cm.s**-2)": "dex(cm / s2)",
    "log.cm.s**-2": "dex(cm / s2)",
    "log(cgs)": "dex(cm / s2)",
    "[cm/s2]": "dex(cm / s2)",
    "'dex'": "dex",
    "[-]": "dex",
    "degrees": "deg",
    "degree": "deg",
    "arcseconds": "arcsec",
    "julian year": "yr",
    "time[julian years]": "yr",
    "magnitude": "mag",
    "kelvin": "K",
    "mjd": "d",
    "jd": "d",
    "days": "d",
    "count": "",
    "ct": "",
    "day": "d",
}


def factor_to(expected: str, found: str, systems: set[str], column: str, path: str) -> float:
    """Multiply values in unit `found` by the result to get `expected`; 1.0 where they are the same.

    `systems` are the magnitude systems of the bands that use the column: a file that declares another one
    is refused. Raises InputRejected where the units do not convert exactly.
    """
    system = _SYSTEM.search(found)
    if system and systems and "mag" in found.lower():
        ours = {s.split()[-1].lower() for s in systems}
        if system.group(1).lower() not in ours:
            _refuse("the file's magnitudes are in another system", expected, found, systems, column, path)
    factor = _factor(expected, found)
    if factor is None:
        _refuse(
            "the file's unit does not convert to the one expected", expected, found, systems, column, path
        )
    return factor


def _refuse(why: str, expected: str, found: str, systems: set[str], column: str, path: str) -> NoReturn:
    in_system = f" ({', '.join(sorted(systems))})" if systems else ""
    raise InputRejected(
        why,
        file=path,
        column=column,
        expected=f"{expected or 'no unit'}{in_system}",
        found=found,
        next_step="convert the column, or correct its unit if the header is wrong",
    )


@lru_cache(maxsize=1024)
def _factor(expected: str, found: str) -> float | None:
    if _plain(expected) == _plain(found):
        return 1.0
    if _plain(expected).startswith("dex(") and _plain(found) == "dex":
        return 1.0  # the logarithm of a gravity is often labelled just so
    from astropy import units

    a, b = _parse(found), _parse(expected)
    if a is None or b is None:
        return None
    if isinstance(a, units.function.FunctionUnitBase):
        return 1.0 if a == b else None
    try:
        factor = float(a.to(b))
    except units.UnitsError:
        return None
    # mag -> dex converts in principle, by a negative factor: never meant
    return _exact(factor) if factor > 0 else None


def _exact(factor: float) -> float:
    """A thousand, where astropy's own rounding made it 999.9999999999999; likewise a thousandth."""
    if factor >= 1:
        return float(round(factor)) if abs(factor - round(factor)) < 1e-12 * factor else factor
    return 1 / _exact(1 / factor)


def _plain(unit: str) -> str:
    """`mag(AB)`, `AB mag` and `mag` are one unit; the system is judged apart."""
    text = _SPELLINGS.get(unit.strip().lower(), unit.strip())
    if "mag" in text.lower() and _SYSTEM.search(text):
        return "mag"
    return text


@lru_cache(maxsize=1024)
def _parse(unit: str):
    from astropy import units

    text = _plain(unit)
    if text in ("", "-", "--", "1", "none", "None"):
        return units.dimensionless_unscaled
    for form in (None, "fits", "vounit", "cds", "ogip"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return units.Unit(text, format=form) if form else units.Unit(text)
        except (ValueError, TypeError):
            continue
    return None
