"""An enrichment run: chunks of predictions written exactly once into the run's own tables, by any number of workers.

A chunk's rows and its ledger entry commit together; the row lock on the ledger entry is the lease and dies with
the worker. Nothing a run writes is visible in the published views before verification and publishing.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from psycopg import Connection, sql

from msacat.catalog.enrich.changed_stars import store_changed_stars
from msacat.catalog.enrich.enriched_tables import (
    REQUESTED,
    bands_of,
    create_run_tables,
    run_table,
    table_name,
)
from msacat.catalog.enrich.predicted_columns import Predicted, predicted_columns
from msacat.catalog.errors import InputRejected, Interrupted, UsageError
from msacat.catalog.server.connect import connect
from msacat.catalog.server.copy_arrays import copy_arrays
from msacat.catalog.server.fault_points import fault_point
from msacat.catalog.server.package_version import code_version
from msacat.catalog.store.column_comments import Described, comment_on_column
from msacat.catalog.store.register_survey import reference_spec
from msacat.catalog.store.star_view import view_columns
from msacat.catalog.stream.star_rows import (
    asking_of_every_star,
    band_bits,
    condition,
    read_rows,
    require_stars,
    shared_bands,
    unpack_rows,
    without_shared,
)
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures

STARS_A_BLOCK = 4096
STARS_A_CHUNK = 2 * STARS_A_BLOCK  # few, since at the end one lane waits for the other's last chunk
LANES = 2


@dataclass(frozen=True)
class RunRequest:
    """Which stars a run covers: all, those of a condition, of a list of ids, or those without a published row."""

    where: str | None = None
    ids: list[int] | None = None
    new: bool = False

    def to_json(self) -> dict:
        return {"where": self.where, "ids": None if self.ids is None else len(self.ids), "new": self.new}

    @staticmethod
    def in_words(request: dict) -> str:
        """What to_json() gave, for a person."""
        if request["where"] is not None:
            return f"stars where {request['where']}"
        if request["ids"] is not None:
            return f"a list of {request['ids']} ids"
        return "stars that are new or changed" if request["new"] else "all stars"


class NoStars(InputRejected):
    """Nothing to enrich."""


def start_run(
    conn: Connection,
    model_id: int,
    request: RunRequest,
    kinds: list[str],
    band_names: Collection[str] | None = None,
) -> int:
    """Record the run, its chunks and its empty tables; returns run_id. The caller commits.

    `band_names` are those of the features the model predicts, all of the store's if left out.
    Raises NoStars if nothing is to be done, InputRejected if an id is not in the store.
    """
    require_stars(conn)
    reference = reference_spec(conn)
    assert reference is not None
    file_ids = [row[0] for row in conn.execute("SELECT file_id FROM msacat.files ORDER BY 1").fetchall()]
    row = conn.execute(
        "INSERT INTO msacat.runs (model_id, state, file_ids, request, n_stars, code_version) "
        "VALUES (%s, 'running', %s, %s, 0, %s) RETURNING run_id",
        [model_id, file_ids, json.dumps(request.to_json()), code_version()],
    ).fetchone()
    assert row is not None
    run_id = row[0]
    if request.ids is not None:
        _store_ids(conn, run_id, request.ids, reference.name)
    elif request.new:
        store_changed_stars(conn, run_table(run_id, REQUESTED))
    if request.ids is not None or request.new:
        asked = Described(f"Star that run {run_id} was asked for.", "", "meta.id;meta.main")
        conn.execute(comment_on_column("enriched", table_name(run_id, REQUESTED), "source_id", asked))
    chosen = _chosen(conn, run_id, request)
    with asking_of_every_star(request.where):
        conn.execute(
            sql.SQL(
                "INSERT INTO msacat.run_chunks (run_id, chunk, first_source_id, last_source_id, n_stars) "
                "SELECT {run}, place / {size}, min(source_id), max(source_id), count(*) FROM ("
                " SELECT s.source_id, row_number() OVER (ORDER BY s.source_id) - 1 AS place FROM {stars} s WHERE {chosen}"
                ") x GROUP BY 2"
            ).format(
                run=run_id, size=STARS_A_CHUNK, chosen=chosen,
                # a condition may speak of any measurement; without one the reference table says it all
                stars=sql.Identifier("matched", "stars") if request.where else sql.Identifier("survey", reference.name),
            )
        )  # fmt: skip
    n_stars = conn.execute(
        "SELECT coalesce(sum(n_stars), 0) FROM msacat.run_chunks WHERE run_id = %s", [run_id]
    ).fetchone()[0]  # type: ignore[index]
    if n_stars == 0:
        raise NoStars("no star to enrich", found=f"none among {RunRequest.in_words(request.to_json())}",
                      next_step="loosen --where, or leave it out to enrich all")  # fmt: skip
    conn.execute("UPDATE msacat.runs SET n_stars = %s WHERE run_id = %s", [n_stars, run_id])
    create_run_tables(conn, run_id, kinds, band_names)
    return run_id


def features_of_run(conn: Connection, run_id: int, features: StarFeatures) -> StarFeatures:
    """`features` with the bands of the run's own tables: those of a survey added since it began are not in it."""
    columns = set(view_columns(conn, "enriched", table_name(run_id, "magnitudes")))
    return replace(features, bands=tuple(band for band in features.bands if band.name in columns))


def write_chunks(
    dsn: str | None,
    run_id: int,
    request: RunRequest,
    features: StarFeatures,
    predict: Callable[[StarBlock], Predicted],
    kinds: list[str],
    on_progress: Callable[[int], Any] | None = None,
    should_stop: Callable[[], bool] | None = None,
    lanes: int = LANES,
) -> int:
    """Take chunks nobody holds until none is left; returns stars written by this worker.

    So many `lanes` have a chunk in work at once, each with its own connection: while the server reads or writes
    the stars of one, the other's are predicted. `predict` is called from several threads. The bands of `features`
    are those of the run's tables (features_of_run).
    Raises Interrupted when `should_stop()` turns true; the chunks in work are rolled back or committed whole.
    """
    worker = f"{socket.gethostname()}:{os.getpid()}"
    failed, one_at_a_time = threading.Event(), threading.Lock()
    written = 0

    def count(n_stars: int) -> None:
        nonlocal written
        with one_at_a_time:
            written += n_stars
            if on_progress:
                on_progress(n_stars)

    def lane() -> None:
        try:
            with connect(dsn) as conn:
                write = _ChunkWriter(conn, run_id, request, features, predict, kinds, worker)
                while not failed.is_set():
                    if should_stop and should_stop():
                        raise Interrupted(f"run {run_id} stopped after {written} stars of this worker",
                                          next_step=f"msacat enrich --resume {run_id}")  # fmt: skip
                    if (n_stars := write.next_chunk()) is None:
                        return
                    count(n_stars)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(lanes, thread_name_prefix="msacat-enrich") as pool:
        try:
            for finished in as_completed([pool.submit(lane) for _ in range(lanes)]):
                finished.result()
        except BaseException:
            failed.set()
            raise
    return written


class _ChunkWriter:
    """One lane: a connection, and what it needs to write a chunk."""

    def __init__(
        self,
        conn: Connection,
        run_id: int,
        request: RunRequest,
        features: StarFeatures,
        predict: Callable[[StarBlock], Predicted],
        kinds: list[str],
        worker: str,
    ) -> None:
        self.conn, self.run_id, self.features, self.predict = conn, run_id, features, predict
        self.kinds, self.worker = kinds, worker
        self.columns, self.bands = require_stars(conn), bands_of(conn, features.band_names)
        self.where, self.chosen = request.where, _chosen(conn, run_id, request)

    def next_chunk(self) -> int | None:
        """Claim a chunk, write and commit it; stars written, None if none is left.

        Raises InputRejected if the run was dropped meanwhile; a drop waits until the chunk at work is done.
        """
        state = self.conn.execute(
            "SELECT state FROM msacat.runs WHERE run_id = %s FOR SHARE", [self.run_id]
        ).fetchone()
        if state != ("running",):
            raise InputRejected(
                f"run {self.run_id} is {state[0] if state else 'gone'}: nothing more of it is written",
                expected="a run in progress", next_step="msacat enrich begins a new one",
            )  # fmt: skip
        chunk = self.conn.execute(
            "SELECT chunk, first_source_id, last_source_id FROM msacat.run_chunks "
            "WHERE run_id = %s AND NOT done ORDER BY chunk FOR UPDATE SKIP LOCKED LIMIT 1",
            [self.run_id],
        ).fetchone()
        if chunk is None:
            self.conn.commit()
            return None
        n_stars = 0
        with asking_of_every_star(self.where):
            stars = read_stars(self.conn, self.features, self.columns, self.chosen, chunk[1], chunk[2])
        for block, shared_BM in stars:
            predicted = self.predict(without_shared(block, shared_BM))
            for kind in self.kinds:
                columns = predicted_columns(
                    kind, self.bands, self.run_id, block, shared_BM, predicted, self.features
                )
                copy_arrays(self.conn, run_table(self.run_id, kind), columns)
            n_stars += len(block)
        fault_point("enrich.before_ledger")
        self.conn.execute(
            "UPDATE msacat.run_chunks SET done = true, n_stars = %s, worker = %s, finished = clock_timestamp() "
            "WHERE run_id = %s AND chunk = %s",
            [n_stars, self.worker, self.run_id, chunk[0]],
        )
        fault_point("enrich.before_commit")
        self.conn.commit()
        return n_stars


def read_stars(
    conn: Connection,
    features: StarFeatures,
    columns: list[str],
    chosen: sql.Composable,
    first: int,
    last: int,
) -> list[tuple[StarBlock, np.ndarray]]:
    """Blocks of the chosen stars with first <= source_id <= last, in the order of source_id, and their shared_BM."""
    # A chunk is a sliver of every table: index look-ups, never a hash of a whole survey.
    conn.execute("SET LOCAL enable_hashjoin = off")
    tail = sql.SQL(
        "FROM matched.stars s WHERE s.source_id BETWEEN {} AND {} AND {} ORDER BY s.source_id"
    ).format(first, last, chosen)
    blocks = [unpack_rows(some, features) for some in read_rows(conn, features, columns, tail, STARS_A_BLOCK)]
    bits = band_bits(conn, features)
    return [(block, shared_bands(block, shared_B, bits)) for block, shared_B in blocks]


def _chosen(conn: Connection, run_id: int, request: RunRequest) -> sql.Composable:
    """The run's condition on alias s (source_id at least)."""
    terms: list[sql.Composable] = [condition(conn, request.where)]
    if request.ids is not None or request.new:
        terms.append(
            sql.SQL("s.source_id IN (SELECT source_id FROM {})").format(run_table(run_id, REQUESTED))
        )
    return sql.SQL(" AND ").join(terms)


def _store_ids(conn: Connection, run_id: int, ids: list[int], reference: str) -> None:
    if not ids:
        raise UsageError("the list of ids is empty")
    table = run_table(run_id, REQUESTED)
    conn.execute(sql.SQL("CREATE TABLE {} (source_id bigint PRIMARY KEY)").format(table))
    with conn.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
        for source_id in sorted(set(ids)):
            copy.write_row((source_id,))
    missing = conn.execute(
        sql.SQL("SELECT source_id, count(*) OVER () FROM {} i WHERE NOT EXISTS (SELECT 1 FROM {} r "
                "WHERE r.source_id = i.source_id) ORDER BY 1 LIMIT 1").format(
            table, sql.Identifier("survey", reference))
    ).fetchone()  # fmt: skip
    if missing:
        raise InputRejected(
            f"{missing[1]} of the ids are not in the store", found=f"the first is {missing[0]}",
            next_step=f"msacat ingest {reference} a file that holds them, or take them off the list",
        )  # fmt: skip
