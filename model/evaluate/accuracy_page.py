"""docs/accuracy.md from records: summaries, bands, coverage, other classes, inventions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from msacat.model.evaluate.accuracy_tables import (
    AIMS,
    FEWEST_IN_MEAN,
    PARTIAL,
    Summary,
    against_of,
    in_mean,
    mixture_of,
    ratio_words,
    summarise,
)
from msacat.model.evaluate.regimes import REGIMES

OWN = "msacat"
ENOUGH = 2000  # test stars of a band and G bin whose coverage is judged
MEANT = {
    "random_cells": "30 % of each star's measured values hidden, G kept, the spectrum counting as one value",
    "survey_hidden_xp_seen": "a whole survey hidden, the spectrum seen",
    "xp_hidden": "the spectrum hidden; NMAD over 110 coefficients, in units of their scatter",
    "xp_and_survey_hidden": "the spectrum and a survey hidden",
    "faint_survey_hidden": "a survey hidden, G > 17.65: beyond the XP limit",
    "faint_xp_one_survey_seen": "17.65 < G < 19: the predicted spectrum (xp: its coefficients; g r i z: its synthetic PS1 magnitudes); Gaia, the "
    "infrared and one optical survey seen",
    "faint_xp_infrared_seen": "17.65 < G < 19: the same, Gaia, 2MASS and CatWISE seen alone",
    "labels_xp_seen": "[Fe/H] in dex, from spectrum and magnitudes",
    "labels_magnitudes_seen": "[Fe/H] in dex, from the magnitudes alone",
    "cell_hidden": "one band hidden",
    "survey_hidden": "a whole survey hidden",
}
INTRODUCTION = f"""\
# Accuracy

Made by `msacat evaluate --page` from `benchmarks/results/accuracy.json`; not written by hand.

Every method fills in the same hidden values of the same test stars, in sky cells that none was fitted to. On
simulated skies values are compared with the **truth**, on real stars with what was **observed**. NMAD: 1.4826 median
|d − median d| of d = imputed − true, mag; as one number its geometric mean over bands with at least {FEWEST_IN_MEAN}
test stars. *÷ conventional*: the best of those of median colour, colour locus, kNN, ridge, forests (missforest), boosting
(lightgbm, xgboost), MLP and EM-Gaussian that stand in the same table; one that does not stand there was not run, and might
be better; a seed without them is left out. *÷ MFA*: the mixture of factor analysers, its robust form wherever stars are not
clean. *mfa-background*: the same mixture, fitted to spectra from which the constant flux that all published ones lack has
been taken, as ours is. *worst band*: largest ratio to the MFA of a band with 2,000 test stars, less two bootstrap errors. 68 %, 95 %: share of truths inside the stated intervals. *invented*: share
further off than 5 stated errors or than 0.5 mag. Methods without error bars of their own are given those their residuals
on calibration stars deserve; blank where no calibration star tells. Intervals of *observed* values hold, beside that, their
noise and the share of wrong measurements, as the method believes in them. *gaiaxpy\\**: GaiaXPy's synthetic photometry of the
star's spectrum, which answers only for stars whose spectrum is seen: not comparable where the spectrum may be hidden.
*msacat:probe*: a linear regression of [Fe/H] on the embedding alone. *oracle* (in a table of its own, of a few test stars):
the posterior over very many noise-free stars of the same simulation. No one could use it: it shows what is left to gain. With many precise values of a star seen,
even so many are too sparse, and a method that interpolates comes out ahead of it."""


def accuracy_page(records: list[dict]) -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    summaries = summarise(records)
    for dataset in dict.fromkeys(s.dataset for s in summaries if ":" not in s.dataset):
        of_set = [r for r in records if r["dataset"] == dataset]
        lines += ["", f"## {dataset}", "", _provenance(of_set)]
        for regime in REGIMES:
            rows = [s for s in summaries if (s.dataset, s.regime) == (dataset, regime)]
            if rows:
                lines += [
                    "",
                    f"### {dataset}: {regime}",
                    "",
                    MEANT[regime][0].upper() + MEANT[regime][1:] + ".",
                    "",
                ]
                if aim := AIMS.get((dataset, regime)):
                    lines += [f"Aim: {aim}.", ""]
                lines += [*_summary_table(rows), "", *_by_band(of_set, dataset, regime)]
        lines += _by_brightness(of_set, dataset) + _coverage(of_set, dataset) + _classes(records, dataset)
    return "\n".join(lines) + "\n"


def _provenance(records: list[dict]) -> str:
    seeds, stars = sorted({r["seed"] for r in records}), sorted({r["stars"] for r in records})
    commits = ", ".join(sorted({r["commit"][:10] for r in records}))
    counts = ", ".join(f"{n:,}" for n in stars)
    return f"{counts} stars; seeds {', '.join(map(str, seeds))}; code {commits}; {max(r['date'] for r in records)}."


def _summary_table(rows: list[Summary]) -> list[str]:
    body = [
        [s.method, f"{s.nmad:.4f}", ratio_words(s.over_conventional), ratio_words(s.over_mfa), ratio_words(s.worst_over_mfa),
         *s.interval_words()]
        for s in rows
    ]  # fmt: skip
    head = ["method", "NMAD", "÷ conventional", "÷ MFA", "worst band", "68 %", "95 %", "invented"]
    return _table(head, body)


def _by_band(records: list[dict], dataset: str, regime: str) -> list[str]:
    """NMAD of every quantity by method, mean over seeds; a partial method's over the stars it answers for."""
    chosen = [
        r
        for r in records
        if r["regime"] == regime and r["against"] == against_of(dataset) and r["g_bin"] == "all"
    ]
    methods = list(dict.fromkeys(r["method"] for r in chosen))
    body = []
    for quantity in dict.fromkeys(r["quantity"] for r in chosen):
        n = max(r["n"] for r in chosen if r["quantity"] == quantity)
        body.append([quantity, str(n), *(_cell(chosen, quantity, method) for method in methods)])
    head = [f"{m}*" if m in PARTIAL else m for m in methods]
    return _table(["NMAD, RMSE" if regime.startswith("labels_") else "NMAD", "n", *head], body)


def _cell(records: list[dict], quantity: str, method: str) -> str:
    nmad, rmse = (_mean(records, name, quantity=quantity, method=method) for name in ("nmad", "rmse"))
    if not np.isfinite(nmad):
        return ""
    return f"{nmad:.4f}" + (f", {rmse:.4f}" if quantity == "fe_h" else "")


def _by_brightness(records: list[dict], dataset: str) -> list[str]:
    """NMAD of our own by G, and its ratio to the mixture's."""
    chosen = [
        r for r in records if r["against"] == against_of(dataset) and r["g_bin"] != "all" and in_mean(r)
    ]
    bins = sorted({r["g_bin"] for r in chosen}, key=lambda b: int(b.split("-")[0]))
    body = []
    for regime in REGIMES:
        for quantity in dict.fromkeys(r["quantity"] for r in chosen if r["regime"] == regime):
            cells = []
            for g_bin in bins:
                at = {"regime": regime, "quantity": quantity, "g_bin": g_bin}
                own = _mean(chosen, "nmad", method=OWN, **at)
                ratio = own / _mean(chosen, "nmad", method=mixture_of(dataset), **at)
                cells.append(
                    ""
                    if not np.isfinite(own)
                    else f"{own:.4f}" + (f" ({ratio:.2f})" if np.isfinite(ratio) else "")
                )
            if any(cells):
                body.append([regime, quantity, *cells])
    title = f"### {dataset}: NMAD of {OWN} by G (÷ MFA)"
    return ["", title, "", *_table(["regime", "quantity", *bins], body)] if body else []


def _coverage(records: list[dict], dataset: str) -> list[str]:
    """Shares of values inside our own intervals, by band and G, where there are enough stars to judge."""
    lines: list[str] = []
    for against in ("truth", "observed"):
        chosen = [
            r
            for r in records
            if r["method"] == OWN and r["against"] == against and r["g_bin"] != "all" and r["n"] >= ENOUGH
        ]
        bins = sorted({r["g_bin"] for r in chosen}, key=lambda b: int(b.split("-")[0]))
        body = []
        for regime in REGIMES:
            for quantity in dict.fromkeys(r["quantity"] for r in chosen if r["regime"] == regime):
                cells = []
                for g_bin in bins:
                    at = {"regime": regime, "quantity": quantity, "g_bin": g_bin}
                    shares = [_mean(chosen, name, **at) for name in ("coverage68", "coverage95")]
                    cells.append(f"{shares[0]:.2f} {shares[1]:.2f}" if np.isfinite(shares[0]) else "")
                body.append([regime, quantity, *cells])
        if body:
            lines += ["", f"### {dataset}: share of {against} values inside the 68 % and 95 % intervals of {OWN}", "",
                      f"Bands and G bins with at least {ENOUGH:,} test stars.", "",
                      *_table(["regime", "quantity", *bins], body)]  # fmt: skip
    return lines


def _classes(records: list[dict], dataset: str) -> list[str]:
    """What is no ordinary star, apart."""
    others = [s for s in summarise(records) if s.dataset.startswith(f"{dataset}:")]
    if not others:
        return []
    body = [
        [s.dataset.split(":")[1], s.regime, s.method, str(s.bands), f"{s.nmad:.4f}", *s.interval_words()]
        for s in others
    ]
    head = ["class", "regime", "method", "bands", "NMAD", "68 %", "95 %", "invented"]
    return ["", f"### {dataset}: other classes", "", *_table(head, body)]


def _mean(records: Iterable[dict], name: str, **at: str) -> float:
    found = [r[name] for r in records if all(r[key] == value for key, value in at.items())]
    return float(np.mean(found)) if found else float("nan")


def _table(head: list[str], body: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *("| " + " | ".join(row) + " |" for row in body),
    ]
