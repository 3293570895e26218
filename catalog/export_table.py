"""Query results as files that describe themselves: units, UCDs and sentences travel with the columns."""

from __future__ import annotations

import os
from pathlib import Path

from msacat.catalog.errors import UsageError
from msacat.catalog.query_stars import QueryResult

FORMATS = {
    ".parquet": "parquet",
    ".fits": "fits",
    ".vot": "votable",
    ".ecsv": "ascii.ecsv",
    ".csv": "ascii.csv",
}


def export(result: QueryResult, path: Path) -> None:
    """Write the rows to `path`, whole or not at all; the format follows the suffix. An existing file is replaced."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UsageError(f"unknown file type '{path.suffix}'", file=str(path), expected=", ".join(FORMATS))
    if kind == "ascii.csv" and any(isinstance(value, list) for row in result.rows[:1] for value in row):
        raise UsageError("CSV cannot hold arrays", file=str(path), expected=".parquet, .fits, .vot or .ecsv")
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        if kind == "parquet":
            _parquet(result, temporary)
        else:
            _table(result).write(temporary, format=kind)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _parquet(result: QueryResult, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields, arrays = [], []
    for i, name in enumerate(result.columns):
        array = pa.array([row[i] for row in result.rows])
        about = result.described.get(name)
        metadata = {"description": about.sentence, "unit": about.unit, "ucd": about.ucd} if about else None
        fields.append(pa.field(name, array.type, metadata=metadata))
        arrays.append(array)
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), path)


def _table(result: QueryResult):
    import numpy as np
    from astropy.table import MaskedColumn, Table

    table = Table()
    for i, name in enumerate(result.columns):
        values = [row[i] for row in result.rows]
        missing = [value is None for value in values]
        filled = next((value for value in values if value is not None), "")
        if isinstance(filled, list):
            width = len(filled)
            data = np.array(
                [value if value is not None else [np.nan] * width for value in values], dtype=np.float32
            )
            column = MaskedColumn(data, name=name)
        else:
            data = np.array([filled if value is None else value for value in values])
            if data.dtype == object:
                data = np.array([str(value) for value in data])
            column = MaskedColumn(data, mask=missing, name=name)
        about = result.described.get(name)
        if about:
            column.description = about.sentence
            column.unit = about.unit.replace("**-", "-") or None
            column.meta["ucd"] = about.ucd
        table.add_column(column)
    return table
