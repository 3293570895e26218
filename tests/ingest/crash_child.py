"""Run in a process of its own by test_ingest_crash.py: ingest the files named, and say how it went."""

from __future__ import annotations

import sys

from msacat.catalog.connect import connect
from msacat.catalog.ingest_files import plan_ingest, run_ingest

dsn, replace, *paths = sys.argv[1:]
with connect(dsn) as conn:
    plan = plan_ingest(conn, "gaia_source", paths, replace=replace == "replace")
    report = run_ingest(conn, plan, on_progress=lambda done, total, words: print(words, flush=True))
    print(" ".join(f.outcome.replace(" ", "-") for f in report.files))
