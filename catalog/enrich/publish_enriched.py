"""Verifies a run, then shows it: the views of schema enriched over the published runs, newest first.

Each star appears once, from the newest published run that covers it. Publishing is one transaction; readers see
the old views or the new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import Connection, sql

from msacat.catalog.enrich.changed_stars import observed_mask
from msacat.catalog.enrich.enriched_tables import (
    KINDS,
    REQUESTED,
    RUN_OF,
    SHOWN,
    BandInfo,
    OutputColumn,
    bands_of,
    columns_of,
    drop_run_tables,
    run_table,
    table_name,
)
from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.server.fault_points import fault_point
from msacat.catalog.store.as_real import reals_of_stars
from msacat.catalog.store.column_comments import MADE_BY, Described, comment_on_column
from msacat.catalog.store.hold_views import between_readers, hold_publishing, hold_views
from msacat.catalog.store.keep_grants import grant_again, grants_on
from msacat.catalog.store.star_view import view_columns
from msacat.catalog.surveys.error_units import ONE_95

ABOUT = {
    "magnitudes": "every band of every enriched star, measured where measured, imputed elsewhere, with 68 % and 95 % "
    "half-widths and flags.",
    "xp_coefficients": "BP/RP coefficients, published or predicted beyond the XP limit.",
    "embeddings": "the model's 64 numbers for every star; see enriched.embedding_distance.",
    "metallicities": "[Fe/H], Teff and log g with calibrated errors.",
    "stars": "start here: every Gaia star with its measurements, and the model's values where there is none.",
}


def verify_run(conn: Connection, run_id: int) -> dict[str, int]:
    """Count and check a finished run, build its keys, mark it verified; returns rows by kind. The caller commits.

    Raises InputRejected if a chunk is missing, a count differs, a star stands twice or a value is not finite.
    """
    state, kinds = _state_and_kinds(conn, run_id)
    if state == "stale":
        raise _stale(conn, run_id)
    if state != "running":
        raise UsageError(f"run {run_id} is {state}", expected="a run in progress")
    chunks = conn.execute(
        "SELECT count(*) FILTER (WHERE NOT done), coalesce(sum(n_stars), 0) FROM msacat.run_chunks WHERE run_id = %s",
        [run_id],
    ).fetchone()
    assert chunks is not None
    if chunks[0]:
        raise InputRejected(
            f"run {run_id} lacks {chunks[0]} chunks", next_step=f"msacat enrich --resume {run_id} writes them"
        )
    rows = {}
    for kind in kinds:
        table = run_table(run_id, kind)
        rows[kind], not_finite = _count_rows(conn, run_id, kind)
        if rows[kind] != chunks[1]:
            raise InputRejected(
                f"enriched.{table_name(run_id, kind)} is incomplete", expected=f"{chunks[1]} rows", found=str(rows[kind]),
                next_step=f"msacat runs drop {run_id}, then enrich again; please report this",
            )  # fmt: skip
        conn.execute(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY (source_id)").format(table))
        if not_finite is not None:
            raise InputRejected(
                f"a value of run {run_id} is not finite", found=f"source_id {not_finite} in {kind}",
                next_step="please report this; the run stays invisible",
            )  # fmt: skip
        conn.execute(sql.SQL("ANALYZE {}").format(table))
    conn.execute("UPDATE msacat.runs SET state = 'verified', verified = now(), n_stars = %s WHERE run_id = %s",
                 [chunks[1], run_id])  # fmt: skip
    conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(run_table(run_id, REQUESTED)))
    return rows


def publish_run(conn: Connection, run_id: int) -> list[str]:
    """Make a verified run visible; returns the views made. The caller commits.

    Raises InputRejected naming a user's view that stands in the way.
    """
    hold_publishing(conn)
    conn.execute(
        f"SELECT 1 FROM msacat.runs WHERE run_id = %s OR {SHOWN} ORDER BY run_id FOR UPDATE", [run_id]
    )
    state, _ = _state_and_kinds(conn, run_id)
    if state == "stale":
        raise _stale(conn, run_id)
    if state not in ("verified", "published", "superseded"):
        raise UsageError(f"run {run_id} is {state}", expected="a verified run",
                         next_step=f"msacat enrich --resume {run_id}" if state == "running" else None)  # fmt: skip
    covers_all = conn.execute(
        "SELECT request->>'where' IS NULL AND request->>'ids' IS NULL AND NOT (request->>'new')::boolean "
        "FROM msacat.runs WHERE run_id = %s",
        [run_id],
    ).fetchone()
    conn.execute("UPDATE msacat.runs SET state = 'published', published = now() WHERE run_id = %s", [run_id])
    if covers_all and covers_all[0]:
        conn.execute(
            "UPDATE msacat.runs SET published = NULL, state = CASE state WHEN 'published' THEN 'superseded' ELSE state END "
            f"WHERE {SHOWN} AND run_id <> %s",
            [run_id],
        )
    views = between_readers(conn, lambda: recreate_views(conn))
    fault_point("enrich.before_publish")
    return views


def drop_run(conn: Connection, run_id: int) -> None:
    """Take a run out of the views and delete its tables; its ledger row stays. The caller commits."""
    hold_publishing(conn)
    _state_and_kinds(conn, run_id)
    conn.execute("UPDATE msacat.runs SET state = 'dropped' WHERE run_id = %s", [run_id])

    def take_out() -> None:
        recreate_views(conn)
        drop_run_tables(conn, run_id)

    between_readers(conn, take_out)


@contextmanager
def stars_view_aside(conn: Connection) -> Iterator[None]:
    """enriched.stars stands on matched.stars: gone while that is made anew, and made again with its grants.

    Raises InputRejected naming a user's view that stands on it.
    """
    hold_publishing(conn)
    grants = grants_on(conn, "enriched", "stars")
    _drop_view(conn, "stars")
    yield
    recreate_views(conn)
    grant_again(conn, "enriched", "stars", grants)


def recreate_views(conn: Connection) -> list[str]:
    """The five views over the published runs, newest first; those without any data disappear."""
    hold_views(conn, ("enriched", "stars"))
    published = [
        run for (run,) in conn.execute(
            f"SELECT run_id FROM msacat.runs WHERE {SHOWN} ORDER BY published DESC, run_id DESC"
        )
    ]  # fmt: skip
    bands = bands_of(conn)
    grants = {name: grants_on(conn, "enriched", name) for name in ("stars", *KINDS)}
    made = []
    for kind in KINDS:
        runs = [run for run in published if view_columns(conn, "enriched", table_name(run, kind))]
        columns = columns_of(kind, bands)
        if runs:
            _replace_view(conn, kind, _union(conn, kind, runs, columns, bands), columns)
            made.append(kind)
        else:
            _drop_view(conn, kind)
    if "magnitudes" in made:
        _replace_view(conn, "stars", *_stars(conn, bands, made))
        made.append("stars")
    for name in made:
        grant_again(conn, "enriched", name, grants[name])
    return made


def _union(
    conn: Connection, kind: str, runs: list[int], columns: list[OutputColumn], bands: list[BandInfo]
) -> sql.Composed:
    """Rows of each run whose star no newer run holds; bands an older run did not know are NULL and unsupported."""
    parts = []
    for i, run in enumerate(runs):
        present = set(view_columns(conn, "enriched", table_name(run, kind)))
        unknown = (
            sum(1 << band.bit for band in bands if band.name not in present) if kind == "magnitudes" else 0
        )
        outputs: list[sql.Composable] = []
        for column in columns:
            name = sql.Identifier(column.name)
            if column.name not in present:
                outputs.append(sql.SQL("NULL::{} AS {}").format(sql.SQL(column.type), name))
            elif column.name == "no_support" and unknown:
                outputs.append(sql.SQL("x.no_support | {}::bigint AS no_support").format(unknown))
            else:
                outputs.append(sql.SQL("x.{}").format(name))
        newer = [
            sql.SQL(" AND NOT EXISTS (SELECT 1 FROM {} n WHERE n.source_id = x.source_id)").format(
                run_table(other, kind)
            )
            for other in runs[:i]
        ]
        parts.append(
            sql.SQL("SELECT {} FROM {} x WHERE true{}").format(
                sql.SQL(", ").join(outputs), run_table(run, kind), sql.SQL("").join(newer)
            )
        )
    return sql.SQL(" UNION ALL ").join(parts)


def _stars(
    conn: Connection, bands: list[BandInfo], made: list[str]
) -> tuple[sql.Composed, list[OutputColumn]]:
    """enriched.stars: the live measurement where there is one, else the model's value."""
    # magnitudes last: their `suspect` is the one that keeps its name here
    described = {column.name: column for kind in reversed(made) for column in columns_of(kind, bands)}
    band_columns = {name for band in bands for name in (band.name, f"{band.name}_err", f"{band.name}_err95")}
    present = set(view_columns(conn, "matched", "stars"))
    columns: list[OutputColumn] = []
    outputs: list[sql.Composable] = []

    def add(expression: sql.Composable, name: str, column: OutputColumn) -> None:
        outputs.append(sql.SQL("{} AS {}").format(expression, sql.Identifier(name)))
        columns.append(OutputColumn(name, column.type, column.described))

    for name in view_columns(conn, "matched", "stars"):
        if name != "source_id" and (
            name in band_columns or name in described or name in ("quality", "shared")
        ):
            continue
        add(sql.SQL("s.{}").format(sql.Identifier(name)), name,
            OutputColumn(name, "", _comment_of(conn, "matched", "stars", name)))  # fmt: skip
    add(sql.SQL("m.run_id"), "run_id", RUN_OF["magnitudes"])
    as_real = reals_of_stars(conn)
    for band in bands:
        if band.name not in present:
            continue
        value, error = as_real(band.name), as_real(f"{band.name}_err")
        # A measurement that the run saw and that is gone since is no imputation.
        choose = "CASE WHEN s.{band} IS NOT NULL THEN {live} WHEN m.observed & {bit} = 0 THEN m.{name} END"
        for name, live in (
            (band.name, value),
            (f"{band.name}_err", error),
            (f"{band.name}_err95", sql.SQL("({} * {})::real").format(ONE_95, error)),
        ):
            expression = sql.SQL(choose).format(
                band=sql.Identifier(band.name),
                live=live,
                bit=sql.SQL(f"{1 << band.bit}::bigint"),
                name=sql.Identifier(name),
            )
            add(expression, name, described[name])
    add(observed_mask(conn), "observed", described["observed"])
    for name in ("suspect", "no_support", "through_xp", "has_input"):
        add(sql.SQL("m.{}").format(sql.Identifier(name)), name, described[name])
    joins = [sql.SQL("matched.stars s LEFT JOIN enriched.magnitudes m ON m.source_id = s.source_id")]
    described |= {column.name: column for column in columns_of("xp_coefficients", bands)}
    for half in ("bp", "rp"):
        published = sql.SQL("s.{} IS NOT NULL").format(sql.Identifier(f"{half}_coefficients"))
        if "xp_coefficients" in made:
            for name in (f"{half}_coefficients", f"{half}_coefficient_errors"):
                expression = sql.SQL("CASE WHEN {} THEN s.{} WHEN NOT x.{} THEN x.{} END").format(
                    published, sql.Identifier(name), sql.Identifier(f"{half}_observed"), sql.Identifier(name)
                )
                add(expression, name, described[name])
        add(published, f"{half}_observed", described[f"{half}_observed"])
    if "xp_coefficients" in made:
        joins.append(sql.SQL("LEFT JOIN enriched.xp_coefficients x ON x.source_id = s.source_id"))
    if "metallicities" in made:
        for column in columns_of("metallicities", bands)[2:]:
            name = "metallicity_suspect" if column.name == "suspect" else column.name
            add(sql.SQL("f.{}").format(sql.Identifier(column.name)), name, column)
        joins.append(sql.SQL("LEFT JOIN enriched.metallicities f ON f.source_id = s.source_id"))
    if "embeddings" in made:
        add(sql.SQL("e.embedding"), "embedding", described["embedding"])
        joins.append(sql.SQL("LEFT JOIN enriched.embeddings e ON e.source_id = s.source_id"))
    for kind, alias in (("xp_coefficients", "x"), ("metallicities", "f"), ("embeddings", "e")):
        if kind in made:
            add(sql.Identifier(alias, "run_id"), RUN_OF[kind].name, RUN_OF[kind])
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(outputs), sql.SQL(" ").join(joins))
    return query, columns


def _replace_view(conn: Connection, name: str, query: sql.Composed, columns: list[OutputColumn]) -> None:
    """CREATE OR REPLACE, new columns at the end, so that views on it stay; where columns vanish, drop first."""
    view = sql.Identifier("enriched", name)
    _refuse_foreign(conn, name)
    existing = view_columns(conn, "enriched", name)
    names = [column.name for column in columns]
    if set(existing) <= set(names):
        names = existing + [n for n in names if n not in existing]
    else:
        _drop_view(conn, name)
    conn.execute(
        sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} FROM ({}) q").format(
            view, sql.SQL(", ").join(map(sql.Identifier, names)), query
        )
    )
    conn.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(f"{MADE_BY} {ABOUT[name]}")))
    for column in columns:
        conn.execute(comment_on_column("enriched", name, column.name, column.described))


def _drop_view(conn: Connection, name: str) -> None:
    """DROP VIEW enriched.<name>; InputRejected naming the user's views that stand on it."""
    _refuse_foreign(conn, name)
    if name != "stars" and view_columns(conn, "enriched", name) and view_columns(conn, "enriched", "stars"):
        _drop_view(conn, "stars")  # ours, and made again at the end
    try:
        with conn.transaction():
            conn.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier("enriched", name)))
    except psycopg.errors.DependentObjectsStillExist as error:
        raise InputRejected(
            f"enriched.{name} must change its columns, but others stand on it",
            found=(error.diag.message_detail or "").replace("\n", "; "),
            next_step="drop those views, publish, create them again: msacat runs publish RUN",
        ) from None


def _refuse_foreign(conn: Connection, name: str) -> None:
    row = conn.execute(
        "SELECT relkind, obj_description(oid, 'pg_class') FROM pg_class WHERE oid = to_regclass(%s)",
        [f"enriched.{name}"],
    ).fetchone()
    if row and not (row[0] == "v" and (row[1] or "").startswith(MADE_BY)):
        raise InputRejected(
            f"enriched.{name} is not msacat's", found="a view or table of another's making",
            next_step=f"move it: ALTER VIEW enriched.{name} RENAME TO … or SET SCHEMA …",
        )  # fmt: skip


def _comment_of(conn: Connection, schema: str, relation: str, column: str) -> Described:
    row = conn.execute(
        "SELECT col_description(attrelid, attnum) FROM pg_attribute "
        "WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attname = %s",
        [schema, relation, column],
    ).fetchone()
    return Described.parse(row[0] if row else None)


def _state_and_kinds(conn: Connection, run_id: int) -> tuple[str, list[str]]:
    row = conn.execute("SELECT state FROM msacat.runs WHERE run_id = %s FOR UPDATE", [run_id]).fetchone()
    if row is None:
        raise UsageError(f"there is no run {run_id}", next_step="msacat runs list")
    kinds = [kind for kind in KINDS if view_columns(conn, "enriched", table_name(run_id, kind))]
    if row[0] == "dropped":
        raise UsageError(f"run {run_id} was dropped", next_step="msacat runs list")
    return row[0], kinds


def _stale(conn: Connection, run_id: int) -> InputRejected:
    row = conn.execute(
        "SELECT r.stale_reason, m.state = 'stale' FROM msacat.runs r JOIN learned.models m USING (model_id) "
        "WHERE r.run_id = %s",
        [run_id],
    ).fetchone()
    reason, model_too = row or ("", True)
    return InputRejected(
        f"run {run_id} is stale: {reason}",
        next_step="train and enrich again" if model_too else "msacat enrich   (its model is not stale)",
    )


def _count_rows(conn: Connection, run_id: int, kind: str) -> tuple[int, int | None]:
    """(rows, a source_id with a NaN or an infinity in its reals and arrays or None), in one scan of the table."""
    bad = []
    present = view_columns(conn, "enriched", table_name(run_id, kind))
    for column in columns_of(kind, bands_of(conn)):
        name = sql.Identifier(column.name)
        if column.name not in present:
            continue
        if column.type == "real":
            bad.append(sql.SQL("NOT ({} BETWEEN '-1e30'::real AND '1e30'::real)").format(name))
        elif column.type == "real[]":
            # NaN is sorted above infinity
            bad.append(
                sql.SQL("'Infinity'::real <= ANY ({0}) OR '-Infinity'::real >= ANY ({0})").format(name)
            )
    row = conn.execute(
        sql.SQL("SELECT count(*), min(source_id) FILTER (WHERE {}) FROM {}").format(
            sql.SQL(" OR ").join(sql.SQL("({})").format(b) for b in bad), run_table(run_id, kind)
        )
    ).fetchone()
    assert row is not None
    return row
