"""Read-only questions to the store: SQL, and XP spectra for GaiaXPy. Cones and single stars: find_stars.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg
from psycopg import Connection, sql
from psycopg.pq import TransactionStatus

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.server.connect import connect
from msacat.catalog.store.column_comments import Described

HALF = 55
#: lower triangle of a 55 x 55 correlation matrix; published correlations are not stored
N_CORRELATIONS = 1485
#: statements that only read; the server refuses a write inside them as well
READING = ("SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN", "SHOW")
_BEFORE_FIRST_WORD = re.compile(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*", re.DOTALL)
#: views that are there as soon as any run is published
ALWAYS_PUBLISHED = ("enriched.stars", "enriched.magnitudes")
#: a cancelled query still sends what is under way: small pieces keep that little
ROWS_A_MESSAGE = 500
#: types below this oid are PostgreSQL's own, the same on every server
FIRST_OWN_OID = 16384
LONGEST_MS = 2**31 - 1  # that the server knows of a timeout
#: (type oid, modifier) -> its name
_type_names: dict[tuple[int, int], str] = {}


@dataclass(frozen=True)
class QueryResult:
    """Rows of a query; `truncated` says that more would have come.

    types       PostgreSQL's name of each column's type: int8, float4, float4[], text, …
    origins     by column name, for columns that come straight from a table or view: its oid, the column's number
    """

    columns: list[str]
    types: list[str]
    rows: list[tuple]
    truncated: bool
    origins: dict[str, tuple[int, int]] = field(default_factory=dict)

    def require_distinct_names(self) -> None:
        """UsageError where two columns have one name: JSON and files would lose one of them."""
        if twice := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise UsageError(
                f"two columns are called {', '.join(twice)}", next_step="give them names of their own with AS"
            )


def query(conn: Connection, text: str, max_rows: int, timeout_s: float) -> QueryResult:
    """Run one reading statement in a read-only transaction; at most `max_rows` rows leave the server's hands.

    Raises UsageError for a syntax error, a second statement or a write, InputRejected on timeout, or for enriched.stars
    while no run is published.
    """
    text = text.strip().rstrip(";")
    _refuse_other_statements(text)
    rows: list[tuple] = []
    with reading(conn, timeout_s):
        # A stream, so that a table of any size can be asked for its first rows; its protocol refuses a
        # second statement. Closing it early cancels the query.
        with conn.cursor() as cursor, closing(cursor.stream(text, size=ROWS_A_MESSAGE)) as stream:  # type: ignore[arg-type,type-var]
            for row in stream:
                rows.append(row)
                if len(rows) > max_rows:
                    break
            names, types, origins = columns_of_result(cursor)
        if not rows:  # then the stream has told nothing of its columns
            with conn.cursor() as cursor:
                # A semicolon, before a comment say, fits in no subquery: such a text is asked once more as it is.
                form = sql.SQL("{}" if ";" in text else "SELECT * FROM ({}\n) q LIMIT 0")
                cursor.execute(form.format(sql.SQL(text)), prepare=True)  # type: ignore[arg-type]
                names, types, origins = columns_of_result(cursor)
    return QueryResult(names, types, rows[:max_rows], len(rows) > max_rows, origins)


@contextmanager
def reading(conn: Connection, timeout_s: float, keep_plans: bool = False) -> Iterator[None]:
    """A transaction that cannot write and ends after `timeout_s`; what the server refuses comes out as our errors.

    keep_plans  for SQL of our own on enriched.stars: the transaction is committed, so that psycopg keeps the
                statements it prepared, and the server plans each of them once, whatever its parameters. Rows not
                needed before are best fetched after this transaction has ended
    """
    mode = "force_generic_plan" if keep_plans else "auto"
    together = keep_plans and conn.info.transaction_status == TransactionStatus.IDLE
    try:
        with _sent_together(conn) if together else conn.transaction(force_rollback=not keep_plans):
            conn.execute(
                "SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', %s, true), "
                "set_config('plan_cache_mode', %s, true)",
                [f"{int(min(timeout_s * 1000, LONGEST_MS))}ms", mode],
                prepare=keep_plans,
            )
            yield
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise UsageError(f"query only reads: {str(error).strip()}",
                         next_step="psql, with the rights of your own role, for anything else") from None  # fmt: skip
    except psycopg.errors.QueryCanceled:
        raise InputRejected(
            f"the query took longer than {timeout_s:g} s", next_step="raise --timeout"
        ) from None
    except psycopg.OperationalError:
        raise  # the server went away: not the query's fault
    except psycopg.Error as error:
        missing = isinstance(error, psycopg.errors.UndefinedTable)
        if missing and (keep_plans or any(f'"{view}"' in str(error) for view in ALWAYS_PUBLISHED)):
            raise InputRejected("no run is published yet", next_step="msacat enrich") from None
        unknown = isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn)
        raise UsageError(
            f"the server refused the query: {str(error).strip()}",
            next_step="`msacat describe` lists tables and views, `msacat describe NAME` their columns"
            if unknown
            else None,
        ) from None


@contextmanager
def _sent_together(conn: Connection) -> Iterator[None]:
    """One transaction and, for what needs no answer before its end, one round trip: it takes as long as finding a star.

    The transaction is the one that the server opens for all statements before a Sync.
    """
    before = conn.autocommit
    conn.autocommit = True  # else psycopg would send BEGIN
    try:
        with conn.pipeline():
            yield
    finally:
        conn.autocommit = before


def _refuse_other_statements(text: str) -> None:
    start = _BEFORE_FIRST_WORD.match(text)
    word = re.match(r"\w*", text[start.end() if start else 0 :])
    first = word.group().upper() if word else ""
    if first not in READING:
        raise UsageError(
            "query only reads", expected=f"one statement that begins with {', '.join(READING)}",
            found=first or "nothing", next_step="psql, with the rights of your own role, for anything else",
        )  # fmt: skip


def read_xp(
    dsn: str | None = None,
    where: str | None = None,
    source_ids: Sequence[int] | None = None,
    limit: int | None = None,
) -> Any:
    """XP coefficients, published or predicted, as the DataFrame `gaiaxpy.generate` and `calibrate` take as it is.

    Parameters
    ----------
    dsn : server; default as the command line's.
    where : SQL condition on the columns of enriched.stars, e.g. "gaia_g > 17.65 AND NOT bp_observed".
    source_ids : only these stars, in this order; every one gets a row, NaN where nothing is known. Without `where`.
    limit : at most this many rows, the first ones.

    Returns a pandas.DataFrame: source_id (int64), for bp and rp `_n_parameters`, `_standard_deviation`,
    `_coefficients` and `_coefficient_errors` (55, Gaia internal flux units), `_coefficient_correlations` (zeros:
    published correlations are not stored), `_n_relevant_bases`, and bp_observed, rp_observed (False: predicted).
    """
    import pandas as pd

    if source_ids is not None:
        if where is not None:
            raise UsageError("give where or source_ids, not both")
        source_ids, limit = source_ids[:limit], None
    records = list(_xp_records(dsn, where, source_ids, limit))
    if source_ids is not None:
        found = {record["source_id"]: record for record in records}
        records = [
            found.get(int(s)) or _xp_record(int(s), None, None, None, None, None, None) for s in source_ids
        ]
    columns = list(_xp_record(0, None, None, None, None, None, None))
    return pd.DataFrame(records, columns=columns).astype({"source_id": "int64"}).reset_index(drop=True)


def _xp_records(
    dsn: str | None, where: str | None, source_ids: Sequence[int] | None, limit: int | None
) -> Iterator[dict]:
    terms: list[sql.Composable] = [sql.SQL("({}\n)").format(sql.SQL(where)) if where else sql.SQL("true")]
    if source_ids is not None:
        terms.append(
            sql.SQL("source_id = ANY ({}::bigint[])").format(sql.Literal([int(s) for s in source_ids]))
        )
    text = sql.SQL(
        "SELECT source_id, bp_coefficients, bp_coefficient_errors, bp_observed, rp_coefficients, "
        "rp_coefficient_errors, rp_observed FROM enriched.stars WHERE {} ORDER BY source_id LIMIT {}"
    ).format(sql.SQL(" AND ").join(terms), sql.Literal(limit))
    with connect(dsn, read_only=True) as conn:
        try:
            for row in conn.execute(text, prepare=True):
                yield _xp_record(*row)
        except psycopg.errors.UndefinedTable:
            raise InputRejected("no run is published yet", next_step="msacat enrich") from None
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            raise UsageError(f"where: {str(error).strip()}", found=where) from None


def _xp_record(source_id, bp, bp_err, bp_observed, rp, rp_err, rp_observed) -> dict:
    record: dict[str, Any] = {"source_id": source_id}
    for half, values, errors in (("bp", bp, bp_err), ("rp", rp, rp_err)):
        record[f"{half}_n_parameters"] = HALF
        record[f"{half}_standard_deviation"] = 1.0  # cancels: gaiaxpy only multiplies and divides by it
        record[f"{half}_n_relevant_bases"] = HALF
        for key, array in (("coefficients", values), ("coefficient_errors", errors)):
            record[f"{half}_{key}"] = (
                np.full(HALF, np.nan) if array is None else np.asarray(array, dtype=np.float64)
            )
        record[f"{half}_coefficient_correlations"] = np.zeros(N_CORRELATIONS)
    return record | {"bp_observed": bool(bp_observed), "rp_observed": bool(rp_observed)}


def columns_of_result(cursor: psycopg.Cursor) -> tuple[list[str], list[str], dict[str, tuple[int, int]]]:
    """Names, types, and the table and column (oid, number) each comes from unchanged, as the server tells it."""
    result = cursor.pgresult
    if result is None:
        return [], [], {}
    # psycopg's description of a hundred columns takes longer than finding a star: each type's name is asked once.
    names, types, origins = [], [], {}
    encoding = cursor.connection.info.encoding
    for i in range(result.nfields):
        name, kind = (result.fname(i) or b"").decode(encoding), (result.ftype(i), result.fmod(i))
        type_name = _type_names.get(kind)
        if type_name is None:
            # without its modifier: numeric for numeric(10, 2)
            type_name = re.sub(r"\(.*?\)", "", psycopg.Column(cursor, i).type_display)
            if kind[0] < FIRST_OWN_OID:
                _type_names[kind] = type_name
        names.append(name)
        types.append(type_name)
        origin = result.ftable(i), result.ftablecol(i)
        if all(origin):
            origins[name] = origin
    return names, types, origins


def described(conn: Connection, result: QueryResult) -> dict[str, Described]:
    """What the comments of a result's columns say, by the name they bear in it."""
    with conn.transaction():
        rows = conn.execute(
            "SELECT objoid, objsubid, description FROM pg_description "
            "WHERE classoid = 'pg_class'::regclass AND objoid = ANY (%s::oid[]) AND objsubid > 0",
            [list({relation for relation, _ in result.origins.values()})],
        ).fetchall()
    comments = {(relation, number): comment for relation, number, comment in rows}
    return {name: Described.parse(comments[o]) for name, o in result.origins.items() if o in comments}
