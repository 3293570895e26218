"""Checksums that tell whether two files hold the same bytes, or the same content packed differently."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
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


def stored_checksum(path: Path, abandoned: threading.Event | None = None) -> str:
    """sha256 of the stored bytes: a fraction of the work of file_checksums(). `abandoned` ends it early, with no sum."""
    digest = hashlib.sha256()
    for chunk in raw_chunks(path):
        if abandoned is not None and abandoned.is_set():
            return ""
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def stored_checksum_beside(path: Path) -> Iterator[Callable[[], str]]:
    """stored_checksum() in a thread while the block reads the file for its own ends; call what it gives to wait for it."""
    abandoned = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="msacat-checksum") as pool:
        hashing = pool.submit(stored_checksum, path, abandoned)
        try:
            yield hashing.result
        finally:
            abandoned.set()


def mark_of_start(path: Path) -> tuple[str, bool]:
    """(what tells a file from others before it is read: sha256 of its size and first chunk; is it gzipped?)."""
    with closing(raw_chunks(path)) as chunks:
        first = next(chunks, b"")
    digest = hashlib.sha256(path.stat().st_size.to_bytes(8, "little") + first)
    return digest.hexdigest(), first[:2] == GZIP_MAGIC
