"""A survey as data: the pydantic model of one declarative TOML file.

Everything a survey needs (its table, validation, comments, documentation, the model's features)
derives from this file; nothing else in the code knows a survey by name.
See docs/survey_files.md for the keys in prose; [[columns]] are in survey_column.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from pydantic import Field, model_validator

from msacat.catalog.surveys.survey_column import Column, LongInteger, Name, Strict

#: `lookup` is a table kept beside the others (an archive's join table): stored and described, nothing derives from it.
Role = Literal["reference", "photometry", "spectra", "inputs", "labels", "matches", "lookup"]
#: roles whose rows are keyed by the reference release's source_id
OF_THE_REFERENCE = ("reference", "spectra", "inputs", "matches")
#: roles whose objects are matched to the reference's stars
MATCHED_ROLES = ("photometry", "labels")
Quantity = Literal["fe_h", "teff", "logg"]
#: gaiaxpy's XP spectra cover this; a band whose light lies elsewhere cannot be synthesised from them.
XP_RANGE_NM = (330.0, 1050.0)
#: matched.stars and survey.xp_spectra are views over all surveys
VIEWS_OVER_ALL = ("stars", "xp_spectra")
_IDS = ("bigint", "integer", "text")  # floating point would round an id of 64 bits to another object's
_NUMBERS = ("double precision", "real", "bigint", "integer", "smallint")
#: what the column named under a key may be; under other keys it may be anything
TYPES_OF: dict[tuple[str, ...], tuple[str, ...]] = {
    ("id", "column"): _IDS, ("id", "best_by"): _NUMBERS, ("matches", "id"): _IDS,
    ("position", "ra"): ("double precision",), ("position", "dec"): ("double precision",),
    ("position", "gaia_id"): ("bigint",), ("position", "epoch_column"): _NUMBERS,
    ("position", "pmra"): _NUMBERS, ("position", "pmdec"): _NUMBERS, ("scalars",): _NUMBERS,
    ("bands", "mag"): _NUMBERS, ("bands", "err"): _NUMBERS,
    ("labels", "value"): _NUMBERS, ("labels", "err"): _NUMBERS,
    **{("spectra", key): ("real[55]",) for key in ("bp", "bp_err", "rp", "rp_err")},
}  # fmt: skip


class SpecClash(ValueError):
    """Two parts of a survey file that do not fit together; `where` is the key's path, as pydantic writes it."""

    def __init__(self, message: str, *where: str | int) -> None:
        super().__init__(message)
        self.where = where


class Identifier(Strict):
    """The survey's own identifier. For the roles OF_THE_REFERENCE it is source_id, Gaia's."""

    column: Name
    unique: bool = True  # False: several rows may carry it (APOGEE); the _clean view keeps the best
    best_by: Name | None = (
        None  # the column whose largest value wins among rows of one id, or objects of one star
    )

    @model_validator(mode="after")
    def _best_is_given(self) -> Identifier:
        if not self.unique and self.best_by is None:
            raise ValueError("id.unique = false needs id.best_by")
        return self


class Position(Strict):
    """Where the survey's object lies, and when it was there. Angles in deg, ICRS."""

    ra: Name = "ra"
    dec: Name = "dec"
    epoch: float = Field(ge=1900, le=2100)  # Julian year, used where the row's own is missing or impossible
    epoch_column: Name | None = None  # the row's own, in Julian years
    match_radius_arcsec: float | None = Field(default=None, gt=0, le=60)
    pmra: Name | None = None  # reference only: mas/yr, with cos(dec)
    pmdec: Name | None = None
    gaia_id: Name | None = None  # column holding the reference release's source_id, used before positions


class Band(Strict):
    """One photometric band: a name for ever."""

    name: Name
    mag: Name  # the column of the magnitude
    err: Name  # the column of its 1-sigma error
    system: Literal["Vega", "AB", "asinh AB"]
    zero_point_jy: float = Field(gt=0)  # flux density of magnitude 0 in the published system, Jy
    wavelength_nm: float = Field(gt=0)  # effective wavelength
    width_nm: float = Field(gt=0)  # effective width
    reference: str
    typical_err: float = Field(gt=0, lt=2)  # mag, where the error is not published
    floor_err: float = Field(default=0.01, ge=0)  # mag, calibration floor added in quadrature by the model
    xp: str | None = None  # key of the synthetic-photometry row, "<system>:<band>", inside 330-1050 nm only
    xp_weight: float = Field(default=1.0, gt=0, le=1)  # < 1 where the passband is truncated or leaks (u)
    xp_shift: float = Field(default=0.0, gt=-5, lt=5)  # mag, survey's system minus the row's (AB - Vega, say)
    xp_offset: bool = False  # fit a constant offset to the synthetic magnitude (no standardised system)

    @model_validator(mode="after")
    def _xp_is_possible(self) -> Band:
        if self.xp is not None:
            if not XP_RANGE_NM[0] <= self.wavelength_nm <= XP_RANGE_NM[1]:
                raise ValueError(
                    f"band {self.name}: no xp for a band at {self.wavelength_nm} nm; XP spectra cover 330-1050 nm"
                )
            if not re.fullmatch(r"\w+:\w+", self.xp):
                raise ValueError(f"band {self.name}: xp must read '<system>:<band>', not '{self.xp}'")
        return self


class Label(Strict):
    """A spectroscopic label usable for training."""

    quantity: Quantity
    value: Name
    err: Name | None = None
    typical_err: float = Field(gt=0)
    scale: Literal["reference", "fitted_offset"] = "reference"  # APOGEE DR17 is the reference scale


class QualityCut(Strict):
    """A named reason to distrust a row (or some of its bands); sets a bit, never deletes."""

    bit: int = Field(ge=0, le=62)
    name: Name
    description: str
    column: Name
    bad_if: Literal["<", "<=", ">", ">=", "==", "!=", "in", "not in", "any_bit", "no_bit", "is_null"]
    #: what to compare with; for any_bit and no_bit a mask (the sum of 2**bit) or several. A NULL never fails a cut but is_null.
    value: LongInteger | float | str | bool | list[LongInteger | float | str] | None = None
    character: int | None = None  # compare only this character (from 0) of a text column, e.g. ph_qual
    bands: list[Name] = []  # empty: the row leaves the _clean view; else only these bands become NULL there
    labels: list[Quantity] = []  # like bands: only these labels become NULL there
    removes: bool = True  # False: the bit informs, the _clean view ignores it

    @model_validator(mode="after")
    def _has_a_value(self) -> QualityCut:
        if (self.bad_if == "is_null") != (self.value is None):
            raise ValueError(
                f"quality {self.name}: every test but is_null needs a value, and is_null takes none"
            )
        if self.bad_if in ("in", "not in") and not isinstance(self.value, list):
            raise ValueError(f"quality {self.name}: '{self.bad_if}' needs a list of values")
        if isinstance(self.value, list) and self.bad_if not in ("in", "not in", "any_bit", "no_bit"):
            raise ValueError(f"quality {self.name}: '{self.bad_if}' takes one value, not a list")
        return self


class Matches(Strict):
    """An archive's own cross-match of `survey` to the reference release."""

    survey: Name
    id: Name  # our column (of this table) holding the survey's id
    separation: Name | None = None  # arcsec
    n_neighbours: Name | None = None
    n_mates: Name | None = None


class Spectra(Strict):
    """XP coefficients: which columns hold them, and where they came from."""

    bp: Name = "bp_coefficients"
    bp_err: Name = "bp_coefficient_errors"
    rp: Name = "rp_coefficients"
    rp_err: Name = "rp_coefficient_errors"
    origin: Name  # 'continuous' or 'sampled', written to every row's provenance
    preference: int  # smaller wins where two surveys hold the same star


class SurveySpec(Strict):
    """One survey file. `name` is the dataset keyword and the table survey.<name>."""

    name: Name
    title: str
    version: int = Field(ge=1)
    release: Name  # e.g. gaia_dr3; for the roles OF_THE_REFERENCE the reference release it speaks of
    role: Role
    description: str
    reference: str  # paper and data-model page
    attribution: str  # the acknowledgement users owe
    id: Identifier
    position: Position | None = None
    #: published names in file order, only for formats without a header (2MASS psc files)
    file_columns: list[str] = []
    #: reference and inputs only: further model inputs (parallax, proper motion, reddening); <name>_error beside
    scalars: list[Name] = []
    columns: list[Column] = Field(min_length=1)
    bands: list[Band] = []
    labels: list[Label] = []
    quality: list[QualityCut] = []
    matches: Matches | None = None
    spectra: Spectra | None = None
    refuse_columns: dict[str, str] = {}  # a published name that shows the wrong product -> why
    #: reference only: published text columns that name the release ("Gaia DR3 123"), checked, not stored
    release_columns: list[str] = []

    @model_validator(mode="after")
    def _hangs_together(self) -> SurveySpec:
        if self.name in VIEWS_OVER_ALL:
            raise SpecClash(f"survey name {self.name} is msacat's own", "name")
        names = [c.name for c in self.columns]
        _no_repeats("column", "columns", "name", names)
        _no_repeats("band", "bands", "name", [b.name for b in self.bands])
        _no_repeats("label", "labels", "quantity", [x.quantity for x in self.labels])
        _no_repeats("quality bit", "quality", "bit", [str(q.bit) for q in self.quality])
        _no_repeats("quality name", "quality", "name", [q.name for q in self.quality])
        taken: dict[str, str] = {}
        for i, column in enumerate(self.columns):
            if column.name in ("quality", "file_id", "file_row"):
                raise SpecClash(f"column name {column.name} is msacat's own", "columns", i, "name")
            for published in column.published:
                other = taken.setdefault(published.lower(), column.name)
                if other != column.name:
                    raise SpecClash(
                        f"published column {published} feeds {other} already", "columns", i, "published"
                    )
        for name, *where in self._references():
            if name is not None and name not in names:
                raise SpecClash(f"no [[columns]] entry defines a column '{name}'", *where)
        self._types_fit()
        bands = {b.name for b in self.bands}
        labels = {str(x.quantity) for x in self.labels}
        for i, q in enumerate(self.quality):
            if unknown := set(q.bands) - bands:
                raise SpecClash(f"unknown bands {sorted(unknown)}", "quality", i, "bands")
            if unknown := {str(x) for x in q.labels} - labels:
                raise SpecClash(f"unknown labels {sorted(unknown)}", "quality", i, "labels")
        self._role_is_complete()
        return self

    def _references(self) -> Iterator[tuple]:
        """Every column named outside [[columns]], and where: (name, key, position, key)."""
        yield self.id.column, "id", "column"
        yield self.id.best_by, "id", "best_by"
        if self.position:
            for key in ("ra", "dec", "epoch_column", "pmra", "pmdec", "gaia_id"):
                yield getattr(self.position, key), "position", key
        for scalar in self.scalars:
            yield scalar, "scalars"
            yield f"{scalar}_error", "scalars"
        for i, band in enumerate(self.bands):
            yield band.mag, "bands", i, "mag"
            yield band.err, "bands", i, "err"
        for i, label in enumerate(self.labels):
            yield label.value, "labels", i, "value"
            yield label.err, "labels", i, "err"
        for i, cut in enumerate(self.quality):
            yield cut.column, "quality", i, "column"
        if self.matches:
            for key in ("id", "separation", "n_neighbours", "n_mates"):
                yield getattr(self.matches, key), "matches", key
        if self.spectra:
            for key in ("bp", "bp_err", "rp", "rp_err"):
                yield getattr(self.spectra, key), "spectra", key

    def _types_fit(self) -> None:
        uses: list[tuple[str, str, tuple[str, ...]]] = [("source_id", "Gaia's id", ("bigint",))]
        for name, *where in self._references():
            keys = tuple(key for key in where if isinstance(key, str))
            uses.append((name, ".".join(keys), TYPES_OF.get(keys, ())))
        for name, use, types in uses:
            for i, column in enumerate(self.columns):
                if column.name == name and types and column.type not in types:
                    raise SpecClash(
                        f"{name}, used as {use}, must be {' or '.join(types)}, not {column.type}",
                        "columns", i, "type",
                    )  # fmt: skip

    def _role_is_complete(self) -> None:
        if self.role in ("reference", *MATCHED_ROLES) and self.position is None:
            raise SpecClash(f"role {self.role} needs [position]", "role")
        if self.role in OF_THE_REFERENCE and self.id.column != "source_id":
            raise SpecClash(f"role {self.role}: id.column must be source_id", "id", "column")
        if self.role in (*MATCHED_ROLES, "lookup") and self.id.column == "source_id":
            raise SpecClash(
                "source_id always means Gaia's: name the survey's own id <survey>_id", "id", "column"
            )
        if self.role in MATCHED_ROLES and self.position and not self.position.match_radius_arcsec:
            raise SpecClash(f"role {self.role} needs position.match_radius_arcsec", "position")
        if self.scalars and self.role not in ("reference", "inputs"):
            raise SpecClash("scalars is for roles reference and inputs", "scalars")
        if self.release_columns and self.role != "reference":
            raise SpecClash("release_columns is for role reference", "release_columns")
        needed = {"photometry": "bands", "labels": "labels", "matches": "matches", "spectra": "spectra",
                  "inputs": "scalars"}  # fmt: skip
        if self.role in needed and not getattr(self, needed[self.role]):
            raise SpecClash(f"role {self.role} needs {needed[self.role]}", "role")

    def column(self, name: str) -> Column:
        return self._columns_by_name[name]

    @cached_property
    def _columns_by_name(self) -> dict[str, Column]:
        return {c.name: c for c in self.columns}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON: two specs with the same meaning share it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _no_repeats(what: str, table: str, key: str, names: list[str]) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise SpecClash(f"{what} {name} is given twice", table, i, key)
