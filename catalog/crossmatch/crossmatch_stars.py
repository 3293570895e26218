"""Which survey object is which Gaia star: matched.<dataset> from what the store holds, in one transaction.

A star's match comes, in this order, from a Gaia id that the survey itself gives (method gaia_id), from the archive's
best-neighbour table if the star lies in a sky cell in which that table names any star (best_neighbour), else from
positions: mutual nearest pairs among the stars and objects that are left (position).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import Connection, sql

from msacat.catalog.crossmatch.assigned_matches import match_by_archive, match_by_gaia_id
from msacat.catalog.crossmatch.crossmatch_inputs import CrossmatchInputs, read_covered, read_inputs
from msacat.catalog.crossmatch.match_positions import Counted, fits_in_memory, match_whole_sky
from msacat.catalog.crossmatch.match_region import Region, changed_region, match_inside
from msacat.catalog.crossmatch.position_queries import has_position
from msacat.catalog.crossmatch.snapshot_readers import SnapshotReaders
from msacat.catalog.crossmatch.write_matches import MatchWriter
from msacat.catalog.errors import InputRejected, Interrupted, MsacatError, StoreUnavailable
from msacat.catalog.server.advisory_lock import advisory_lock
from msacat.catalog.server.connect import connect
from msacat.catalog.server.fault_points import fault_point
from msacat.catalog.server.package_version import code_version
from msacat.catalog.store.register_survey import registered_specs
from msacat.catalog.surveys.survey_spec import MATCHED_ROLES

#: on_progress(done, total, words); parts of the work, not seconds
Progress = Callable[[float, float | None, str], Any]
#: a file forgotten while a crossmatch runs makes the server refuse its commit; it starts again
ATTEMPTS = 3


@dataclass
class CrossmatchReport:
    """What a crossmatch did.

    n_stars, n_objects   considered by position (0 where nothing had changed)
    by_method            matches in the whole table
    n_unmatched          stars with objects within the radius but no match
    how                  'everything', 'what changed' or 'nothing had changed'
    n_silenced           stars looked at with an object within the radius, where an archive's table speaks and names
                         nobody for them
    """

    dataset: str
    n_stars: int = 0
    n_objects: int = 0
    n_matched: int = 0
    n_unmatched: int = 0
    by_method: dict[str, int] = field(default_factory=dict)
    how: str = "everything"
    n_silenced: int = 0
    seconds: float = 0.0


def crossmatch(
    dsn_or_conn: str | Connection | None,
    dataset: str,
    *,
    on_progress: Progress | None = None,
    workers: int = 1,
    restart: bool = False,
) -> CrossmatchReport:
    """Bring matched.<dataset> up to date with the files of the store.

    The table afterwards depends only on which files are in, never on the order in which they came. `restart`
    matches everything again even if nothing changed. `workers` connections read and search at once.
    Raises UsageError for a dataset that is never matched; InputRejected where stars, objects, positions or a Q3C
    index are missing, with what mends it; StoreLocked while another crossmatch of the dataset runs.
    """
    if not isinstance(dsn_or_conn, Connection):
        with connect(dsn_or_conn, application="msacat crossmatch") as conn:
            return crossmatch(conn, dataset, on_progress=on_progress, workers=workers, restart=restart)
    conn = dsn_or_conn
    conn.commit()
    started = time.monotonic()
    with advisory_lock(conn, f"crossmatch {dataset}"):
        for attempt in range(1, ATTEMPTS + 1):
            try:
                report = _crossmatch(conn, dataset, on_progress or (lambda *_: None), workers, restart)
                break
            except psycopg.errors.SerializationFailure as error:
                if attempt == ATTEMPTS:
                    raise Interrupted(
                        f"files changed while {dataset} was matched; the old matches stand",
                        found=str(error).strip(),
                        next_step=f"msacat crossmatch {dataset}",
                    ) from error
            except psycopg.errors.DiskFull as error:
                raise StoreUnavailable(
                    "the server's disk is full; the old matches stand",
                    found=str(error).strip(),
                    next_step=f"free space, then msacat crossmatch {dataset}",
                ) from error
            except psycopg.OperationalError as error:
                if not (conn.closed or conn.broken):
                    raise
                raise Interrupted(
                    "the connection was lost; the old matches stand",
                    found=str(error).strip(),
                    next_step=f"msacat crossmatch {dataset}",
                ) from error
    report.seconds = time.monotonic() - started
    return report


def crossmatch_state(conn: Connection, dataset: str) -> str:
    """'fresh', 'out of date' or 'missing'."""
    row = conn.execute("SELECT fingerprint FROM msacat.crossmatches WHERE dataset = %s", [dataset]).fetchone()
    if row is None:
        return "missing"
    try:
        return "fresh" if row[0] == read_inputs(conn, dataset).fingerprint else "out of date"
    except MsacatError:
        return "out of date"


def datasets_to_match(conn: Connection) -> list[str]:
    """Registered surveys that are matched to the reference and have rows, or matches left to lose."""
    return [
        spec.name
        for spec in registered_specs(conn).values()
        if spec.role in MATCHED_ROLES
        and (_exists(conn, "survey", spec.name) or _exists(conn, "matched", spec.name))
    ]


def _crossmatch(
    conn: Connection, dataset: str, on_progress: Progress, workers: int, restart: bool
) -> CrossmatchReport:
    started = datetime.now(UTC)
    with conn.transaction():
        # One snapshot for everything that is read, here and by the workers.
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        inputs = read_inputs(conn, dataset)
        previous = conn.execute(
            "SELECT fingerprint, file_ids, max_pm, n_matched, n_unmatched, by_method FROM msacat.crossmatches "
            "WHERE dataset = %s",
            [dataset],
        ).fetchone()
        if previous and previous[0] == inputs.fingerprint and not restart:
            return CrossmatchReport(
                dataset, n_matched=previous[3], n_unmatched=previous[4], by_method=previous[5],
                how="nothing had changed",
            )  # fmt: skip
        inputs = read_covered(conn, inputs)
        writer = MatchWriter(conn, inputs.spec, at_once=fits_in_memory(conn, inputs))
        if writer.was_empty:  # else there are matches, which an emptied survey must lose
            _require_positions(conn, inputs)
        region = None
        if previous and not restart and not writer.was_empty:
            region = changed_region(conn, inputs, *previous[:3])
        if region is None:
            how, counted = "everything", _match_everything(conn, inputs, writer, on_progress, workers)
        else:
            how, counted = "what changed", _match_region(conn, inputs, region, writer, on_progress)
        fault_point("crossmatch.written")
        report = _record(conn, inputs, counted, writer.count_by_method(), how, started)
        fault_point("crossmatch.before_commit")
    return report


def _match_everything(
    conn: Connection, inputs: CrossmatchInputs, writer: MatchWriter, on_progress: Progress, workers: int
) -> Counted:
    counted = Counted()
    with SnapshotReaders(conn, workers) as readers:
        # Written last: the first row may lock the table, and readers shall not wait for the search.
        by_gaia_id, taken = match_by_gaia_id(readers, inputs)
        for rows in match_whole_sky(readers, inputs, taken, counted, on_progress):
            on_progress(1, None, f"writing {len(rows)} matches")
            writer.add(rows, "position")
    writer.add(by_gaia_id, "gaia_id")
    for query in match_by_archive(inputs):
        writer.add_query(query, "best_neighbour")
    writer.apply()
    return counted


def _match_region(
    conn: Connection, inputs: CrossmatchInputs, region: Region, writer: MatchWriter, on_progress: Progress
) -> Counted:
    for query in match_by_archive(inputs, region.new_files):
        writer.add_query(query, "best_neighbour")
    rows, scope, counted = match_inside(conn, inputs, region, on_progress)
    writer.add(rows, "position")
    writer.apply(scope)
    return counted


def _require_positions(conn: Connection, inputs: CrossmatchInputs) -> None:
    for spec, position in (
        (inputs.reference, inputs.reference_position), (inputs.spec, inputs.position)
    ):  # fmt: skip
        if not _exists(conn, "survey", spec.name):
            raise InputRejected(
                f"survey.{spec.name} has no rows", next_step=f"msacat ingest {spec.name} FILE…"
            )
        if not _exists(conn, "survey", spec.name, has_position(position, "o")):
            raise InputRejected(
                f"no row of survey.{spec.name} has a position",
                column=f"{position.ra}, {position.dec}",
                expected="degrees: ra 0 to 360, dec -90 to 90",
                next_step="check these columns; a survey without positions cannot be matched",
            )


def _exists(conn: Connection, schema: str, table: str, where: sql.Composable | None = None) -> bool:
    """Whether schema.table o has a row (for which `where` holds)."""
    row = conn.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {} o WHERE {})").format(
            sql.Identifier(schema, table), where or sql.SQL("true")
        )
    ).fetchone()
    return bool(row and row[0])


def _record(
    conn: Connection,
    inputs: CrossmatchInputs,
    counted: Counted,
    rows: dict[str | None, int],
    how: str,
    started: datetime,
) -> CrossmatchReport:
    """Write the ledger row; `rows` of the table by method."""
    by_method = {method: n for method, n in rows.items() if method is not None}
    unmatched = rows.get(None, 0)
    report = CrossmatchReport(
        inputs.spec.name, counted.n_stars, counted.n_objects, sum(by_method.values()), unmatched, by_method,
        how, counted.n_silenced,
    )  # fmt: skip
    columns = (
        "dataset", "reference", "fingerprint", "file_ids", "max_pm", "radius_arcsec", "n_matched", "n_unmatched", "by_method",
        "started", "finished", "code_version",
    )  # fmt: skip
    # The row stays the same one: whoever waits meanwhile to mark these matches as out of date finds it.
    conn.execute(
        sql.SQL("INSERT INTO msacat.crossmatches ({}) VALUES ({}) ON CONFLICT (dataset) DO UPDATE SET {}").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)),
            sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
            sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in columns[1:]),
        ),
        [inputs.spec.name, inputs.reference.name, inputs.fingerprint, inputs.all_file_ids, counted.max_pm,
         inputs.radius_arcsec, report.n_matched, report.n_unmatched, json.dumps(by_method), started,
         datetime.now(UTC), code_version()],
    )  # fmt: skip
    return report
