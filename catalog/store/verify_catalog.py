"""Counts again what the ledgers say: nothing is believed because it was written down."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import Connection, sql

from msacat.catalog.errors import MsacatError
from msacat.catalog.ingest.ingest_files import IngestPlan, rehearse_file
from msacat.catalog.ingest.ingest_ledger import (
    REPEATED,
    UNREADABLE,
    files_that_lack_rows,
    is_stored_elsewhere,
)
from msacat.catalog.read.checksums import file_checksums
from msacat.catalog.store.register_survey import reference_spec, registered_specs
from msacat.catalog.surveys.survey_spec import MATCHED_ROLES, SurveySpec


@dataclass(frozen=True)
class Result:
    """One thing that was checked."""

    test: str
    passed: bool
    target: str
    description: str


def verify(conn: Connection, files: bool = False) -> list[Result]:
    """Recount every survey of the store; with `files` also read the source files again and compare.

    The whole store is seen at one instant. Reads every survey table once or twice: minutes for 10^8 rows.
    """
    conn.commit()
    results: list[Result] = []
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        specs = registered_specs(conn)
        adopted: dict[str, str | None] = dict(
            conn.execute("SELECT name, adopted_from FROM msacat.surveys").fetchall()
        )
        for spec in specs.values():
            results += _ledger(conn, spec)
            results += _spec(conn, spec)
            results += _values(conn, spec)
            if adopted[spec.name] is None:
                results += _rows(conn, spec)
            results += _ids(conn, spec, adopted[spec.name])
            if spec.role in MATCHED_ROLES:
                results += _matches(conn, spec)
        results += _runs(conn)
        listed = _listed_files(conn) if files else []
    for survey, path, ledger in listed:
        results.append(_source_file(specs[survey], path, ledger))
    return results


def _ledger(conn: Connection, spec: SurveySpec) -> list[Result]:
    bad = conn.execute(
        "SELECT file_id, path, rows_read, rows_kept, coalesce((SELECT sum(value::bigint) FROM "
        "jsonb_each_text(rows_rejected)), 0) AS rejected FROM msacat.files WHERE survey = %s",
        [spec.name],
    ).fetchall()
    wrong = [f"file {i}: read {r}, kept {k}, rejected {x}" for i, _, r, k, x in bad if r != k + x]
    return [_result("ledger adds up", spec, wrong, f"rows read = kept + rejected; files: {len(bad)}")]


def _rows(conn: Connection, spec: SurveySpec) -> list[Result]:
    """Rows in the table, file by file, against the ledger."""
    rows = conn.execute(
        sql.SQL(
            "SELECT coalesce(f.file_id, t.file_id), f.rows_kept, coalesce(t.n, 0), f.file_id IS NULL FROM "
            "(SELECT file_id, rows_kept FROM msacat.files WHERE survey = %s) f FULL JOIN "
            "(SELECT file_id, count(*) AS n FROM {} GROUP BY file_id) t USING (file_id) ORDER BY 1"
        ).format(_table(spec)),
        [spec.name],
    ).fetchall()
    wrong = [
        f"file {i} is not in the ledger, yet has {found} rows" if orphan
        else f"file {i}: the ledger says {kept} rows, the table has {found}"
        for i, kept, found, orphan in rows
        if orphan or kept != found
    ]  # fmt: skip
    wrong += [
        f"file {i}: up to {n} rows of {path} were stored from a file that was forgotten since: "
        f"`msacat ingest {spec.name} {shlex.quote(path)}` stores them again"
        for i, _, path, n in files_that_lack_rows(conn, spec.name)
    ]
    return [_result("rows are there", spec, wrong, f"rows: {sum(r[2] for r in rows)}; files: {len(rows)}")]


def _values(conn: Connection, spec: SurveySpec) -> list[Result]:
    """No NaN, no infinity, no impossible position: comparisons and averages would go wrong without a word."""
    tests: list[sql.Composable] = []
    names: list[str] = []
    for column in spec.columns:
        name = sql.Identifier(column.name)
        if column.type in ("real", "double precision"):
            tests.append(sql.SQL("NOT ({} BETWEEN '-1e300' AND '1e300')").format(name)
                         if column.type == "double precision"
                         else sql.SQL("NOT ({} BETWEEN '-3.4e38' AND '3.4e38')").format(name))  # fmt: skip
        elif column.length:
            tests.append(
                sql.SQL(
                    "({c} && ARRAY['NaN', 'Infinity', '-Infinity']::real[] OR cardinality({c}) <> {n})"
                ).format(c=name, n=column.length)
            )
        else:
            continue
        names.append(column.name)
    results = []
    if tests:
        counts = conn.execute(
            sql.SQL("SELECT {} FROM {}").format(
                sql.SQL(", ").join(sql.SQL("count(*) FILTER (WHERE {})").format(t) for t in tests),
                _table(spec),
            )
        ).fetchone()
        assert counts is not None
        wrong = [f"{name}: {n} values" for name, n in zip(names, counts, strict=True) if n]
        results.append(
            _result("values are finite", spec, wrong, f"{len(names)} columns without NaN or infinity")
        )
    if spec.position:
        ra, dec = sql.Identifier(spec.position.ra), sql.Identifier(spec.position.dec)
        n = _count(
            conn,
            sql.SQL("SELECT count(*) FROM {} WHERE ({ra} >= 0 AND {ra} < 360 AND {dec} BETWEEN -90 AND 90) IS NOT TRUE")
            .format(_table(spec), ra=ra, dec=dec),
        )  # fmt: skip
        results.append(
            _result("positions are possible", spec, [f"{n} rows"] * (n > 0), "0 <= ra < 360, |dec| <= 90")
        )
    return results


def _ids(conn: Connection, spec: SurveySpec, adopted_from: str | None) -> list[Result]:
    key = [spec.id.column] if spec.id.unique else [spec.id.column, "file_id", "file_row"]
    if adopted_from is not None and not spec.id.unique:
        return []
    n = _count(
        conn,
        sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {} GROUP BY {} HAVING count(*) > 1) repeated").format(
            _table(spec), sql.SQL(", ").join(map(sql.Identifier, key))
        ),
    )
    return [_result("ids are unique", spec, [f"{n} ids stand twice"] * (n > 0), ", ".join(key))]


def _matches(conn: Connection, spec: SurveySpec) -> list[Result]:
    """Every match leads from a star that exists to an object that exists."""
    reference = reference_spec(conn)
    row = conn.execute(
        "SELECT fingerprint FROM msacat.crossmatches WHERE dataset = %s", [spec.name]
    ).fetchone()
    test = "matches lead to rows"
    if reference is None or row is None:
        return []
    if row[0] is None:
        return [Result(test, True, f"matched.{spec.name}", "out of date: `msacat crossmatch` makes it anew")]
    parts = {
        "m": sql.Identifier("matched", spec.name),
        "r": _table(reference),
        "s": _table(spec),
        "id": sql.Identifier(spec.id.column),
    }
    stars = _count(
        conn,
        sql.SQL(
            "SELECT count(*) FROM {m} m WHERE NOT EXISTS (SELECT 1 FROM {r} r WHERE r.source_id = m.source_id)"
        ).format(**parts),
    )
    objects = _count(
        conn,
        sql.SQL(
            "SELECT count(*) FROM {m} m WHERE m.{id} IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM {s} s WHERE s.{id} = m.{id})"
        ).format(**parts),
    )
    n = _count(conn, sql.SQL("SELECT count(*) FROM {m} m WHERE m.{id} IS NOT NULL").format(**parts))
    wrong = [f"{stars} matches of stars that are not there"] * (stars > 0)
    wrong += [f"{objects} matches to objects that are not there"] * (objects > 0)
    return [_result(test, spec, wrong, f"{n} matches", target=f"matched.{spec.name}")]


def _spec(conn: Connection, spec: SurveySpec) -> list[Result]:
    """The registered survey file is whole, the files were read with it, and the table is the one it describes."""
    row = conn.execute(
        "SELECT version, fingerprint FROM msacat.surveys WHERE name = %s", [spec.name]
    ).fetchone()
    assert row is not None
    wrong = []
    if row != (spec.version, spec.fingerprint):
        wrong.append("the registered file is not the one its fingerprint was taken of")
    other = _count(
        conn,
        sql.SQL(
            "SELECT count(*) FROM msacat.files WHERE survey = {} AND (spec_version > {} OR "
            "(spec_version = {} AND spec_fingerprint <> {}))"
        ).format(spec.name, spec.version, spec.version, spec.fingerprint),
    )
    if other:
        wrong.append(f"{other} files were ingested with another survey file of the same or a later version")
    found = {
        name: kind
        for name, kind in conn.execute(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = to_regclass(format('survey.%%I', %s::text)) AND attnum > 0 AND NOT attisdropped",
            [spec.name],
        )
    }
    for column in spec.columns:
        expected = column.sql_type
        if found.get(column.name) != expected:
            wrong.append(f"column {column.name} is {found.get(column.name, 'missing')}, not {expected}")
    return [
        _result(
            "table is as the survey file says", spec, wrong, f"version {spec.version}, {len(found)} columns"
        )
    ]


def _runs(conn: Connection) -> list[Result]:
    """Every table of every run that was verified still holds the stars counted then, each once."""
    runs = conn.execute(
        "SELECT run_id, n_stars, ARRAY(SELECT tablename::text FROM pg_tables WHERE schemaname = 'enriched' "
        "AND tablename LIKE 'r' || run_id || '\\_%' ORDER BY 1) "
        "FROM msacat.runs WHERE verified IS NOT NULL AND state <> 'dropped' ORDER BY run_id"
    ).fetchall()
    results = []
    for run_id, n_stars, tables in runs:
        wrong = [] if f"r{run_id}_magnitudes" in tables else [f"enriched.r{run_id}_magnitudes is gone"]
        for name in tables:
            query = sql.SQL("SELECT count(DISTINCT source_id) FROM {}").format(
                sql.Identifier("enriched", name)
            )
            if (found := _count(conn, query)) != n_stars:
                wrong.append(f"enriched.{name} holds {found} stars, not {n_stars}")
        right = f"{n_stars} stars in each of {len(tables)} tables"
        results.append(Result("runs", not wrong, f"run {run_id}", "; ".join(wrong) or right))
    return results


def _listed_files(conn: Connection) -> list[tuple[str, str, dict[str, Any]]]:
    rows = conn.execute(
        "SELECT survey, path, raw_sha256, rows_read, rows_kept, rows_rejected, values_nulled, "
        "spec_fingerprint FROM msacat.files "
        "WHERE format <> 'adopted' ORDER BY file_id"
    ).fetchall()
    keys = ("raw_sha256", "rows_read", "rows_kept", "rows_rejected", "values_nulled", "spec_fingerprint")
    return [(row[0], row[1], dict(zip(keys, row[2:], strict=True))) for row in rows]


def _source_file(spec: SurveySpec, path: str, ledger: dict[str, Any]) -> Result:
    """Read the file again and compare with what its ledger row says; a file that is gone is not verified."""
    test = "source file agrees"
    try:
        if not Path(path).is_file():
            return Result(test, False, path, "the file is no longer there: not verified")
        if file_checksums(Path(path))[0] != ledger["raw_sha256"]:
            return Result(test, False, path, "the file has other bytes than when it was ingested")
        if ledger["spec_fingerprint"] != spec.fingerprint:
            return Result(
                test, True, path, "the same bytes; counts not compared: the survey file was updated since"
            )
        # as many bad lines as were counted then may be there now
        bad = ledger["rows_rejected"].get(UNREADABLE, 0)
        now = rehearse_file(IngestPlan(spec, (Path(path),), None, max_bad_rows=bad), Path(path))
    except MsacatError as error:
        return Result(test, False, path, str(error))
    except OSError as error:
        return Result(test, False, path, f"{error.strerror}: not verified")
    # rows that came twice are judged against the table: what cleaning alone kept includes them
    rejected = {
        k: n for k, n in ledger["rows_rejected"].items() if k != REPEATED and not is_stored_elsewhere(k)
    }
    twice = sum(ledger["rows_rejected"].values()) - sum(rejected.values())
    expected = (ledger["rows_read"], ledger["rows_kept"] + twice, rejected, ledger["values_nulled"])
    found = (now.rows_read, now.rows_kept, now.rows_rejected, now.values_nulled)
    if found != expected:
        return Result(test, False, path, f"the ledger says {expected}, the file {found}")
    return Result(test, True, path, f"{now.rows_read} rows read again")


def _result(test: str, spec: SurveySpec, wrong: list[str], right: str, target: str | None = None) -> Result:
    return Result(test, not wrong, target or f"survey.{spec.name}", "; ".join(wrong[:5]) if wrong else right)


def _table(spec: SurveySpec) -> sql.Identifier:
    return sql.Identifier("survey", spec.name)


def _count(conn: Connection, query: sql.Composed) -> int:
    row = conn.execute(query).fetchone()
    assert row is not None
    return int(row[0])
