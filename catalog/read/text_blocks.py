"""Blocks of whole lines of a text file, and the parsing of one block into an Arrow table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.decompress import DOWNLOAD_AGAIN, content_chunks, read_ahead
from msacat.catalog.read.survey_file import Place
from msacat.catalog.read.text_to_arrow import csv_null_options, text_to_column, without_nan
from msacat.catalog.read.unread_cells import without_unread_cells

BLOCK = 8 << 20  # bytes of text parsed at a time: enough for Arrow's threads, small beside the machine
PARSE_UNIT = 1 << 20  # bytes one Arrow thread takes at a time
CHUNKS_AHEAD = 4  # inflated while others are hashed: the two need not keep step
LONGEST_LINE = 64 << 20  # bytes; an XP row with its correlations is 0.05 MB


class Digest(Protocol):
    """A hash of hashlib's."""

    def update(self, data: bytes, /) -> None: ...


_BLANK_LINE = re.compile(rb"^\r?$", re.MULTILINE)
_LINE_END = re.compile(rb"\r\n|\n|\r")  # a carriage return ends a line to Arrow
_ASCII_ALONE = bytes(range(128)) + b"?" * 128


def line_blocks(
    path: Path, skip: int, block: int = BLOCK, *, digest: Digest | None = None
) -> Iterator[bytes]:
    """The decompressed text from byte `skip` on, cut after line ends; `digest` hears all of it.

    Raises InputRejected for a NUL byte or a line without end (a gzip bomb, or no text at all).
    """
    pieces: list[bytes] = []
    size = open_line = 0  # bytes: of all pieces, of those after the last line end
    for piece in read_ahead(content_chunks(path), ahead=CHUNKS_AHEAD):  # hashing goes on beside inflating
        if digest is not None:
            digest.update(piece)
        if skip:
            dropped = min(skip, len(piece))
            skip -= dropped
            piece = piece[dropped:]
        pieces.append(piece)
        size += len(piece)
        end = piece.rfind(b"\n") + 1
        open_line = len(piece) - end if end else open_line + len(piece)
        if open_line > LONGEST_LINE:
            raise InputRejected(
                "the text has no line ends",
                file=str(path),
                expected=f"lines of at most {LONGEST_LINE >> 20} MiB",
                found=f"{open_line >> 20} MiB without a line feed",
                next_step=DOWNLOAD_AGAIN,
            )
        if end and size >= block:
            pieces[-1] = piece[:end]
            yield b"".join(pieces)
            pieces, size = [piece[end:]], len(piece) - end
    if size:
        yield b"".join(pieces)


@dataclass
class ParsedBlock:
    """A block's good rows; `skipped` are the positions (from 0, blank lines excluded) of malformed ones."""

    table: pa.Table
    skipped: list[int]

    @property
    def n_rows(self) -> int:
        return self.table.num_rows + len(self.skipped)

    def runs(self, first_row: int) -> Iterator[tuple[int, pa.Table]]:
        """Stretches between skipped rows, each with the number of its first row in the file."""
        start = position = 0
        for bad in [*self.skipped, self.n_rows]:
            if bad > position:
                yield first_row + position, self.table.slice(start, bad - position)
                start += bad - position
            position = bad + 1


@dataclass
class BlockParser:
    """Parses blocks of delimited text into the `wanted` columns.

    Arrow's own conversion goes first. A block it refuses is read again as text, cell by cell where needed: either
    the cells are only written oddly (`+1.5`, padded nulls) and such columns are read as text from then on, or the
    first bad cell is named.
    """

    path: Path
    names: list[str]
    wanted: dict[str, pa.DataType]
    delimiter: str
    quote: str | None
    max_bad_rows: int
    extra_nulls: list[str] = field(default_factory=list)
    rows_bad: int = 0
    as_text: set[str] = field(default_factory=set)  # columns whose cells Arrow does not take as they are

    def __post_init__(self) -> None:
        # Arrow sees positions as names: published ones may be empty or strange
        self.positions = {self.names.index(name) for name in self.wanted}
        self.keys = {name: f"c{self.names.index(name)}" for name in self.wanted}
        for name, kind in self.wanted.items():
            if pa.types.is_string(kind) or pa.types.is_list(kind):
                self.as_text.add(name)

    def parse(self, block: bytes, first_row: int) -> ParsedBlock:
        """Raises InputRejected naming the row of a NUL byte, a ragged line or an unreadable cell."""
        if (nul := block.find(b"\0")) >= 0:
            raise InputRejected(
                "the text contains a NUL byte",
                file=str(self.path),
                row=first_row + _count_rows(block[: block.rfind(b"\n", 0, nul) + 1]),
                expected="text",
                found="a byte 0",
                next_step=DOWNLOAD_AGAIN,
            )
        lean = block
        if self.quote:
            lean = without_unread_cells(block, self.delimiter, self.quote, self.positions)
        lines = _count_lines(lean)
        try:
            table = self._read(lean, self._kinds())
        except pa.ArrowInvalid:
            return self._parse_carefully(block, first_row)
        if table.num_rows != lines:  # blank lines, or a quoted value swallowed a line end
            return self._parse_carefully(block, first_row)
        return ParsedBlock(self._finish(table, lambda i: first_row + i), [])

    def _kinds(self) -> dict[str, pa.DataType]:
        return {n: pa.string() if n in self.as_text else kind for n, kind in self.wanted.items()}

    def _read(
        self,
        block: bytes,
        kinds: dict[str, pa.DataType],
        on_bad_row: Callable[[pa_csv.InvalidRow], str] | None = None,
    ) -> pa.Table:
        careful = on_bad_row is not None
        nulls = csv_null_options()
        return pa_csv.read_csv(
            pa.BufferReader(block),
            read_options=pa_csv.ReadOptions(
                column_names=[f"c{i}" for i in range(len(self.names))],
                use_threads=not careful,  # row numbers of bad rows are only known without threads
                block_size=len(block) + 1 if careful else PARSE_UNIT,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=self.quote or False,
                invalid_row_handler=on_bad_row,
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=[self.keys[name] for name in kinds],
                column_types={self.keys[name]: kind for name, kind in kinds.items()},
                **{**nulls, "null_values": [*nulls["null_values"], *self.extra_nulls]},
            ),
        )

    def _parse_carefully(self, block: bytes, first_row: int) -> ParsedBlock:
        """One thread, every ragged line seen, every cell as text first."""
        skipped: list[int] = []

        def on_bad_row(row: pa_csv.InvalidRow) -> str:
            if "\n" in row.text:
                return "error"  # an unclosed quote swallows the lines after it: reported below
            skipped.append(row.number - 1)
            if self.rows_bad + len(skipped) > self.max_bad_rows:
                ragged.append(row)
                return "error"
            return "skip"

        ragged: list[pa_csv.InvalidRow] = []
        rows = _count_rows(block)
        if rows == 0:
            return ParsedBlock(pa.table({n: pa.array([], k) for n, k in self.wanted.items()}), [])
        as_bytes = dict.fromkeys(self.wanted, pa.binary())
        # Arrow decodes a malformed line before it asks what to do with it. Where that could fail it first reads a twin
        # in ASCII, with the same cells, and then the block without the lines that the twin showed to be malformed.
        decodable = _is_utf8(block)
        try:
            table = self._read(block if decodable else block.translate(_ASCII_ALONE), as_bytes, on_bad_row)
            if not decodable and table.num_rows + len(skipped) == rows:
                table = self._read(_without_rows(block, skipped), as_bytes, on_bad_row)
        except pa.ArrowInvalid:
            if ragged:
                raise self._ragged(ragged[0], block, first_row) from None
            raise self._open_quote(block, first_row) from None
        if table.num_rows + len(skipped) != rows:
            raise self._open_quote(block, first_row)
        self.rows_bad += len(skipped)
        bad = set(skipped)
        good = [i for i in range(rows) if i not in bad] if bad else range(rows)
        texts = [
            _decoded(table.column(i).combine_chunks(), self._place(name, lambda k: first_row + good[k]))
            for i, name in enumerate(self.wanted)
        ]
        plain = pa.table(dict(zip(self.keys.values(), texts, strict=True)))
        finished = self._finish(plain, lambda k: first_row + good[k])
        for name, text in zip(self.wanted, texts, strict=True):
            if name not in self.as_text and not _arrow_takes(text, self.wanted[name]):
                self.as_text.add(name)
        return ParsedBlock(finished, skipped)

    def _finish(self, table: pa.Table, row_of: Callable[[int], int]) -> pa.Table:
        """Columns read as text converted, NaN made null, published names restored."""
        done = []
        for name, kind in self.wanted.items():
            column = table.column(self.keys[name])
            cells = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            if pa.types.is_string(cells.type):
                cells = text_to_column(cells, kind, self._place(name, row_of))
            elif pa.types.is_floating(kind):
                cells = without_nan(cells)
            done.append(cells)
        return pa.table(done, names=list(self.wanted))

    def _place(self, name: str, row_of: Callable[[int], int]) -> Place:
        return Place(str(self.path), name, row_of)

    def _ragged(self, row: pa_csv.InvalidRow, block: bytes, first_row: int) -> InputRejected:
        text = row.text
        for line in _full_lines(block)[row.number - 1 : row.number]:
            if (
                line.translate(_ASCII_ALONE).decode() == text
            ):  # it was the twin's: the line as it is in the file
                text = line.decode("utf-8", "backslashreplace")
        more = "" if self.max_bad_rows == 0 else f", and {self.max_bad_rows} bad rows were allowed"
        return InputRejected(
            "the line is malformed" + more,
            file=str(self.path),
            row=first_row + row.number - 1,
            expected=f"{row.expected_columns} columns",
            found=f"{row.actual_columns} columns: {text[:60]!r}",
            next_step=f"{DOWNLOAD_AGAIN}, or allow a few such lines with --max-bad-rows",
        )

    def _open_quote(self, block: bytes, first_row: int) -> InputRejected:
        quote = (self.quote or '"').encode()
        full = (line for line in block.split(b"\n") if line.strip())
        index = next((i for i, line in enumerate(full) if line.count(quote) % 2 or b"\r" in line[:-1]), 0)
        return InputRejected(
            "a line ends inside a quoted value, or a value contains a line end",
            file=str(self.path),
            row=first_row + index,
            expected="one row a line",
            found="an odd number of quotes or a stray carriage return",
            next_step=DOWNLOAD_AGAIN,
        )


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _full_lines(block: bytes) -> list[bytes]:
    """Lines that are not blank, as Arrow counts rows."""
    return [line for line in _LINE_END.split(block) if line]


def _without_rows(block: bytes, rows: list[int]) -> bytes:
    dropped = set(rows)
    return b"\n".join(line for i, line in enumerate(_full_lines(block)) if i not in dropped)


def _count_lines(block: bytes) -> int:
    ends = int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))  # three times bytes.count
    return ends + bool(block and not block.endswith(b"\n"))


def _count_rows(block: bytes) -> int:
    """Lines that are not blank: what Arrow counts as rows."""
    return _count_lines(block) - sum(found.start() < len(block) for found in _BLANK_LINE.finditer(block))


def _decoded(cells: pa.Array, place: Place) -> pa.Array:
    try:
        return cells.cast(pa.string())
    except pa.ArrowInvalid:
        for index, cell in enumerate(cells.to_pylist()):
            try:
                (cell or b"").decode()
            except UnicodeDecodeError:
                raise place.reject(
                    index, "the cell is not UTF-8 text", "UTF-8", cell, "convert the file to UTF-8"
                ) from None
        raise


def _arrow_takes(text: pa.Array, kind: pa.DataType) -> bool:
    """Would Arrow's CSV conversion have read these cells itself?"""
    try:
        text.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
