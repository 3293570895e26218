"""VOTable files (IVOA VOTable 1.5): the first table, TABLEDATA, BINARY or BINARY2, as a stream.

The XML is parsed piece by piece with expat, so memory holds one batch of rows whatever the size. Not used: astropy's
reader, which builds the whole table as Python objects first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import pyarrow as pa
import pyarrow.compute as pc

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.cast_to_wanted import cast_to_wanted
from msacat.catalog.read.decompress import DOWNLOAD_AGAIN, content_chunks
from msacat.catalog.read.survey_file import FileColumn, Place, SurveyFile, refuse_repeated_names
from msacat.catalog.read.text_to_arrow import arrays_from_text, text_to_column
from msacat.catalog.read.votable_binary import BinaryRows, VOField

_BATCH_BYTES = 4 << 20  # characters of cells or base64 gathered before batches are given out


@dataclass
class _Stream:
    """What expat has met so far; a new one for every reading of the file."""

    fields: list[VOField] = field(default_factory=list)
    source_id: int | None = None
    encoding: str | None = None  # TABLEDATA, BINARY or BINARY2, once reached
    table_done: bool = False
    rows: list[list[str]] = field(default_factory=list)  # TABLEDATA cells of the rows not yet given out
    base64: list[str] = field(default_factory=list)  # text of the STREAM not yet decoded
    size: int = 0  # characters in `rows` or `base64`
    _row: list[str] | None = None
    _cell: str | None = None
    _in_table: bool = False
    _in_stream: bool = False
    _field: VOField | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if ":" in tag:  # a namespace prefix, as in vot:TABLE
            tag = tag.rsplit(":", 1)[-1]
        if tag == "TD":
            self._cell = ""
        elif tag == "TR":
            self._row = []
        elif tag == "TABLE":
            self._in_table = not self.table_done
        elif not self._in_table:
            return
        elif tag == "FIELD":
            self._field = VOField.from_attributes(attributes)
            self.fields.append(self._field)
        elif tag == "VALUES" and self._field is not None:
            self._field.null = attributes.get("null")
        elif tag == "PARAM":
            if attributes.get("name", "").lower() == "source_id" and attributes.get("value", "").isdigit():
                self.source_id = int(attributes["value"])
        elif tag in ("TABLEDATA", "BINARY", "BINARY2", "FITS", "PARQUET"):
            self.encoding = tag
        elif tag == "STREAM":
            self._in_stream = True
            if "href" in attributes or attributes.get("encoding", "base64") != "base64":
                self.encoding = "a STREAM that is not base64 text inside the file"

    def end(self, tag: str) -> None:
        if ":" in tag:
            tag = tag.rsplit(":", 1)[-1]
        if tag == "TD" and self._cell is not None and self._row is not None:
            self._row.append(self._cell)
            self.size += len(self._cell) + 8
            self._cell = None
        elif tag == "TR" and self._row is not None and self._in_table:
            self.rows.append(self._row)
            self._row = None
        elif tag == "FIELD":
            self._field = None
        elif tag == "STREAM":
            self._in_stream = False
        elif tag == "TABLE":
            self._in_table, self.table_done = False, True

    def text(self, data: str) -> None:
        if self._cell is not None:
            self._cell += data
        elif self._in_stream and self._in_table:
            self.base64.append(data)
            self.size += len(data)


class VOTableFile(SurveyFile):
    """The first TABLE of a VOTable."""

    format = "votable"

    def __init__(self, path: Path) -> None:
        self.path = path
        stream = next(iter(self._parsed(until_data=True)))
        if stream.encoding not in ("TABLEDATA", "BINARY", "BINARY2"):
            raise self._broken(
                "TABLEDATA, BINARY or BINARY2 in the first TABLE", stream.encoding or "no table data"
            )
        names = [f.name for f in stream.fields]
        refuse_repeated_names(names, path)
        self.columns = [FileColumn(f.name, f.unit) for f in stream.fields]
        self.meta_source_id = stream.source_id

    def _broken(self, expected: str, found: str, row: int | None = None) -> InputRejected:
        return InputRejected(
            "the VOTable is truncated, damaged or of a kind that is not read",
            file=str(self.path),
            row=row,
            expected=expected,
            found=found,
            next_step=DOWNLOAD_AGAIN + ", or as CSV, FITS or Parquet",
        )

    def _parsed(self, until_data: bool = False) -> Iterator[_Stream]:
        """Feed the file to expat; yield when enough is gathered, and at the end."""
        stream = _Stream()
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = stream.start, stream.end
        parser.CharacterDataHandler = stream.text
        # entities are never needed here, and are how XML bombs are built
        parser.EntityDeclHandler = self._refuse_entity
        try:
            for chunk in content_chunks(self.path):
                parser.Parse(chunk, False)
                if (until_data and stream.encoding) or stream.size > _BATCH_BYTES:
                    yield stream
            parser.Parse(b"", True)
        except (expat.ExpatError, ValueError) as error:  # ValueError: an arraysize that is no number
            raise self._broken("well-formed VOTable up to </VOTABLE>", str(error)) from None
        yield stream

    def _refuse_entity(self, name: str, *_: object) -> None:
        raise self._broken("no entity declarations", f"entity {name}")

    def _read(self, wanted: dict[str, pa.DataType], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        first_row = 1
        binary: BinaryRows | None = None
        for stream in self._parsed():
            fields = {f.name: (i, f) for i, f in enumerate(stream.fields)}
            if stream.encoding == "TABLEDATA":
                taken, stream.rows = stream.rows, []
                for start in range(0, len(taken), rows):
                    part = taken[start : start + rows]
                    yield first_row, self._text_batch(part, fields, wanted, first_row)
                    first_row += len(part)
            else:
                if binary is None:
                    binary = BinaryRows(stream.fields, stream.encoding == "BINARY2", self._broken)
                text, stream.base64 = "".join(stream.base64), []
                binary.feed(text, last=stream.table_done)
                while batch := binary.take(rows, wanted):
                    n, cells = batch
                    arrays = [
                        cast_to_wanted(c, k, Place.from_row(self.path, name, first_row))
                        for c, (name, k) in zip(cells, wanted.items(), strict=True)
                    ]
                    yield first_row, pa.RecordBatch.from_arrays(arrays, names=list(wanted))
                    first_row += n
            stream.size = 0

    def _text_batch(
        self,
        rows: list[list[str]],
        fields: dict[str, tuple[int, VOField]],
        wanted: dict[str, pa.DataType],
        first_row: int,
    ) -> pa.RecordBatch:
        for index, row in enumerate(rows):
            if len(row) != len(fields):
                raise self._broken(f"{len(fields)} cells (TD)", f"{len(row)} cells", first_row + index)
        cells = []
        for name, kind in wanted.items():
            index, vo = fields[name]
            place = Place.from_row(self.path, name, first_row)
            text = pc.utf8_trim_whitespace(pa.array([row[index] for row in rows], pa.string()))
            nulls = pa.array(
                [t for t in ("", vo.null, "?" if vo.datatype == "boolean" else None) if t is not None]
            )
            text = pc.if_else(pc.is_in(text, value_set=nulls), pa.scalar(None, pa.string()), text)
            if vo.is_array:
                typed = arrays_from_text(text, pa.list_(pa.float64()), place, separator=" ")
            else:
                typed = text_to_column(text, vo.text_type(kind), place)
            cells.append(cast_to_wanted(typed, kind, place))
        return pa.RecordBatch.from_arrays(cells, names=list(wanted))
