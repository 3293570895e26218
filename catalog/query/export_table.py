"""Query results as files that describe themselves: units, UCDs and sentences travel with the columns.

NULL stays NULL: masked in VOTable and ECSV, TNULL or NaN in FITS (an empty string for text; a boolean column that
holds NULL becomes a small integer), empty in CSV. Arrays have no NULL of their own outside Parquet: NaN throughout.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msacat.catalog.errors import UsageError, written_to
from msacat.catalog.query.query_stars import QueryResult
from msacat.catalog.store.column_comments import Described

if TYPE_CHECKING:
    import pyarrow as pa
    from astropy.table import MaskedColumn, Table

FORMATS = {
    ".parquet": "parquet",
    ".fits": "fits",
    ".vot": "votable",
    ".ecsv": "ascii.ecsv",
    ".csv": "ascii.csv",
}
#: PostgreSQL's types that have a number of their own in files; all others are written as text
NUMPY_TYPES = {"int2": "i2", "int4": "i4", "int8": "i8", "float4": "f4", "float8": "f8", "numeric": "f8", "bool": "?",
               "oid": "i8"}  # fmt: skip


def require_format(path: Path) -> str:
    """The format that the suffix of `path` names; UsageError for another suffix or a folder that is not there."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"unknown file type '{path.suffix}'", file=str(path), expected=", ".join(FORMATS))
    folder = path.resolve().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        what = "not a folder you may write to" if folder.exists() else "no such folder"
        raise UsageError(f"cannot write there: {what}", file=str(folder))
    return kind


def export(result: QueryResult, about: Mapping[str, Described], path: Path) -> None:
    """Write the rows to `path`, whole or not at all; the format follows the suffix. An existing file is replaced.

    about   what is known of the columns, by name: what `described` says
    """
    kind = require_format(path)
    result.require_distinct_names()
    if kind == "ascii.csv" and (arrays := array_columns(result)):
        raise UsageError("CSV cannot hold arrays", file=str(path), found=", ".join(arrays),
                         expected=".parquet, .fits, .vot or .ecsv")  # fmt: skip
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with written_to(path):
            if kind == "parquet":
                _parquet(result, about, temporary)
            else:
                _write_table(_table(result, about, kind), temporary, kind)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def array_columns(result: QueryResult) -> list[str]:
    """Names of the columns that hold arrays."""
    return [name for name, kind in zip(result.columns, result.types, strict=True) if kind.endswith("[]")]


def _parquet(result: QueryResult, about: Mapping[str, Described], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields, arrays = [], []
    for i, name in enumerate(result.columns):
        kind = _arrow_type(result.types[i])
        values = [_plain(row[i], result.types[i]) for row in result.rows]
        column = about.get(name)
        metadata = (
            {"description": column.sentence, "unit": column.unit, "ucd": column.ucd} if column else None
        )
        fields.append(pa.field(name, kind, metadata=metadata))
        arrays.append(pa.array(values, kind))
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), path)


def _arrow_type(name: str) -> pa.DataType:
    import pyarrow as pa

    if name.endswith("[]"):
        return pa.list_(_arrow_type(name[:-2]))
    others = {"date": pa.date32(), "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC"),
              "bytea": pa.binary()}  # fmt: skip
    if name in others:
        return others[name]
    return pa.from_numpy_dtype(np.dtype(NUMPY_TYPES[name])) if name in NUMPY_TYPES else pa.string()


def _plain(value: Any, kind: str) -> Any:
    """A value as Arrow takes it for a column of PostgreSQL's type `kind`."""
    if value is None:
        return None
    if kind.endswith("[]"):
        return [_plain(item, kind[:-2]) for item in value]
    if isinstance(value, Decimal):
        return float(value)
    known = kind in NUMPY_TYPES or kind in ("date", "timestamp", "timestamptz", "bytea")
    return value if known else as_text(value)


def as_text(value: Any) -> str:
    """A value of a type that files have no number for; bytes as PostgreSQL writes them."""
    if isinstance(value, bytes):
        return rf"\x{value.hex()}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _write_table(table: Table, path: Path, file_format: str) -> None:
    from astropy.io import fits
    from astropy.units import UnitsWarning

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UnitsWarning
        )  # dex, log(cm.s**-2): astronomers write them all the same
        warnings.filterwarnings("ignore", message=".*W50.*")
        if file_format != "fits":
            table.write(path, format=file_format)
            return
        # FITS knows no UCD; these keywords are TOPCAT's. Units go in as the store has them, not as astropy writes them;
        # one that FITS has no word for (dex, electron/s) stands beside the sentence, lest every reader warns of it.
        hdu = fits.table_to_hdu(table)
        for i, column in enumerate(table.columns.values(), start=1):
            one_line = " ".join((column.description or "").split())
            unit = column.meta.get("unit")
            if unit and _is_fits_unit(unit):
                hdu.header[f"TUNIT{i}"] = unit
            elif unit:
                one_line = f"{one_line} (unit: {unit})".strip()
            if column.meta.get("ucd"):
                hdu.header[f"TUCD{i}"] = column.meta["ucd"]
            if one_line:  # a header holds one line of ASCII
                hdu.header[f"TCOMM{i}"] = one_line.encode("ascii", "replace").decode()
        whole = io.BytesIO()  # written to a file, numpy would hide why a disk took only a part
        hdu.writeto(whole)
        path.write_bytes(whole.getbuffer())


def _is_fits_unit(unit: str) -> bool:
    from astropy.units import Unit

    try:
        Unit(unit, format="fits")
    except ValueError:
        return False
    return True


def _table(result: QueryResult, about: Mapping[str, Described], file_format: str) -> Table:
    from astropy.table import Table

    table = Table()
    for i, name in enumerate(result.columns):
        if file_format == "fits" and not (name.isascii() and name.isprintable()):
            raise UsageError(
                "FITS names columns in ASCII only", found=name, next_step='SELECT … AS "another_name"'
            )
        column = _column(name, result.types[i], [row[i] for row in result.rows], file_format)
        known = about.get(name)
        if known:
            column.description = known.sentence
            column.meta["ucd"] = known.ucd
            if file_format == "fits":
                column.meta["unit"] = known.unit
            else:
                column.unit = known.unit or None
        table.add_column(column)
    return table


def _column(name: str, kind: str, values: list, file_format: str) -> MaskedColumn:
    from astropy.table import MaskedColumn

    if kind.endswith("[]"):
        return MaskedColumn(_matrix(name, kind, values), name=name)
    missing = np.array([value is None for value in values], dtype=bool)
    number = NUMPY_TYPES.get(kind)
    if number is None:
        text = np.array(["" if value is None else as_text(value) for value in values], dtype=str)
        if file_format == "fits" and (beyond := [word for word in text if not word.isascii()]):
            raise UsageError(f"column {name}: FITS holds ASCII text only", found=str(beyond[0]),
                             next_step="write .vot, .ecsv or .parquet, or leave the column out")  # fmt: skip
        # FITS has no NULL for text, and astropy would write its fill value N/A
        return MaskedColumn(text, name=name, mask=missing & (file_format != "fits"), fill_value="")
    if number == "?" and file_format == "fits" and missing.any():
        number = "i2"
    dtype = np.dtype(number)
    data = np.array([0 if value is None else value for value in values]).astype(dtype)
    if dtype.kind == "f" and file_format == "fits":
        return MaskedColumn(np.where(missing, np.nan, data), name=name)
    # the smallest integer stands for NULL where a format needs a number: no id, count or bitmask has it
    fill = np.iinfo(dtype).min if dtype.kind == "i" else None
    return MaskedColumn(data, name=name, mask=missing, fill_value=fill)


def _matrix(name: str, kind: str, values: list) -> np.ndarray:
    """Arrays of one length as the rows of a matrix; NaN where the array is NULL."""
    number = NUMPY_TYPES.get(kind[:-2])
    widths = {len(value) for value in values if value is not None}
    if number is None or number == "?" or len(widths) > 1:
        raise UsageError(
            f"column {name}: only arrays of numbers, all of one length, fit this format", found=kind,
            next_step="write .parquet, or leave the column out",
        )  # fmt: skip
    missing_row = [np.nan] * (widths.pop() if widths else 1)
    if any(value is None or None in value for value in values):
        number = "f4" if number == "f4" else "f8"
    rows = [missing_row if value is None else [np.nan if x is None else x for x in value] for value in values]
    return np.array(rows, dtype=np.dtype(number)).reshape(len(rows), len(missing_row))
