"""E(B-V) from the user's copy of the SFD map: a file, a table, an input of the next model; no edit but a survey file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from psycopg import sql

from msacat.catalog.enrich.write_enriched import read_stars
from msacat.catalog.ingest.reddening_of_stars import MAPS
from msacat.catalog.server.connect import connect
from msacat.catalog.store.register_survey import registered_specs
from msacat.catalog.store.star_view import star_features
from msacat.catalog.stream.star_rows import require_stars
from msacat.model.predict_stars import StarModel

PIXELS = 256


def ebv_of(l_deg: np.ndarray, b_deg: np.ndarray) -> np.ndarray:
    """mag; smooth, and different everywhere."""
    return 0.3 + 0.2 * np.cos(np.radians(l_deg)) * np.cos(np.radians(b_deg)) + 0.1 * np.sin(np.radians(b_deg))


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both hemispheres in the projection and the files of the published map, 256 pixels wide instead of 4096."""
    pytest.importorskip("dustmaps", reason="the optional package dustmaps is not installed")
    from astropy.io import fits
    from astropy.wcs import WCS

    folder = tmp_path_factory.mktemp("maps")
    for name, pole in zip(MAPS, (1, -1), strict=True):
        w = WCS(naxis=2)
        w.wcs.ctype = ["GLON-ZEA", "GLAT-ZEA"]
        w.wcs.crval = [0.0, 90.0 * pole]
        w.wcs.crpix = [(PIXELS + 1) / 2] * 2
        scale = 180 / np.pi * 2 * np.sqrt(2) / PIXELS * 1.02  # the equator lies inside
        w.wcs.cdelt = [-scale, scale]
        w.wcs.lonpole = 180.0
        x, y = np.meshgrid(np.arange(PIXELS), np.arange(PIXELS))
        l_deg, b_deg = w.wcs_pix2world(x, y, 0)
        data = np.where(np.isfinite(b_deg), ebv_of(l_deg, b_deg), 0.0).astype(np.float32)
        fits.writeto(folder / name, data, w.to_header())
    return folder


def test_from_the_map_to_a_model_that_reads_it(maps, trained, msacat_at, tmp_path):
    file = tmp_path / "reddening.parquet"
    ended = msacat_at(trained, "reddening", file, "--maps", maps)
    assert ended.code == 0 and f"next: msacat ingest reddening_sfd {file}" in ended.out

    with connect(trained, read_only=True) as conn:
        rows = conn.execute("SELECT source_id, ra, dec FROM survey.gaia_source ORDER BY 1").fetchall()
    table = pq.read_table(file)
    assert table["source_id"].to_pylist() == [row[0] for row in rows]
    from astropy.coordinates import SkyCoord

    galactic = SkyCoord([row[1] for row in rows], [row[2] for row in rows], unit="deg").galactic
    expected = ebv_of(galactic.l.deg, galactic.b.deg)
    ebv, error = (table[name].to_numpy() for name in ("ebv", "ebv_error"))
    assert np.median(np.abs(ebv - expected)) < 0.003 and np.abs(ebv - expected).max() < 0.02
    np.testing.assert_allclose(error, 0.16 * ebv, rtol=1e-5)

    before = _features(trained)
    assert [s.name for s in before.scalars] == ["parallax", "pmra", "pmdec"]
    assert msacat_at(trained, "ingest", "reddening_sfd", file, "--quiet").code == 0
    after = _features(trained)
    assert [(s.name, s.unit) for s in after.scalars][-1] == ("ebv", "mag")
    with connect(trained, read_only=True) as conn:
        stored = conn.execute(
            "SELECT source_id, ebv, ebv_error FROM matched.stars ORDER BY 1 LIMIT 5"
        ).fetchall()
    np.testing.assert_array_equal(np.float32([row[1:] for row in stored]).T, [ebv[:5], error[:5]])
    assert msacat_at(trained, "verify", "--quiet").code == 0

    # the model that was there knows nothing of it, and goes on
    assert msacat_at(trained, "enrich", "--new", "--model", "trained_store", "--quiet").code == 0
    with connect(trained, read_only=True) as conn:
        assert conn.execute("SELECT count(ebv) FROM enriched.stars").fetchone() == (len(rows),)
    ended = msacat_at(trained, "train", "--name", "reddened", "--epochs", 1, "--quiet", "--json")
    assert ended.code == 0
    model = StarModel.load(json.loads(ended.out)["folder"], "cpu")
    assert [s.name for s in model.features.scalars][-1] == "ebv"
    with connect(trained, read_only=True) as conn:
        every = sql.SQL("true")
        block, _ = read_stars(conn, model.features, require_stars(conn), every, 0, 2**62)[0]
    assert np.isfinite(block.scalar_BS[:, -1]).all()
    said = model.predict(block)
    block.scalar_BS[:, -1] += 0.5
    assert np.nanmax(np.abs(model.predict(block).mag_BM - said.mag_BM)) > 0  # it is read
    block.scalar_BS[:, -1] = np.nan
    assert np.isfinite(model.predict(block).mag_BM).all()  # and may be missing


def _features(dsn: str):
    with connect(dsn, read_only=True) as conn:
        return star_features(conn, registered_specs(conn))


def test_a_map_that_is_not_there(store, msacat_at, tmp_path, trained_once):
    ended = msacat_at(store, "reddening", tmp_path / "r.parquet", "--maps", tmp_path)
    assert ended.code == 1 and "holds no stars" in ended.err
    ended = msacat_at(trained_once, "reddening", tmp_path / "r.parquet", "--maps", tmp_path)
    assert ended.code == 1 and MAPS[0] in ended.err and "10.7910/DVN/EWCNL5" in ended.err
    ended = msacat_at(trained_once, "reddening", tmp_path / "r.csv", "--maps", tmp_path)
    assert ended.code == 2 and ".parquet" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_map(maps, trained_once, msacat_at, tmp_path):
    for name in MAPS:
        (tmp_path / name).write_bytes((maps / name).read_bytes()[:4000])
    ended = msacat_at(trained_once, "reddening", tmp_path / "r.parquet", "--maps", tmp_path)
    assert ended.code == 1 and str(tmp_path) in ended.err and not (tmp_path / "r.parquet").exists()


def test_names_that_are_taken(trained, msacat_at, tmp_path):
    """Two tables may not feed one input."""
    text = (Path(__file__).parents[2] / "catalog" / "surveys" / "reddening_sfd.toml").read_text()
    (tmp_path / "other.toml").write_text(
        text.replace('name = "reddening_sfd"', 'name = "other"').replace("ebv", "parallax")
    )
    ended = msacat_at(trained, "survey", "add", tmp_path / "other.toml")
    assert ended.code == 2 and "parallax, parallax_error" in ended.err
