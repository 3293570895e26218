"""Records condensed to what is compared: one number a method and regime, and its ratios."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from msacat.model.evaluate.metrics import geometric_mean
from msacat.model.evaluate.regimes import REGIMES

#: what a careful astronomer would otherwise use
CONVENTIONAL = (
    "median_colour", "colour_locus", "knn", "iterative_ridge", "missforest", "lightgbm", "em_gaussian", "xgboost", "mlp",
)  # fmt: skip
PARTIAL = ("gaiaxpy",)
FEWEST_IN_MEAN = 100  # test stars of a band; with fewer its NMAD is too uncertain to enter a mean
#: What a regime's mean is over; other regimes': the bands.
QUANTITIES = {
    "xp_hidden": ("xp",),
    "faint_xp_one_survey_seen": ("synthetic_g", "synthetic_r", "synthetic_i", "synthetic_z"),
    "faint_xp_infrared_seen": ("synthetic_g", "synthetic_r", "synthetic_i", "synthetic_z"),
    "labels_xp_seen": ("fe_h",),
    "labels_magnitudes_seen": ("fe_h",),
}

#: (dataset, regime) -> what was aimed at: largest ratio to the best conventional method, to the mixture; or values
AIMS: dict[tuple[str, str], str] = {
    ("sky", "random_cells"): "÷ conventional ≤ 0.68, ÷ MFA ≤ 0.95",
    ("sky", "survey_hidden_xp_seen"): "÷ conventional ≤ 0.65, ÷ MFA ≤ 0.95",
    ("sky", "xp_hidden"): "÷ conventional ≤ 0.65, ÷ MFA ≤ 0.75",
    ("sky", "xp_and_survey_hidden"): "÷ conventional ≤ 0.75, ÷ MFA ≤ 0.93",
    ("sky", "faint_survey_hidden"): "÷ conventional ≤ 0.70, ÷ MFA ≤ 0.98",
    ("sky", "faint_xp_one_survey_seen"): "NMAD ≤ 0.02 mag in each of g r i z",
    ("sky-dirty", "random_cells"): "÷ conventional ≤ 0.65, ÷ MFA ≤ 1.00",
    ("sky-dirty", "survey_hidden_xp_seen"): "÷ conventional ≤ 0.65, ÷ MFA ≤ 1.00",
    ("sky-dirty", "xp_hidden"): "÷ conventional ≤ 0.80, ÷ MFA ≤ 1.00",
    ("sky-dirty", "xp_and_survey_hidden"): "÷ conventional ≤ 0.65, ÷ MFA ≤ 1.00",
    ("sky-dirty", "faint_survey_hidden"): "÷ conventional ≤ 0.72, ÷ MFA ≤ 1.00",
    ("apogee", "labels_xp_seen"): "NMAD ≤ 0.095, RMSE ≤ 0.160 dex",
    ("apogee", "labels_magnitudes_seen"): "NMAD ≤ 0.30 dex; the probe of the embedding better than XGBoost",
    ("apogee", "survey_hidden_xp_seen"): "NMAD of J ≤ 0.0272, of Ks ≤ 0.0365 mag",
    ("m67", "cell_hidden"): "≤ 0.97 of the best opponent",
    ("m67", "survey_hidden"): "≤ 0.97 of the best opponent",
}


@dataclass(frozen=True)
class Summary:
    """One method in one regime: geometric mean over bands of the NMAD (xp_hidden: of the XP), mean over seeds.

    nmad in mag (XP: of a coefficient's scatter; fe_h: dex); the ratios are formed seed by seed, then averaged.
    worst_over_mfa  largest ratio of a band with >= 2,000 stars to the MFA, less two bootstrap errors of the ratio
    """

    dataset: str
    regime: str
    method: str
    bands: int
    nmad: float
    over_conventional: float  # NaN without a conventional method in the records
    over_mfa: float  # the robust MFA on a dirty sky
    worst_over_mfa: float
    coverage68: float  # NaN where intervals are endless
    coverage95: float
    hallucinated: float
    seeds: int

    def interval_words(self) -> list[str]:
        """68 %, 95 %, invented. Blank for a method without error bars where no calibration star tells its residuals:
        nothing lies inside none, and all inside endless ones."""
        if not self.coverage95 >= 0.005:
            return [""] * 3
        return [f"{self.coverage68:.2f}", f"{self.coverage95:.2f}", f"{100 * self.hallucinated:.1f} %"]


def ratio_words(value: float) -> str:
    """Blank where there is nothing to compare with."""
    return f"{value:.2f}" if np.isfinite(value) else ""


def against_of(dataset: str) -> str:
    """Simulated stars are compared with the truth, real ones with what was measured."""
    return "truth" if dataset.startswith("sky") else "observed"


def mixture_of(dataset: str) -> str:
    """The mixture that counts: the robust one where stars are not clean."""
    return "mfa" if dataset.startswith("sky") and "dirty" not in dataset else "mfa-robust"


def summarise(records: list[dict]) -> list[Summary]:
    """Rows in the order of datasets, regimes, methods: simulated stars against the truth, real ones against measurements."""
    table: dict[tuple, dict[str, dict]] = defaultdict(dict)
    for r in records:
        enough = r["n"] >= FEWEST_IN_MEAN and r["g_bin"] == "all"
        if enough and r["against"] == against_of(r["dataset"]) and in_mean(r):
            table[r["dataset"], r["regime"], r["seed"], r["method"]][r["quantity"]] = r
    means = {key: geometric_mean(np.array([r["nmad"] for r in rows.values()])) for key, rows in table.items()}
    out = []
    for dataset, regime, method in dict.fromkeys((d, g, m) for d, g, _, m in table):
        if method in PARTIAL:
            continue
        seeds = [s for d, g, s, m in table if (d, g, m) == (dataset, regime, method)]
        rows = [r for s in seeds for r in table[dataset, regime, s, method].values()]
        own = np.array([means[dataset, regime, s, method] for s in seeds])
        best = [
            min((means.get((dataset, regime, s, m), np.nan) for m in CONVENTIONAL), key=_nan_last)
            for s in seeds
        ]
        mixture = mixture_of(dataset)
        mfa = [means.get((dataset, regime, s, mixture), np.nan) for s in seeds]
        worst = [
            _worst(table[dataset, regime, s, method], table.get((dataset, regime, s, mixture), {}))
            for s in seeds
        ]
        out.append(
            Summary(
                dataset, regime, method, len(rows) // len(seeds), float(own.mean()), _mean_of_known(own / best),
                _mean_of_known(own / mfa), _mean_of_known(np.array(worst)), _mean_of_told(rows, "coverage68"),
                _mean_of_told(rows, "coverage95"), _mean_of_told(rows, "hallucinated"), len(seeds),
            )
        )  # fmt: skip
    return sorted(out, key=lambda s: (s.dataset, REGIMES.index(s.regime)))


def in_mean(record: dict) -> bool:
    """Does this quantity belong to what the regime is about?"""
    wanted = QUANTITIES.get(record["regime"])
    return record["quantity"] in wanted if wanted else record["quantity"] not in ("xp", "fe_h")


def _mean_of_told(rows: list[dict], name: str) -> float:
    """NaN where one of the intervals has no end (their score says so): nobody told the errors."""
    return float("nan") if any(r["crps"] is None for r in rows) else float(np.mean([r[name] for r in rows]))


def _mean_of_known(ratios: np.ndarray) -> float:
    """Over the seeds in which both sides stand; NaN without any."""
    known = ratios[np.isfinite(ratios)]
    return float(known.mean()) if len(known) else float("nan")


def _worst(own: dict[str, dict], other: dict[str, dict]) -> float:
    ratios = []
    for quantity, r in own.items():
        if quantity in other and r["n"] >= 2000:
            o = other[quantity]
            ratio = r["nmad"] / o["nmad"]
            error = ratio * np.hypot(*(0.5 * (x["nmad_hi"] - x["nmad_lo"]) / x["nmad"] for x in (r, o)))
            ratios.append(ratio - 2 * error)
    return max(ratios, default=float("nan"))


def _nan_last(value: float) -> float:
    return value if np.isfinite(value) else np.inf
