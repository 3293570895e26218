"""Checksums of stored bytes and of content."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import tempfile
import threading

import pytest

from msacat.catalog.errors import InputRejected
from msacat.catalog.read import decompress
from msacat.catalog.read.checksums import (
    file_checksums,
    mark_of_start,
    stored_checksum,
    stored_checksum_beside,
)


def test_plain_and_gzipped(tmp_path):
    content = os.urandom(3_000_000) + b"\n"
    plain, packed, tighter = (tmp_path / name for name in ("a.csv", "a.csv.gz", "b"))
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content, 1))
    tighter.write_bytes(gzip.compress(content[:1000], 9) + gzip.compress(content[1000:], 9))
    digest = hashlib.sha256(content).hexdigest()
    assert file_checksums(plain) == (digest, digest, len(content))
    for path in (packed, tighter):
        raw = hashlib.sha256(path.read_bytes()).hexdigest()
        assert file_checksums(path) == (raw, digest, path.stat().st_size)
        assert stored_checksum(path) == raw
        with stored_checksum_beside(path) as stored_sum:
            assert stored_sum() == raw


def test_a_sum_that_nobody_waits_for_ends_early(tmp_path, monkeypatch):
    path = tmp_path / "large"
    path.write_bytes(bytes(3 * decompress.CHUNK))
    abandoned = threading.Event()
    abandoned.set()
    assert stored_checksum(path, abandoned) == ""
    with pytest.raises(ZeroDivisionError), stored_checksum_beside(path):
        raise ZeroDivisionError
    with (
        stored_checksum_beside(tmp_path / "absent") as stored_sum,
        pytest.raises(InputRejected, match="cannot be read"),
    ):
        stored_sum()


def test_the_mark_of_a_file_tells_size_and_start(tmp_path):
    paths = [tmp_path / name for name in ("a", "same", "longer", "other", "packed")]
    for path, content in zip(paths, (b"a1", b"a1", b"a10", b"b1", gzip.compress(b"a1")), strict=True):
        path.write_bytes(content)
    marks = [mark_of_start(path) for path in paths]
    assert marks[0] == marks[1] and len(set(marks)) == 4
    assert [gzipped for _, gzipped in marks] == [False] * 4 + [True]


def test_empty_and_damaged(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    empty = hashlib.sha256(b"").hexdigest()
    assert file_checksums(path) == (empty, empty, 0)
    path.write_bytes(gzip.compress(b"content" * 1000)[:-3])
    with pytest.raises(InputRejected, match="gzip file is damaged"):
        file_checksums(path)
    with pytest.raises(InputRejected, match="cannot be read"):
        file_checksums(tmp_path / "absent")


@pytest.mark.crash
def test_a_killed_reader_leaves_no_unpacked_copy(tmp_path):
    packed, scratch = tmp_path / "a.fits.gz", tmp_path / "scratch"
    packed.write_bytes(gzip.compress(b"content" * 1000))
    scratch.mkdir()
    pid = os.fork()
    if pid == 0:  # dies with a part unpacked

        def pieces(path):
            yield b"content"
            os.kill(os.getpid(), signal.SIGKILL)

        decompress.content_chunks = pieces
        tempfile.tempdir = str(scratch)
        decompress.seekable_content(packed)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert list(scratch.iterdir()) == []
