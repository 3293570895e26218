"""The bytes of a file as published, gunzipped where its first bytes say so; memory bounded, damage refused."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from isal import isal_zlib  # Intel's inflate: half of zlib's time

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.input_file import require_regular_file

GZIP_MAGIC = b"\x1f\x8b"
#: bytes; the most one step may produce, whatever the ratio. Inflating less at a time would keep the piece in the cache,
#: but after each the thread must wait for the interpreter, which others hold for longer than the piece takes.
CHUNK = 1 << 21
DOWNLOAD_AGAIN = "compare its checksum with the publisher's list, download it again"

T = TypeVar("T")


def raw_chunks(path: Path) -> Generator[bytes]:
    """The file's stored bytes. Raises InputRejected if it is no regular file or cannot be opened."""
    require_regular_file(path)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise InputRejected(
            f"the file cannot be read: {error.strerror}",
            file=str(path),
            next_step="check the path and its permissions",
        ) from None


def content_chunks(path: Path, raw: Iterable[bytes] | None = None) -> Iterator[bytes]:
    """The file's content in pieces of at most CHUNK bytes; `raw` replaces reading the file (a hash listens in).

    Raises InputRejected for a truncated or damaged gzip stream, or bytes after its end.
    """
    chunks = iter(raw_chunks(path) if raw is None else raw)
    first = next(chunks, b"")
    if first[:2] == GZIP_MAGIC:
        yield from _gunzip(first, chunks, path)
    else:
        yield first
        yield from chunks


def _gunzip(first: bytes, rest: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Inflate every member of a gzip stream (bgzip and `cat a.gz b.gz` make several); their CRCs are checked."""
    member: Any = isal_zlib.decompressobj(31)
    produced = 0

    def damaged(what: str) -> InputRejected:
        return InputRejected(
            "the gzip file is damaged",
            file=str(path),
            expected="a complete gzip stream with a matching CRC",
            found=f"{what} after {produced:,} decompressed bytes",
            next_step=DOWNLOAD_AGAIN,
        )

    def chunks() -> Iterator[bytes]:
        yield first
        yield from rest

    for chunk in chunks():
        pending = chunk
        while pending:
            if member is None:
                pending = pending.lstrip(b"\0")  # gzip(1), too, allows zero padding after a member
                if not pending:
                    break
                member = isal_zlib.decompressobj(31)
            try:
                out = member.decompress(pending, CHUNK)
            except isal_zlib.error as error:  # type: ignore[misc]  # its stub says instance, it is a class
                raise damaged(str(error)) from None
            if out:
                produced += len(out)
                yield out
            if member.eof:
                pending, member = member.unused_data, None
            else:
                pending = member.unconsumed_tail
    while member is not None and not member.eof:  # input is used up, output may still wait inside zlib
        out = member.decompress(b"", CHUNK)
        if not out:
            raise damaged("the file ends")
        produced += len(out)
        yield out


def read_ahead(items: Iterator[T], ahead: int = 1) -> Generator[T]:
    """The same items, the next `ahead` being made in a thread while the caller works (inflating releases the GIL).

    Closed, it waits for the one that is being made: nobody reads on behind the caller's back.
    """
    done = object()
    with ThreadPoolExecutor(1, thread_name_prefix="msacat-read") as pool:
        waiting = deque(pool.submit(next, items, done) for _ in range(ahead))
        try:
            while (item := waiting.popleft().result()) is not done:
                waiting.append(pool.submit(next, items, done))
                yield item  # type: ignore[misc]
        finally:
            for one in reversed(waiting):
                one.cancel()


def seekable_content(path: Path) -> BinaryIO:
    """The content as a real file: itself, or for .gz a copy in the temporary folder (TMPDIR), gone when closed."""
    require_regular_file(path)
    with open(path, "rb") as file:
        if file.read(2) != GZIP_MAGIC:
            return open(path, "rb")
    with tempfile.TemporaryFile(prefix="msacat-") as copy:  # without a name: nothing stays after a kill -9
        for chunk in content_chunks(path):
            copy.write(chunk)
        copy.seek(0)
        return os.fdopen(os.dup(copy.fileno()), "rb")
