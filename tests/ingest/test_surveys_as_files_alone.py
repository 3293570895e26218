"""DELVE, Rubin, Euclid and GALAH are files and nothing else: invented rows under their published names go all the way.

No real file of theirs is within reach; that the names are right is what `source` and `unverified` say of each column.
"""

from __future__ import annotations

import numpy as np
import pytest
from psycopg import sql

from msacat.catalog.crossmatch.crossmatch_stars import crossmatch
from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.store.star_view import star_features
from msacat.catalog.store.verify_catalog import verify
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_column import Column
from msacat.catalog.surveys.survey_spec import SurveySpec

N = 20
ARCSEC = 1 / 3600
#: columns in which an ordinary star is not zero
ORDINARY = {"r_epoch": 60500.0, "POINT_LIKE_PROB": 0.99, "snr_c3_iraf": 60.0}


def published_row(spec: SurveySpec, i: int) -> dict[str, object]:
    """What the publisher would write of an ordinary star near Gaia star `i`."""
    row: dict[str, object] = {}
    for column in spec.columns:
        inputs = column.computed.inputs if column.computed else [column.published]
        for name, *_ in inputs:
            row[name] = ORDINARY.get(name, _ordinary(spec, column, i))
    # a flux of magnitude 18 in every band, with an error of 2 %
    for column in spec.columns:
        if column.computed and column.computed.transform == "mag_error_from_flux":
            zero_point = next(
                c.computed.zero_point for c in spec.columns
                if c.computed and c.computed.columns == column.computed.columns[:1] and c.computed.zero_point
            )  # fmt: skip
            flux = 10 ** (0.4 * (zero_point - 18.0))
            row |= dict(zip(column.computed.columns, (flux, 0.02 * flux), strict=True))
    return row


def _ordinary(spec: SurveySpec, column: Column, i: int) -> object:
    assert spec.position is not None
    named = {spec.id.column: 10**17 + i, spec.position.ra: 100.0 + i, spec.position.dec: -5.0 + 0.1 * ARCSEC}
    if column.name in named:
        return named[column.name]
    if column.name == spec.position.gaia_id:
        return i + 1 if i % 2 else -9999
    if column.type in ("boolean", "text"):
        return "false" if column.type == "boolean" else f"T{i}"
    if column.ucd.startswith("phot.mag"):
        return 17.5
    if column.ucd.startswith("stat.error"):
        return 0.02
    low, high = column.range or (0.0, 0.0)
    return 0 if low <= 0 <= high else (low + high) / 2


@pytest.mark.parametrize("dataset", ["delve_dr2", "lsst", "euclid", "galah_dr3"])
def test_from_a_file_of_published_names_to_the_models_features(conn, write_csv, dataset):
    spec = builtin_specs()[dataset]
    gaia = [{"source_id": i + 1, "ra": 100.0 + i, "dec": -5.0, "phot_g_mean_mag": 17.0} for i in range(N)]
    run_ingest(conn, plan_ingest(conn, "gaia_source", [write_csv("gaia.csv", gaia)]))
    path = write_csv(f"{dataset}.csv", [published_row(spec, i) for i in range(N)])
    [one] = run_ingest(conn, plan_ingest(conn, dataset, [path])).files
    assert (one.rows_kept, one.rows_rejected, one.columns_unused, one.columns_absent) == (N, {}, [], [])
    assert all(key.endswith("sentinel") for key in one.values_nulled)
    assert crossmatch(conn, dataset).n_matched == N
    for band in spec.bands:
        query = sql.SQL("SELECT {}, {} FROM matched.stars").format(
            sql.Identifier(band.name), sql.Identifier(f"{band.name}_err")
        )
        mag, err = np.array(conn.execute(query).fetchall(), float).T
        fluxes = spec.column(band.mag).computed is not None
        assert mag == pytest.approx(np.full(N, 18.0 if fluxes else 17.5), abs=1e-4), band.name
        assert err == pytest.approx(np.full(N, 0.0217 if fluxes else 0.02), abs=1e-4)
    for label in spec.labels:
        value = f"{dataset}_{label.quantity}"
        query = sql.SQL("SELECT count({}), count({}) FROM matched.stars").format(
            sql.Identifier(value), sql.Identifier(f"{value}_err")
        )
        assert conn.execute(query).fetchone() == (N, N)
    features = star_features(conn, {s: builtin_specs()[s] for s in ("gaia_source", dataset)})
    assert {b.name for b in spec.bands} <= set(features.band_names)
    assert {f"{dataset}.{x.quantity}" for x in spec.labels} <= {x.name for x in features.labels}
    assert [r for r in verify(conn, files=True) if not r.passed] == []
