"""Reads the dust map of Schlegel, Finkbeiner & Davis at the stars' positions, into a file that `msacat ingest` takes.

The map itself (SFD_dust_4096_ngp.fits and _sgp.fits, https://doi.org/10.7910/DVN/EWCNL5) is the user's; dustmaps reads it.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.query.export_table import require_format
from msacat.catalog.surveys.survey_spec import SurveySpec

MAPS = ("SFD_dust_4096_ngp.fits", "SFD_dust_4096_sgp.fits")
RELATIVE_ERROR = 0.16  # Schlegel, Finkbeiner & Davis 1998, abstract
LEAST_ERROR = 0.001  # mag, of a map given to three digits
FETCH = "fetch both files from https://doi.org/10.7910/DVN/EWCNL5, or with dustmaps.sfd.fetch()"
STARS_A_BATCH = 200_000
SCHEMA = pa.schema([("source_id", pa.int64()), ("ebv", pa.float32()), ("ebv_error", pa.float32())])


def write_reddening(conn: Connection, reference: SurveySpec, maps: Path, out: Path) -> int:
    """E(B-V) and its error (mag) of every star of the store to the Parquet file `out`, whole or not at all; stars written.

    Raises UsageError where dustmaps is not installed or `out` cannot be written, InputRejected where a map is missing,
    damaged or has no number at a star.
    """
    if require_format(out) != "parquet":
        raise UsageError(
            "reddening is written as Parquet", file=str(out), expected="a name that ends in .parquet"
        )
    query, position = _sfd(maps), reference.position
    assert position is not None
    text = sql.SQL("SELECT source_id, {}, {} FROM {} ORDER BY source_id").format(
        sql.Identifier(position.ra), sql.Identifier(position.dec), sql.Identifier("survey", reference.name)
    )
    temporary, written = out.with_name(f".{out.name}.tmp-{os.getpid()}"), 0
    try:
        with conn.cursor("msacat_reddening") as cursor, pq.ParquetWriter(temporary, SCHEMA) as file:
            cursor.execute(text)
            while rows := cursor.fetchmany(STARS_A_BATCH):
                source_id, ra, dec = zip(*rows, strict=True)
                ebv = query(np.array(ra), np.array(dec))
                if (bad := ~np.isfinite(ebv)).any():
                    raise InputRejected(
                        "the map has no number at a star", file=str(maps), expected="a finite E(B-V) all over the sky",
                        found=f"none at source_id {source_id[int(np.argmax(bad))]}", next_step=FETCH,
                    )  # fmt: skip
                error = np.maximum(RELATIVE_ERROR * ebv, LEAST_ERROR)
                file.write_table(
                    pa.table([pa.array(source_id, pa.int64()), *map(_float32, (ebv, error))], SCHEMA)
                )
                written += len(rows)
        if not written:
            raise InputRejected("the store holds no stars", next_step="msacat ingest gaia_source FILE…")
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return written


def _sfd(maps: Path):
    """(ra_deg, dec_deg; ICRS) -> E(B-V), mag, interpolated between pixels."""
    for name in MAPS:
        if not (maps / name).is_file():
            raise InputRejected(
                "no map of Schlegel, Finkbeiner & Davis there", file=str(maps / name),
                next_step=FETCH,
            )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a configuration that is not needed: the folder is given
            from dustmaps.sfd import SFDQuery
    except ImportError:
        raise UsageError(
            "the package dustmaps is not installed", next_step="pip install 'msacat[dust]'"
        ) from None
    from astropy.coordinates import SkyCoord

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            sfd = SFDQuery(str(maps))
    except (OSError, ValueError, TypeError) as error:
        raise InputRejected(f"the map cannot be read: {error}", file=str(maps), next_step=FETCH) from error
    return lambda ra, dec: np.asarray(sfd(SkyCoord(ra, dec, unit="deg", frame="icrs")), np.float64)


def _float32(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.float32))
