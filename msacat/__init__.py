"""msacat: survey files in, a crossmatched and enriched star catalogue out."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

__version__ = version("msacat")
__all__ = ["__version__", "connect", "read_embeddings", "read_xp"]


def __getattr__(name: str) -> Any:
    """`msacat.read_xp`, `msacat.read_embeddings`, `msacat.connect`: loaded when first used, so that `import msacat` costs nothing."""
    if name == "read_xp":
        from msacat.catalog.query.query_stars import read_xp

        return read_xp
    if name == "read_embeddings":
        from msacat.catalog.query.nearest_stars import read_embeddings

        return read_embeddings
    if name == "connect":
        from msacat.catalog.server.connect import connect

        return connect
    raise AttributeError(f"module 'msacat' has no attribute '{name}'")
