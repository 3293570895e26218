"""DataLink's sampled XP spectra with one row a wavelength -> one row a star with flux and flux_error arrays.

The other published shape (one row a star, flux[343]) needs no help. Gaia DR3 data model, XP sampled mean spectrum:
343 samples from 336 to 1020 nm in steps of 2 nm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.survey_file import FileColumn, SurveyFile

WAVELENGTHS_NM = np.arange(336.0, 1021.0, 2.0)
_ARRAYS = ("flux", "flux_error")
_NAME = re.compile(r"Gaia E?DR3 (\d+)", re.IGNORECASE)


def is_one_row_a_wavelength(columns: Sequence[FileColumn]) -> bool:
    return {"wavelength", *_ARRAYS} <= {column.name.lower() for column in columns}


class XpSamplesFile(SurveyFile):
    """Rows of a file with one row a wavelength, put together; row numbers count spectra."""

    format = "xp-samples-long"

    def __init__(self, inner: SurveyFile) -> None:
        self.path, self.inner = inner.path, inner
        named = {column.name.lower(): column.name for column in inner.columns}
        self._wavelength, self._source = named["wavelength"], named.get("source_id")
        self._arrays = {named[name] for name in _ARRAYS}
        self.columns = [c for c in inner.columns if c.name != self._wavelength]
        self._star: int | None = None
        if self._source is None:
            self._star = inner.meta_source_id or self._star_in_name()
            self.columns.insert(0, FileColumn("source_id"))

    def _star_in_name(self) -> int:
        if found := _NAME.search(self.path.name):
            return int(found[1])
        raise InputRejected(
            "the sampled spectrum does not say which star it belongs to",
            file=str(self.path),
            column="source_id",
            expected="a source_id column, a source_id in the file's header, or a name with `Gaia DR3 <source_id>`",
            found=", ".join(c.name for c in self.inner.columns),
            next_step="give the file back the name the Gaia archive gave it",
        )

    def _read(self, wanted: dict[str, pa.DataType], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        n = len(WAVELENGTHS_NM)
        if scalars := [name for name in self._arrays & wanted.keys() if not pa.types.is_list(wanted[name])]:
            raise TypeError(f"{scalars[0]} is a list of {n} samples here, not {wanted[scalars[0]]}")
        ask = {
            name: kind.value_type if name in self._arrays else kind
            for name, kind in wanted.items()
            if name != "source_id" or self._source is not None
        }
        ask[self._wavelength] = pa.float64()
        if self._source is not None:
            ask[self._source] = pa.int64()
        waiting = pa.table({name: pa.array([], kind) for name, kind in ask.items()})
        spectrum = 1
        for _, batch in self.inner.batches(ask, rows=max(n, min(rows, 64) * n)):
            waiting = pa.concat_tables([waiting, pa.table(batch)])
            whole = waiting.num_rows - waiting.num_rows % n
            if whole:
                yield spectrum, self._spectra(waiting.slice(0, whole).combine_chunks(), wanted, spectrum)
                waiting = waiting.slice(whole)
                spectrum += whole // n
        if waiting.num_rows:
            raise self._wrong_samples(spectrum, f"{waiting.num_rows} samples")

    def _spectra(self, table: pa.Table, wanted: dict[str, pa.DataType], first: int) -> pa.RecordBatch:
        """One row for each 343 rows of `table`, which are checked to be one star's, at the known wavelengths."""
        n = len(WAVELENGTHS_NM)
        count = table.num_rows // n
        grid = table[self._wavelength].to_numpy().reshape(count, n)
        odd = np.flatnonzero(~np.isclose(grid, WAVELENGTHS_NM, rtol=0, atol=1e-3).all(axis=1))
        if self._source is not None and not odd.size:
            stars = table[self._source].to_numpy().reshape(count, n)
            odd = np.flatnonzero((stars != stars[:, :1]).any(axis=1))
        if odd.size:
            raise self._wrong_samples(first + int(odd[0]), "other wavelengths, or two stars in one spectrum")
        cells = []
        for name, kind in wanted.items():
            if name == "source_id" and self._source is None:
                cells.append(pa.array([self._star] * count, pa.int64()).cast(kind))
                continue
            values = table[name].combine_chunks()
            values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
            if name in self._arrays:
                offsets = pa.array(np.arange(count + 1) * n, pa.int32())
                cells.append(pa.ListArray.from_arrays(offsets, values))
            else:
                cells.append(values.take(pa.array(np.arange(count) * n)).cast(kind))
        return pa.RecordBatch.from_arrays(cells, names=list(wanted))

    def _wrong_samples(self, spectrum: int, found: str) -> InputRejected:
        return InputRejected(
            "a sampled spectrum is incomplete or on another grid",
            file=str(self.path),
            row=spectrum,
            column=self._wavelength,
            expected=f"{len(WAVELENGTHS_NM)} samples a star, 336 to 1020 nm by 2 nm",
            found=found,
            next_step="download the spectrum again from the Gaia archive (RETRIEVAL_TYPE=XP_SAMPLED)",
        )

    def close(self) -> None:
        self.inner.close()
