"""A text in blocks of whole lines: all of it, in order, whatever the lines' lengths and the chunks' ends."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest

from msacat.catalog.errors import InputRejected
from msacat.catalog.read import text_blocks
from msacat.catalog.read.decompress import CHUNK
from msacat.catalog.read.text_blocks import line_blocks

#: bytes: short lines, lines longer than a chunk of the decompressor, one that ends with a chunk
LENGTHS = [30] * 2000 + [CHUNK - 60_000] + [CHUNK + 5] + [7] * 100 + [3 * CHUNK] + [11] * 50


def text_of(lengths: list[int], last_line_end: bool) -> bytes:
    rng = np.random.default_rng(0)
    lines = (bytes(rng.integers(97, 123, n - 1, np.uint8)) for n in lengths)
    return b"\n".join(lines) + b"\n" * last_line_end


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("last_line_end", [False, True])
@pytest.mark.parametrize("skip", [0, 100, CHUNK + 1])
@pytest.mark.parametrize("block", [1, 1000, CHUNK, 2 * CHUNK + 3])
def test_blocks_are_the_text_cut_after_line_ends(tmp_path, packed, last_line_end, skip, block):
    text = text_of(LENGTHS, last_line_end)
    path = tmp_path / "text.csv"
    path.write_bytes(gzip.compress(text, 1) if packed else text)
    digest = hashlib.sha256()
    blocks = list(line_blocks(path, skip, block, digest=digest))
    assert b"".join(blocks) == text[skip:]
    assert all(one.endswith(b"\n") for one in blocks[:-1])
    assert digest.digest() == hashlib.sha256(text).digest()


def test_only_a_line_counts_against_the_longest_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_blocks, "LONGEST_LINE", 2 * CHUNK)
    path = tmp_path / "text.csv"
    path.write_bytes(text_of([30] * 60_000 + [CHUNK + CHUNK // 2] + [30] * 60_000, True))
    assert sum(map(len, line_blocks(path, 0, 8 * CHUNK))) == path.stat().st_size
    path.write_bytes(text_of([30, 4 * CHUNK, 30], True))
    with pytest.raises(InputRejected, match="no line ends"):
        list(line_blocks(path, 0, 8 * CHUNK))
