"""Checksums of stored bytes and of content."""

from __future__ import annotations

import gzip
import hashlib
import os
import signal
import tempfile

import pytest

from msacat.catalog.errors import InputRejected
from msacat.catalog.read import decompress
from msacat.catalog.read.checksums import file_checksums, stored_checksum


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
        assert stored_checksum(path) == (raw, path.stat().st_size, True)


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
