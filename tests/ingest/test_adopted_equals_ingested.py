"""Every dataset, held by an archive under its published names, is shown as ingest would have stored it: the dirty sky."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from psycopg import sql

from msacat.catalog.ingest.adopt_table import adopt
from msacat.catalog.ingest.bind_columns import bind_columns, key_columns
from msacat.catalog.ingest.forget_files import forget
from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.read.read_survey_file import open_survey_file
from msacat.catalog.server.copy_batches import copy_batches
from msacat.catalog.simulated_sky.simulate_sky import simulate
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import SurveySpec

KINDS = {
    pa.int64(): "bigint", pa.int32(): "integer", pa.int16(): "smallint", pa.float64(): "double precision",
    pa.bool_(): "boolean", pa.string(): "text", pa.list_(pa.float32()): "real[]",
}  # fmt: skip


@pytest.fixture(scope="module")
def dirty(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sky") / "dirty"
    simulate(out, 1500, 2, clean=False)
    return out


def make_archive(conn, spec: SurveySpec, files: list[Path]) -> None:
    """public.held: the files' columns under their published names, every value as published."""
    made = False
    for path in files:
        with open_survey_file(path, file_columns=spec.file_columns) as source:
            wanted = dict(bind_columns(spec, source.columns, str(path), "parquet").wanted)
            if not made:
                columns = sql.SQL(", ").join(
                    sql.SQL("{} {}").format(sql.Identifier(n.lower()), sql.SQL(KINDS[k]))
                    for n, k in wanted.items()
                )
                conn.execute(sql.SQL("CREATE TABLE public.held ({})").format(columns))
                made = True
            names = [name.lower() for name in wanted]
            batches = (batch.rename_columns(names) for _, batch in source.batches(wanted))
            copy_batches(conn, sql.Identifier("public", "held"), names, batches)
    by_name = {n.lower(): n.lower() for n in wanted}
    keys = {
        c.name: next(by_name[p.lower()] for p in c.published if p.lower() in by_name)
        for c in spec.columns if c.name in key_columns(spec)
    }  # fmt: skip
    conn.execute(
        sql.SQL("CREATE {} INDEX ON public.held ({})").format(
            sql.SQL("UNIQUE" if spec.id.unique else ""), sql.Identifier(keys[spec.id.column])
        )
    )
    if spec.position:
        position = (sql.Identifier(keys[n]) for n in (spec.position.ra, spec.position.dec))
        conn.execute(sql.SQL("CREATE INDEX ON public.held (q3c_ang2ipix({}, {}))").format(*position))
    conn.commit()


def stored(conn, spec: SurveySpec) -> dict[str, list]:
    """Columns in the order of the rows' own contents."""
    names = [c.name for c in spec.columns] + ["quality"]
    query = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier("survey", spec.name)
    )
    rows = conn.execute(query).fetchall()
    key = [names.index(n) for n in (spec.id.column, spec.id.best_by or spec.id.column)]
    rows.sort(key=lambda row: [str(row[k]) for k in key])
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


@pytest.mark.parametrize(
    "dataset",
    ["gaia_source", "xp_continuous", "sdss_dr13", "skymapper_dr2", "panstarrs1", "twomass_psc", "catwise2020",
     "apogee_dr17", "lamost_dr9", "panstarrs1_best_neighbour"],
)  # fmt: skip
def test_the_view_is_what_ingest_stores(conn, dirty, dataset):
    spec = builtin_specs()[dataset]
    run_ingest(conn, plan_ingest(conn, dataset, [dirty / dataset]))
    ingested = stored(conn, spec)
    forget(conn, dataset)
    make_archive(conn, spec, sorted((dirty / dataset).iterdir()))
    report = adopt(conn, dataset, "public.held")
    adopted = stored(conn, spec)
    assert report.unused == []
    for name, theirs in adopted.items():
        ours = ingested[name]
        assert [x is None for x in theirs] == [x is None for x in ours], name
        if isinstance(next((x for x in ours if x is not None), None), float):
            a, b = (np.array(x, float) for x in (theirs, ours))
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12, err_msg=name)
        else:
            assert theirs == ours, name
