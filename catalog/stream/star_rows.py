"""Stars leave SQL as bytes: PostgreSQL packs many rows into one message, numpy unpacks them at once.

libpq hands out one row a message at 1.5-3 microseconds each; string_agg over array_send removes that cost.
Suffixes as in surveys/star_block.py.
"""

from __future__ import annotations

import numpy as np
import psycopg
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.store.star_view import label_column, view_columns
from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures

HALF = K // 2
NAN_HALF = sql.SQL("array_send(array_fill('NaN'::real, ARRAY[55]))")


def row_bytes(features: StarFeatures, columns: list[str]) -> sql.Composed:
    """SQL expression: one row of matched.stars (alias s) as bytea, NULL as NaN, big-endian, as row_dtype() reads it."""
    present = set(columns)

    def real(name: str) -> sql.Composable:
        if name not in present:
            return sql.SQL("'NaN'::real")
        return sql.SQL("coalesce(s.{}::real, 'NaN'::real)").format(sql.Identifier(name))

    def array(names: list[str]) -> sql.Composable:
        return sql.SQL("array_send(ARRAY[{}]::real[])").format(sql.SQL(", ").join(map(real, names)))

    labels = [label_column(label) for label in features.labels]
    parts: list[sql.Composable] = [sql.SQL("int8send(s.source_id) || int8send(s.shared)")]
    bands, scalars = features.band_names, [scalar.name for scalar in features.scalars]
    groups = (bands, [f"{b}_err" for b in bands], scalars, [f"{x}_error" for x in scalars],
              labels, [f"{x}_err" for x in labels])  # fmt: skip
    parts += [array(group) for group in groups if group]
    if features.xp:
        for name in ("bp_coefficients", "rp_coefficients", "bp_coefficient_errors", "rp_coefficient_errors"):
            parts.append(sql.SQL("coalesce(array_send(s.{}), {})").format(sql.Identifier(name), NAN_HALF))
    return sql.SQL(" || ").join(parts)


def row_dtype(features: StarFeatures) -> np.dtype:
    """What row_bytes() writes: ids, then arrays as array_send does (header of 5 words, then length and value)."""
    m, n_scalars, n_labels = len(features.bands), len(features.scalars), len(features.labels)
    fields: list[tuple] = [("source_id", ">i8"), ("shared", ">i8")]
    element = np.dtype([("length", ">i4"), ("value", ">f4")])
    groups = [("mag", m), ("mag_err", m), ("scalar", n_scalars), ("scalar_err", n_scalars),
              ("label", n_labels), ("label_err", n_labels)]  # fmt: skip
    if features.xp:
        groups += [("bp", HALF), ("rp", HALF), ("bp_err", HALF), ("rp_err", HALF)]
    for name, width in groups:
        if width:
            fields += [(f"{name}_header", ">i4", (5,)), (name, element, (width,))]
    return np.dtype(fields)


def unpack_rows(payload: bytes | memoryview, features: StarFeatures) -> tuple[StarBlock, np.ndarray]:
    """Rows made by row_bytes() -> (stars, their `shared` bitmask int64)."""
    rows = np.frombuffer(payload, row_dtype(features))

    def values(name: str) -> np.ndarray:
        if name not in (rows.dtype.names or ()):
            return np.empty((len(rows), 0), np.float32)
        return np.ascontiguousarray(rows[name]["value"], dtype=np.float32)

    if features.xp:
        xp_BK = np.concatenate([values("bp"), values("rp")], axis=1)
        xp_err_BK = np.concatenate([values("bp_err"), values("rp_err")], axis=1)
    else:
        xp_BK = np.full((len(rows), K), np.nan, np.float32)
        xp_err_BK = xp_BK.copy()
    block = StarBlock(
        rows["source_id"].astype(np.int64), values("mag"), values("mag_err"), xp_BK, xp_err_BK,
        values("scalar"), values("scalar_err"), values("label"), values("label_err"),
    )  # fmt: skip
    return block, rows["shared"].astype(np.int64)


def hide_shared(block: StarBlock, shared_B: np.ndarray, bits: list[int]) -> None:
    """Make unobserved, in place, the bands whose object other Gaia stars share (`bits`: the bit of each band)."""
    shared_BM = (shared_B[:, None] >> np.asarray(bits, np.int64)[None, :]) & 1 == 1
    block.mag_BM[shared_BM] = np.nan
    block.mag_err_BM[shared_BM] = np.nan


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
    query = sql.SQL("SELECT 1 FROM matched.stars s WHERE ({}\n) LIMIT 0").format(sql.SQL(where))
    try:
        with conn.transaction(force_rollback=True):
            # prepared: the extended protocol refuses a second statement; read only: it cannot write anyway
            conn.execute("SET TRANSACTION READ ONLY")
            conn.execute(query, prepare=True, binary=True)
    except psycopg.Error as error:
        columns = ", ".join(view_columns(conn, "matched", "stars"))
        raise UsageError(
            f"--where is not a condition on matched.stars: {str(error).strip()}",
            expected=f"columns {columns}",
        ) from None
    return sql.SQL("({}\n)").format(sql.SQL(where))


def require_stars(conn: Connection) -> list[str]:
    """Columns of matched.stars; InputRejected if nothing was ingested yet."""
    columns = view_columns(conn, "matched", "stars")
    if not columns:
        raise InputRejected(
            "the store holds no reference survey yet",
            next_step="msacat ingest gaia_source FILE…, then crossmatch",
        )
    return columns
