"""What an ingest did, or would do, in numbers and words: what the command prints and the ledger keeps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from msacat.catalog.ingest.clean_values import Cleaner
from msacat.catalog.ingest.ingest_ledger import ALREADY_STORED, is_stored_elsewhere
from msacat.catalog.read.read_survey_file import SurveyFile


@dataclass
class FileReport:
    """What happened, or in a rehearsal would happen, to one file.

    outcome     'ingested', 'replaced', 'completed' (it lacked rows that a file forgotten since had held),
                'already there', 'refused'; in a rehearsal 'would be ingested' etc.
    incomplete  of 'replaced': files that had skipped rows which the replaced file held; ingest them again
    stale_models, stale_runs  of 'replaced': now marked stale, since they were built on the old rows
    table_created  the survey's table was made for this file
    """

    dataset: str
    path: str
    outcome: str
    file_id: int | None = None
    format: str | None = None
    rows_read: int = 0
    rows_kept: int = 0
    rows_rejected: dict[str, int] = field(default_factory=dict)
    values_nulled: dict[str, int] = field(default_factory=dict)
    columns_unused: list[str] = field(default_factory=list)
    columns_absent: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    stale_models: list[str] = field(default_factory=list)
    stale_runs: list[int] = field(default_factory=list)
    table_created: bool = False
    bytes_stored: int = 0  # estimate of table and indexes
    seconds: float = 0.0
    error: str | None = None


@dataclass
class IngestReport:
    """What an ingest did, file by file."""

    dataset: str
    files: list[FileReport] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def refused(self) -> list[FileReport]:
        return [f for f in self.files if f.outcome == "refused"]

    @property
    def rows_kept(self) -> int:
        return sum(f.rows_kept for f in self.files)


def file_report(
    path: Path, outcome: str, source: SurveyFile, cleaner: Cleaner, file_id: int | None = None
) -> FileReport:
    """What the cleaner counted; from which other file a row was stored already, only the ledger tells."""
    counts, binding = cleaner.counts, cleaner.binding
    rejected: Counter[str] = Counter()
    for reason, n in counts.rejected.items():
        rejected[ALREADY_STORED if is_stored_elsewhere(reason) else reason] += n
    return FileReport(
        dataset=binding.spec.name,
        path=str(path),
        outcome=outcome,
        file_id=file_id,
        format=source.format,
        rows_read=counts.rows_read,
        rows_kept=counts.rows_kept,
        rows_rejected=dict(rejected),
        values_nulled=dict(counts.nulled),
        columns_unused=list(binding.unused),
        columns_absent=list(binding.absent),
    )
