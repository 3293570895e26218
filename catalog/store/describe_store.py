"""Reads back what every table and column says of itself."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from psycopg import Connection

from msacat.catalog.errors import UsageError
from msacat.catalog.store.column_comments import MADE_BY, Described

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
    """Tables and views of msacat's schemas, those users start from first, the tables of single runs last."""
    rows = conn.execute(
        "SELECT n.nspname || '.' || c.relname, CASE WHEN c.relkind IN ('r', 'p') AND c.reltuples >= 0 "
        "THEN c.reltuples::bigint END, obj_description(c.oid, 'pg_class') FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'v', 'm', 'p', 'f') "
        "ORDER BY c.relname ~ '^r[0-9]+_', array_position(%s::text[], n.nspname::text), c.relkind DESC, c.relname",
        [SCHEMAS, SCHEMAS],
    ).fetchall()
    return [
        RelationInfo(name, count, (about or "").removeprefix(MADE_BY).strip()) for name, count, about in rows
    ]


def find_relation(conn: Connection, name: str) -> str:
    """schema.relation for `name`, which may lack its schema; UsageError with near names where there is none."""
    known = [info.name for info in describe_relations(conn)]
    if name in known:
        return name
    same = [full for full in known if full.split(".")[1] == name]
    if len(same) == 1:
        return same[0]
    near = same or difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    raise UsageError(
        f"there is no table or view '{name}'" if not same else f"'{name}' is in several schemas",
        expected=" or ".join(near) or "schema.relation", next_step="`msacat describe` lists them all",
    )  # fmt: skip


def describe_columns(conn: Connection, relation: str) -> list[ColumnInfo]:
    """Columns of one relation, as find_relation() names it."""
    rows = conn.execute(
        "SELECT attname, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped "
        "ORDER BY attnum",
        relation.split(".", 1),
    ).fetchall()
    columns = []
    for name, kind, comment in rows:
        about = Described.parse(comment)
        columns.append(ColumnInfo(name, kind, about.unit, about.ucd, about.sentence))
    return columns
