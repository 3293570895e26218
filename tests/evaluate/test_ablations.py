"""Every arm of the ablation at its smallest: it trains, predicts, is judged, and is not done twice."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msacat.catalog.surveys.star_block import StarBlock

ABLATIONS = Path(__file__).resolve().parents[2] / "benchmarks" / "ablations"


@pytest.fixture(scope="module")
def ablations():
    """The benchmarks import one another by bare names."""
    sys.path.insert(0, str(ABLATIONS))
    try:
        import arms
        import page
        import run

        yield arms, run, page
    finally:
        sys.path.remove(str(ABLATIONS))


@pytest.fixture(scope="module")
def stars(data):
    few = {part: getattr(data, part).take(np.arange(250)) for part in ("train", "calibrate")}
    return replace(data.fewer(200), name=data.name, **few)


def test_every_arm_trains_and_is_judged_once(ablations, stars, tmp_path, monkeypatch):
    arms, run, page = ablations
    monkeypatch.setattr(run, "REGIMES", ["random_cells"])
    results = tmp_path / "ablations.json"
    with run.OnePrior().at_work():
        for arm in arms.ARMS:
            run.judge(stars, arm, tmp_path, results, steps=2)
    run.judge_mixture(stars, results)
    records = json.loads(results.read_text())
    assert {r["method"] for r in records} == {f"msacat:{arm.name}" for arm in arms.ARMS} | {
        "mfa-robust",
        "mfa-robust-background",
    }
    assert all(np.isfinite(r["nmad"]) for r in records)
    # a table wants bands of 100 stars
    few = [r | {"n": 1000, "dataset": "sky", "method": r["method"].replace("-robust", "")} for r in records]
    lines = list(page.page(few, {}))
    assert sum(line.startswith("| default: the product's own | 1.000 |") for line in lines) == 1
    assert all(any(line.startswith(f"| {arm.name}: ") for line in lines) for arm in arms.ARMS)
    assert not any(line.startswith("- the clean sky") for line in lines)
    assert any(line.startswith("Code ") and few[0]["commit"][:10] in line for line in lines)
    half = [r for r in few if r["method"] != "msacat:reddening"]
    assert "- the clean sky: reddening" in list(page.page(half, {}))
    before = [r | {"commit": "0" * 40} for r in few]
    lines = list(page.page(half, {}, before))
    earlier = lines[lines.index("## The clean sky, arms measured with earlier code") :]
    assert earlier[2].startswith("Code 0000000000 (") and "- the clean sky: reddening" not in lines
    assert any(line.startswith("| reddening: ") for line in earlier)
    assert not any(line.startswith("| gaussian: ") for line in earlier)
    assert "## The clean sky, arms measured with earlier code" not in list(page.page(few, {}, before))
    robust = [r | {"dataset": "sky-dirty", "method": r["method"].replace("mfa", "mfa-robust")} for r in half]
    dirty = [r for r in robust if r["method"] != "msacat:gaussian"]
    assert "- the dirty sky: gaussian" in list(page.page([*few, *dirty], {}))
    assert not any("- the dirty sky" in line for line in page.page([*few, *robust], {}))
    before = results.stat().st_mtime_ns
    run.judge(stars, arms.ARMS[0], tmp_path, results, steps=2)
    assert results.stat().st_mtime_ns == before


def test_an_arm_that_is_the_default_in_every_number_is_called_so(ablations):
    page = ablations[2]
    known = json.loads(page.RESULTS.read_text("utf-8"))
    default = [r for r in known if (r["dataset"], r["method"]) == ("sky", page.DEFAULT)]
    alike = [r | {"method": "msacat:gaussian", "key": "other", "seconds": 0.0} for r in default]
    lines = list(page.page([*default, *alike], {}))
    assert sum(line.endswith("| the default itself |") for line in lines) == 1
    alike[0] = alike[0] | {"coverage95": 0.0}
    assert not any(line.endswith("| the default itself |") for line in page.page([*default, *alike], {}))


def test_sizes_that_nobody_measured_are_named(ablations):
    run, page = ablations[1:]
    known = [{"dataset": "sky", "method": f"msacat:large-{size}"} for size in run.SIZES[1:]]
    lines = list(page._missing(known))
    assert "more stars, width 384: 2,000 training stars" in lines
    assert sum(line.startswith("more stars, width 96: 2,000, 5,000, ") for line in lines) == 1


def test_passes_and_decades_are_those_of_the_largest_size_measured(ablations):
    """1,000 steps of 256; 154 million stars."""
    run, page = ablations[1:]
    records = [
        {"dataset": "sky", "regime": regime, "quantity": "xp" if regime == "xp_hidden" else "ps1_g", "g_bin": "all",
         "method": f"msacat:large-{size}", "against": "truth", "n": 500, "nmad": 1 / size, "nmad_lo": 1 / size,
         "nmad_hi": 1 / size, "coverage68": 0.68, "coverage95": 0.95, "crps": 0.01, "hallucinated": 0.01, "seed": 0,
         "commit": "abc", "date": "2026-01-01"}
        for size in run.SIZES[:4] for regime in run.REGIMES
    ]  # fmt: skip
    (words,) = (line for line in page._scaling(records) if line.startswith("Steps are the same"))
    assert "8.5 passes over the largest" in words and "3.7 decades beyond" in words


def test_the_page_is_what_the_records_say(ablations):
    """Nobody wrote on it by hand."""
    page = ablations[2]
    records, findings, earlier = (
        json.loads(path.read_text("utf-8")) for path in (page.RESULTS, page.FINDINGS, page.EARLIER)
    )
    made = "\n".join(page.page(records, findings, earlier)) + "\n"
    assert page.PAGE.read_text("utf-8") == made, (
        "python benchmarks/ablations/page.py makes docs/ablations.md anew"
    )


def test_an_arm_is_what_it_says_and_leaves_the_product_as_it_was(ablations, stars, tmp_path, monkeypatch):
    """Two arms that differ in one patch give different models; after them the default is the default again."""
    arms, run, _ = ablations
    monkeypatch.setattr(run, "REGIMES", ["random_cells"])
    named = {arm.name: arm for arm in arms.ARMS}
    results = {}
    for name in ("default", "no-errors", "default-again"):
        arm = named[name.removesuffix("-again")]
        run.judge(stars, replace(arm, name=name), tmp_path, tmp_path / f"{name}.json", steps=4)
        results[name] = [r["nmad"] for r in json.loads((tmp_path / f"{name}.json").read_text())]
    assert results["default"] == results["default-again"]
    assert results["default"] != results["no-errors"]


def test_a_verdict_needs_two_errors(ablations):
    page = ablations[2]
    error = {"random_cells": 0.01, "xp_hidden": 0.01}
    assert page.verdict({"random_cells": 1.019, "xp_hidden": 0.985}, error) == page.NOTHING_SURE
    assert page.verdict({"random_cells": 1.021, "xp_hidden": 0.975}, error) == "worse in random; better in XP"


def test_a_power_law_is_found_with_its_error(ablations):
    from scaling_law import SURVEY, fit_power_law

    stars = np.array([1e3, 1e4, 1e5])
    exact = fit_power_law(stars, 2.0 * stars**-0.25)
    assert exact.exponent == pytest.approx(0.25) and exact.error < 1e-9
    assert exact.predicted == pytest.approx([2.0 * SURVEY**-0.25] * 3)
    rough = fit_power_law(stars, 2.0 * stars**-0.25 * [1.0, 1.1, 1.0])
    assert rough.error > 0.01 and rough.predicted[0] < rough.predicted[1] < rough.predicted[2]


def test_suspect_and_selection_tables_are_shares(ablations, data, model_folder, sky):
    from suspects_and_selection import ks, selection, suspect_power

    power = suspect_power(data, model_folder)
    assert {row["class"] for row in power["classes"]} == set(data.truth.class_B)
    for row in power["values"]:
        narrow, wide = row["widest_of_worst"]
        assert all(0 <= share <= 1 for share in (row["flagged"], row["flagged_of_worst"], narrow, wide))
        assert narrow <= wide and row["errors_off"] > 0
    lines = list(ablations[2].page([], {"suspect": power}))
    assert sum(line.startswith(("| < 17.65 |", "| > 17.65 |")) for line in lines) == 2
    rows = selection(data, model_folder, sky.folder)
    assert rows[0]["truth"]["ks"] == 0 and 0 < rows[0]["overlap"]["n"] < rows[0]["truth"]["n"]
    assert ks(np.arange(10.0), np.arange(10.0) + 100) == 1.0


def test_without_astrometry_nothing_else_is_missing(ablations):
    from astrometry_worth import without_astrometry

    stars = StarBlock.empty(4, 2, 3, 0)
    stars.mag_BM[:], stars.scalar_BS[:], stars.scalar_err_BS[:] = 15.0, 1.0, 0.1
    bare = without_astrometry(stars, np.array([True, True, False]))
    assert np.isnan(bare.scalar_BS[:, :2]).all() and np.isnan(bare.scalar_err_BS[:, :2]).all()
    assert (bare.scalar_BS[:, 2] == 1).all() and (bare.mag_BM == 15).all() and (stars.scalar_BS == 1).all()
    row = {
        "regime": "xp_hidden",
        "nmad": 0.1,
        "nmad_without": 0.12,
        "coverage68": 0.7,
        "coverage68_without": 0.71,
    }
    lines = list(ablations[2].page([], {"astrometry": {"sky-dirty": [row]}}))
    assert "| dirty | XP | 0.1000 | 0.1200 | 1.20 | 0.70 | 0.71 |" in lines


def test_labels_alone_beside_the_pretrained(ablations, data, model_folder, tmp_path):
    """Same stars, same cells; the second call finds both recorded."""
    _, run, page = ablations
    few = {part: getattr(data, part).take(np.arange(280)) for part in ("train", "calibrate")}
    real = replace(data, name="apogee", **few)
    results = tmp_path / "ablations.json"
    run.judge_pretraining(real, model_folder, tmp_path, results, steps=2)
    records = json.loads(results.read_text())
    methods = {"msacat:pretrained", "msacat:labels-alone"}
    assert {(r["method"], r["regime"]) for r in records} >= {(m, run.LABEL_REGIMES[1]) for m in methods}
    text = "\n".join(page.page([r | {"regime": g} for r in records for g in run.LABEL_REGIMES], {}))
    assert (
        "| reconstructing and labels | " in text
        and "| from random weights, labels alone to learn from | " in text
    )
    before = results.stat().st_mtime_ns
    run.judge_pretraining(real, model_folder, tmp_path, results, steps=2)
    assert results.stat().st_mtime_ns == before


def test_the_reddening_arm_reads_the_sky_s_own_dust(ablations, stars, sky):
    """E(B−V) of the whole column: a distant star has what the truth says it is seen through, a near one less."""
    arms = ablations[0]
    assert [arm.name for arm in arms.ARMS if arm.reddening] == ["reddening"]
    import reddening

    with_ebv = reddening.with_reddening(stars, 3)
    assert with_ebv.features.scalars[-1].name == "ebv"
    table = sky.truth()
    order = np.argsort(table["source_id"].to_numpy())
    at = order[np.searchsorted(table["source_id"].to_numpy()[order], with_ebv.train.source_id_B)]
    behind = table["a_v"].to_numpy()[at] / reddening.R_V
    far = table["distance_kpc"].to_numpy()[at] > 3.0
    ebv, err = with_ebv.train.scalar_BS[:, -1], with_ebv.train.scalar_err_BS[:, -1]
    assert far.sum() > 20
    assert 0.9 < np.median(behind[far] / ebv[far]) < 1.1
    assert np.median(behind[~far] / ebv[~far]) < 0.9
    np.testing.assert_allclose(err, reddening.RELATIVE_ERROR * ebv + 1e-3, rtol=1e-4)
    np.testing.assert_array_equal(with_ebv.train.scalar_BS[:, :-1], stars.train.scalar_BS)
