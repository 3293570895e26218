"""M67's table into folds: errors floored, each star tested once, every method judged on all folds together."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from msacat.catalog.errors import InputRejected
from msacat.model.evaluate.all_methods import make_methods
from msacat.model.evaluate.compare_methods import compare_methods
from msacat.model.evaluate.read_m67 import COLUMNS, m67_folds


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """400 made-up members on one locus, the last without Ks."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("m67") / "m67_flat.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["gaia_dr2_source_id", *(n for c in COLUMNS.values() for n in (c, f"e_{c}"))])
        for i, temperature in enumerate(rng.uniform(-1, 1, 400)):
            row: list = [600_000_000_000_000_000 + 7919 * i]
            for m, column in enumerate(COLUMNS.values()):
                mag = 15 + temperature * (1 + 0.1 * m) + 0.01 * rng.standard_normal()
                row += [""] * 2 if i == 399 and column == "Ks" else [f"{mag:.4f}", 1e-6]
            writer.writerow(row)
    return path


def test_folds(table):
    folds = m67_folds(table, 0)
    tested = np.concatenate([fold.test.source_id_B for fold in folds])
    assert len(folds) == 5 and len(tested) == len(set(tested)) == 400
    for fold in folds:
        everyone = [set(getattr(fold, part).source_id_B) for part in ("train", "calibrate", "test")]
        assert sum(map(len, everyone)) == len(set.union(*everyone)) == 400
        gaia = np.array([name.startswith("gaia_") for name in fold.features.band_names])
        assert np.nanmin(fold.test.mag_err_BM[:, gaia]) == np.float32(0.003)
        assert np.nanmin(fold.test.mag_err_BM[:, ~gaia]) == np.float32(0.01)
    assert sum(np.isnan(getattr(folds[0], p).mag_BM).sum() for p in ("train", "calibrate", "test")) == 1


def test_all_folds_are_judged_together(table):
    batches = list(
        compare_methods(
            m67_folds(table, 0), make_methods(["colour_locus", "knn"]), ["cell_hidden", "survey_hidden"]
        )
    )
    assert len(batches) == 4
    for batch in batches:
        found = {r["quantity"]: r for r in batch if r["g_bin"] == "all"}
        assert len(found) == 15 and found["twomass_ks"]["n"] == 399 and found["sdss_u"]["n"] == 400
        assert all(r["nmad"] < 0.05 and r["against"] == "observed" for r in found.values())


def test_another_table_is_refused(tmp_path):
    with pytest.raises(InputRejected, match="not here"):
        m67_folds(tmp_path / "none.csv", 0)
    (tmp_path / "other.csv").write_text("gaia_dr2_source_id,G\n1,2\n")
    with pytest.raises(InputRejected, match="not the table of M67"):
        m67_folds(tmp_path / "other.csv", 0)
