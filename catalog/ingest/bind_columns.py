"""Finds a survey file's columns by name, whatever their order or case, and checks what they claim to be.

Positions are never trusted: two releases of one survey differ in the order of their columns, and the
archives disagree about case (`source_id`, `SOURCE_ID`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest.units_in_files import factor_to
from msacat.catalog.surveys.survey_column import Column
from msacat.catalog.surveys.survey_spec import SurveySpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msacat.catalog.read.survey_file import FileColumn

#: what a reader is asked for. Reals are read in double precision so that sentinels, units and ranges
#: are judged on the published digits; the cast to real comes last.
WANTED: dict[str, pa.DataType] = {
    "bigint": pa.int64(),
    "integer": pa.int32(),
    "smallint": pa.int16(),
    "double precision": pa.float64(),
    "real": pa.float64(),
    "boolean": pa.bool_(),
    "text": pa.string(),
    "real[55]": pa.list_(pa.float32()),
    "real[343]": pa.list_(pa.float64()),
}
#: what COPY BINARY is given: it never casts, so these are exactly the table's types
STORED: dict[str, pa.DataType] = {
    **WANTED,
    "real": pa.float32(),
    "real[55]": pa.list_(pa.float32(), 55),
    "real[343]": pa.list_(pa.float32(), 343),
}
#: column names a message repeats at most
LISTED = 40
#: formats whose cells are text: there alone a single id or position may be unreadable, which costs that row only
TEXT_FORMATS = ("ecsv", "csv", "datalink-csv", "2mass-psc", "ipac", "pipe-csv", "skyserver-csv", "tsv")
#: computed columns ask for their inputs in these types
COMPUTED_INPUT: dict[str, pa.DataType] = {
    "gaia_id_from_text": pa.string(),
    # published in single precision: read so from every encoding, a star has the same coefficients whatever the format
    "xp_from_samples": pa.list_(pa.float32()),
    "xp_error_from_samples": pa.list_(pa.float32()),
}


@dataclass(frozen=True)
class BoundColumn:
    """One stored column and where its values come from in this file."""

    column: Column
    sources: tuple[str, ...]  # names as written in the file; () where the file has none: NULL throughout
    factors: tuple[float, ...]  # published unit of this file -> the unit the spec expects, per source


@dataclass(frozen=True)
class Binding:
    """A file's columns laid against a survey spec."""

    spec: SurveySpec
    columns: tuple[BoundColumn, ...]
    wanted: dict[str, pa.DataType]  # what to ask the reader for, by the file's own names
    unused: tuple[str, ...]  # columns of the file the spec does not name
    absent: tuple[str, ...]  # stored columns the file cannot fill
    release_columns: tuple[str, ...] = ()  # text that names the release, checked and not stored


@dataclass
class _Header:
    """A file's column names, looked up without case."""

    names: list[str]
    units: list[str | None]
    by_key: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for i, name in enumerate(self.names):
            self.by_key.setdefault(name.strip().lower(), []).append(i)


def bind_columns(
    spec: SurveySpec, file_columns: Sequence[FileColumn], path: str, file_format: str
) -> Binding:
    """Lay the columns of a file of `file_format` (SurveyFile.format) against `spec`.

    Raises InputRejected for another product's column (`refuse_columns`), a missing required column, a
    column given twice, or a unit that does not convert exactly.
    """
    header = _Header([c.name for c in file_columns], [c.unit for c in file_columns])
    for name, why in spec.refuse_columns.items():
        if found := header.by_key.get(name.lower()):
            raise InputRejected(
                f"not a file of {spec.name}: {why}",
                file=path,
                column=header.names[found[0]],
                expected=f"the columns of {spec.title}",
                found=f"column {header.names[found[0]]}",
                next_step=f"ingest it as the dataset it belongs to, or fetch the files of {spec.title}",
            )
    bound: list[BoundColumn] = []
    missing: list[Column] = []
    wanted: dict[str, pa.DataType] = {}
    keys = key_columns(spec) if file_format in TEXT_FORMATS else set()
    for column in spec.columns:
        sources, index = _find(column, header, path)
        if not sources and _must_exist(column, spec):
            missing.append(column)
            continue
        factors = tuple(_factor(spec, column, header.units[i], header.names[i], path) for i in index)
        bound.append(BoundColumn(column, sources, factors))
        for name in sources:
            _want(wanted, name, pa.string() if column.name in keys else _kind(column))
    if missing:
        raise InputRejected(
            f"columns that {spec.name} needs are missing: {', '.join(spelled(c) for c in missing)}",
            file=path,
            expected=", ".join(spelled(c) for c in spec.columns if _must_exist(c, spec)),
            found=_listing(header.names),
            next_step="check that the file belongs to this dataset; column names may be in any order and case",
        )
    release = [_only(name, header, path) for name in spec.release_columns]
    release_columns = tuple(header.names[i] for i in release if i is not None)
    for name in release_columns:
        _want(wanted, name, pa.string())
    used = {*release_columns, *(name for b in bound for name in b.sources)}
    return Binding(
        spec=spec,
        columns=tuple(bound),
        wanted=wanted,
        unused=tuple(n for n in header.names if n not in used),
        absent=tuple(b.column.name for b in bound if not b.sources),
        release_columns=release_columns,
    )


def published_names(spec: SurveySpec) -> set[str]:
    """Every column name the survey file knows in files, in lower case; those of the wrong products too."""
    names = {*spec.refuse_columns, *spec.release_columns}
    for column in spec.columns:
        names.update(name for names_of_one in _inputs(column) for name in names_of_one)
    return {name.lower() for name in names}


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more or "no columns"


def key_columns(spec: SurveySpec) -> set[str]:
    """Id and position: without them a row cannot be stored."""
    return {spec.id.column} | ({spec.position.ra, spec.position.dec} if spec.position else set())


def _must_exist(column: Column, spec: SurveySpec) -> bool:
    return column.required or column.name in key_columns(spec)


def _inputs(column: Column) -> list[list[str]]:
    """What a column is read from: of each input the names it may have, the preferred one first."""
    return column.computed.inputs if column.computed else [column.published]


def spelled(column: Column) -> str:
    """The published name or names a column is read from."""
    return " and ".join(" or ".join(names) for names in _inputs(column))


def _find(column: Column, header: _Header, path: str) -> tuple[tuple[str, ...], list[int]]:
    """The file's columns that feed `column`: of every input the first name present; none where an input has none."""
    index = []
    for names in _inputs(column):
        found = [i for i in (_only(name, header, path) for name in names) if i is not None]
        if not found:
            return (), []
        index.append(found[0])
    return tuple(header.names[i] for i in index), index


def _only(name: str, header: _Header, path: str) -> int | None:
    found = header.by_key.get(name.lower(), [])
    if len(found) > 1:
        raise InputRejected(
            f"column {name} is given {len(found)} times",
            file=path,
            column=name,
            expected="each column once (case does not distinguish them)",
            found=", ".join(n for n, k in Counter(header.names).items() if n.strip().lower() == name.lower() for _ in range(k)),
            next_step="remove or rename the copies",
        )  # fmt: skip
    return found[0] if found else None


def _kind(column: Column) -> pa.DataType:
    if column.computed:
        return COMPUTED_INPUT.get(column.computed.transform, pa.float64())
    return WANTED[column.type]


def _want(wanted: dict[str, pa.DataType], name: str, kind: pa.DataType) -> None:
    """Ask for `name` as `kind`; where two stored columns need it in two types, in the one that loses nothing."""
    have = wanted.get(name, kind)
    if have == kind:
        wanted[name] = kind
    elif pa.types.is_list(kind):
        wanted[name] = pa.list_(pa.float64())
    elif pa.types.is_string(kind) or pa.types.is_string(have):
        wanted[name] = pa.string()
    else:
        both_whole = pa.types.is_integer(kind) and pa.types.is_integer(have)
        wanted[name] = pa.int64() if both_whole else pa.float64()


def _factor(spec: SurveySpec, column: Column, unit: str | None, name: str, path: str) -> float:
    """What to multiply values of this file by; 1.0 where it declares no unit."""
    expected = column.unit if column.published_unit is None else column.published_unit
    if column.computed:
        # Only the spec's own published_unit says what a transform takes in; zero points depend on it.
        if column.published_unit is None:
            return 1.0
        expected = column.published_unit
    declared = 1.0
    if unit and (column.computed or column.type not in ("text", "boolean", "bigint", "integer", "smallint")):
        systems: set[str] = {b.system for b in spec.bands if column.name in (b.mag, b.err)}
        declared = factor_to(expected, unit, systems, name, path)
    if not column.computed and column.published_unit is not None:
        declared *= factor_to(column.unit, column.published_unit, set(), name, path)
    return declared
