"""Several connections that see one moment of the database, each read by its own thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from queue import SimpleQueue
from types import TracebackType
from typing import TypeVar

import psycopg
from psycopg import Connection, IsolationLevel, sql

from msacat.catalog.server.connect import connect

Task = TypeVar("Task")
Result = TypeVar("Result")


class SnapshotReaders:
    """Runs tasks on `workers` connections that share the snapshot of `conn`'s transaction (REPEATABLE READ).

    Threads, not processes: the work is waiting for the server and numpy, which both let the interpreter go. With one
    worker everything runs on `conn` itself. A context manager: the connections close with it.
    """

    def __init__(self, conn: Connection, workers: int):
        self.conn = conn
        self.workers = workers
        self._stack = ExitStack()
        self._free: SimpleQueue[Connection] = SimpleQueue()

    def __enter__(self) -> SnapshotReaders:
        if self.workers > 1:
            row = self.conn.execute("SELECT pg_export_snapshot()").fetchone()
            assert row is not None
            with ExitStack() as stack:
                for _ in range(self.workers):
                    reader = stack.enter_context(_twin(self.conn))
                    reader.isolation_level, reader.read_only = IsolationLevel.REPEATABLE_READ, True
                    reader.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(row[0])))
                    self._free.put(reader)
                self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def each(self, tasks: Iterable[Task], work: Callable[[Connection, Task], Result]) -> Iterator[Result]:
        """Results of work(connection, task), in the order in which they are ready."""
        if self.workers == 1:
            for task in tasks:
                yield work(self.conn, task)
            return

        def on_a_free_one(task: Task) -> Result:
            reader = self._free.get()
            try:
                return work(reader, task)
            finally:
                self._free.put(reader)

        pool = ThreadPoolExecutor(self.workers)
        try:
            futures: list[Future[Result]] = [pool.submit(on_a_free_one, task) for task in tasks]
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _twin(conn: Connection) -> psycopg.Connection:
    """Another connection to the same database as the same role."""
    secret = {"password": conn.info.password} if conn.info.password else {}
    return connect(psycopg.conninfo.make_conninfo(conn.info.dsn, **secret), application="msacat crossmatch")
