"""Applies a survey file's rules to record batches: what is stored, what becomes NULL, which rows are rejected.

Nothing changes silently: every value turned into NULL and every row left out is counted by reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest import compute_columns
from msacat.catalog.ingest.bind_columns import STORED, Binding, BoundColumn
from msacat.catalog.ingest.quality_bits import quality_of
from msacat.catalog.read.numbers_from_text import numbers_from_text
from msacat.catalog.surveys.source_id import LARGEST_SOURCE_ID
from msacat.catalog.surveys.survey_column import Column
from msacat.catalog.surveys.survey_spec import OF_THE_REFERENCE

#: the table's bounds where the spec gives none; a real beyond them overflows
WIDEST = (-1e38, 1e38)
#: how a row's text may spell nothing
NO_TEXT = ("", "null")


@dataclass
class CleanCounts:
    """What cleaning did to a file so far."""

    rows_read: int = 0
    rows_kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # reason -> rows
    nulled: Counter[str] = field(default_factory=Counter)  # "column: reason" -> values
    min_source_id: int | None = None
    max_source_id: int | None = None


@dataclass(frozen=True)
class _Noted:
    """What some columns of a batch leave for others.

    unreadable  by column: rows whose text is no number
    spectra     by the columns of samples: the coefficients of both halves, and rows without a value or an error
    """

    unreadable: dict[str, np.ndarray] = field(default_factory=dict)
    spectra: dict[tuple[str, ...], tuple[dict[tuple[str, str], np.ndarray], dict[str, np.ndarray]]] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class Cleaner:
    """Cleans the batches of one file.

    binding            the file's columns laid against the spec
    path               for messages
    reference_release  release every Gaia id in the file must belong to; None while the store has none
    """

    binding: Binding
    path: str
    reference_release: str | None = None
    counts: CleanCounts = field(default_factory=CleanCounts)

    def clean(self, first_row: int, batch: pa.RecordBatch, file_id: int) -> pa.RecordBatch:
        """Published batch -> stored batch: the table's exact types, `quality`, `file_id`, and `file_row` (last).

        first_row  number of the batch's first data row in the file, from 1
        Columns the file lacks are left out: they are NULL. Raises InputRejected where the file as a whole
        cannot be what it is taken for: another release, an array of another length.
        """
        spec, rows = self.binding.spec, batch.num_rows
        noted = _Noted()
        stored = {
            b.column.name: self._column(b, batch, first_row, noted) for b in self.binding.columns if b.sources
        }
        self._check_release(stored, batch, first_row)
        keep = self._keep(stored, rows, noted)
        stored["quality"] = pa.array(quality_of(spec, stored, rows))
        stored["file_id"] = pa.array(np.full(rows, file_id, np.int32))
        stored["file_row"] = pa.array(np.arange(first_row, first_row + rows, dtype=np.int32))
        cleaned = pa.RecordBatch.from_arrays(list(stored.values()), names=list(stored))
        if not keep.all():
            cleaned = cleaned.filter(pa.array(keep))
        self.counts.rows_read += rows
        self.counts.rows_kept += cleaned.num_rows
        if spec.id.column == "source_id" and cleaned.num_rows:
            self._widen(cleaned.column("source_id"))
        return cleaned

    # -- one column ------------------------------------------------------------------------------------

    def _column(self, bound: BoundColumn, batch: pa.RecordBatch, first_row: int, noted: _Noted) -> pa.Array:
        column, name = bound.column, bound.sources[0]
        if column.computed:
            return self._computed(bound, batch, first_row, noted)
        values = batch.column(name)
        if column.type == "text":
            return self._text(column, values if pa.types.is_string(values.type) else values.cast(pa.string()))
        if pa.types.is_string(values.type):
            values, noted.unreadable[column.name] = numbers_from_text(
                values, STORED[column.type], self.path, name, first_row
            )
        if column.type == "boolean":
            return values
        if column.length:
            return self._array(
                column, _dense(values, column.length, self.path, name, first_row), bound.factors[0]
            )
        if column.type in ("bigint", "integer", "smallint"):
            return self._whole(column, values.cast(STORED[column.type]))
        return self._real(column, _floats(values), bound.factors[0])

    def _text(self, column: Column, values: pa.Array) -> pa.Array:
        values = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.is_in(values, pa.array(NO_TEXT)), pa.scalar(None, pa.string()), values)
        sentinels = [text for s in column.sentinels for text in _spellings(s)]
        if sentinels:
            hit = pc.is_in(values, pa.array(sentinels))
            self._count(column, "sentinel", pc.sum(hit).as_py())
            values = pc.if_else(hit, pa.scalar(None, pa.string()), values)
        return values

    def _whole(self, column: Column, values: pa.Array) -> pa.Array:
        missing = values.is_null().to_numpy(zero_copy_only=False)
        numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
        for sentinel in _numbers(column.sentinels):
            missing = self._null(column, "sentinel", numbers == sentinel, missing)
        if column.range is not None:
            low, high = column.range
            out: np.ndarray = (numbers < low) | (numbers > high)
            missing = self._null(column, "outside range", out, missing)
        return pa.array(numbers, mask=missing)

    def _real(
        self, column: Column, published: tuple[np.ndarray, np.ndarray], factor: float = 1.0
    ) -> pa.Array:
        """Sentinels are judged as published; the unit is converted next; the range is judged as stored."""
        values, missing = published
        for sentinel in _numbers(column.sentinels):
            missing = self._null(column, "sentinel", _equals(values, sentinel, column.type), missing)
        return self._stored_real(column, values * factor if factor != 1.0 else values, missing)

    def _stored_real(self, column: Column, values: np.ndarray, missing: np.ndarray) -> pa.Array:
        missing = self._null(column, "NaN", np.isnan(values), missing)
        missing = self._null(column, "infinite", np.isinf(values), missing)
        if column.type == "real":
            with np.errstate(over="ignore"):
                values = values.astype(np.float32)
        return pa.array(values, mask=self._null(column, "outside range", _outside(column, values), missing))

    def _array(self, column: Column, dense: tuple[np.ndarray, np.ndarray], factor: float = 1.0) -> pa.Array:
        """One spectrum a row: an unusable element makes the whole array NULL."""
        values, missing = dense
        if factor != 1.0:
            values = values * factor
        usable: np.ndarray = np.isfinite(values).all(axis=1)
        missing = self._null(column, "element not finite", ~usable, missing)
        with np.errstate(over="ignore"):
            stored = values.astype(np.float32)
        outside: np.ndarray = np.any(_outside(column, stored), axis=1)
        missing = self._null(column, "outside range", outside, missing)
        return pa.FixedSizeListArray.from_arrays(
            pa.array(stored.ravel()), column.length, mask=pa.array(missing)
        )

    def _computed(self, bound: BoundColumn, batch: pa.RecordBatch, first_row: int, noted: _Noted) -> pa.Array:
        column = bound.column
        assert column.computed is not None
        how = column.computed
        if how.transform == "gaia_id_from_text":
            text = batch.column(bound.sources[0])
            ids = compute_columns.gaia_ids(text, self._release(), self.path, bound.sources[0], first_row)
            self._count(column, "not an identifier", ids.null_count - text.null_count)
            return self._whole(column, ids)
        if how.transform.startswith("xp_"):
            key = bound.sources
            if key not in noted.spectra:
                parts = [_dense(batch.column(name), 343, self.path, name, first_row) for name in key]
                flux, error = (np.where(missing[:, None], np.nan, values) for values, missing in parts)
                without = {"value": parts[0][1], "error": parts[0][1] | parts[1][1]}
                noted.spectra[key] = compute_columns.coefficients(flux, error), without
            assert how.part is not None
            arrays, without = noted.spectra[key]
            what = "value" if how.transform == "xp_from_samples" else "error"
            return self._array(column, (arrays[how.part, what], without[what]))
        inputs, missing = [], np.zeros(batch.num_rows, bool)
        for name, factor in zip(bound.sources, bound.factors, strict=True):
            values, absent = _floats(batch.column(name))
            for sentinel in _numbers(column.sentinels):
                absent = self._null(column, "sentinel", _equals(values, sentinel, "real"), absent | missing)
            inputs.append(values * factor)
            missing = missing | absent
        if how.transform == "mjd_to_jyear":
            result = compute_columns.jyear_from_mjd(inputs[0])
        elif how.transform == "jd_to_jyear":
            result = compute_columns.jyear_from_jd(inputs[0])
        else:
            missing = self._null(column, "NaN", np.isnan(inputs[0]) | np.isnan(inputs[-1]), missing)
            unusable = ~(inputs[0] > 0)
            if how.transform == "mag_from_flux":
                assert how.zero_point is not None
                result = compute_columns.mag_from_flux(inputs[0], how.zero_point)
            else:
                result = compute_columns.mag_error_from_flux(inputs[0], inputs[1], how.floor_mag)
                unusable |= ~(inputs[1] > 0)
            missing = self._null(column, "flux or its error not positive", unusable, missing)
        return self._stored_real(column, result, missing)

    # -- rows ------------------------------------------------------------------------------------------

    def _keep(self, stored: dict[str, pa.Array], rows: int, noted: _Noted) -> np.ndarray:
        """Rows with a readable id and position; the others are counted under the first reason that holds."""
        spec = self.binding.spec
        keep = np.ones(rows, bool)

        def reject(reason: str, bad: np.ndarray) -> None:
            nonlocal keep
            n = int(np.count_nonzero(bad & keep))
            if n:
                self.counts.rejected[reason] += n
                keep = keep & ~bad

        for name in (c.name for c in spec.columns if c.name in noted.unreadable):
            reject(f"{name} unreadable", noted.unreadable[name])
        ids = stored[spec.id.column]
        reject(f"{spec.id.column} missing", _isnull(ids))
        if spec.id.column == "source_id":
            values = ids.fill_null(1).to_numpy(zero_copy_only=False)
            reject("source_id impossible", (values < 1) | (values > LARGEST_SOURCE_ID))
        if spec.position is not None:
            ra, dec = stored[spec.position.ra], stored[spec.position.dec]
            reject(f"{spec.position.ra} missing", _isnull(ra))
            reject(f"{spec.position.dec} missing", _isnull(dec))
            ra_deg = ra.fill_null(0.0).to_numpy(zero_copy_only=False)
            dec_deg = dec.fill_null(0.0).to_numpy(zero_copy_only=False)
            reject(f"{spec.position.ra} outside [0, 360)", (ra_deg < 0) | (ra_deg >= 360))
            reject(f"{spec.position.dec} outside [-90, 90]", np.abs(dec_deg) > 90)
        return keep

    def _check_release(self, stored: dict[str, pa.Array], batch: pa.RecordBatch, first_row: int) -> None:
        """A reference file whose rows are named after another release, or are of another epoch, is refused."""
        spec = self.binding.spec
        for name in self.binding.release_columns:
            compute_columns.gaia_ids(batch.column(name), spec.release, self.path, name, first_row)
        if spec.role != "reference" or spec.position is None or spec.position.epoch_column not in stored:
            return
        epochs = stored[spec.position.epoch_column]
        other = pc.fill_null(pc.greater(pc.abs(pc.subtract(epochs, spec.position.epoch)), 1e-3), False)
        if pc.any(other).as_py():
            row = pc.index(other, True).as_py()
            raise InputRejected(
                "the file is of another release",
                file=self.path,
                row=first_row + row,
                column=spec.position.epoch_column,
                expected=f"epoch {spec.position.epoch} ({spec.release})",
                found=str(epochs[row].as_py()),
                next_step=f"fetch the files of {spec.release}; one store holds one reference release",
            )

    def _release(self) -> str | None:
        """The release Gaia ids of this file belong to: the spec's own where it speaks of the reference."""
        spec = self.binding.spec
        return spec.release if spec.role in OF_THE_REFERENCE else self.reference_release

    def _null(self, column: Column, reason: str, bad: np.ndarray, missing: np.ndarray) -> np.ndarray:
        self._count(column, reason, int(np.count_nonzero(bad & ~missing)))
        return missing | bad

    def _count(self, column: Column, reason: str, n: int | None) -> None:
        if n:
            self.counts.nulled[f"{column.name}: {reason}"] += n

    def _widen(self, ids: pa.Array) -> None:
        span = pc.min_max(ids).as_py()
        counts = self.counts
        counts.min_source_id = min(span["min"], counts.min_source_id or span["min"])
        counts.max_source_id = max(span["max"], counts.max_source_id or span["max"])


def _isnull(values: pa.Array) -> np.ndarray:
    return values.is_null().to_numpy(zero_copy_only=False)


def _floats(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Values in double precision (0 where NULL) and where they are NULL."""
    return values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False), _isnull(values)


def _outside(column: Column, stored: np.ndarray) -> np.ndarray:
    """Beyond the range, judged at the stored precision as the table's CHECK does: a real equal to its bound is inside."""
    low, high = (stored.dtype.type(bound) for bound in column.range or WIDEST)
    with np.errstate(invalid="ignore"):
        return (stored < low) | (stored > high)


def _equals(values: np.ndarray, sentinel: float, kind: str) -> np.ndarray:
    """A real sentinel such as -999.99 is met as the nearest single-precision number too (FITS)."""
    hit = values == sentinel
    return hit | (values == float(np.float32(sentinel))) if kind == "real" else hit


def _numbers(sentinels: Iterable[float | str]) -> list[float]:
    """Numeric sentinels; words are the reader's business, since no number spells them."""
    out = []
    for sentinel in sentinels:
        try:
            out.append(int(sentinel) if float(sentinel).is_integer() else float(sentinel))
        except ValueError:
            continue
    return out


def _spellings(sentinel: float | str) -> set[str]:
    """How a number may be written where the column is text: -999 and -999.0."""
    if isinstance(sentinel, str):
        return {sentinel}
    return {repr(sentinel), f"{sentinel:g}", *([str(int(sentinel))] if float(sentinel).is_integer() else [])}


def _dense(
    values: pa.Array, length: int, path: str, column: str, first_row: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lists -> (B, length) with NaN for NULL elements, and which rows have none (NULL or empty)."""
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
    missing = lengths == 0
    wrong = ~missing & (lengths != length)
    if wrong.any():
        _wrong_length(path, column, first_row + int(np.argmax(wrong)), length, int(lengths[wrong][0]))
    flat = values.drop_null().flatten()  # flatten() honours the offsets of a slice and skips NULL lists
    dense = np.full((len(values), length), np.nan)
    dense[~missing] = flat.cast(pa.float64()).to_numpy(zero_copy_only=False).reshape(-1, length)
    return dense, missing


def _wrong_length(path: str, column: str, row: int, expected: int, found: int) -> NoReturn:
    raise InputRejected(
        "an array has another length",
        file=path,
        row=row,
        column=column,
        expected=f"{expected} elements, or none",
        found=f"{found}",
        next_step="check that the file is of this dataset; nothing of it was stored",
    )
