"""Survey files into their table: one file is one transaction, in with its ledger row or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected, Interrupted, MsacatError, StoreUnavailable, printable
from msacat.catalog.ingest.bind_columns import bind_columns
from msacat.catalog.ingest.clean_values import Cleaner
from msacat.catalog.ingest.ingest_ledger import (
    UNREADABLE,
    close_entry,
    files_lock,
    files_that_skipped,
    open_entry,
    remove_files,
    reopen_entry,
    set_checksums,
    stale_names,
)
from msacat.catalog.ingest.ingest_report import FileReport, IngestReport, file_report
from msacat.catalog.ingest.known_files import (
    KnownContent,
    checksums_of_known,
    known_file,
    refuse_known_content,
)
from msacat.catalog.ingest.merge_repeats import merge_staged, staging_table
from msacat.catalog.ingest.plan_ingest import IngestPlan, plan_ingest
from msacat.catalog.read.checksums import file_checksums, mark_of_start, stored_checksum_beside
from msacat.catalog.read.input_file import require_utf8_name
from msacat.catalog.read.read_survey_file import SurveyFile, open_survey_file
from msacat.catalog.server.advisory_lock import advisory_lock
from msacat.catalog.server.copy_batches import copy_batches
from msacat.catalog.server.drop_indexes import drop_indexes
from msacat.catalog.server.fault_points import fault_point
from msacat.catalog.store.hold_views import between_readers
from msacat.catalog.store.register_survey import register_survey, registered_specs
from msacat.catalog.store.star_view import refresh_star_view

__all__ = ["IngestPlan", "plan_ingest", "rehearse_file", "rehearse_ingest", "run_ingest"]

#: on_progress(bytes of finished files, bytes of all files, words)
Progress = Callable[[float, float, str], None]
#: a deadlock of two files that overlap each other is broken by the server; the loser starts its file again
ATTEMPTS = 3


def run_ingest(
    conn: Connection,
    plan: IngestPlan,
    keep_going: bool = False,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    report: IngestReport | None = None,
) -> IngestReport:
    """Ingest the files of a plan, one transaction each.

    `should_stop` is asked between files: the report then says `interrupted`. Without `keep_going` the first
    file that is refused ends the run (files before it stay); with it the report lists every refusal. A `report`
    that is given is filled file by file, so that the caller has it where the run ends with an error.
    """
    return _each_file(conn, plan, _ingest, keep_going, on_progress, should_stop, report)


def rehearse_ingest(
    conn: Connection,
    plan: IngestPlan,
    keep_going: bool = False,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    report: IngestReport | None = None,
) -> IngestReport:
    """Read and clean every file as `run_ingest` would, and write nothing.

    Clashes with rows already stored are not looked for. `bytes_stored` estimates the space.
    """
    return _each_file(conn, plan, _rehearse, keep_going, on_progress, should_stop, report)


def _each_file(
    conn: Connection,
    plan: IngestPlan,
    do: Callable[..., FileReport],
    keep_going: bool,
    on_progress: Progress | None,
    should_stop: Callable[[], bool] | None,
    report: IngestReport | None,
) -> IngestReport:
    conn.commit()  # each file has its own transaction; whatever reading came before ends here
    started = time.monotonic()
    report = report or IngestReport(plan.spec.name)
    report.skipped = [printable(str(p)) for p in plan.skipped]
    done, total = 0, plan.bytes
    for path in plan.files:
        if should_stop is not None and should_stop():
            report.interrupted = True
            break

        def tell(words: str, done: int = done, name: str = path.name) -> None:
            if on_progress is not None:
                on_progress(done, total, f"{printable(name)}: {words}")

        began = time.monotonic()
        try:
            require_utf8_name(path)
            one = do(conn, plan, path, tell)
        except MsacatError as error:
            one = FileReport(plan.spec.name, printable(str(path)), "refused", error=str(error))
            ends = isinstance(error, StoreUnavailable | Interrupted)
            if ends or not keep_going:
                if not ends:
                    report.files.append(one)
                report.seconds = time.monotonic() - started
                if not conn.closed:
                    _analyze(conn, plan, report)
                raise
        one.seconds = time.monotonic() - began
        report.files.append(one)
        done += path.stat().st_size
    _analyze(conn, plan, report)
    report.seconds = time.monotonic() - started
    return report


def _analyze(conn: Connection, plan: IngestPlan, report: IngestReport) -> None:
    """Fresh statistics for the planner, once for all files of the run; the file that made the table made its own."""
    if any(f.outcome in ("ingested", "replaced", "completed") and not f.table_created for f in report.files):
        _make_statistics(conn, plan)
        conn.commit()


def _make_statistics(conn: Connection, plan: IngestPlan) -> None:
    conn.execute(sql.SQL("ANALYZE {}").format(sql.Identifier("survey", plan.spec.name)))


def _ingest(conn: Connection, plan: IngestPlan, path: Path, tell: Callable[[str], None]) -> FileReport:
    """One file, with what the server may throw turned into words."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _ingest_once(conn, plan, path, tell)
        except psycopg.errors.DeadlockDetected:
            if attempt == ATTEMPTS:
                raise
        except psycopg.errors.UniqueViolation as error:
            # committed by another ingest since this one looked: the same content packed otherwise, or rows of its own
            if attempt == ATTEMPTS:
                raise _refused(path, error) from error
        except psycopg.errors.DiskFull as error:
            raise StoreUnavailable(
                "the server's disk is full; nothing of this file was stored",
                file=str(path),
                found=str(error).strip(),
                next_step="free space, then repeat the command: it continues with this file",
            ) from error
        except (psycopg.errors.DataError, psycopg.errors.IntegrityError) as error:
            raise _refused(path, error) from error
        except psycopg.OperationalError as error:
            if not conn.closed and not conn.broken:
                raise
            raise Interrupted(
                "the connection was lost; nothing of this file was stored",
                file=str(path),
                found=str(error).strip(),
                next_step="repeat the command: it continues with this file",
            ) from error
    raise AssertionError("unreachable")


def _refused(path: Path, error: psycopg.Error) -> InputRejected:
    return InputRejected(
        "the server refused the rows; nothing of this file was stored",
        file=str(path),
        found=str(error).strip(),
        next_step="please report it: msacat should have caught this itself",
    )


def _ingest_once(conn: Connection, plan: IngestPlan, path: Path, tell: Callable[[str], None]) -> FileReport:
    spec = plan.spec
    mark, gzipped = mark_of_start(path)
    started, before = datetime.now(UTC), path.stat()
    # Two ingests of one file: the second waits, then finds it there. Different files go in parallel.
    with advisory_lock(conn, f"ingest of {spec.name} {mark[:16]}", wait=True, tell=tell):
        fault_point("ingest.locked")
        raw, content = checksums_of_known(conn, spec.name, path, before.st_size, gzipped, tell)
        known, old = (None, None) if content is None else known_file(conn, plan, path, content)
        if known is not None and old is None:
            return known
        lacking = old if old is not None and old.content_sha256 == content else None
        lock = advisory_lock(conn, files_lock(spec.name), wait=True, tell=tell, shared=old is None)
        try:
            with lock, conn.transaction():
                created = register_survey(conn, spec, show=False)
                incomplete: list[str] = []
                stale: tuple[list[str], list[int]] = [], []
                if old is not None and lacking is None:
                    incomplete = files_that_skipped(conn, spec.name, [old.file_id])
                    stale = stale_names(conn, [old.file_id])
                    remove_files(conn, spec.name, [old.file_id], f"file replaced: {path.name}")
                if known is not None:
                    known.incomplete = incomplete
                    known.stale_models, known.stale_runs = stale
                    return known
                with (
                    _open(plan, path, checksum=content is None and gzipped) as source,
                    nullcontext(str) if raw else stored_checksum_beside(path) as stored_sum,
                ):
                    checksums = (raw or mark, content or mark, before.st_size)
                    if lacking is not None:
                        file_id = reopen_entry(conn, spec, lacking)
                    else:
                        file_id = open_entry(conn, spec, str(path), checksums, source.format, started)
                    fault_point("ingest.ledger_row")
                    cleaner = _load(conn, plan, path, source, file_id, created, tell)
                    if content is None:
                        tell("checksum")
                        raw = raw or stored_sum()
                        content = source.content_sha256 or (file_checksums(path)[1] if gzipped else raw)
                        refuse_known_content(conn, spec.name, content)
                        set_checksums(conn, file_id, raw, content)
                fault_point("ingest.copied")
                after = path.stat()
                if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    raise InputRejected(
                        "the file changed while it was read; nothing of it was stored",
                        file=str(path),
                        next_step="repeat the command when the file is complete",
                    )
                if created:
                    # With the rows: whoever first sees the table is not without a plan for it.
                    _make_statistics(conn, plan)
                    # Last, since readers of the view wait from here on.
                    between_readers(conn, lambda: refresh_star_view(conn, registered_specs(conn)))
                first = lacking.committed if lacking else None
                close_entry(conn, file_id, cleaner.counts, cleaner.binding.unused, first)
                fault_point("ingest.before_commit")
        except KnownContent as same:
            return FileReport(spec.name, str(path), "already there", file_id=same.file_id)
        except InputRejected:
            if content is None and gzipped:
                file_checksums(path)  # a damaged gzip stream is refused as such, not for the garbage it gave
            raise
        fault_point("ingest.committed")
    outcome = "completed" if lacking else "ingested" if old is None else "replaced"
    report = file_report(path, outcome, source, cleaner, file_id)
    report.incomplete, report.table_created = incomplete, created
    report.stale_models, report.stale_runs = stale
    return report


def _open(plan: IngestPlan, path: Path, checksum: bool = False) -> SurveyFile:
    return open_survey_file(
        path, file_columns=plan.spec.file_columns, max_bad_rows=plan.max_bad_rows, checksum=checksum
    )


def _load(
    conn: Connection,
    plan: IngestPlan,
    path: Path,
    source: SurveyFile,
    file_id: int,
    created: bool,
    tell: Callable[[str], None],
) -> Cleaner:
    """COPY straight into the table; where an id is there already, once more through a staging table.

    A table `created` in this transaction gets its indexes after its rows, in a third of the time; nobody else sees it.
    """
    spec = plan.spec
    binding = bind_columns(spec, source.columns, str(path), source.format)
    columns = [b.column.name for b in binding.columns if b.sources] + ["quality", "file_id"]
    cleaner = Cleaner(binding, str(path), plan.reference_release)
    try:
        with conn.transaction():
            target = sql.Identifier("survey", spec.name)
            direct = columns if spec.id.unique else [*columns, "file_row"]
            indexes = drop_indexes(conn, target) if created else []
            copy_batches(conn, target, direct, _cleaned(source, cleaner, file_id, tell), frozen=created)
            for statement in indexes:
                conn.execute(statement)
    except psycopg.errors.UniqueViolation:
        cleaner = Cleaner(binding, str(path), plan.reference_release)
        staged = staging_table(conn, spec)
        copy_batches(conn, staged, [*columns, "file_row"], _cleaned(source, cleaner, file_id, tell))
        fault_point("ingest.staged")
        repeats = merge_staged(conn, spec, staged, columns, str(path))
        cleaner.counts.rejected.update(repeats)
        cleaner.counts.rows_kept -= sum(repeats.values())
    return cleaner


def _cleaned(source: SurveyFile, cleaner: Cleaner, file_id: int, tell: Callable[[str], None]) -> Iterator:
    for first_row, batch in source.batches(cleaner.binding.wanted, rows=_rows_a_batch(cleaner)):
        yield cleaner.clean(first_row, batch, file_id)
        tell(f"{cleaner.counts.rows_read} rows")
        fault_point("ingest.copying")
    if source.rows_bad:
        cleaner.counts.rows_read += source.rows_bad
        cleaner.counts.rejected[UNREADABLE] += source.rows_bad


def _rows_a_batch(cleaner: Cleaner) -> int:
    """Bounded memory: some 30 MB a batch, whatever the row holds."""
    return 4096 if any("[" in b.column.type for b in cleaner.binding.columns) else 65536


def _rehearse(conn: Connection, plan: IngestPlan, path: Path, tell: Callable[[str], None]) -> FileReport:
    tell("checksum")
    content = file_checksums(path)[1]
    known, old = known_file(conn, plan, path, content)
    if known is not None:
        known.outcome = "already there" if old is None else "would be replaced"
        return known
    report = rehearse_file(plan, path, tell)
    if old is not None:
        report.outcome = "would be " + ("completed" if old.content_sha256 == content else "replaced")
    return report


def rehearse_file(
    plan: IngestPlan, path: Path, tell: Callable[[str], None] = lambda words: None
) -> FileReport:
    """Read and clean one file without a store: the counts that an ingest would write."""
    stored = 0
    with _open(plan, path) as source:
        binding = bind_columns(plan.spec, source.columns, str(path), source.format)
        cleaner = Cleaner(binding, str(path), plan.reference_release)
        for batch in _cleaned(source, cleaner, 0, tell):
            stored += _bytes_stored(batch)
    report = file_report(path, "would be ingested", source, cleaner)
    report.bytes_stored = stored
    return report


def _bytes_stored(batch) -> int:
    """Space a batch takes in the table: its values, a row header (24 + 4), array headers, key and Q3C entries (64)."""
    arrays = sum(1 for f in batch.schema if f.type.num_fields)
    return int(batch.nbytes + batch.num_rows * (28 + 64 + 28 * arrays))
