"""A store of made-up stars: a reference survey, one photometric survey, spectra and labels, all by survey files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from psycopg import sql

from msacat.catalog.server.connect import connect
from msacat.catalog.server.copy_batches import copy_batches
from msacat.catalog.store.register_survey import register_survey
from msacat.catalog.surveys.survey_spec import SurveySpec

N_STARS = 600


def column(name: str, kind: str = "real", **more) -> dict:
    return {"name": name, "type": kind, "published": [name], "description": f"The column {name}.", **more}


def spec(name: str, role: str, columns: list[dict], **more) -> SurveySpec:
    common = {"title": name, "version": 1, "release": "made_up", "description": "Made up.", "reference": "none",
              "attribution": "none"}  # fmt: skip
    return SurveySpec.model_validate({**common, "name": name, "role": role, "columns": columns, **more})


def band(name: str, mag: str, system: str = "AB") -> dict:
    return {"name": name, "mag": mag, "err": f"{mag}_err", "system": system, "zero_point_jy": 3631.0,
            "wavelength_nm": 600.0, "width_nm": 100.0, "reference": "none", "typical_err": 0.05}  # fmt: skip


POSITION = [column("ra", "double precision", unit="deg"), column("dec", "double precision", unit="deg")]
MAG = {"unit": "mag", "ucd": "phot.mag;em.opt", "range": (0.0, 40.0)}
GAIA = spec(
    "gaia_made_up", "reference",
    [column("source_id", "bigint"), *POSITION, column("parallax", unit="mas"), column("parallax_error", unit="mas"),
     column("g", **MAG), column("g_err", **MAG)],
    id={"column": "source_id"}, position={"epoch": 2016.0}, scalars=["parallax"], bands=[band("gaia_g", "g", "Vega")],
)  # fmt: skip
PHOT = spec(
    "phot_made_up", "photometry",
    [column("phot_id", "text"), *POSITION, column("u", **MAG), column("u_err", **MAG), column("z", **MAG),
     column("z_err", **MAG), column("bad", "integer")],
    id={"column": "phot_id"}, position={"epoch": 2000.0, "match_radius_arcsec": 1.0},
    bands=[band("phot_u", "u"), band("phot_z", "z")],
    quality=[{"bit": 3, "name": "bad_u", "description": "u is bad.", "column": "bad", "bad_if": "==", "value": 1,
              "bands": ["phot_u"]}],
)  # fmt: skip
XP = spec(
    "xp_made_up", "spectra",
    [column("source_id", "bigint"), *[column(f"{half}_{what}", "real[55]") for half in ("bp", "rp")
                                      for what in ("coefficients", "coefficient_errors")]],
    id={"column": "source_id"}, spectra={"origin": "continuous", "preference": 1},
)  # fmt: skip
LABELS = spec(
    "labels_made_up", "labels",
    [column("labels_id", "text"), *POSITION, column("fe_h", unit="dex"), column("fe_h_err", unit="dex"), column("snr")],
    id={"column": "labels_id", "unique": False, "best_by": "snr"},
    position={"epoch": 2016.0, "match_radius_arcsec": 1.0},
    labels=[{"quantity": "fe_h", "value": "fe_h", "err": "fe_h_err", "typical_err": 0.1}],
)  # fmt: skip


@dataclass
class MadeUp:
    """What was put into the store; NaN = NULL. Every third star has u, z; every fourth XP; every fifth a label."""

    dsn: str
    source_id: np.ndarray
    g: np.ndarray
    u: np.ndarray


def rows_to_batch(columns: dict[str, object]):
    import pyarrow as pa

    types = {"i": pa.int64(), "f": pa.float32()}
    arrays = []
    for name, values in columns.items():
        if name in ("file_id", "file_row", "bad"):
            arrays.append(pa.array(values, pa.int32()))
        elif isinstance(values, np.ndarray) and values.ndim == 1 and name not in ("ra", "dec"):
            mask = ~np.isfinite(values) if values.dtype.kind == "f" else None
            arrays.append(pa.array(values, types[values.dtype.kind], mask=mask))
        elif name in ("ra", "dec"):
            arrays.append(pa.array(values, pa.float64()))
        elif isinstance(values, np.ndarray):
            arrays.append(pa.array(list(values.astype(np.float32)), pa.list_(pa.float32())))
        else:
            arrays.append(pa.array(values))
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def insert(conn, table: str, columns: dict[str, object]) -> None:
    schema, name = table.split(".")
    batch = rows_to_batch(columns)
    copy_batches(conn, sql.Identifier(schema, name), batch.schema.names, [batch])


@pytest.fixture
def made_up(store) -> MadeUp:
    rng = np.random.default_rng(1)
    cells = np.arange(N_STARS) % 80
    source_id = np.sort(cells.astype(np.int64) * 2**49 + rng.integers(0, 2**49, N_STARS))
    g = rng.uniform(12, 20, N_STARS).astype(np.float32)
    u = (g + 1.5).astype(np.float32)
    ra, dec = rng.uniform(0, 359, N_STARS), rng.uniform(-80, 80, N_STARS)
    third, fourth, fifth = (np.arange(N_STARS) % k == 0 for k in (3, 4, 5))
    with connect(store) as conn:
        for survey in (GAIA, PHOT, XP, LABELS):
            register_survey(conn, survey)
        for survey in (GAIA, PHOT, XP, LABELS):
            conn.execute(
                "INSERT INTO msacat.files (survey, release, path, content_sha256, rows_read, rows_kept, spec_version, "
                "spec_fingerprint, code_version) VALUES (%s, 'made_up', 'none', %s, 0, 0, 1, '', '')",
                [survey.name, survey.name],
            )
        insert(
            conn,
            "survey.gaia_made_up",
            {
                "source_id": source_id,
                "ra": ra,
                "dec": dec,
                "parallax": rng.normal(1, 0.1, N_STARS),
                "parallax_error": np.full(N_STARS, 0.1),
                "g": np.where(np.arange(N_STARS) == 7, np.nan, g),
                "g_err": np.full(N_STARS, np.nan),
                "quality": np.zeros(N_STARS, np.int64),
                "file_id": [1] * N_STARS,
            },
        )
        n = int(third.sum())
        ids = [f"p{i}" for i in np.flatnonzero(third)]
        bad = (np.arange(n) == 5).astype(int)
        insert(
            conn,
            "survey.phot_made_up",
            {
                "phot_id": ids,
                "ra": ra[third],
                "dec": dec[third],
                "u": u[third],
                "u_err": np.full(n, 0.02),
                "z": np.where(np.arange(n) % 2 == 0, g[third] - 0.5, np.nan),
                "z_err": np.full(n, 0.03),
                "bad": bad,
                "quality": bad.astype(np.int64) * 8,
                "file_id": [2] * n,
            },
        )
        insert(
            conn,
            "matched.phot_made_up",
            {
                "source_id": source_id[third],
                "phot_id": ids,
                "separation_arcsec": np.zeros(n),
            },
        )
        n = int(fourth.sum())
        shape = rng.normal(1, 0.1, (n, 55)).astype(np.float32)
        insert(
            conn,
            "survey.xp_made_up",
            {
                "source_id": source_id[fourth],
                "bp_coefficients": shape,
                "bp_coefficient_errors": shape * 0.1,
                "rp_coefficients": shape * 2,
                "rp_coefficient_errors": shape * 0.2,
                "quality": np.zeros(n, np.int64),
                "file_id": [3] * n,
            },
        )
        n = int(fifth.sum())
        ids = [f"a{i}" for i in np.flatnonzero(fifth)]
        for row, snr in ((1, 50.0), (2, 80.0)):  # each label twice; the one with the better snr counts
            insert(
                conn,
                "survey.labels_made_up",
                {
                    "labels_id": ids,
                    "ra": ra[fifth],
                    "dec": dec[fifth],
                    "fe_h": np.full(n, -snr / 100),
                    "fe_h_err": np.full(n, 0.05),
                    "snr": np.full(n, snr),
                    "quality": np.zeros(n, np.int64),
                    "file_id": [4] * n,
                    "file_row": [row * 1000 + i for i in range(n)],
                },
            )
        insert(conn, "matched.labels_made_up", {"source_id": source_id[fifth], "labels_id": ids})
        conn.commit()
    u_seen = np.where(third, u, np.nan)
    u_seen[np.flatnonzero(third)[5]] = np.nan
    return MadeUp(store, source_id, g, u_seen)
