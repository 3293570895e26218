"""Decides what an ingest would read: the survey file, the release, the files behind folders and globs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import Connection

from msacat.catalog.errors import InputRejected, NotATable, UsageError, printable
from msacat.catalog.ingest.bind_columns import TEXT_FORMATS, published_names
from msacat.catalog.read.read_survey_file import open_survey_file
from msacat.catalog.store.register_survey import find_spec
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import OF_THE_REFERENCE, SurveySpec


@dataclass(frozen=True)
class IngestPlan:
    """What `run_ingest` is to do; made by `plan_ingest`."""

    spec: SurveySpec
    files: tuple[Path, ...]  # absolute, links resolved, in the order they will be read
    reference_release: str | None  # every Gaia id must belong to it
    replace: bool = False
    max_bad_rows: int = 0
    skipped: tuple[Path, ...] = field(default=())  # files of a folder that are no tables of the survey

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def plan_ingest(
    conn: Connection,
    dataset: str,
    paths: Iterable[str | Path],
    replace: bool = False,
    max_bad_rows: int = 0,
) -> IngestPlan:
    """Find the survey file of `dataset` and every file behind `paths` (files, folders, globs); reads nothing yet.

    Raises UsageError for an unknown dataset or a path that leads nowhere, InputRejected for a dataset of
    another release than the store's, or one that was adopted.
    """
    spec = find_spec(conn, dataset)
    row = conn.execute("SELECT adopted_from FROM msacat.surveys WHERE name = %s", [dataset]).fetchone()
    if row and row[0] is not None:
        raise UsageError(
            f"'{dataset}' is a view over {row[0]}, which msacat never writes to",
            next_step=f"load the rows into {row[0]} yourself, or `msacat forget {dataset}` and ingest",
        )
    files, skipped = expand_paths(paths, spec)
    return IngestPlan(spec, files, reference_release(conn, spec), replace, max_bad_rows, skipped)


def reference_release(conn: Connection, spec: SurveySpec) -> str | None:
    """The release this store's source_ids belong to: recorded, else implied by what it already holds.

    Raises InputRejected when `spec` speaks of another.
    """
    row = conn.execute("SELECT release FROM msacat.releases WHERE is_reference").fetchone()
    if row is None:  # spectra or matches may have come before the reference itself
        row = conn.execute(
            "SELECT release FROM msacat.surveys WHERE role = ANY(%s) ORDER BY name LIMIT 1",
            [list(OF_THE_REFERENCE)],
        ).fetchone()
    if spec.role in OF_THE_REFERENCE:
        if row is not None and row[0] != spec.release:
            raise InputRejected(
                f"{spec.name} belongs to another release than this store's stars",
                expected=f"{row[0]}, the reference release of this store",
                found=spec.release,
                next_step="one store holds one reference release: use another database for the other",
            )
        return spec.release
    if row is not None:
        return str(row[0])
    builtin = {s.release for s in builtin_specs().values() if s.role == "reference"}
    return builtin.pop() if len(builtin) == 1 else None


def expand_paths(paths: Iterable[str | Path], spec: SurveySpec) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """(files, skipped): files as named, the tables directly in a folder, globs (`**` too), both sorted.

    A file named twice is read once. In a folder what is no table of the survey (a README, checksums, a PDF) is
    skipped and reported; named outright it is refused when it is read. A damaged table is never skipped.
    """
    files: dict[Path, None] = {}
    skipped: dict[Path, None] = {}
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if p.is_file() and not p.name.startswith(".")]
            known = [p for p in inside if _is_table(p, spec)]
            if not known:
                raise InputRejected(
                    "nothing in this folder is a survey file",
                    file=str(path),
                    expected="ECSV, CSV, FITS, VOTable, Parquet, IPAC or '|' files, compressed or not, "
                    f"with columns of {spec.name}",
                    found=_listing(inside) or "no files (folders inside it are not entered)",
                    next_step="name the files, or use a glob such as 'FOLDER/**/*.csv.gz'",
                )
            files.update(dict.fromkeys(_absolute(p) for p in known))
            skipped.update(dict.fromkeys(_absolute(p) for p in inside if p not in known))
        elif path.exists():
            files[_absolute(path)] = None
        elif glob.has_magic(str(given)):
            found = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if os.path.isfile(p)]
            if not found:
                raise UsageError(f"no file matches {given}", next_step="check the pattern and its quoting")
            files.update(dict.fromkeys(_absolute(p) for p in found))
        else:
            raise UsageError("no such file or folder", file=str(given))
    if not files:
        raise UsageError("no files were named")
    return tuple(files), tuple(skipped)


def _is_table(path: Path, spec: SurveySpec) -> bool:
    """Any text with a comma in its first line opens as a table: one with none of the survey's columns is prose."""
    try:
        with open_survey_file(path, file_columns=spec.file_columns) as file:
            known = published_names(spec)
            return file.format not in TEXT_FORMATS or any(
                c.name.strip().lower() in known for c in file.columns
            )
    except NotATable:
        return False
    except InputRejected:  # a damaged table is refused when it is read
        return True


def _absolute(path: Path) -> Path:
    """Links resolved. A pipe keeps the name it was given, since the shell's leads to no file: its reader refuses it."""
    resolved = Path(os.path.realpath(path))
    return resolved if resolved.exists() else Path(os.path.abspath(path))


def _listing(paths: list[Path]) -> str:
    names = [printable(p.name) for p in paths[:5]]
    return ", ".join(names) + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
