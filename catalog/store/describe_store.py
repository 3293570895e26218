"""Reads back what every table and column says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection

from msacat.catalog.errors import UsageError
from msacat.catalog.store.column_comments import Described

SCHEMAS = ["enriched", "matched", "survey", "learned", "msacat"]


@dataclass(frozen=True)
class RelationInfo:
    name: str
    rows: int | None  # the planner's estimate; None for a view
    about: str


@dataclass(frozen=True)
class ColumnInfo:
    name: str
    type: str
    unit: str
    ucd: str
    meaning: str


def describe_relations(conn: Connection) -> list[RelationInfo]:
    """Tables and views of msacat's schemas, those users start from first."""
    rows = conn.execute(
        "SELECT n.nspname || '.' || c.relname, CASE WHEN c.relkind IN ('r', 'p') AND c.reltuples >= 0 "
        "THEN c.reltuples::bigint END, obj_description(c.oid, 'pg_class') FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'v', 'm', 'p', 'f') "
        "ORDER BY array_position(%s::text[], n.nspname::text), c.relkind DESC, c.relname",
        [SCHEMAS, SCHEMAS],
    ).fetchall()
    return [RelationInfo(name, count, about or "") for name, count, about in rows]


def describe_columns(conn: Connection, relation: str) -> list[ColumnInfo]:
    """Columns of one relation; UsageError with what there is if it does not exist."""
    rows = conn.execute(
        "SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [relation],
    ).fetchall()
    if not rows:
        names = ", ".join(info.name for info in describe_relations(conn))
        raise UsageError(f"there is no {relation}", expected=f"one of {names}")
    columns = []
    for name, kind, comment in rows:
        about = Described.parse(comment)
        columns.append(ColumnInfo(name, kind, about.unit, about.ucd, about.sentence))
    return columns
