"""Adopts a table an archive already holds: checked against the survey file, then shown through a view, never copied."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from socket import gethostname
from typing import Any

from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.ingest.adopted_view import READABLE, Source, adopted_view
from msacat.catalog.ingest.bind_columns import key_columns, spelled
from msacat.catalog.ingest.check_adopted import check_names, check_sample
from msacat.catalog.ingest.ingest_ledger import files_lock
from msacat.catalog.ingest.plan_ingest import reference_release
from msacat.catalog.ingest.replace_relation import replace_relation
from msacat.catalog.ingest.units_in_files import factor_to
from msacat.catalog.server.advisory_lock import advisory_lock
from msacat.catalog.server.package_version import code_version
from msacat.catalog.server.q3c import is_q3c_key, q3c_index_sql
from msacat.catalog.store.column_comments import Described
from msacat.catalog.store.register_survey import find_spec, register_adopted
from msacat.catalog.surveys.survey_column import Column
from msacat.catalog.surveys.survey_spec import SurveySpec


@dataclass
class AdoptReport:
    """How an archive's table became survey.<dataset>."""

    dataset: str
    table: str
    view: str
    rows_estimated: int
    columns: dict[str, str]  # ours -> the archive's
    absent: list[str] = field(default_factory=list)  # NULL throughout
    unused: list[str] = field(default_factory=list)
    converted: dict[str, float] = field(default_factory=dict)  # ours -> factor, where units differ


def adopt(
    conn: Connection, dataset: str, table: str, columns: Mapping[str, str] | None = None
) -> AdoptReport:
    """Show `schema.table` as survey.<dataset> through a read-only view that applies the survey file.

    columns  ours -> the archive's name, where neither our name nor a published one is used there
    Raises InputRejected for a missing or unreadable column, a unit that does not convert, another release, and
    for a missing index with the CREATE INDEX that makes it; UsageError for unknown names.
    """
    conn.commit()
    spec = find_spec(conn, dataset)
    schema, name = _split(table)
    with advisory_lock(conn, files_lock(dataset)), conn.transaction():
        release = reference_release(conn, spec)
        rows = _rows_estimated(conn, schema, name)
        sources, unused = _bind(conn, spec, schema, name, columns or {})
        named = _names_of_releases(spec, sources, unused)
        _check_indexes(conn, spec, schema, name, sources)
        file_id = _scalar(conn, "SELECT nextval(pg_get_serial_sequence('msacat.files', 'file_id'))")
        view = adopted_view(spec, schema, name, sources, int(file_id), release)
        if not _swapped(conn, spec, f"{schema}.{name}", view):
            register_adopted(conn, spec, f"{schema}.{name}", view)
        check_sample(conn, spec, f"{schema}.{name}")
        check_names(conn, schema, name, named, release)
        _ledger(conn, spec, int(file_id), f"{schema}.{name}", rows)
    return AdoptReport(
        dataset=dataset,
        table=f"{schema}.{name}",
        view=f"survey.{dataset}",
        rows_estimated=rows,
        columns={ours: ", ".join(s.name for s in have) for ours, have in sources.items() if have},
        absent=[c.name for c in spec.columns if not sources.get(c.name)],
        unused=[n for n in unused if n not in named],
        converted={o: have[0].factor for o, have in sources.items() if have and have[0].factor != 1.0},
    )


def _split(table: str) -> tuple[str, str]:
    parts = table.split(".")
    if len(parts) != 2 or not all(parts):
        raise UsageError("name the table with its schema", expected="schema.table", found=table)
    return parts[0], parts[1]


def _rows_estimated(conn: Connection, schema: str, name: str) -> int:
    """Of a table we may read."""
    row = conn.execute(
        "SELECT c.relkind, greatest(c.reltuples, 0)::bigint, has_table_privilege(c.oid, 'SELECT'), current_user "
        "FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        [schema, name],
    ).fetchone()
    if row is None:
        known = [
            f"{s}.{t}"
            for s, t in conn.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN "
                "('pg_catalog', 'information_schema', 'msacat', 'survey', 'matched', 'learned', 'enriched')"
            )
        ]
        near = difflib.get_close_matches(f"{schema}.{name}", known, n=3, cutoff=0.4)
        raise UsageError(
            f"there is no table {schema}.{name} in database {conn.info.dbname}",
            expected=", ".join(near) if near else "a table of the archive",
        )
    kind, rows, readable, role = row
    if kind not in ("r", "p", "m"):
        raise InputRejected(
            f"{schema}.{name} is not a table, so it has no indexes",
            expected="a table, a partitioned table or a materialised view",
            found={"v": "a view", "f": "a foreign table"}.get(kind, f"relkind {kind}"),
            next_step="adopt the table beneath it",
        )
    if not readable:
        raise UsageError(
            f"{role} may not read {schema}.{name}",
            next_step=sql.SQL("GRANT USAGE ON SCHEMA {0} TO {2}; GRANT SELECT ON {1} TO {2}")
            .format(sql.Identifier(schema), sql.Identifier(schema, name), sql.Identifier(role))
            .as_string(conn),
        )
    if kind == "p" and not rows:
        rows = int(_scalar(conn, "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_inherits i "
                                 "JOIN pg_class c ON c.oid = i.inhrelid "
                                 "WHERE i.inhparent = format('%%I.%%I', %s::text, %s::text)::regclass", schema, name))  # fmt: skip
    return int(rows)


def _bind(
    conn: Connection, spec: SurveySpec, schema: str, table: str, given: Mapping[str, str]
) -> tuple[dict[str, tuple[Source, ...]], list[str]]:
    """Stored column -> the archive's columns, with types and units checked; and the archive's unused ones."""
    found = {
        name: (kind.split("(")[0] + "[]" * kind.endswith("[]") * ("(" in kind), comment)
        for name, kind, comment in conn.execute(
            "SELECT a.attname, format_type(a.atttypid, NULL), col_description(a.attrelid, a.attnum) "
            "FROM pg_attribute a WHERE a.attrelid = format('%%I.%%I', %s::text, %s::text)::regclass "
            "AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            [schema, table],
        )
    }
    where = f"{schema}.{table}"
    if unknown := sorted(set(given) - {c.name for c in spec.columns}):
        raise UsageError(f"{spec.name} has no column {', '.join(unknown)}")
    if lost := sorted(set(given.values()) - set(found)):
        raise UsageError(f"{where} has no column {', '.join(lost)}", expected=", ".join(found))
    for name, why in spec.refuse_columns.items():
        if name.lower() in {f.lower() for f in found}:
            raise InputRejected(f"not a table of {spec.name}: {why}", file=where, column=name)
    lower: dict[str, str] = {}
    for name in found:
        lower.setdefault(name.lower(), name)
    sources: dict[str, tuple[Source, ...]] = {}
    missing = []
    for column in spec.columns:
        names, computed = _names(column, lower, given)
        sources[column.name] = tuple(
            Source(n, found[n][0], _factor(spec, column, n, found[n], where, computed), computed)
            for n in names
        )
        if not names and (column.required or column.name in key_columns(spec)):
            missing.append(column)
    if missing:
        raise InputRejected(
            f"columns that {spec.name} needs are missing: {', '.join(c.name for c in missing)}",
            file=where,
            expected="; ".join(f"{c.name} (published as {spelled(c)})" for c in missing),
            found=", ".join(found),
            next_step="`--column OURS=THEIRS` says where it is",
        )
    used = {s.name for have in sources.values() for s in have}
    return sources, [n for n in found if n not in used]


def _names_of_releases(
    spec: SurveySpec, sources: Mapping[str, tuple[Source, ...]], unused: list[str]
) -> list[str]:
    """The archive's columns whose text may name a Gaia release ("Gaia DR3 123")."""
    release = {name.lower() for name in spec.release_columns}
    texts = [
        have[0].name
        for ours, have in sources.items()
        if have and have[0].computed and (how := spec.column(ours).computed) is not None
        and how.transform == "gaia_id_from_text"
    ]  # fmt: skip
    return [name for name in unused if name.lower() in release] + texts


def _names(column: Column, lower: Mapping[str, str], given: Mapping[str, str]) -> tuple[list[str], bool]:
    """The archive's columns for one of ours, and whether ours is computed from them."""
    if column.name in given:
        return [given[column.name]], False
    if column.computed:
        # An archive's column of our name holds our value, even where some publisher calls an input so.
        named = [
            [first.lower(), *(n.lower() for n in others if n.lower() != column.name)]
            for first, *others in column.computed.inputs
        ]
        inputs = [next((lower[n] for n in names if n in lower), None) for names in named]
        if None not in inputs:
            return [name for name in inputs if name is not None], True
    for name in (*column.published, column.name):
        if name.lower() in lower:
            return [lower[name.lower()]], False
    return [], False


def _factor(
    spec: SurveySpec, column: Column, name: str, found: tuple[str, str | None], where: str, computed: bool
) -> float:
    """Check type and unit of one archive column; returns the factor to our unit."""
    kind, comment = found
    exact = column.name in key_columns(spec)
    if computed and column.computed and column.computed.transform.startswith("xp_"):
        raise InputRejected(
            f"{column.name} is computed from spectra, which a view cannot do",
            file=where, column=name, next_step=f"`msacat ingest {spec.name}` the published files",
        )  # fmt: skip
    if computed and column.computed:
        readable: tuple[str, ...] = READABLE[
            "text" if column.computed.transform == "gaia_id_from_text" else "real"
        ]
    else:
        readable = READABLE[column.type]
        if exact and column.type in ("bigint", "double precision"):
            readable = readable[:1]  # a cast would hide the table's index
    if kind not in readable:
        raise InputRejected(
            "the column's type does not hold what the survey file expects",
            file=where, column=name, expected=" or ".join(readable), found=kind,
            next_step=f"ALTER TABLE {where} ALTER {name} TYPE {readable[0]}, or ingest the published files",
        )  # fmt: skip
    unit = Described.parse(comment).unit
    factor = _unit_factor(spec, column, name, unit, where, computed)
    if exact and factor != 1.0:
        raise InputRejected("positions must be in degrees: the index is on them", file=where, column=name,
                            expected="deg", found=unit)  # fmt: skip
    return factor


def _unit_factor(spec: SurveySpec, column: Column, name: str, unit: str, where: str, computed: bool) -> float:
    """What brings the archive's values to what the view computes with: by their comment's unit, else as published."""
    if column.type in ("text", "boolean", "bigint", "integer", "smallint"):
        return 1.0
    if computed:
        takes_in = column.published_unit
        return factor_to(takes_in, unit, set(), name, where) if unit and takes_in is not None else 1.0
    if unit:
        systems: set[str] = {b.system for b in spec.bands if column.name in (b.mag, b.err)}
        return factor_to(column.unit, unit, systems, name, where)
    as_published = name.lower() in {n.lower() for n in column.published} or name != column.name
    # of a computed column the published unit is that of its inputs
    if column.published_unit is not None and column.computed is None and as_published:
        return factor_to(column.unit, column.published_unit, set(), name, where)
    return 1.0


def _check_indexes(
    conn: Connection,
    spec: SurveySpec,
    schema: str,
    table: str,
    sources: Mapping[str, tuple[Source, ...]],
) -> None:
    """A cone search or a match without an index would read the whole table: refuse, with what makes it."""
    indexes = conn.execute(
        "SELECT i.indisunique AND i.indpred IS NULL, "
        "ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true) FROM generate_series(1, i.indnkeyatts) k) "
        "FROM pg_index i WHERE i.indrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND i.indisvalid",
        [schema, table],
    ).fetchall()
    target = sql.Identifier(schema, table)
    missing: list[sql.Composed] = []
    expected: list[str] = []
    identifier = sources[spec.id.column][0].name
    quoted = _quoted(conn, identifier)
    if not any(keys[0] == quoted and (unique or not spec.id.unique) and (len(keys) == 1 or not spec.id.unique)
               for unique, keys in indexes):  # fmt: skip
        missing.append(
            sql.SQL("CREATE {}INDEX ON {} ({})").format(
                sql.SQL("UNIQUE " if spec.id.unique else ""), target, sql.Identifier(identifier)
            )
        )
        expected.append(f"a {'unique ' if spec.id.unique else ''}index on {identifier}")
    if spec.position:
        ra, dec = (sources[n][0].name for n in (spec.position.ra, spec.position.dec))
        if not any(is_q3c_key(conn, keys[0], ra, dec) for _, keys in indexes):
            missing.append(q3c_index_sql(schema, table, ra, dec, f"{table}_q3c"[:63]))
            expected.append("an index on the position by Q3C")
    if missing:
        commands = "; ".join(statement.as_string(conn) for statement in missing)
        raise InputRejected(
            f"{schema}.{table} lacks an index that queries on survey.{spec.name} need",
            file=f"{schema}.{table}",
            expected=", ".join(expected),
            next_step=f"{commands}; ANALYZE {target.as_string(conn)};",
        )


def _swapped(conn: Connection, spec: SurveySpec, source: str, view: sql.Composed) -> bool:
    """A dataset that is registered and empty gives up its table for the view; False if it is not registered."""
    row = conn.execute("SELECT adopted_from FROM msacat.surveys WHERE name = %s", [spec.name]).fetchone()
    if row is None:
        return False
    if row[0] is not None:
        raise UsageError(
            f"'{spec.name}' is adopted already, from {row[0]}", next_step=f"msacat forget {spec.name}"
        )
    if _scalar(conn, "SELECT count(*) FROM msacat.files WHERE survey = %s", spec.name):
        raise UsageError(
            f"'{spec.name}' holds ingested files", next_step=f"`msacat forget {spec.name}` first, then adopt"
        )
    replace_relation(conn, spec, "TABLE", [view], adopted_from=source)
    return True


def _ledger(conn: Connection, spec: SurveySpec, file_id: int, source: str, rows: int) -> None:
    """One row stands for the whole table, so that every survey row has its file; the count is the planner's."""
    low = high = None
    if spec.id.column == "source_id":
        row = conn.execute(
            sql.SQL("SELECT min(source_id), max(source_id) FROM {}").format(
                sql.Identifier("survey", spec.name)
            )
        ).fetchone()
        low, high = row if row else (None, None)
    conn.execute(
        "INSERT INTO msacat.files (file_id, survey, release, path, content_sha256, format, rows_read, rows_kept, "
        "min_source_id, max_source_id, spec_version, spec_fingerprint, code_version, host, started) "
        "OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, %s, 'adopted', %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [file_id, spec.name, spec.release, source, f"adopted:{source}", rows, rows, low, high,
         spec.version, spec.fingerprint, code_version(), gethostname(), datetime.now(UTC)],
    )  # fmt: skip


def _quoted(conn: Connection, name: str) -> str:
    """As PostgreSQL itself would write the name: quoted only where it must be ("dec")."""
    return str(_scalar(conn, "SELECT quote_ident(%s)", name))


def _scalar(conn: Connection, query: str, *values: Any) -> Any:
    row = conn.execute(query, list(values)).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]
