"""Checksums that tell whether two files hold the same bytes, or the same content packed differently."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from msacat.catalog.read.decompress import GZIP_MAGIC, content_chunks, raw_chunks, read_ahead


def file_checksums(path: Path) -> tuple[str, str, int]:
    """(sha256 of the stored bytes, sha256 of the decompressed content, stored size in bytes), in one pass.

    The two sums are equal for a file that is not gzipped. Raises InputRejected for a damaged gzip stream, so a
    truncated file is refused here, before any row of it is read.
    """
    raw, content, size = hashlib.sha256(), hashlib.sha256(), 0
    gzipped = False

    def listened() -> Iterator[bytes]:
        nonlocal size, gzipped
        for chunk in raw_chunks(path):
            if size == 0:
                gzipped = chunk[:2] == GZIP_MAGIC
            size += len(chunk)
            raw.update(chunk)
            yield chunk

    for chunk in read_ahead(content_chunks(path, listened())):
        if gzipped:
            content.update(chunk)
    return raw.hexdigest(), (content if gzipped else raw).hexdigest(), size


def stored_checksum(path: Path) -> tuple[str, int, bool]:
    """(sha256 of the stored bytes, their number, are they gzipped?): a fraction of the work of file_checksums()."""
    digest, size, gzipped = hashlib.sha256(), 0, False
    for chunk in raw_chunks(path):
        gzipped = gzipped or (size == 0 and chunk[:2] == GZIP_MAGIC)
        size += len(chunk)
        digest.update(chunk)
    return digest.hexdigest(), size, gzipped
