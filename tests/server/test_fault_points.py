"""A point that no list names is fired by no test."""

from __future__ import annotations

import re
from pathlib import Path

from msacat import catalog
from msacat.catalog.server.fault_points import (
    CROSSMATCH_POINTS,
    ENRICH_POINTS,
    INGEST_POINTS,
    PUBLISH_POINTS,
)


def test_every_point_of_the_source_is_listed_once():
    sources = [path.read_text("utf-8") for path in Path(catalog.__file__).parent.rglob("*.py")]
    named = [name for text in sources for name in re.findall(r'fault_point\("([\w.]+)"\)', text)]
    assert sorted(named) == sorted([*INGEST_POINTS, *CROSSMATCH_POINTS, *ENRICH_POINTS, *PUBLISH_POINTS])
