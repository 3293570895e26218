"""What every reader of a survey file offers: its columns, and its rows as Arrow record batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from msacat.catalog.errors import InputRejected

#: The types a caller may ask for. Text is trimmed; lists may have any length.
ASKABLE = (
    pa.int64(),
    pa.int32(),
    pa.int16(),
    pa.float64(),
    pa.float32(),
    pa.bool_(),
    pa.string(),
    pa.list_(pa.float32()),
    pa.list_(pa.float64()),
)


@dataclass(frozen=True)
class FileColumn:
    """A column as the file publishes it; `unit` is None where the file declares none."""

    name: str
    unit: str | None = None


@dataclass(frozen=True)
class Place:
    """Where an array of cells comes from, so that a refusal can name file, row and column."""

    file: str
    column: str
    row_of: Callable[[int], int]  # index in the array -> data row of the file, from 1

    @classmethod
    def from_row(cls, path: Path, column: str, first_row: int) -> Place:
        """A stretch of consecutive rows that begins with `first_row`."""
        return cls(str(path), column, lambda index: first_row + index)

    def reject(self, index: int, message: str, expected: str, found: object, next_step: str) -> InputRejected:
        text = found if isinstance(found, str) else repr(found)
        return InputRejected(
            message,
            file=self.file,
            row=self.row_of(index),
            column=self.column,
            expected=expected,
            found=text if len(text) <= 80 else text[:77] + "...",
            next_step=next_step,
        )


class SurveyFile(ABC):
    """An open survey file. `batches` may be called again: each call reads the file from its start.

    Attributes
    ----------
    format : 'ecsv', 'csv', 'datalink-csv', 'fits', 'votable', 'parquet', '2mass-psc', 'ipac', 'pipe-csv',
        'skyserver-csv', 'tsv' or 'xp-samples-long'.
    columns : published names and units, in file order.
    meta_source_id : the Gaia source_id in the file's own header, if there is one (DataLink products).
    rows_bad : malformed rows skipped by the last `batches`, never more than the `max_bad_rows` allowed.
    content_sha256 : of the decompressed bytes, once `batches` has read them all; only where `checksum` was asked for
        and the format is read from its first byte to its last, else None.
    """

    path: Path
    format: str
    columns: list[FileColumn]
    meta_source_id: int | None = None
    rows_bad: int = 0
    content_sha256: str | None = None

    def batches(
        self, wanted: Mapping[str, pa.DataType], rows: int = 65536
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield (number of the first data row from 1, record batch of exactly the `wanted` columns).

        A missing value is an Arrow null: never NaN, never an empty text. A batch has at most `rows` rows, fewer
        where rows are long; memory does not grow with the file. Raises InputRejected naming file, row, column.
        """
        if not wanted:
            raise ValueError("ask for at least one column")
        names = {column.name for column in self.columns}
        for name, kind in wanted.items():
            if name not in names:
                raise InputRejected(
                    "the file has no such column",
                    file=str(self.path),
                    column=name,
                    found=", ".join(sorted(names)),
                    next_step="check that this is the product the dataset expects",
                )
            if kind not in ASKABLE:
                raise TypeError(f"column {name}: {kind} is not a type a survey file can be read as")
        self.rows_bad = 0
        return self._read(dict(wanted), rows)

    @abstractmethod
    def _read(self, wanted: dict[str, pa.DataType], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]: ...

    def close(self) -> None:  # noqa: B027 - most formats hold nothing between two readings
        """Release what the file holds (a decompressed copy of a gzipped FITS file, say)."""

    def __enter__(self) -> SurveyFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def refuse_repeated_names(names: list[str], path: Path) -> None:
    """Raise InputRejected if a published name stands twice: binding by name would be a guess.

    Unnamed columns (SkyMapper's glyph, a pandas index) may repeat: nobody can ask for them.
    """
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise InputRejected(
            "column names stand twice in the header",
            file=str(path),
            column=", ".join(repeated),
            expected="each name once",
            found=f"{len(names)} columns, {len(set(names))} different names",
            next_step="rename or drop the repeated columns",
        )
