"""Parquet files, with the units that astropy, VOParquet or plain field metadata declare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.cast_to_wanted import cast_to_wanted
from msacat.catalog.read.decompress import DOWNLOAD_AGAIN, seekable_content
from msacat.catalog.read.read_ecsv_header import units_in_yaml
from msacat.catalog.read.survey_file import FileColumn, Place, SurveyFile, refuse_repeated_names


class ParquetSurveyFile(SurveyFile):
    """A Parquet file, read one batch of one row group at a time."""

    format = "parquet"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content = seekable_content(path)
        try:
            self._file = self._opened()
            schema = self._file.schema_arrow
            refuse_repeated_names(schema.names, path)
            units = self._units(schema)
        except InputRejected:
            self._content.close()
            raise
        self.columns = [FileColumn(name, units.get(name)) for name in schema.names]

    def _opened(self) -> pq.ParquetFile:
        try:
            # pre-buffering would keep every row group read so far in memory
            return pq.ParquetFile(
                self._content, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from None

    def _units(self, schema: pa.Schema) -> dict[str, str]:
        """Units by column: from field metadata, astropy's `table_meta_yaml` or VOParquet's embedded VOTable."""
        meta = schema.metadata or {}
        units: dict[str, str] = {}
        try:
            if yaml_text := meta.get(b"table_meta_yaml"):
                units |= units_in_yaml(yaml_text.decode(), self.path)
            if votable := meta.get(b"IVOA.VOTable-Parquet.content"):
                units |= _units_in_votable(votable.decode())
            for field in schema:
                if unit := (field.metadata or {}).get(b"unit"):
                    units[field.name] = unit.decode()
        except (ElementTree.ParseError, UnicodeDecodeError) as error:
            raise self._damaged(error, expected="units in the metadata as UTF-8 text or a VOTable") from None
        return units

    def _damaged(
        self,
        error: Exception,
        row: int | None = None,
        expected: str = "a complete Parquet file with its footer",
    ) -> InputRejected:
        return InputRejected(
            "the Parquet file is damaged",
            file=str(self.path),
            row=row,
            expected=expected,
            found=" ".join(str(error).split())[:120],
            next_step=DOWNLOAD_AGAIN,
        )

    def _read(self, wanted: dict[str, pa.DataType], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        first_row = 1
        batches = self._file.iter_batches(batch_size=rows, columns=list(wanted))
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(error, first_row) from None
            if batch is None:
                break
            cells = [
                cast_to_wanted(batch[name], kind, Place.from_row(self.path, name, first_row))
                for name, kind in wanted.items()
            ]
            if batch.num_rows:
                yield first_row, pa.RecordBatch.from_arrays(cells, names=list(wanted))
            first_row += batch.num_rows
        if first_row - 1 != self._file.metadata.num_rows:
            raise self._damaged(
                ValueError(f"{first_row - 1} rows, its footer says {self._file.metadata.num_rows}")
            )

    def close(self) -> None:
        self._content.close()


def _units_in_votable(text: str) -> dict[str, str]:
    return {
        element.get("name", element.get("ID", "")): unit
        for element in ElementTree.fromstring(text).iter()
        if element.tag.rsplit("}", 1)[-1] == "FIELD" and (unit := element.get("unit"))
    }
