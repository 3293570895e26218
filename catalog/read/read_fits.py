"""FITS tables: the first table of the file (APOGEE allStar's HDU 1), binary or ASCII, by ranges of rows.

Big-endian numbers are swapped, TNULL and TZERO/TSCAL applied, padded bytes decoded. Astropy reads the headers; the
rows are read here, so that memory holds one range of rows and the piece of the heap it points to.
A .fits.gz is first decompressed to the temporary folder: its heap and its rows are far apart.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.cast_to_wanted import cast_to_wanted
from msacat.catalog.read.decompress import DOWNLOAD_AGAIN, seekable_content
from msacat.catalog.read.fits_cells import column_cells, is_variable, read_heap_lists
from msacat.catalog.read.fixed_width import Span, fixed_width_parser, select_columns
from msacat.catalog.read.read_delimited_text import sliced
from msacat.catalog.read.survey_file import FileColumn, Place, SurveyFile, refuse_repeated_names

_RANGE = 32 << 20  # bytes of table rows read at a time


class FitsFile(SurveyFile):
    """The first table HDU of a FITS file."""

    format = "fits"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = seekable_content(path)
        try:
            self._read_headers()
        except BaseException:
            self._file.close()
            raise

    def _read_headers(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        table = None
        with warnings.catch_warnings():
            # astropy only warns of truncation, and of units outside the standard; both are judged by us
            warnings.simplefilter("ignore")
            try:
                hdus = fits.open(self._file, memmap=False, lazy_load_hdus=True, mode="readonly")
                for number, hdu in enumerate(hdus):
                    end = hdu.fileinfo()["datLoc"] + hdu.size
                    if end > size:
                        raise self._truncated(
                            f"{end:,} bytes up to the end of HDU {number}", f"{size:,} bytes"
                        )
                    if table is None and type(hdu) in (fits.BinTableHDU, fits.TableHDU):
                        table = hdu
                        self._data_start = hdu.fileinfo()["datLoc"]
                        self._columns, self._header = hdu.columns, hdu.header
            except (OSError, fits.VerifyError, ValueError, KeyError, TypeError, IndexError) as error:
                raise self._truncated("complete FITS headers", " ".join(str(error).split())[:80]) from None
        if table is None:
            raise InputRejected(
                "the FITS file holds no table",
                file=str(self.path),
                expected="a BINTABLE or TABLE extension",
                found=f"{len(hdus)} HDUs without one",
                next_step="check that this is the product the dataset expects",
            )
        refuse_repeated_names(self._columns.names, self.path)
        self.columns = [FileColumn(c.name, c.unit or None) for c in self._columns]
        self._n_rows, self._row_bytes = self._header["NAXIS2"], self._header["NAXIS1"]
        self._is_text = isinstance(table, fits.TableHDU)
        declared = self._header.get("SOURCEID")  # DataLink's one-source products
        self.meta_source_id = int(declared) if declared is not None and str(declared).isdigit() else None

    def _truncated(self, expected: str, found: str) -> InputRejected:
        return InputRejected(
            "the FITS file is truncated or damaged",
            file=str(self.path),
            expected=expected,
            found=found,
            next_step=DOWNLOAD_AGAIN,
        )

    def _ranges(self, rows: int) -> Iterator[tuple[int, int, bytes]]:
        """(first row from 1, number of rows, their bytes)."""
        step = max(1, min(rows, _RANGE // max(1, self._row_bytes)))
        for first in range(0, self._n_rows, step):
            count = min(step, self._n_rows - first)
            yield (
                first + 1,
                count,
                self._bytes(self._data_start + first * self._row_bytes, count * self._row_bytes),
            )

    def _bytes(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise self._truncated(f"{size:,} bytes at byte {offset:,}", f"{len(data):,} bytes")
        return data

    def _read(self, wanted: dict[str, pa.DataType], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        yield from self._read_text(wanted, rows) if self._is_text else self._read_binary(wanted, rows)

    def _read_binary(self, wanted: dict[str, pa.DataType], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        layout = self._columns.dtype.newbyteorder(">")
        if layout.itemsize != self._row_bytes:
            raise self._truncated(f"rows of {layout.itemsize} bytes (TFORMn)", f"NAXIS1 = {self._row_bytes}")
        heap_start = self._data_start + self._header.get("THEAP", self._row_bytes * self._n_rows)
        heap_end = self._data_start + self._row_bytes * self._n_rows + self._header.get("PCOUNT", 0)

        def heap(start: int, end: int) -> bytes:
            if start < 0 or heap_start + end > heap_end:
                raise self._truncated(
                    f"array cells within {heap_end - heap_start:,} heap bytes", f"byte {end:,}"
                )
            return self._bytes(heap_start + start, end - start)

        for first_row, _, data in self._ranges(rows):
            records = np.frombuffer(data, layout)
            cells = []
            for name, kind in wanted.items():
                place = Place.from_row(self.path, name, first_row)
                column = self._columns[name]
                read = (
                    read_heap_lists(records[name], column, heap, place)
                    if is_variable(column)
                    else column_cells(records[name], column, place)
                )
                cells.append(cast_to_wanted(read, kind, place))
            yield first_row, pa.RecordBatch.from_arrays(cells, names=list(wanted))

    def _read_text(self, wanted: dict[str, pa.DataType], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        columns = [self._columns[name] for name in wanted]
        widths = [int(c.format[1:].split(".")[0]) for c in columns]
        spans = [
            Span(c.start - 1, c.start - 1 + width, "" if c.null is None else str(c.null))
            for c, width in zip(columns, widths, strict=True)
        ]
        parser = fixed_width_parser(self.path, wanted, widths, 0)
        for first_row, count, data in self._ranges(rows):
            grid = np.frombuffer(data, np.uint8).reshape(count, self._row_bytes)
            yield from sliced(first_row, parser.parse(select_columns(grid, spans), first_row).table, rows)

    def close(self) -> None:
        self._file.close()
