"""Named points where a test may kill the process, to prove that nothing is ever half-done.

`MSACAT_FAULT=ingest.copied` sends this process SIGKILL when it reaches that point; unset, nothing happens.
"""

from __future__ import annotations

import os
import signal

#: every point, so that tests can loop over all of them
INGEST_POINTS = (
    "ingest.locked",
    "ingest.ledger_row",
    "ingest.copying",
    "ingest.copied",
    "ingest.staged",
    "ingest.before_commit",
    "ingest.committed",
)
CROSSMATCH_POINTS = ("crossmatch.written", "crossmatch.before_commit")
ENRICH_POINTS = ("enrich.before_ledger", "enrich.before_commit")
PUBLISH_POINTS = ("enrich.before_publish",)


def fault_point(name: str) -> None:
    """Die here if the environment asks for it."""
    if os.environ.get("MSACAT_FAULT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
