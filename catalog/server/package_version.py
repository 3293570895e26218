"""The version of msacat that did the work, for every ledger."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def code_version() -> str:
    return version("msacat")
