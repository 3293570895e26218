"""A store of N stars with 18 bands, XP spectra and some labels, filled straight into the survey tables.

The light is the simulated sky's (model atmospheres, dust); a library of stars is repeated with fresh noise, so that a
million stars take seconds to make. Every star has a spectrum and every band: the widest row, 256 float32 of bands and
XP. One star in LABELLED has labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import psycopg
import pyarrow as pa
from made_up_files import made_up_stars
from psycopg import sql
from temporary_server import TemporaryServer

from msacat.catalog.server.connect import connect
from msacat.catalog.server.copy_batches import copy_batches
from msacat.catalog.server.drop_indexes import drop_indexes
from msacat.catalog.simulated_sky.parameters import load_parameters
from msacat.catalog.simulated_sky.sky_objects import SkyObjects, stars_at
from msacat.catalog.simulated_sky.sky_positions import draw_positions
from msacat.catalog.simulated_sky.star_library import load_library
from msacat.catalog.store.register_survey import register_survey, registered_specs
from msacat.catalog.store.star_view import star_features
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.star_features import StarFeatures

LABELS, LABELLED = "apogee_dr17", 20
PHOTOMETRY = ("panstarrs1", "sdss_dr13", "twomass_psc", "catwise2020")  # 15 bands beside Gaia's 3
LIBRARY_STARS = 5_000
NARROW = ("panstarrs1", "twomass_psc")
ROWS_A_BATCH = 5_000
RELATIVE_ERROR, XP_ERROR = 0.01, 0.01  # mag; share of the first coefficient


@dataclass(frozen=True)
class MadeUpStore:
    dsn: str
    n_stars: int
    features: StarFeatures
    source_id: np.ndarray


@cache
def made_up_store(server: TemporaryServer, n: int, wide: bool = True) -> MadeUpStore:
    """Made once a run of the benchmarks, shared by the stages that need it.

    Without `wide` only the surveys of NARROW have rows: what most stars of a survey-scale store look like.
    """
    dsn = server.new_store()
    stars = made_up_stars(n)
    source_id = stars.columns["source_id"]
    specs = builtin_specs()
    library = _library_stars()
    names = load_library().band_names
    rng = np.random.default_rng(4)
    which = rng.integers(0, len(library), n)
    datasets = ("gaia_source", "xp_continuous", *PHOTOMETRY, LABELS)
    file_of = {dataset: number for number, dataset in enumerate(datasets, start=1)}
    with connect(dsn) as conn:
        for dataset in datasets:
            register_survey(conn, specs[dataset])
            _record_file(conn, dataset, specs[dataset].release, n)
        tables = [sql.Identifier("survey", d) for d in datasets]
        tables += [sql.Identifier("matched", d) for d in (*PHOTOMETRY, LABELS)]
        indexes = [statement for table in tables for statement in drop_indexes(conn, table)]
        for start in range(0, n, ROWS_A_BATCH):
            rows = slice(start, min(n, start + ROWS_A_BATCH))
            ids, of = source_id[rows], library.take(which[rows])
            where = {"ra": stars.columns["ra"][rows], "dec": stars.columns["dec"][rows]}
            reference = {name: values[rows] for name, values in stars.columns.items()}
            parallax_etc = {"pmra_error": _real(0.05, ids), "pmdec_error": _real(0.05, ids)}
            bands = _magnitudes(specs["gaia_source"], of, names, rng)
            _fill(conn, "survey", "gaia_source", reference | parallax_etc | bands, 1)
            if wide:
                _fill(conn, "survey", "xp_continuous", {"source_id": ids} | _spectra(of, rng), 2)
                _label(conn, ids[::LABELLED], of.take(slice(None, None, LABELLED)), where, file_of[LABELS])
            for dataset in PHOTOMETRY if wide else NARROW:
                spec = specs[dataset]
                kind = spec.column(spec.id.column).type
                own = ids if kind == "bigint" else pa.array(ids).cast(pa.string())
                values = {spec.id.column: own} | where | _magnitudes(spec, of, names, rng)
                _fill(conn, "survey", dataset, values, file_of[dataset])
                match = {"source_id": ids, spec.id.column: own, "separation_arcsec": _real(0.0, ids)}
                _fill(conn, "matched", dataset, match)
        for statement in indexes:
            conn.execute(statement)
        conn.commit()
        features = star_features(conn, registered_specs(conn))
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")
    return MadeUpStore(dsn, n, features, source_id)


@cache
def _library_stars() -> SkyObjects:
    p, rng = load_parameters(), np.random.default_rng(5)
    return stars_at(draw_positions(rng, LIBRARY_STARS, p), 5, rng, p, load_library())


def _real(value: float, like: np.ndarray) -> np.ndarray:
    return np.full(len(like), value, np.float32)


def _magnitudes(spec, of: SkyObjects, names: list[str], rng: np.random.Generator) -> dict[str, np.ndarray]:
    values = {}
    for band in spec.bands:
        true = np.clip(of.mag[:, names.index(band.name)], 3, 28)
        values[band.mag] = (true + rng.normal(0, RELATIVE_ERROR, len(of))).astype(np.float32)
        values[band.err] = np.full(len(of), RELATIVE_ERROR, np.float32)
    return values


def _spectra(of: SkyObjects, rng: np.random.Generator) -> dict[str, pa.Array]:
    error = np.abs(np.repeat(of.xp[:, [0, 55]], 55, axis=1)) * np.float32(XP_ERROR) + np.float32(0.1)
    seen = (of.xp + error * rng.standard_normal(error.shape)).astype(np.float32)
    offsets = pa.array(np.arange(0, len(of) * 55 + 1, 55, dtype=np.int32))
    return {
        f"{half}_{what}": pa.ListArray.from_arrays(
            offsets, pa.array(np.ascontiguousarray(x[:, part]).ravel())
        )
        for half, part in (("bp", slice(0, 55)), ("rp", slice(55, 110)))
        for what, x in (("coefficients", seen), ("coefficient_errors", error))
    }


def _label(conn: psycopg.Connection, ids: np.ndarray, of: SkyObjects, where: dict, file_id: int) -> None:
    own = pa.array(ids).cast(pa.string())
    values = {"apogee_id": own, "file_row": np.arange(1, len(ids) + 1, dtype=np.int32), "snr": _real(100.0, ids),
              "gaia_source_id": ids}  # fmt: skip
    values |= {name: where[name][::LABELLED] for name in ("ra", "dec")}
    for name, error in (("fe_h", 0.02), ("teff", 30.0), ("logg", 0.03)):
        low, high = {"fe_h": (-2.9, 1.4), "teff": (2600, 29000), "logg": (-1.9, 6.9)}[name]
        values[name] = np.clip(getattr(of, name), low, high).astype(np.float32)
        values[f"{name}_err"] = _real(error, ids)
    _fill(conn, "survey", LABELS, values, file_id)
    _fill(conn, "matched", LABELS, {"source_id": ids, "apogee_id": own, "separation_arcsec": _real(0.0, ids)})


def _fill(
    conn: psycopg.Connection, schema: str, table: str, columns: dict, file_id: int | None = None
) -> None:
    if file_id is not None:
        n = len(next(iter(columns.values())))
        columns = columns | {"quality": np.zeros(n, np.int64), "file_id": np.full(n, file_id, np.int32)}
    arrays = [v if isinstance(v, pa.Array) else pa.array(v) for v in columns.values()]
    batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
    copy_batches(conn, sql.Identifier(schema, table), batch.schema.names, [batch])


def _record_file(conn: psycopg.Connection, dataset: str, release: str, rows: int) -> None:
    conn.execute(
        "INSERT INTO msacat.files (survey, release, path, content_sha256, rows_read, rows_kept, spec_version, "
        "spec_fingerprint, code_version) VALUES (%s, %s, %s, %s, %s, %s, 1, '', '')",
        [dataset, release, f"made up: {dataset}", dataset, rows, rows],
    )
