"""The BINARY and BINARY2 encodings of a VOTable: base64 text -> rows -> Arrow arrays."""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msacat.catalog.errors import InputRejected

#: VOTable datatype -> (numpy type of one element, big-endian)
_ELEMENTS = {
    "boolean": "S1",
    "bit": "u1",
    "unsignedByte": "u1",
    "short": ">i2",
    "int": ">i4",
    "long": ">i8",
    "char": "S1",
    "unicodeChar": ">u2",
    "float": ">f4",
    "double": ">f8",
    "floatComplex": ">c8",
    "doubleComplex": ">c16",
}
_TEXT = ("char", "unicodeChar")
_TEXT_TYPES = {"boolean": pa.bool_(), "float": pa.float64(), "double": pa.float64()}


@dataclass
class VOField:
    """A FIELD element. `count` is the number of elements, None where it varies from row to row."""

    name: str
    unit: str | None
    datatype: str
    count: int | None
    is_array: bool  # of numbers; text is not an array here
    null: str | None = None

    @classmethod
    def from_attributes(cls, attributes: dict[str, str]) -> VOField:
        size = attributes.get("arraysize", "1").strip()
        datatype = attributes.get("datatype", "char")
        count = None if "*" in size else int(np.prod([int(n) for n in size.split("x")]))
        name = attributes.get("name") or attributes.get("ID", "")
        return cls(
            name, attributes.get("unit") or None, datatype, count, datatype not in _TEXT and size != "1"
        )

    def text_type(self, kind: pa.DataType) -> pa.DataType:
        """How a TABLEDATA cell is read before the cast to `kind`: integers asked of a float column stay refused."""
        if self.datatype in _TEXT:
            return kind
        return _TEXT_TYPES.get(self.datatype, pa.int64())


class BinaryRows:
    """Decodes a stream of rows. Cells are arrays of their elements, or a count (int32) and the elements."""

    def __init__(
        self, fields: list[VOField], has_null_mask: bool, broken: Callable[[str, str], InputRejected]
    ) -> None:
        self.fields, self.broken = fields, broken
        if unknown := [f for f in fields if f.datatype not in _ELEMENTS]:
            raise broken("a VOTable datatype", f"{unknown[0].datatype} in field {unknown[0].name}")
        self.mask_bytes = (len(fields) + 7) // 8 if has_null_mask else 0
        self.kinds = [np.dtype(_ELEMENTS[f.datatype]) for f in fields]
        self._base64 = ""
        self._data = b""
        self._last = False

    def feed(self, text: str, last: bool) -> None:
        """Add base64 text; `last` says that the stream has ended."""
        text = self._base64 + "".join(text.split())
        whole = len(text) if last else len(text) - len(text) % 4
        self._base64 = text[whole:]
        try:
            self._data += base64.b64decode(text[:whole], validate=True)
        except binascii.Error as error:
            raise self.broken("base64 text", str(error)) from None
        self._last = last

    def take(self, rows: int, wanted: dict[str, Any]) -> tuple[int, list[pa.Array]] | None:
        """At most `rows` complete rows: their number and the wanted columns; None until more is fed."""
        sizes = [self._bytes_of(i) for i in range(len(self.fields))]
        if None in sizes:
            n, starts, counts, used = self._walk(rows)
        else:
            n, starts, counts, used = self._grid(rows, [s for s in sizes if s is not None])
        if n == 0:
            if self._last and self._data:
                raise self.broken(
                    "whole rows up to the end of the STREAM", f"{len(self._data)} bytes left over"
                )
            return None
        data = np.frombuffer(self._data, np.uint8, used)
        row_starts = starts[:, 0] - self.mask_bytes  # the mask stands before the first cell
        cells = []
        position = {f.name: i for i, f in enumerate(self.fields)}
        for name in wanted:
            i = position[name]
            missing = np.zeros(n, bool)
            if self.mask_bytes:
                missing = (data[self._first_byte(row_starts, i)] >> (7 - i % 8)) & 1 == 1
            cells.append(self._column(i, data, starts[:, i], counts[:, i], missing))
        self._data = self._data[used:]
        return n, cells

    def _first_byte(self, row_starts: np.ndarray, index: int) -> np.ndarray:
        return row_starts + index // 8

    def _bytes_of(self, index: int) -> int | None:
        count = self.fields[index].count
        if count is None:
            return None
        if self.fields[index].datatype == "bit":
            return (count + 7) // 8
        return count * self.kinds[index].itemsize

    def _grid(self, rows: int, sizes: list[int]) -> tuple[int, np.ndarray, np.ndarray, int]:
        """Starts (n, fields) and element counts of rows that all have one length."""
        step = self.mask_bytes + sum(sizes)
        n = min(rows, len(self._data) // step)
        first = self.mask_bytes + np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        starts = np.arange(n, dtype=np.int64)[:, None] * step + first
        counts = np.broadcast_to(np.array([f.count for f in self.fields], np.int64), starts.shape)
        return n, starts, counts, n * step

    def _walk(self, rows: int) -> tuple[int, np.ndarray, np.ndarray, int]:
        """The same where some cells carry their own length: row by row."""
        data, at, end = self._data, 0, len(self._data)
        fixed = [self._bytes_of(i) for i in range(len(self.fields))]
        starts: list[list[int]] = []
        counts: list[list[int]] = []
        while len(starts) < rows and at < end:
            cursor = at + self.mask_bytes
            where, how_many = [], []
            for index, size in enumerate(fixed):
                if size is None:
                    if cursor + 4 > end:
                        break
                    count = int.from_bytes(data[cursor : cursor + 4], "big", signed=True)
                    if count < 0:
                        raise self.broken(
                            "an element count >= 0", f"{count} in field {self.fields[index].name}"
                        )
                    cursor += 4
                    size = count * self.kinds[index].itemsize
                    if self.fields[index].datatype == "bit":
                        size = (count + 7) // 8
                else:
                    count = self.fields[index].count or 0
                where.append(cursor)
                how_many.append(count)
                cursor += size
            if len(where) < len(fixed) or cursor > end:
                break
            starts.append(where)
            counts.append(how_many)
            at = cursor
        shape = (len(starts), len(fixed))
        return (
            len(starts),
            np.array(starts, np.int64).reshape(shape),
            np.array(counts, np.int64).reshape(shape),
            at,
        )

    def _null_number(self, name: str, null: str) -> int:
        """The integer that stands for null; the standard allows hexadecimal, as in 0x7FFF."""
        try:
            return int(null, 16 if "x" in null.lower() else 10)
        except ValueError:
            raise self.broken(
                "an integer as the null of an integer field", f"{null!r} in field {name}"
            ) from None

    def _column(
        self, index: int, data: np.ndarray, starts: np.ndarray, counts: np.ndarray, missing: np.ndarray
    ) -> pa.Array:
        field, kind = self.fields[index], self.kinds[index]
        if "Complex" in field.datatype or (field.datatype == "bit" and field.is_array):
            raise self.broken("numbers, text or booleans", f"datatype {field.datatype} in field {field.name}")
        offsets = np.concatenate([[0], np.cumsum(counts)])
        values = np.empty(offsets[-1], kind)
        for count in np.unique(counts):
            rows = np.flatnonzero(counts == count)
            if count:
                piece = data[starts[rows][:, None] + np.arange(count * kind.itemsize)]
                values[offsets[rows][:, None] + np.arange(count)] = piece.view(kind)
        if field.datatype in _TEXT:
            return _text(values, offsets, missing)
        if field.datatype == "bit":
            cells = pa.array(values != 0)  # the standard sets the highest bit of the byte, astropy the fourth
        elif field.datatype == "boolean":
            marks = values.view(np.uint8)
            flags = np.isin(marks, list(b"Tt1"))
            unknown = ~flags & ~np.isin(marks, list(b"Ff0"))  # `?`, blank and NUL mean null
            cells = pa.array(flags, mask=unknown)
        else:
            native = values.astype(kind.newbyteorder("="))
            null = None
            if field.null is not None and native.dtype.kind in "iu":
                null = native == self._null_number(field.name, field.null)
            cells = pa.array(native, mask=null)
        if field.is_array:
            if missing.any():
                return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), cells, mask=pa.array(missing))
            return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), cells)
        return pc.if_else(pa.array(missing), pa.scalar(None, cells.type), cells)


def _text(values: np.ndarray, offsets: np.ndarray, missing: np.ndarray) -> pa.Array:
    wide = values.dtype.itemsize == 2
    raw, width = values.tobytes(), values.dtype.itemsize
    cells = [
        None
        if missing[i]
        else raw[a * width : b * width].decode("utf-16-be" if wide else "utf-8", "replace").split("\0", 1)[0]
        for i, (a, b) in enumerate(itertools.pairwise(offsets))
    ]
    return pa.array(cells, pa.string())
