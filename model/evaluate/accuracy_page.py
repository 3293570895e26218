"""docs/accuracy.md from records: summaries, bands, coverage, other classes, inventions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
from msacat.model.evaluate.opponents.gradient_boosting import MAX_STARS as BOOSTING
from msacat.model.evaluate.opponents.iterative_ridge import MAX_STARS as RIDGE
from msacat.model.evaluate.opponents.missforest import MAX_STARS as FORESTS
from msacat.model.evaluate.opponents.nearest_neighbours import MAX_STARS as NEIGHBOURS
from msacat.model.evaluate.regimes import REGIMES
from msacat.model.evaluate.scaled_table import COMPONENTS

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

Every method fills in the same hidden values of the same test stars, in sky cells that none was fitted to. On simulated
skies values are compared with the **truth**, on real stars with what was **observed**.

Not all are shown the same. All are shown magnitudes and spectra; msacat, the mixtures and EM-Gaussian their errors as well;
**msacat alone parallax and proper motion**, which simulated stars have and the real ones of these tables have not
([ablations.md](ablations.md), "Parallax and proper motion", says what they are worth). kNN learns from at most {NEIGHBOURS:,}
training stars, ridge from {RIDGE:,}, forests from {FORESTS:,}, lightgbm from {BOOSTING:,}, and were not tried on more; these
four see of a spectrum its {COMPONENTS} leading components.

* *NMAD*: 1.4826 median |d − median d| of d = imputed − true, mag; as one number its geometric mean over bands with at least
  {FEWEST_IN_MEAN} test stars, and the mean over the seeds that the method was run with (*seeds*: how many).
* *÷ conventional*: over the best of median colour, colour locus, kNN, ridge, forests (missforest), boosting (lightgbm,
  xgboost), MLP and EM-Gaussian, as far as they stand in the same table; one that does not was not run, and might be better.
  *÷ MFA*: over the mixture of factor analysers, its robust form wherever stars are not clean. Both are formed seed by seed; a
  seed without one of the two is left out. *worst band*: largest ratio to the MFA of a band with 2,000 test stars, less two
  bootstrap errors.
* *mfa-background*, *mfa-robust-background*: the same mixtures, fitted to spectra from which the constant flux that all
  published ones share has been taken, as ours is.
* *68 %, 95 %*: share of truths inside the stated intervals. Of coefficients and [Fe/H] msacat states the 68 % interval alone;
  95 % is that of a normal distribution of the same width. Methods without error bars of their own are given those their
  residuals on calibration stars deserve; blank where no calibration star tells. Intervals of *observed* values hold, beside
  that, their noise and the share of wrong measurements, as the method believes in them.
* *invented*: share further off than 5 stated errors, or than 0.5 mag (0.5 dex; half of a coefficient's scatter).
* *gaiaxpy\\**: GaiaXPy's synthetic photometry of the star's spectrum, which answers only for stars whose spectrum is seen: not
  comparable where the spectrum may be hidden.
* *msacat:probe*: a linear regression of [Fe/H] on the embedding alone.
* *oracle* (in a table of its own, of a few test stars): the posterior over very many noise-free stars of the same simulation,
  without parallax and proper motion. No one could use it: it shows what is left to gain. With many precise values of a star
  seen, even so many are too sparse, and a method that interpolates comes out ahead of it."""


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
         *s.interval_words(), str(s.seeds)]
        for s in rows
    ]  # fmt: skip
    head = ["method", "NMAD", "÷ conventional", "÷ MFA", "worst band", "68 %", "95 %", "invented", "seeds"]
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

    def cell(here: list[dict]) -> str:
        """Mean over seeds; the ratio over those of both, whose stars are the same."""
        own, other = (_nmad_by_seed(here, method) for method in (OWN, mixture_of(dataset)))
        if not own:
            return ""
        ratios = [own[seed] / other[seed] for seed in sorted(own.keys() & other.keys())]
        return f"{np.mean(list(own.values())):.4f}" + (f" ({np.mean(ratios):.2f})" if ratios else "")

    bins, body = _by_quantity_and_g(chosen, cell)
    title = f"### {dataset}: NMAD of {OWN} by G (÷ MFA)"
    return ["", title, "", *_table(["regime", "quantity", *bins], body)] if body else []


def _nmad_by_seed(records: list[dict], method: str) -> dict[int, float]:
    return {r["seed"]: r["nmad"] for r in records if r["method"] == method}


def _coverage(records: list[dict], dataset: str) -> list[str]:
    """Shares of values inside our own intervals, by band and G, where there are enough stars to judge."""

    def cell(here: list[dict]) -> str:
        return f"{_mean(here, 'coverage68'):.2f} {_mean(here, 'coverage95'):.2f}" if here else ""

    lines: list[str] = []
    for against in ("truth", "observed"):
        chosen = [
            r
            for r in records
            if r["method"] == OWN and r["against"] == against and r["g_bin"] != "all" and r["n"] >= ENOUGH
        ]
        bins, body = _by_quantity_and_g(chosen, cell)
        if body:
            lines += ["", f"### {dataset}: share of {against} values inside the 68 % and 95 % intervals of {OWN}", "",
                      f"Bands and G bins with at least {ENOUGH:,} test stars.", "",
                      *_table(["regime", "quantity", *bins], body)]  # fmt: skip
    return lines


def _by_quantity_and_g(
    records: list[dict], cell: Callable[[list[dict]], str]
) -> tuple[list[str], list[list[str]]]:
    """(bins of G, rows: regime, quantity and what `cell` says of the records of each bin); no row that says nothing."""
    bins = sorted({r["g_bin"] for r in records}, key=lambda b: int(b.split("-")[0]))
    kinds: dict[tuple[str, str], dict[str, list[dict]]] = {}
    for r in records:
        kinds.setdefault((r["regime"], r["quantity"]), {}).setdefault(r["g_bin"], []).append(r)
    body = []
    for regime, quantity in sorted(kinds, key=lambda kind: REGIMES.index(kind[0])):
        cells = [cell(kinds[regime, quantity].get(g_bin, [])) for g_bin in bins]
        if any(cells):
            body.append([regime, quantity, *cells])
    return bins, body


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
