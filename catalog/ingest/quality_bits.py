"""Quality cuts of a survey file as bits of a row: once in numpy for ingest, once in SQL for adopted tables.

Both forms follow one rule: a cut on a missing value is not failed, except `is_null`; `character` of a text
too short for it is the empty string.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from msacat.catalog.store.survey_table import FLOATS, constant, nearest_real
from msacat.catalog.surveys.survey_spec import QualityCut, SurveySpec

_COMPARE = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
_SQL_OPERATOR = {"==": "=", "!=": "<>"}


def quality_of(spec: SurveySpec, columns: Mapping[str, pa.Array], n_rows: int) -> np.ndarray:
    """int64 (B,): the bits each row fails. `columns` are stored values; one that is absent is NULL throughout."""
    quality = np.zeros(n_rows, np.int64)
    for cut in spec.quality:
        values = columns.get(cut.column)
        if values is None:
            fails = np.full(n_rows, cut.bad_if == "is_null")
        else:
            fails = _fails(cut, values)
        quality |= fails.astype(np.int64) << cut.bit
    return quality


def _fails(cut: QualityCut, values: pa.Array) -> np.ndarray:
    if cut.bad_if == "is_null":
        return values.is_null().to_numpy(zero_copy_only=False)
    known = values.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_string(values.type):
        if cut.character is not None:
            values = pc.utf8_slice_codeunits(values, cut.character, cut.character + 1)
        found = values.fill_null("").to_numpy(zero_copy_only=False).astype(str)
        wanted: list = [str(v) for v in _values(cut)]
    elif pa.types.is_boolean(values.type):
        found = values.fill_null(False).to_numpy(zero_copy_only=False)
        wanted = [bool(v) for v in _values(cut)]
    elif pa.types.is_integer(values.type):
        found = values.fill_null(0).to_numpy(zero_copy_only=False)
        wanted = [_whole(v) for v in _values(cut)]
    else:
        # at the stored precision: a published 0.2 does not exceed a limit of 0.2 because a real rounds it up
        found = values.fill_null(0.0).to_numpy(zero_copy_only=False)
        single = found.dtype == np.float32
        wanted = [found.dtype.type(nearest_real(v) if single else v) for v in _values(cut)]
    return _holds(cut, found, wanted) & known


def _holds(cut: QualityCut, found: np.ndarray, wanted: list) -> np.ndarray:
    if cut.bad_if in ("in", "not in"):
        if found.dtype.kind == "i":  # no integer equals a fraction, and beside one numpy rounds them all
            whole = [v for v in wanted if isinstance(v, int) and -(2**63) <= v < 2**63]
            return np.isin(found, np.array(whole, np.int64), invert=cut.bad_if == "not in")
        return np.isin(found, wanted, invert=cut.bad_if == "not in")
    if cut.bad_if == "any_bit":
        return (found.astype(np.int64) & _mask(cut)) != 0
    if cut.bad_if == "no_bit":
        return (found.astype(np.int64) & _mask(cut)) == 0
    return _COMPARE[cut.bad_if](found, wanted[0])


def _values(cut: QualityCut) -> list:
    return cut.value if isinstance(cut.value, list) else [cut.value]


def _whole(value: float) -> float:
    """A whole number as an integer: integers of 64 bits are compared with every digit."""
    return int(value) if float(value).is_integer() else value


def _mask(cut: QualityCut) -> int:
    """The bits meant: a mask as published (8388608), or several, taken together."""
    mask = 0
    for value in _values(cut):
        mask |= int(value)
    return mask


def quality_sql(spec: SurveySpec, expressions: Mapping[str, sql.Composable]) -> sql.Composed:
    """The same bits as a SQL expression over `expressions`: stored column -> its SQL (absent = NULL)."""
    terms: list[sql.Composable] = [sql.SQL("0::bigint")]
    for cut in spec.quality:
        value = expressions.get(cut.column, sql.SQL("NULL"))
        condition = _condition(cut, value, spec.column(cut.column).type)
        terms.append(
            sql.SQL("CASE WHEN {} THEN {}::bigint ELSE 0 END").format(
                condition, sql.Literal(str(1 << cut.bit))
            )
        )
    return sql.SQL("(") + sql.SQL(" | ").join(terms) + sql.SQL(")")


def _condition(cut: QualityCut, value: sql.Composable, kind: str) -> sql.Composable:
    if cut.bad_if == "is_null":
        return sql.SQL("{} IS NULL").format(value)
    if cut.bad_if in ("any_bit", "no_bit"):
        test = "<>" if cut.bad_if == "any_bit" else "="
        return sql.SQL("({}::bigint & {}::bigint) {} 0").format(
            value, sql.Literal(str(_mask(cut))), sql.SQL(test)
        )
    if kind == "text" and cut.character is not None:
        value = sql.SQL("substr({}, {}, 1)").format(value, sql.Literal(cut.character + 1))
    wanted = sql.SQL(", ").join(_literal(v, kind) for v in _values(cut))
    if cut.bad_if in ("in", "not in"):
        return sql.SQL("{} {} ({})").format(value, sql.SQL(cut.bad_if.upper()), wanted)
    operator = sql.SQL(_SQL_OPERATOR.get(cut.bad_if, cut.bad_if))
    return sql.SQL("{} {} {}").format(value, operator, wanted)


def _literal(value: object, kind: str) -> sql.Composable:
    if kind == "text":
        return sql.Literal(str(value))
    if kind == "boolean":
        return sql.Literal(bool(value))
    if kind in FLOATS:
        return constant(float(value), kind)  # type: ignore[arg-type]
    number = _whole(value)  # type: ignore[arg-type]
    exact = isinstance(number, int) and -(2**63) <= number < 2**63
    return sql.SQL("{}::{}").format(sql.Literal(repr(number)), sql.SQL("bigint" if exact else "numeric"))
