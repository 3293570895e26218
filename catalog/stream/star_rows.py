"""Stars leave SQL by binary COPY: every column of fixed width, so that numpy reads a thousand rows at once.

Packing rows into bytea on the server (array_send, string_agg) costs it twice as much as COPY does, and the server is
what training and enrichment wait for. NULL has no width in a COPY: it leaves as NaN.
Suffixes as in surveys/star_block.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import psycopg
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.store.as_real import reals_of_stars
from msacat.catalog.store.star_view import label_column, view_columns
from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures

HALF = K // 2
NO_LEAD = sql.SQL("0::bigint")
NAN_HALF = sql.SQL("array_fill('NaN'::real, ARRAY[55])")
XP = {"bp": "bp_coefficients", "rp": "rp_coefficients",
      "bp_err": "bp_coefficient_errors", "rp_err": "rp_coefficient_errors"}  # fmt: skip
COPY_HEADER = 19  # bytes before the first row of a binary COPY
_REAL = np.dtype([("length", ">i4"), ("value", ">f4")])


def read_rows(
    conn: Connection,
    features: StarFeatures,
    columns: list[str],
    tail: sql.Composable,
    rows_at_once: int,
    lead: sql.Composable = NO_LEAD,
) -> Iterator[np.ndarray]:
    """The rows of SELECT … `tail` (FROM on, matched.stars as s) in its order, as unpack_rows() takes them.

    `lead` is a bigint expression that comes back as the field "lead". The connection is busy until the last row.
    """
    layout = _layout(features)
    query = sql.SQL("COPY (SELECT {}, {} {}) TO STDOUT (FORMAT BINARY)").format(
        lead, _selected(conn, features, columns), tail
    )
    buffer, start = bytearray(), COPY_HEADER
    with conn.cursor() as cursor, cursor.copy(query) as copy:
        for message in copy:  # one row, or the two bytes at the end
            buffer += message
            if len(buffer) - start >= rows_at_once * layout.itemsize:
                yield _as_rows(buffer, start, layout, features)
                buffer, start = bytearray(), 0
    if len(buffer) - start >= layout.itemsize:
        yield _as_rows(buffer, start, layout, features)


def _as_rows(buffer: bytearray, start: int, layout: np.dtype, features: StarFeatures) -> np.ndarray:
    rows = np.frombuffer(buffer, layout, (len(buffer) - start) // layout.itemsize, start)
    # one array of another length shifts every row after it
    if not (rows["n_columns"] == 3 + _n_reals(features) + len(XP) * features.xp).all():
        raise InputRejected(
            "stars came from the server in another shape than asked for", expected=f"{HALF} coefficients in each half",
            next_step="msacat verify names the arrays of another length",
        )  # fmt: skip
    return rows


def _selected(conn: Connection, features: StarFeatures, columns: list[str]) -> sql.Composed:
    """Columns of matched.stars (alias s) in the order of _layout(), none of them NULL."""
    present, as_real = set(columns), reals_of_stars(conn)

    def real(name: str) -> sql.Composable:
        if name not in present:
            return sql.SQL("'NaN'::real")
        return sql.SQL("coalesce({}, 'NaN'::real)").format(as_real(name))

    labels = [label_column(label) for label in features.labels]
    bands, scalars = features.band_names, [scalar.name for scalar in features.scalars]
    names = [*bands, *(f"{b}_err" for b in bands), *scalars, *(f"{x}_error" for x in scalars),
             *labels, *(f"{x}_err" for x in labels)]  # fmt: skip
    arrays = [sql.SQL("coalesce(s.{}, {})").format(sql.Identifier(a), NAN_HALF) for a in XP.values()]
    parts = [sql.SQL("s.source_id"), sql.SQL("s.shared"), *map(real, names), *(arrays if features.xp else [])]
    return sql.SQL(", ").join(parts)


def _widths(features: StarFeatures) -> list[int]:
    return [n for n in (len(features.bands), len(features.scalars), len(features.labels)) for _ in range(2)]


def _n_reals(features: StarFeatures) -> int:
    return sum(_widths(features))


def _layout(features: StarFeatures) -> np.dtype:
    """A row of a binary COPY: the number of columns, then each one's length in bytes and its value, big-endian."""
    fields: list[tuple] = [("n_columns", ">i2")]
    for name in ("lead", "source_id", "shared"):
        fields += [(f"{name}_length", ">i4"), (name, ">i8")]
    fields.append(("reals", _REAL, (_n_reals(features),)))
    for name in XP if features.xp else ():
        # an array: its length, 5 words of header (dimensions, NULLs, type, elements, first index), elements
        fields += [(f"{name}_header", ">i4", (6,)), (name, _REAL, (HALF,))]
    return np.dtype(fields)


def unpack_rows(rows: np.ndarray, features: StarFeatures) -> tuple[StarBlock, np.ndarray]:
    """Rows of read_rows() -> (stars, their `shared` bitmask int64)."""

    def values(name: str) -> np.ndarray:
        return np.ascontiguousarray(rows[name]["value"], dtype=np.float32)

    if features.xp:
        xp_BK = np.concatenate([values("bp"), values("rp")], axis=1)
        xp_err_BK = np.concatenate([values("bp_err"), values("rp_err")], axis=1)
    else:
        xp_BK = np.full((len(rows), K), np.nan, np.float32)
        xp_err_BK = xp_BK.copy()
    edges = np.cumsum(_widths(features))[:-1]
    mag, mag_err, scalar, scalar_err, label, label_err = (
        np.ascontiguousarray(part) for part in np.split(values("reals"), edges, axis=1)
    )
    block = StarBlock(
        rows["source_id"].astype(np.int64),
        mag,
        mag_err,
        xp_BK,
        xp_err_BK,
        scalar,
        scalar_err,
        label,
        label_err,
    )
    return block, rows["shared"].astype(np.int64)


def shared_bands(block: StarBlock, shared_B: np.ndarray, bits: list[int]) -> np.ndarray:
    """shared_BM: measured, but of an object that other Gaia stars share (`bits`: the bit of each band)."""
    shared_BM = (shared_B[:, None] >> np.asarray(bits, np.int64)[None, :]) & 1 == 1
    return shared_BM & np.isfinite(block.mag_BM)


def without_shared(block: StarBlock, shared_BM: np.ndarray) -> StarBlock:
    """What a model is given of the stars: light of several stars says little of one."""
    if not shared_BM.any():
        return block
    own = ~shared_BM
    return replace(
        block,
        mag_BM=np.where(own, block.mag_BM, np.float32(np.nan)),
        mag_err_BM=np.where(own, block.mag_err_BM, np.float32(np.nan)),
    )


def band_bits(conn: Connection, features: StarFeatures) -> list[int]:
    """The store's bit of each band, in the order of `features`."""
    bits: dict[str, int] = dict(conn.execute("SELECT band, bit FROM msacat.bands").fetchall())
    return [bits[name] for name in features.band_names]


def condition(conn: Connection, where: str | None) -> sql.Composable:
    """The user's --where as a parenthesised SQL condition on matched.stars s, checked to be one condition.

    Raises UsageError with the server's words for a syntax error or an unknown column.
    """
    if where is None:
        return sql.SQL("true")
    # in two kinds of brackets: "a) OR (b" fits into one, and would be another condition beside others
    queries = [
        sql.SQL(words).format(sql.SQL(where))
        for words in (
            "SELECT 1 FROM matched.stars s WHERE ({}\n) LIMIT 0",
            "SELECT ARRAY[{}\n]::boolean[] FROM matched.stars s LIMIT 0",
        )
    ]
    try:
        with conn.transaction(force_rollback=True):
            # prepared: the extended protocol refuses a second statement; read only: it cannot write anyway
            conn.execute("SET TRANSACTION READ ONLY")
            for query in queries:
                conn.execute(query, prepare=True, binary=True)
    except psycopg.Error as error:
        columns = ", ".join(view_columns(conn, "matched", "stars"))
        raise UsageError(
            f"--where is not a condition on matched.stars: {str(error).strip()}",
            expected=f"columns {columns}",
        ) from None
    return sql.SQL("({}\n)").format(sql.SQL(where))


@contextmanager
def asking_of_every_star(where: str | None) -> Iterator[None]:
    """A block that reads stars chosen by the user's --where: UsageError where the server cannot tell of one of them."""
    try:
        yield
    except psycopg.DataError as error:
        if where is None:
            raise
        raise UsageError(
            f"--where fails for a star: {error.diag.message_primary}", found=where,
            expected="a condition that is true, false or NULL for every star; NULLIF(x, 0) keeps a division from failing",
        ) from None  # fmt: skip


def require_stars(conn: Connection) -> list[str]:
    """Columns of matched.stars; InputRejected if nothing was ingested yet."""
    columns = view_columns(conn, "matched", "stars")
    if not columns:
        raise InputRejected(
            "the store holds no reference survey yet",
            next_step="msacat ingest gaia_source FILE…, then crossmatch",
        )
    return columns
