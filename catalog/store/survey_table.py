"""The SQL a survey file turns into: its table, its _clean view, its match table.

Nothing here talks to a server; register_survey.py does.
"""

from __future__ import annotations

import numpy as np
from psycopg import sql

from msacat.catalog.server.q3c import q3c_index_sql
from msacat.catalog.store.column_comments import Described, comment_on_column
from msacat.catalog.surveys.survey_column import Column
from msacat.catalog.surveys.survey_spec import QualityCut, SurveySpec

FLOATS = ("real", "double precision")
_REALS = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))

QUALITY = Described("Bits of the survey file's quality cuts that this row fails.", "", "meta.code.qual")
FILE_ID = Described("File the row came from, msacat.files.", "", "meta.id;meta.file")
FILE_ROW = Described("Number of the row in its file, from 1.", "", "meta.record")


def create_table(spec: SurveySpec) -> list[sql.Composed]:
    """CREATE TABLE survey.<name> with its key, checks, indexes and comments."""
    table = sql.Identifier("survey", spec.name)
    # First what nearly every query and the index on files ask for: behind dozens of NULLs it takes long to find.
    lines: list[sql.Composable] = [
        sql.SQL("quality bigint NOT NULL DEFAULT 0"), sql.SQL("file_id integer NOT NULL"),
    ]  # fmt: skip
    key = [spec.id.column]
    if not spec.id.unique:
        lines.append(sql.SQL("file_row integer NOT NULL"))
        key += ["file_id", "file_row"]
    lines += [_typed_name(spec, column) for column in spec.columns]
    # One CHECK of all columns costs half of what one a column does, which was a third of an ingest.
    conditions = [condition for column in spec.columns if (condition := _condition(spec, column)) is not None]
    if conditions:
        lines.append(
            sql.SQL("CONSTRAINT {} CHECK ({})").format(
                sql.Identifier(f"{spec.name}_values"[:63]), sql.SQL(" AND ").join(conditions)
            )
        )
    lines.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(sql.Identifier, key))))
    statements = [
        sql.SQL("CREATE TABLE {} (\n  {}\n)").format(table, sql.SQL(",\n  ").join(lines)),
        sql.SQL("COMMENT ON TABLE {} IS {}").format(
            table, sql.Literal(f"{spec.title} ({spec.release}). {spec.description} {spec.attribution}")
        ),
    ]
    if spec.position:
        ra, dec = spec.position.ra, spec.position.dec
        statements.append(q3c_index_sql("survey", spec.name, ra, dec, f"{spec.name}_q3c"))
        if spec.position.gaia_id:
            statements.append(_index(spec, spec.position.gaia_id))
    if spec.matches:
        statements.append(_index(spec, spec.matches.id))
    # forget and replace find a file's rows by it; BRIN, since a file's rows lie together
    statements.append(
        sql.SQL("CREATE INDEX {} ON {} USING brin (file_id)").format(
            sql.Identifier(f"{spec.name}_file_id"), table
        )
    )
    for column in spec.columns:
        if column.length:
            # Nobody asks for an array's most common elements, and ANALYZE takes a second to find them.
            statements.append(
                sql.SQL("ALTER TABLE {} ALTER {} SET STATISTICS 0").format(table, sql.Identifier(column.name))
            )
    return statements + quality_statistics(spec) + comments(spec, spec.name)


def quality_statistics(spec: SurveySpec) -> list[sql.Composed]:
    """How many rows pass the cuts that remove rows, for the planner.

    Without them it takes `quality & mask = 0` for one row in 200 and looks a whole survey up row by row.
    """
    name = sql.Identifier("survey", f"{spec.name}_removed")
    statements = [sql.SQL("DROP STATISTICS IF EXISTS {}").format(name)]
    if mask := removing_mask(spec):
        statements.append(
            sql.SQL("CREATE STATISTICS {} ON (quality & {}) FROM {}").format(
                name, mask, sql.Identifier("survey", spec.name)
            )
        )
    return statements


def comments(spec: SurveySpec, relation: str) -> list[sql.Composed]:
    """COMMENT ON every column of survey.<relation>."""
    described = {c.name: Described(c.description, c.unit, c.ucd) for c in spec.columns}
    described |= {"quality": QUALITY, "file_id": FILE_ID}
    if not spec.id.unique:
        described["file_row"] = FILE_ROW
    return [comment_on_column("survey", relation, name, text) for name, text in described.items()]


def _index(spec: SurveySpec, column: str) -> sql.Composed:
    return sql.SQL("CREATE INDEX {} ON {} ({})").format(
        sql.Identifier(f"{spec.name}_{column}"[:63]),
        sql.Identifier("survey", spec.name),
        sql.Identifier(column),
    )


def column_definition(spec: SurveySpec, column: Column) -> sql.Composed:
    """Name, type and CHECK of one column, as ADD COLUMN takes it."""
    condition = _condition(spec, column)
    check = sql.SQL("") if condition is None else sql.SQL(" CHECK ({})").format(condition)
    return sql.SQL("{}{}").format(_typed_name(spec, column), check)


def _typed_name(spec: SurveySpec, column: Column) -> sql.Composed:
    name = sql.Identifier(column.name)
    parts: list[sql.Composable] = [name, sql.SQL(column.sql_type)]
    needed = {spec.id.column}
    if spec.position:
        needed |= {spec.position.ra, spec.position.dec}
    if column.name in needed:
        parts.append(sql.SQL("NOT NULL"))
    return sql.SQL(" ").join(parts)


def _condition(spec: SurveySpec, column: Column) -> sql.Composed | None:
    """What the table demands of the column's values."""
    name = sql.Identifier(column.name)
    if column.type in FLOATS:
        # BETWEEN is false for NaN and infinities and lets NULL pass: a bypass of the cleaning fails here too.
        # The bounds are cast to the column's own type, so that a real equal to its bound passes.
        low, high = column.range or _position_range(spec, column) or (-1e38, 1e38)
        return sql.SQL("{} BETWEEN {} AND {}").format(
            name, constant(low, column.type), constant(high, column.type)
        )
    if column.length:
        return sql.SQL("cardinality({0}) = {1} AND array_position({0}, NULL) IS NULL").format(
            name, column.length
        )
    return None


def nearest_real(value: float) -> float:
    """The single-precision number a limit means; the largest there is for one that is larger still."""
    return float(np.float32(np.clip(value, *_REALS)))


def constant(value: float, kind: str) -> sql.Composed:
    """A constant of type real or double precision; the server itself refuses 1e-50 or 1e300 as a real."""
    if kind == "real":
        value = nearest_real(value)
    return sql.SQL("{}::{}").format(sql.Literal(repr(float(value))), sql.SQL(kind))  # type: ignore[arg-type]


def _position_range(spec: SurveySpec, column: Column) -> tuple[float, float] | None:
    """Q3C takes any declination without complaint (95 deg gives a pixel): the table does not."""
    if spec.position and column.name == spec.position.ra:
        return 0.0, 360.0
    if spec.position and column.name == spec.position.dec:
        return -90.0, 90.0
    return None


def create_clean_view(spec: SurveySpec, order: list[str] | None = None) -> list[sql.Composed]:
    """survey.<name>_clean: rows without a removing bit, bands without theirs, one row an id.

    `order` names the columns first in an existing view: PostgreSQL lets a view only grow at its end.
    """
    relation = f"{spec.name}_clean"
    names = ["quality", "file_id", *([] if spec.id.unique else ["file_row"]), *(c.name for c in spec.columns)]
    if order is not None:
        names = order + [name for name in names if name not in order]
    columns: list[sql.Composable] = []
    for name in names:
        mask = band_mask(spec, name)
        column: sql.Composable = sql.Identifier(name)
        if mask:
            column = sql.SQL("CASE WHEN quality & {} = 0 THEN {} END AS {}").format(mask, column, column)
        columns.append(column)
    head: sql.Composable = sql.SQL("SELECT")
    tail: sql.Composable = sql.SQL("")
    if not spec.id.unique:
        assert spec.id.best_by is not None
        head = sql.SQL("SELECT DISTINCT ON ({})").format(sql.Identifier(spec.id.column))
        tail = sql.SQL("ORDER BY {}, {} DESC NULLS LAST, file_id, file_row").format(
            sql.Identifier(spec.id.column), sql.Identifier(spec.id.best_by)
        )
    mask = removing_mask(spec)
    passing = sql.SQL("WHERE quality & {} = 0").format(mask) if mask else sql.SQL("")
    view = sql.SQL("CREATE OR REPLACE VIEW {} AS {} {} FROM {} {} {}").format(
        sql.Identifier("survey", relation), head, sql.SQL(", ").join(columns),
        sql.Identifier("survey", spec.name), passing, tail,
    )  # fmt: skip
    about = sql.SQL("COMMENT ON VIEW {} IS {}").format(
        sql.Identifier("survey", relation),
        sql.Literal(f"The rows and bands of survey.{spec.name} that pass its quality cuts"
                    + ("." if spec.id.unique else ", one row an object.")),
    )  # fmt: skip
    return [view, about, *comments(spec, relation)]


def removing_mask(spec: SurveySpec) -> int:
    """Bits that take a row out of the _clean view."""
    return _mask(q for q in spec.quality if q.removes and not q.bands and not q.labels)


def band_mask(spec: SurveySpec, column: str) -> int:
    """Bits that make this column NULL in the _clean view: a magnitude, a label, or the error of one."""
    parts = {b.name for b in spec.bands if column in (b.mag, b.err)}
    parts |= {label.quantity for label in spec.labels if column in (label.value, label.err)}
    return _mask(q for q in spec.quality if q.removes and parts & {*q.bands, *q.labels})


def _mask(cuts) -> int:
    mask = 0
    cut: QualityCut
    for cut in cuts:
        mask |= 1 << cut.bit
    return mask


def create_match_table(spec: SurveySpec) -> list[sql.Composed]:
    """CREATE TABLE matched.<name>: one row a star that has a match or lost one."""
    table = sql.Identifier("matched", spec.name)
    id_column = spec.column(spec.id.column)
    statements = [
        sql.SQL(
            "CREATE TABLE {} (source_id bigint PRIMARY KEY, {} {}, separation_arcsec real, "
            "n_candidates integer NOT NULL DEFAULT 0, n_mates integer NOT NULL DEFAULT 0, method text)"
        ).format(table, sql.Identifier(id_column.name), sql.SQL(id_column.type)),
        sql.SQL("CREATE INDEX {} ON {} ({})").format(
            sql.Identifier(f"{spec.name}_{id_column.name}"[:63]), table, sql.Identifier(id_column.name)
        ),
        sql.SQL("COMMENT ON TABLE {} IS {}").format(
            table,
            sql.Literal(
                f"Which object of {spec.title} is which Gaia star; a star without candidates has no row."
            ),
        ),
    ]
    described = {
        "source_id": Described("Gaia source identifier.", "", "meta.id;meta.main"),
        id_column.name: Described("Matched object; NULL where candidates exist but none is the match.", "",
                                  "meta.id.cross"),
        "separation_arcsec": Described(
            "Great-circle distance to the match, or to the nearest candidate, at the object's epoch.", "arcsec",
            "pos.angDistance"),
        "n_candidates": Described("Objects within the match radius.", "", "meta.number"),
        "n_mates": Described("Other Gaia stars that share the object (archive matches only).", "", "meta.number"),
        "method": Described("best_neighbour, gaia_id or position; NULL without a match.", "", "meta.code"),
    }  # fmt: skip
    return statements + [
        comment_on_column("matched", spec.name, name, text) for name, text in described.items()
    ]
