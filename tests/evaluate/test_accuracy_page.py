"""From records to the tables: ratios seed by seed, the right mixture, every part of the page."""

from __future__ import annotations

import numpy as np
import pytest

from msacat.model.evaluate.accuracy_page import accuracy_page
from msacat.model.evaluate.accuracy_tables import summarise

NMAD = {"msacat": 0.8, "mfa": 1.0, "mfa-robust": 0.9, "lightgbm": 2.0, "colour_locus": 4.0, "gaiaxpy": 0.1}
BANDS = ("ps1_g", "ps1_i", "twomass_j")


def records(
    dataset: str = "sky", regime: str = "random_cells", seeds: tuple[int, ...] = (0,), **changed
) -> list[dict]:
    """NMAD of a method: 0.01 mag × NMAD × (1 + seed), by band ×1, ×2, ×4; msacat's own bands equal in proportion."""
    out = []
    for seed in seeds:
        for method, factor in NMAD.items():
            for b, band in enumerate(BANDS):
                for g_bin, n in (("all", 5000), ("17-18", 2500)):
                    for against in ("truth", "observed"):
                        nmad = 0.01 * factor * 2**b * (1 + seed) * (3 if against == "observed" else 1)
                        out.append({
                            "dataset": dataset, "regime": regime, "quantity": band, "g_bin": g_bin, "method": method,
                            "against": against, "n": n, "bias": 0.0, "nmad": nmad, "nmad_lo": 0.99 * nmad,
                            "nmad_hi": 1.01 * nmad, "mae": nmad, "rmse": nmad, "outliers": 0.0, "coverage68": 0.68,
                            "coverage95": 0.95, "crps": nmad, "hallucinated": 0.01, "seed": seed, "stars": 10_000,
                            "commit": "abc", "date": "2026-01-01", "seconds": 1.0, "key": f"{method}{seed}",
                        } | changed)  # fmt: skip
    return out


def row(rows, method):
    return next(s for s in rows if s.method == method)


def test_means_and_ratios():
    own = row(summarise(records(seeds=(0, 1))), "msacat")
    assert own.nmad == pytest.approx(0.008 * 2 * 1.5) and own.bands == 3
    assert own.over_conventional == pytest.approx(0.4) and own.over_mfa == pytest.approx(0.8)
    assert own.worst_over_mfa == pytest.approx(0.8 * (1 - 2 * 0.01 * 2**0.5))


def test_the_robust_mixture_counts_where_stars_are_not_clean():
    assert row(summarise(records("sky-dirty")), "msacat").over_mfa == pytest.approx(0.8 / 0.9)
    assert row(summarise(records("m67", "cell_hidden")), "msacat").over_mfa == pytest.approx(0.8 / 0.9)


def test_real_stars_are_judged_by_what_was_observed():
    assert row(summarise(records("apogee", "survey_hidden_xp_seen")), "mfa").nmad == pytest.approx(
        0.01 * 2 * 3
    )


def test_too_few_stars_and_partial_methods_are_left_out_of_means():
    few = [r | {"n": 99} for r in records() if r["quantity"] == "twomass_j"]
    rows = summarise([r for r in records() if r["quantity"] != "twomass_j"] + few)
    assert row(rows, "msacat").bands == 2 and "gaiaxpy" not in {s.method for s in rows}


def test_the_page_holds_every_table():
    white_dwarfs = [r | {"dataset": "sky-dirty:white_dwarf"} for r in records("sky-dirty")]
    page = accuracy_page(records() + records("sky-dirty") + white_dwarfs)
    for words in (
        "## sky\n", "### sky: random_cells", "÷ conventional ≤ 0.68", "| msacat | 0.0160 | 0.40 | 0.80 |", "gaiaxpy*",
        "NMAD of msacat by G (÷ MFA)", "share of truth values inside", "share of observed values inside",
        "### sky-dirty: other classes", "| white_dwarf | random_cells | msacat |", "10,000 stars; seeds 0; code abc",
    ):  # fmt: skip
        assert words in page, words


def test_ratios_by_brightness_are_of_the_seeds_that_both_stand_in():
    """Errors of seed 1 are twice those of seed 0; the mixture was run with seed 0 alone."""
    both = records(seeds=(0, 1))
    page = accuracy_page([r for r in both if (r["method"], r["seed"]) != ("mfa", 1)])
    assert "| random_cells | ps1_g | 0.0120 (0.80) |" in page
    assert "| mfa | 0.0200 | 0.50 | 1.00 | 0.97 | 0.68 | 0.95 | 1.0 % | 1 |" in page
    assert "| msacat | 0.0240 | 0.40 | 0.80 | 0.78 | 0.68 | 0.95 | 1.0 % | 2 |" in page


def test_intervals_that_hold_nothing_are_blank_for_ordinary_stars_and_for_others():
    nothing = [r | {"coverage68": 0.0, "coverage95": 0.004, "hallucinated": 1.0} for r in records()]
    page = accuracy_page(records() + [r | {"dataset": "sky:quasar"} for r in nothing])
    assert "| quasar | random_cells | msacat | 3 | 0.0160 |  |  |  |" in page and "100.0 %" not in page
    assert "| msacat | 0.0160 | 0.40 | 0.80 | " in accuracy_page(nothing) and "100.0 %" not in accuracy_page(
        nothing
    )


def test_a_seed_without_conventional_methods_leaves_their_ratio_to_the_others():
    def record(method, seed, nmad):
        return {"dataset": "sky", "regime": "random_cells", "quantity": "ps1_g", "g_bin": "all", "method": method,
                "against": "truth", "n": 500, "nmad": nmad, "nmad_lo": nmad, "nmad_hi": nmad, "coverage68": 0.68,
                "coverage95": 0.95, "crps": nmad, "hallucinated": 0.0, "seed": seed}  # fmt: skip

    records = [
        record("msacat", 0, 0.01),
        record("lightgbm", 0, 0.02),
        record("msacat", 1, 0.03),
        record("mfa", 1, 0.04),
    ]
    found = {s.method: s for s in summarise(records)}
    assert found["msacat"].over_conventional == pytest.approx(0.5)
    assert found["msacat"].over_mfa == pytest.approx(0.75)
    assert np.isnan(found["mfa"].over_conventional)
