"""A connection that msacat's own interruptions leave clean: what runs on the server is cancelled before the rollback.

psycopg does so for KeyboardInterrupt alone, and a signal raises Interrupted here.
"""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg
from psycopg.pq import ExecStatus, TransactionStatus

from msacat.catalog.errors import Interrupted

CANCEL_S = 5.0  # a server that has not answered by then is given up with the connection
GLANCE_S = 0.1


class StoreConnection(psycopg.Connection):
    """As psycopg's, but a command that was waited for when Interrupted came is ended."""

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().wait(gen, *args, **kwargs)
        except Interrupted:
            self._end_what_runs()
            raise

    def _end_what_runs(self) -> None:
        """Cancel the command at work and read its answers to the end; close the connection if none comes."""
        if self.closed or self.info.transaction_status != TransactionStatus.ACTIVE:
            return
        try:
            self.cancel_safe(timeout=CANCEL_S)
            answered = self._read_to_the_end(time.monotonic() + CANCEL_S)
        except psycopg.Error:
            answered = False
        if not answered:
            self.close()

    def _read_to_the_end(self, until: float) -> bool:
        in_copy = False
        while time.monotonic() < until:
            if in_copy:
                n_bytes, _ = self.pgconn.get_copy_data(1)
                in_copy = n_bytes >= 0
                if n_bytes:
                    continue
            elif not self.pgconn.is_busy():
                result = self.pgconn.get_result()
                if result is None:
                    return True
                in_copy = result.status == ExecStatus.COPY_OUT
                if result.status == ExecStatus.COPY_IN:
                    self.pgconn.put_copy_end(b"interrupted")
                continue
            select.select([self.pgconn.socket], [], [], GLANCE_S)
            self.pgconn.consume_input()
        return False
