"""Opens a survey file in whatever format it was published; the content decides, never the name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msacat.catalog.errors import InputRejected, NotATable
from msacat.catalog.read.decompress import content_chunks
from msacat.catalog.read.read_delimited_text import DelimitedTextFile, complete_head, describe_text
from msacat.catalog.read.read_fits import FitsFile
from msacat.catalog.read.read_ipac import IpacFile
from msacat.catalog.read.read_parquet import ParquetSurveyFile
from msacat.catalog.read.read_votable import VOTableFile
from msacat.catalog.read.read_xp_samples import XpSamplesFile, is_one_row_a_wavelength
from msacat.catalog.read.survey_file import FileColumn, SurveyFile

__all__ = ["FileColumn", "SurveyFile", "open_survey_file"]

_LONGEST_HEAD = 16 << 20  # bytes before the first data row; Gaia's longest ECSV header is about 0.2 MB

#: What begins like this is refused, with the reason and the next step.
_REFUSED = {
    b"Obj\x01": (
        "an AVRO file: it holds the coefficients' covariance under other names, and no source_id of a release",
        "download the XP spectra as CSV, ECSV, FITS or VOTable",
    ),
    b"PK\x03\x04": ("a ZIP archive", "unzip it and ingest the files inside"),
    b"BZh": ("a bzip2 file", "decompress it with bunzip2"),
    b"\xfd7zXZ": ("an xz file", "decompress it with unxz"),
    b"\x28\xb5\x2f\xfd": ("a zstd file", "decompress it with unzstd"),
    b"\x89HDF": ("an HDF5 file", "download the table as FITS, CSV or Parquet"),
}


def open_survey_file(
    path: Path, *, file_columns: Sequence[str] = (), max_bad_rows: int = 0, checksum: bool = False
) -> SurveyFile:
    """Recognise and open a survey file; use it as a context manager.

    Parameters
    ----------
    file_columns : names in file order, used only for text without a header line (2MASS psc files).
    max_bad_rows : malformed text lines that may be skipped (and are counted in `rows_bad`) before refusal.
    checksum : also hash the content while its rows are read (`content_sha256`), where the format allows.

    Raises InputRejected for an unknown format (saying what was seen), a damaged file, a repeated column name.
    """
    path = Path(path)
    opened = _open(path, file_columns, max_bad_rows, checksum)
    return XpSamplesFile(opened) if is_one_row_a_wavelength(opened.columns) else opened


def _open(path: Path, file_columns: Sequence[str], max_bad_rows: int, checksum: bool) -> SurveyFile:
    head = _head(path)
    for magic, (what, next_step) in _REFUSED.items():
        if head.startswith(magic):
            raise InputRejected(f"the file is {what}", file=str(path), next_step=next_step)
    if head.startswith(b"%PDF"):
        raise NotATable("the file is a PDF document", file=str(path), next_step="download the table itself")
    if head.startswith(b"SIMPLE  ="):
        return FitsFile(path)
    if head.startswith(b"PAR1"):
        return ParquetSurveyFile(path)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        if b"<VOTABLE" in text or b":VOTABLE" in text:
            return VOTableFile(path)
        raise _unknown(path, "XML or HTML without a VOTABLE element", head)
    if not text:
        raise _unknown(path, "an empty file", head)
    if b"\0" in head[:4096]:
        raise _unknown(path, "binary data", head)
    if text.startswith((b"{", b"[")):
        raise _unknown(path, "JSON", head)
    if text.startswith(b"|") or (text.startswith(b"\\") and b"\n|" in text):
        return IpacFile(path, head, max_bad_rows)
    return DelimitedTextFile(path, describe_text(head, path, file_columns), max_bad_rows, checksum)


def _head(path: Path) -> bytes:
    """Enough of the content to recognise the format and read a text's header."""
    head = b""
    for chunk in content_chunks(path):
        head += chunk
        if b"\0" in head[:4096] or complete_head(head) or len(head) > _LONGEST_HEAD:
            break
    return head


def _unknown(path: Path, what: str, head: bytes) -> NotATable:
    return NotATable(
        f"the content is in no format msacat reads: {what}",
        file=str(path),
        expected="ECSV, CSV, TSV, `|`-separated text, IPAC table, FITS, VOTable or Parquet",
        found=f"it begins with {head[:40]!r}",
        next_step="check that the download is complete and is a table, not an error page",
    )
