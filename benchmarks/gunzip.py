"""The fastest gunzip installed: the peer that every reader of published files is held against."""

from __future__ import annotations

import zlib
from pathlib import Path

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None


def gunzip_with() -> str:
    return "zlib" if isal_zlib is None else "isal"


def gunzip(path: Path) -> bytes:
    """Content of a file of one gzip member, whole in memory."""
    return (zlib if isal_zlib is None else isal_zlib).decompress(path.read_bytes(), 31)
