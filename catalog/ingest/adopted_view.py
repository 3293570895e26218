"""The view that applies a survey file to an archive's own table: names, units, sentinels, ranges, quality bits.

It gives the same values ingest would store. Positions and ids pass through untouched, so that the table's own
indexes serve every query; rows without them are left out. The outer SELECT reads a sub-select: such a view
is never updatable, so nothing can be written to the archive's table through it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from msacat.catalog.ingest.bind_columns import key_columns
from msacat.catalog.ingest.compute_columns import J2000_MJD, JULIAN_YEAR_D
from msacat.catalog.ingest.quality_bits import quality_sql
from msacat.catalog.store.as_real import as_real
from msacat.catalog.store.survey_table import FLOATS, constant
from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX
from msacat.catalog.surveys.source_id import LARGEST_SOURCE_ID
from msacat.catalog.surveys.survey_column import Column
from msacat.catalog.surveys.survey_spec import SurveySpec

#: types of the archive's column a stored type can be read from without loss; ids and positions must be exact
READABLE = {
    "bigint": ("bigint", "integer", "smallint"),
    "integer": ("integer", "smallint", "bigint"),
    "smallint": ("smallint", "integer", "bigint"),
    "double precision": ("double precision", "real", "numeric", "bigint", "integer", "smallint"),
    "real": ("real", "double precision", "numeric", "bigint", "integer", "smallint"),
    "boolean": ("boolean",),
    "text": ("text", "character varying", "character"),
    "real[55]": ("real[]", "double precision[]"),
    "real[343]": ("real[]", "double precision[]"),
}
_WIDTH = {"bigint": 63, "integer": 31, "smallint": 15}


@dataclass(frozen=True)
class Source:
    """A column of the archive's table."""

    name: str
    type: str  # as format_type writes it, without a length
    factor: float = 1.0  # its unit -> the unit the spec expects
    computed: bool = False  # an input of the column's computation, not the value itself


def adopted_view(
    spec: SurveySpec,
    schema: str,
    table: str,
    sources: Mapping[str, tuple[Source, ...]],
    file_id: int,
    release: str | None,
) -> sql.Composed:
    """CREATE VIEW survey.<name>. `sources`: stored column -> the archive's column(s) it is made from.

    release  the one Gaia ids written with their release ("Gaia DR3 123") must belong to; others are NULL
    """
    keys = key_columns(spec)
    cleaned: list[sql.Composable] = []
    for column in spec.columns:
        have = sources.get(column.name, ())
        if not have:
            value: sql.Composable = sql.SQL("NULL::{}").format(_type(column))
        elif column.name in keys:
            value = _reference(have[0])
        else:
            value = _cleaned(column, have, release)
        cleaned.append(sql.SQL("{} AS {}").format(value, sql.Identifier(column.name)))
    names: list[sql.Composable] = [sql.SQL("c.{}").format(sql.Identifier(c.name)) for c in spec.columns]
    quality = quality_sql(spec, {c.name: n for c, n in zip(spec.columns, names, strict=True)})
    names += [
        sql.SQL("{} AS quality").format(quality),
        sql.SQL("{}::integer AS file_id").format(sql.Literal(file_id)),
    ]
    if not spec.id.unique:
        names.append(sql.SQL("0 AS file_row"))
    return sql.SQL("CREATE VIEW {} AS SELECT {} FROM (SELECT {} FROM {} t WHERE {}) c").format(
        sql.Identifier("survey", spec.name),
        sql.SQL(", ").join(names),
        sql.SQL(", ").join(cleaned),
        sql.Identifier(schema, table),
        _usable_rows(spec, sources),
    )


def _usable_rows(spec: SurveySpec, sources: Mapping[str, tuple[Source, ...]]) -> sql.Composed:
    """The rows ingest would keep: NaN is greater than every number, so BETWEEN leaves it out."""
    identifier = _reference(sources[spec.id.column][0])
    terms = [sql.SQL("{} IS NOT NULL").format(identifier)]
    if spec.id.column == "source_id":
        terms = [sql.SQL("{} BETWEEN 1 AND {}").format(identifier, LARGEST_SOURCE_ID)]
    if spec.position:
        ra, dec = (_reference(sources[name][0]) for name in (spec.position.ra, spec.position.dec))
        terms += [
            sql.SQL("{} >= 0 AND {} < 360").format(ra, ra),
            sql.SQL("{} BETWEEN -90 AND 90").format(dec),
        ]
    return sql.SQL(" AND ").join(terms)


def _reference(source: Source) -> sql.Composed:
    return sql.SQL("t.{}").format(sql.Identifier(source.name))


def _type(column: Column) -> sql.SQL:
    return sql.SQL(re.sub(r"\[\d+\]", "[]", column.type))  # type: ignore[arg-type]


def _cleaned(column: Column, sources: tuple[Source, ...], release: str | None) -> sql.Composable:
    if sources[0].computed:
        return _computed(column, sources, release)
    source = sources[0]
    value = _reference(source)
    if column.type == "boolean":
        return value
    if column.type == "text":
        return _text(column, value)
    if column.length:
        return _array(column, source, value)
    return _number(column, _without_sentinels(column, source), _bounds(column, source))


def _text(column: Column, value: sql.Composable) -> sql.Composed:
    missing = ["", "null", *(str(s) for s in column.sentinels)]
    missing += [str(int(s)) for s in column.sentinels if isinstance(s, float) and s.is_integer()]
    trimmed = sql.SQL("btrim({}::text)").format(value)
    return sql.SQL("CASE WHEN {} NOT IN ({}) THEN {} END").format(
        trimmed, sql.SQL(", ").join(map(sql.Literal, dict.fromkeys(missing))), trimmed
    )


def _array(column: Column, source: Source, value: sql.Composable) -> sql.Composed:
    """All or nothing, as in ingest: one unusable element makes the spectrum NULL."""
    kind = sql.SQL(source.type)  # type: ignore[arg-type]
    return sql.SQL(
        "CASE WHEN cardinality({v}) = {n} AND array_position({v}, NULL) IS NULL "
        "AND ARRAY['NaN', 'Infinity', '-Infinity']::{k} && {v} IS FALSE THEN {v}::real[] END"
    ).format(v=value, n=column.length, k=kind)


def _without_sentinels(column: Column, source: Source) -> sql.Composable:
    """The number as published times its factor, NULL where it is a sentinel."""
    value: sql.Composable = _reference(source)
    sentinels = [s for s in column.sentinels if not isinstance(s, str)]
    whole = column.type in _WIDTH
    if sentinels:
        kind = sql.SQL(source.type)  # type: ignore[arg-type]
        usable = [s for s in sentinels if source.type not in _WIDTH or float(s).is_integer()]
        if whole or source.type in _WIDTH:
            limit = 2 ** _WIDTH.get(source.type, 63)
            usable = [s for s in usable if -limit <= s < limit]
        if usable:
            text = [str(int(s)) if source.type in _WIDTH else repr(s) for s in usable]
            value = sql.SQL("CASE WHEN {} NOT IN ({}) THEN {} END").format(
                value,
                sql.SQL(", ").join(sql.SQL("{}::{}").format(sql.Literal(t), kind) for t in text),
                value,
            )
    if whole:
        return value
    value = sql.SQL("({})::double precision").format(value)
    return sql.SQL("({} * {})").format(value, sql.Literal(source.factor)) if source.factor != 1.0 else value


def _bounds(column: Column, source: Source) -> tuple[float, float] | None:
    """What the stored type can hold, where the spec gives no narrower range."""
    if column.range is not None:
        return column.range
    if column.type in _WIDTH:
        if _WIDTH[source.type] <= _WIDTH[column.type]:
            return None
        return -(2.0 ** _WIDTH[column.type]), 2.0 ** _WIDTH[column.type] - 1
    return -1e38, 1e38


def _number(column: Column, value: sql.Composable, bounds: tuple[float, float] | None) -> sql.Composed:
    kind = _type(column)
    if bounds is None:
        return sql.SQL("({})::{}").format(value, kind)
    low, high = (constant(b, column.type if column.type in FLOATS else "double precision") for b in bounds)
    if column.type == "real":
        return sql.SQL("CASE WHEN {r} BETWEEN {low} AND {high} THEN {r} END").format(
            r=as_real(value), low=low, high=high
        )
    return sql.SQL("CASE WHEN {v} BETWEEN {low} AND {high} THEN ({v})::{kind} END").format(
        v=value, low=low, high=high, kind=kind
    )


def _computed(column: Column, sources: tuple[Source, ...], release: str | None) -> sql.Composed:
    how = column.computed
    assert how is not None
    inputs = [_without_sentinels(column, s) for s in sources]
    if how.transform == "gaia_id_from_text":
        return _gaia_id(_reference(sources[0]), release)
    if how.transform in ("mjd_to_jyear", "jd_to_jyear"):
        zero = J2000_MJD + (2400000.5 if how.transform == "jd_to_jyear" else 0.0)
        value = sql.SQL("2000.0::double precision + (({}) - {}) / {}").format(
            inputs[0], sql.Literal(repr(zero)), sql.Literal(repr(JULIAN_YEAR_D))
        )
    elif how.transform == "mag_from_flux":
        value = sql.SQL("CASE WHEN {f} > 0 AND {f} < 1e300 THEN {z} - 2.5 * log({f}) END").format(
            f=inputs[0], z=sql.Literal(how.zero_point)
        )
    else:  # mag_error_from_flux
        value = sql.SQL(
            "CASE WHEN {f} BETWEEN 1e-100 AND 1e100 AND {e} BETWEEN 1e-100 AND 1e100 "
            "THEN sqrt(({c} * {e} / {f}) ^ 2 + {floor} ^ 2) END"
        ).format(
            f=inputs[0], e=inputs[1],
            c=sql.Literal(repr(float(MAG_PER_RELATIVE_FLUX))) + sql.SQL("::double precision"),
            floor=sql.Literal(repr(how.floor_mag)) + sql.SQL("::double precision"),
        )  # fmt: skip
    return _number(column, value, column.range or (-1e38, 1e38))


def gaia_id_pattern(release: str | None) -> str:
    """What compute_columns.gaia_ids reads, as PostgreSQL's regular expression; its group is the number."""
    name = ".*" if release is None else r"[\s_]+".join(release.split("_"))
    return rf"(?i)^\s*(?:{name}\s+)?([0-9]{{1,19}})\s*$"


def _gaia_id(text: sql.Composable, release: str | None) -> sql.Composed:
    digits = sql.SQL("substring({} from {})").format(text, sql.Literal(gaia_id_pattern(release)))
    return sql.SQL(
        "CASE WHEN length({d}) < 19 OR {d} COLLATE \"C\" <= '9223372036854775807' THEN ({d})::bigint END"
    ).format(d=digits)
