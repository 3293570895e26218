"""Delimited text: Gaia ECSV and CSV, DataLink CSV, SkyServer CSV, SkyMapper TSV, LAMOST and 2MASS `|` files.

They differ in what stands before the rows and in the separator; `describe_text` finds out which is which from the
content, `DelimitedTextFile` reads them all. Formats: docs/survey_files.md; the 2MASS PSC files have no header.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from msacat.catalog.errors import InputRejected, NotATable
from msacat.catalog.read.decompress import read_ahead
from msacat.catalog.read.read_ecsv_header import EcsvHeader, read_ecsv_header
from msacat.catalog.read.survey_file import FileColumn, SurveyFile, refuse_repeated_names
from msacat.catalog.read.text_blocks import BlockParser, line_blocks

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SINGLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_N_COLUMNS_2MASS = 60


@dataclass
class TextLayout:
    """How the rows of a delimited text file are written, and where they begin."""

    format: str
    delimiter: str
    quote: str | None
    names: list[str]
    data_offset: int  # byte of the decompressed text where the first data row begins
    units: dict[str, str] = field(default_factory=dict)
    meta_source_id: int | None = None


def describe_text(head: bytes, path: Path, file_columns: Sequence[str]) -> TextLayout:
    """The layout of the text that begins with `head`, which must reach beyond the first data row.

    `file_columns` names the columns of a file without a header. Raises InputRejected for text that is no table.
    """
    offset = 3 if head.startswith(b"\xef\xbb\xbf") else 0
    comments: list[str] = []
    while offset < len(head):
        end = head.find(b"\n", offset)
        end = len(head) if end < 0 else end
        raw = head[offset:end].rstrip(b"\r")
        if raw.strip() and not raw.startswith(b"#"):
            break
        comments.append(raw.decode("utf-8", "replace"))
        offset = end + 1
    else:
        raise _no_table(path, "only comments or blank lines")
    line, after_line = _decoded(raw, path), end + 1
    ecsv = EcsvHeader()
    if comments and comments[0].startswith("# %ECSV"):
        ecsv = read_ecsv_header(comments, path)
        delimiter: str | None = ecsv.delimiter
    else:
        delimiter = _delimiter(line)
    try:
        names = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter or ","))]
    except csv.Error:  # a carriage return inside the line, or a cell of more than 128 KiB
        raise _no_table(path, line) from None
    if delimiter is None and not _SINGLE_NAME.fullmatch(names[0]):
        raise _no_table(path, line)
    headerless = any(_NUMBER.fullmatch(name) for name in names)
    second = head[after_line : head.find(b"\n", after_line) + 1 or len(head)]
    layout = TextLayout(
        format=_format_name(comments, delimiter, headerless, len(names), second),
        delimiter=delimiter or ",",
        # `|` files quote nothing: a stray quote in a name must not swallow the rows after it
        quote=None if delimiter == "|" else '"',
        names=names,
        data_offset=after_line,
        units=ecsv.units,
        meta_source_id=ecsv.source_id,
    )
    if headerless:
        if len(file_columns) != len(names):
            raise _no_header(path, line, len(names), len(file_columns))
        layout.names, layout.data_offset = list(file_columns), offset
    refuse_repeated_names(layout.names, path)
    return layout


def complete_head(head: bytes) -> bool:
    """Does `head` hold the first line that is no comment and the whole line after it?"""
    offset = full = 0
    while (end := head.find(b"\n", offset)) >= 0:
        if head[offset : offset + 1] not in (
            b"#",
            b"\r",
            b"\n",
            b"|",
            b"\\",
        ):  # the latter two begin IPAC headers
            full += 1
            if full == 2:
                return True
        offset = end + 1
    return False


class DelimitedTextFile(SurveyFile):
    """Rows of separated cells, parsed block by block: 8 MiB of text are in memory at a time, and the next 8."""

    def __init__(self, path: Path, layout: TextLayout, max_bad_rows: int, checksum: bool = False) -> None:
        self.path, self.layout, self.max_bad_rows, self.checksum = path, layout, max_bad_rows, checksum
        self.format, self.meta_source_id = layout.format, layout.meta_source_id
        self.columns = [FileColumn(name, layout.units.get(name)) for name in layout.names]

    def _read(self, wanted: dict[str, pa.DataType], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        layout = self.layout
        parser = BlockParser(
            self.path, layout.names, wanted, layout.delimiter, layout.quote, self.max_bad_rows
        )
        first_row, digest = 1, hashlib.sha256() if self.checksum else None
        for block in read_ahead(line_blocks(self.path, layout.data_offset, digest=digest)):
            parsed = parser.parse(block, first_row)
            self.rows_bad = parser.rows_bad
            for start, table in parsed.runs(first_row):
                yield from sliced(start, table, rows)
            first_row += parsed.n_rows
        if digest is not None:
            self.content_sha256 = digest.hexdigest()


def sliced(first_row: int, table: pa.Table, rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The table as numbered batches of at most `rows` rows."""
    for batch in table.to_batches(max_chunksize=rows):
        if batch.num_rows:
            yield first_row, batch
            first_row += batch.num_rows


def _delimiter(line: str) -> str | None:
    counts = {mark: line.count(mark) for mark in "\t|,"}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else None


def _format_name(
    comments: list[str], delimiter: str | None, headerless: bool, n_columns: int, second_line: bytes
) -> str:
    if comments and comments[0].startswith("# %ECSV"):
        return "ecsv"
    if delimiter == "|":
        return "2mass-psc" if headerless and n_columns == _N_COLUMNS_2MASS else "pipe-csv"
    if delimiter == "\t":
        return "tsv"
    if comments and comments[0].startswith("#Table"):
        return "skyserver-csv"
    return "datalink-csv" if b'"(' in second_line else "csv"


def _decoded(line: bytes, path: Path) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise _no_table(path, repr(line[:60])) from None


def _no_table(path: Path, seen: str) -> NotATable:
    return NotATable(
        "the content is in no format msacat reads",
        file=str(path),
        expected="ECSV, CSV, TSV, `|`-separated text, IPAC table, FITS, VOTable or Parquet",
        found=seen[:80],
        next_step="check that the download is complete and is a table",
    )


def _no_header(path: Path, line: str, n_found: int, n_known: int) -> InputRejected:
    if n_known:
        expected = f"{n_known} columns, as published for this dataset"
    else:
        expected = "a header line with column names"
    return InputRejected(
        "the text has no header line" + (" and another number of columns" if n_known else ""),
        file=str(path),
        row=1,
        expected=expected,
        found=f"{n_found} columns: {line[:60]}",
        next_step="check that this is the product the dataset expects",
    )
