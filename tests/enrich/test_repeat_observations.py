"""Errors judged by stars that a survey lists twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msacat.catalog.crossmatch.crossmatch_stars import crossmatch
from msacat.catalog.server.connect import connect
from msacat.catalog.store.register_survey import find_spec, register_survey, registered_specs
from msacat.catalog.store.star_view import star_features
from msacat.catalog.stream.repeat_observations import fit_error_scale, with_error_scales

FLOOR = 0.01


def pairs(scale: float, common_floor: float, n: int, seed: int, changed: float = 0.0):
    """Differences of two measurements and their stated errors."""
    rng = np.random.default_rng(seed)
    err = np.exp(rng.uniform(np.log(0.003), np.log(0.2), (n, 1))) * rng.uniform(0.9, 1.1, (n, 2))
    own = FLOOR * np.sqrt(1 - common_floor) * rng.standard_normal((n, 2))
    mag = scale * err * rng.standard_normal((n, 2)) + own
    mag[:, 0] += np.where(rng.random(n) < changed, rng.normal(0, 0.3, n), 0.0)
    return mag[:, 0] - mag[:, 1], err


@settings(max_examples=12, deadline=None)
@given(
    scale=st.floats(0.8, 2.0),
    common_floor=st.sampled_from([0.0, 0.75, 1.0]),
    changed=st.floats(0.0, 0.15),
    seed=st.integers(0, 1000),
)
def test_the_scale_is_found_whatever_floor_is_common_and_though_stars_vary(
    scale, common_floor, changed, seed
):
    found = fit_error_scale(*pairs(scale, common_floor, 2_000, seed, changed), FLOOR)
    assert found == pytest.approx(scale, rel=0.12)


def test_no_scale_from_few_pairs_or_from_errors_far_below_the_floor():
    assert fit_error_scale(*pairs(1.5, 0.0, 80, 1), FLOOR) is None
    difference, err = pairs(1.5, 0.0, 2_000, 1)
    bright = FLOOR * np.random.default_rng(2).standard_normal((2_000, 2))
    assert fit_error_scale(bright[:, 0] - bright[:, 1], np.full((2_000, 2), 1e-4), FLOOR) is None
    unpublished = err.copy()
    unpublished[:1_950, 1] = np.nan
    assert fit_error_scale(difference, unpublished, FLOOR) is None


@pytest.mark.parametrize("dataset", ["panstarrs1", "sdss_dr13"])
def test_a_store_with_stars_listed_twice(store, dataset):
    """Neighbours beyond half the radius and rows that fail a cut are no repeats; SDSS marks its own."""
    rng = np.random.default_rng(7)
    n, scale = 600, 1.6
    dec = np.linspace(-2, 2, n)  # 24 arcsec apart
    with connect(store) as conn:
        specs = {name: find_spec(conn, name) for name in ("gaia_source", dataset)}
        spec = specs[dataset]
        for each in specs.values():
            register_survey(conn, each)
            conn.execute(
                "INSERT INTO msacat.files (survey, release, path, content_sha256, rows_read, rows_kept, spec_version, "
                "spec_fingerprint, code_version) VALUES (%s, %s, 'x', %s, 1, 1, 1, 'x', 'x')",
                [each.name, each.release, each.name],
            )
        files = dict(conn.execute("SELECT survey, file_id FROM msacat.files").fetchall())
        conn.cursor().executemany(
            "INSERT INTO survey.gaia_source (source_id, ra, dec, ref_epoch, phot_g_mean_mag, quality, file_id) "
            "VALUES (%s, 10, %s, 2016, 15, 0, %s)",
            [(i + 1, d, files["gaia_source"]) for i, d in enumerate(dec)],
        )
        band = spec.bands[1]
        not_primary = sum(1 << q.bit for q in spec.quality if q.repeat)
        other = next(1 << q.bit for q in spec.quality if q.removes and not q.bands and not q.repeat)
        rows = []
        for i, d in enumerate(dec):
            err = float(np.exp(rng.uniform(np.log(0.02), np.log(0.1))))
            for which, north, quality, wrong in (
                (0, 0.0, 0, 0.0), (1, 0.2, not_primary, 0.0), (2, 0.8, 0, 0.5), (3, 0.1, other, 0.5),
            ):  # fmt: skip
                mag = 15 + np.hypot(scale * err, band.floor_err) * rng.standard_normal() + wrong
                rows.append((4 * i + which + 1, d + north / 3600, mag, err, quality, files[dataset]))
        conn.cursor().executemany(
            f"INSERT INTO survey.{dataset} ({spec.id.column}, ra, dec, {band.mag}, {band.err}, quality, file_id) "
            "VALUES (%s, 10, %s, %s, %s, %s, %s)",
            rows,
        )
        conn.commit()
        crossmatch(conn, dataset)
        conn.execute("ANALYZE")
        registered = registered_specs(conn)
        features = with_error_scales(conn, registered, star_features(conn, registered))
    found = {b.name: b.err_scale for b in features.bands}
    assert found.pop(band.name) == pytest.approx(scale, rel=0.1)
    assert set(found.values()) == {None}
    assert features.err_settled.sum() == 1
    assert type(features).from_json(features.to_json()) == features
