"""Writes docs/ablations.md from what run.py measured: `python benchmarks/ablations/page.py`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from arms import ARMS, LABELS_ALONE
from run import (
    CALIBRATE_STARS,
    LABEL_REGIMES,
    PRETRAINING_STEPS,
    REGIMES,
    RESULTS,
    SIZES,
    STARS,
    STEPS,
    TEST_STARS,
    TOLD,
    WEIGHTS,
    WIDTHS,
)
from scaling_law import SURVEY, fit_power_law
from suspects_and_selection import PERCENTILES, WIDEST, WORST

from msacat.model.evaluate.accuracy_tables import Summary, in_mean, mixture_of, summarise
from msacat.model.train_config import TrainConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ablations.md"
BATCH = TrainConfig(steps=1).batch_size
FINDINGS = RESULTS.with_name("suspects_and_selection.json")
#: arms not measured again since, with a default of their own code
EARLIER = RESULTS.with_name("ablations_architectures.json")
SHORT = dict(zip(REGIMES, ("random", "survey, XP seen", "XP", "XP + survey", "faint"), strict=True))
NORMAL_OFF = 2.5758 / 0.9945  # that one normal error in a hundred exceeds, in half-widths of 68 %
SURE = 2.0  # errors of a ratio beyond which a difference is called one
NOTHING_SURE = "nothing beyond the error"
SKIES = {"sky": "The clean sky", "sky-dirty": "The dirty sky"}
DEFAULT = "msacat:default"
STAMPS = ("method", "key", "seconds", "commit", "date")  # fields of a record that are no result


def main() -> int:
    records = json.loads(RESULTS.read_text("utf-8"))
    findings = json.loads(FINDINGS.read_text("utf-8")) if FINDINGS.exists() else {}
    earlier = json.loads(EARLIER.read_text("utf-8")) if EARLIER.exists() else []
    PAGE.write_text("\n".join(page(records, findings, earlier)) + "\n", "utf-8")
    return 0


def _steps() -> int:
    """Of the weights that docs/accuracy.md speaks of."""
    return json.loads((WEIGHTS / "sky-0" / "model.json").read_text("utf-8"))["config"]["steps"]


def page(records: list[dict], findings: dict, earlier: Sequence[dict] = ()) -> Iterator[str]:
    yield "# Ablations"
    yield ""
    yield (
        "Made by `python benchmarks/ablations/page.py` from `benchmarks/results/ablations.json`, "
        f"`{EARLIER.name}` (arms measured with earlier code) and `{FINDINGS.name}` beside it; not written by hand. "
        "`make ablations` measures."
    )
    yield ""
    yield (
        f"Every arm learned from the same {STARS:,} stars for {STEPS:,} steps of {BATCH} (the stored weights took {_steps():,}: "
        f"what needs long training is not seen here), was calibrated on {CALIBRATE_STARS:,} and judged on the same hidden "
        f"values of {TEST_STARS:,} test stars, against the truth. Ratios of NMAD (geometric mean over bands) to the "
        "default arm's: above 1 is worse. *invented*: magnitudes further off than 5 stated errors or 0.5 mag, per mille. "
        "68 %: share of truths inside the intervals. *the default itself*: every number is the default's, so that this sky "
        "does not test what the arm changes. The mixtures are not the default less its network: they are not shown parallax "
        "and proper motion, and the first of them spectra with their background."
    )
    for dataset, title in SKIES.items():
        rows = _table(records, dataset)
        if rows:
            yield from ["", f"## {title}", "", _code(records, dataset, rows), "", *rows]
    measured = {r["method"] for r in records if r["dataset"] == "sky"} - {DEFAULT}
    earlier = [r for r in earlier if r["method"] not in measured]
    if {r["method"] for r in earlier} > {DEFAULT}:
        rows = _table(earlier, "sky")
        yield from ["", "## The clean sky, arms measured with earlier code", ""]
        yield from [_code(earlier, "sky", rows) + " Beside the default of that code.", "", *rows]
    yield ""
    yield (
        "One training a row, one seed: at two errors, in five columns, some of the many differences are chance. The error "
        "takes bands for independent, though they share stars."
    )
    missing = list(_missing([*records, *earlier]))
    if missing:
        yield from ["", "Not measured:", "", *(f"- {words}" for words in missing)]
    yield from _pretraining(records)
    yield from _scaling(records)
    if "astrometry" in findings:
        yield from _astrometry(findings["astrometry"])
    if "suspect" in findings:
        yield from _suspects(findings["suspect"])
    if "selection" in findings:
        yield from _selection(findings["selection"])


def _missing(records: Sequence[dict]) -> Iterator[str]:
    """What run.py measures and nobody has: arms by sky, sizes by width."""
    known = {(r["dataset"], r["method"]) for r in records}

    def absent(dataset: str, names: Sequence[object], start: str = "msacat:") -> list[str]:
        return [f"{name}" for name in names if (dataset, f"{start}{name}") not in known]

    for dataset, title in SKIES.items():
        arms = [arm.name for arm in ARMS if arm.dirty or dataset == "sky"]
        words = absent(dataset, arms)
        words += [
            name for name in (mixture_of(dataset), mixture_of(dataset) + TOLD) if (dataset, name) not in known
        ]
        if words:
            yield f"{title[0].lower()}{title[1:]}: {', '.join(words)}"
    for name, width in WIDTHS.items():
        if sizes := absent("sky", SIZES, f"msacat:{name}-"):
            yield f"more stars, width {width}: {', '.join(f'{int(size):,}' for size in sizes)} training stars"
    if words := absent("apogee", ["pretrained", LABELS_ALONE.name]):
        yield f"metallicities: {', '.join(words)}"


def _is_default(records: Sequence[dict], dataset: str, method: str) -> bool:
    """Whether the arm's every number is the default's."""

    def numbers(of: str) -> list[list]:
        mine = [r for r in records if (r["dataset"], r["method"]) == (dataset, of)]
        return sorted([str(value) for name, value in sorted(r.items()) if name not in STAMPS] for r in mine)

    return method != DEFAULT and numbers(method) == numbers(DEFAULT)


def _stamps(records: Sequence[dict]) -> str:
    """The code that these were measured with."""
    stamps = {(r["commit"][:10], r["date"]) for r in records}
    return "Code " + ", ".join(f"{commit} ({day})" for commit, day in sorted(stamps)) + "."


def _code(records: Sequence[dict], dataset: str, rows: list[str]) -> str:
    """That of the arms in the rows of a table."""
    shown = {f"msacat:{row.removeprefix('| ').partition(':')[0]}" for row in rows}
    return _stamps([r for r in records if r["dataset"] == dataset and r["method"] in shown])


def _summaries(records: list[dict], dataset: str) -> dict[tuple[str, str], Summary]:
    chosen = [r for r in records if r["dataset"] == dataset]
    return {(s.method, s.regime): s for s in summarise(chosen)}


def _table(records: list[dict], dataset: str) -> list[str]:
    found = _summaries(records, dataset)
    if (DEFAULT, REGIMES[0]) not in found:
        return []
    regimes = [regime for regime in REGIMES if (DEFAULT, regime) in found]
    default = {regime: found[DEFAULT, regime] for regime in regimes}
    error = {regime: ratio_error(records, dataset, regime) for regime in regimes}
    lines = [
        "| arm | " + " | ".join(SHORT[r] for r in regimes) + " | 68 % | invented ‰ | verdict |",
        "|---|" + "---|" * (len(regimes) + 3),
        "| default: NMAD | " + " | ".join(f"{default[r].nmad:.4f}" for r in regimes) + " | | | |",
        "| error of a ratio | " + " | ".join(f"{error[r]:.3f}" for r in regimes) + " | | | |",
    ]
    mixtures = {
        mixture_of(dataset): "a mixture alone",
        mixture_of(dataset) + TOLD: "the same, told of the spectra's background",
    }
    words = {f"msacat:{arm.name}": arm.what for arm in ARMS} | mixtures
    names = list(words)
    for name in names:
        if (name, regimes[0]) not in found:
            continue
        mine = {regime: found[name, regime] for regime in regimes}
        ratio = {regime: mine[regime].nmad / default[regime].nmad for regime in regimes}
        bands = [mine[regime] for regime in regimes if regime != "xp_hidden"]
        words_of = "the default itself" if _is_default(records, dataset, name) else verdict(ratio, error)
        lines.append(
            f"| {name.removeprefix('msacat:')}: {words[name]} | "
            + " | ".join(f"{ratio[r]:.3f}" for r in regimes)
            + f" | {np.mean([s.coverage68 for s in bands]):.2f}"
            + f" | {1000 * np.mean([s.hallucinated for s in bands]):.1f} | {words_of} |"
        )
    return lines


def verdict(ratio: dict[str, float], error: dict[str, float]) -> str:
    """Where the arm differs from the default by more than chance."""
    worse = [SHORT[r] for r in ratio if ratio[r] - 1 > SURE * error[r]]
    better = [SHORT[r] for r in ratio if 1 - ratio[r] > SURE * error[r]]
    parts = [f"worse in {', '.join(worse)}"] * bool(worse) + [f"better in {', '.join(better)}"] * bool(better)
    return "; ".join(parts) or NOTHING_SURE


def ratio_error(records: list[dict], dataset: str, regime: str) -> float:
    """1 sigma of the ratio of two arms' means, by the bootstrap of the default's bands; the same stars: rather too large."""
    relative = [
        0.5 * (r["nmad_hi"] - r["nmad_lo"]) / r["nmad"]
        for r in records
        if (r["dataset"], r["regime"], r["method"], r["against"]) == (dataset, regime, DEFAULT, "truth")
        and in_mean(r) and r["n"] >= 100
    ]  # fmt: skip
    return float(np.sqrt(2 * np.mean(np.square(relative)) / len(relative)))


def _pretraining(records: list[dict]) -> Iterator[str]:
    fe_h = {
        (r["method"], r["regime"]): r for r in records
        if (r["dataset"], r["quantity"], r["g_bin"]) == ("apogee", "fe_h", "all")
    }  # fmt: skip
    names = {
        "msacat:pretrained": "reconstructing and labels",
        f"msacat:{LABELS_ALONE.name}": LABELS_ALONE.what,
    }
    if not all((name, regime) in fe_h for name in names for regime in LABEL_REGIMES):
        return
    yield from ["", "## Does reconstructing help metallicities?", ""]
    yield (
        f"Real APOGEE stars, {PRETRAINING_STEPS:,} steps each, held-out sky. NMAD (68 % of the bootstrap), RMSE of [Fe/H] "
        f"in dex. {_stamps([fe_h[name, regime] for name in names for regime in LABEL_REGIMES])}"
    )
    yield from ["", "| learned from | spectrum and magnitudes | six magnitudes |", "|---|---|---|"]
    for name, words in names.items():
        cells = []
        for regime in LABEL_REGIMES:
            r = fe_h[name, regime]
            cells.append(f"{r['nmad']:.4f} ({r['nmad_lo']:.4f}–{r['nmad_hi']:.4f}), {r['rmse']:.4f}")
        yield f"| {words} | {' | '.join(cells)} |"


def _scaling(records: list[dict]) -> Iterator[str]:
    found = _summaries(records, "sky")
    for name, width in WIDTHS.items():
        sizes = [size for size in SIZES if (f"msacat:{name}-{size}", REGIMES[0]) in found]
        if len(sizes) < 3:
            continue
        yield from ["", f"## More stars: width {width}", ""]
        yield from [_stamps([r for r in records if r["method"].startswith(f"msacat:{name}-")]), ""]
        yield "| training stars | " + " | ".join(SHORT[r] for r in REGIMES) + " | invented ‰ |"
        yield "|---|" + "---|" * (len(REGIMES) + 1)
        rows = {size: [found[f"msacat:{name}-{size}", regime] for regime in REGIMES] for size in sizes}
        invented = {
            size: 1000 * float(np.mean([s.hallucinated for s in row if s.regime != "xp_hidden"]))
            for size, row in rows.items()
        }
        for size, row in rows.items():
            yield f"| {size:,} | " + " | ".join(f"{s.nmad:.4f}" for s in row) + f" | {invented[size]:.2f} |"
        columns = [[rows[size][i].nmad for size in sizes] for i in range(len(REGIMES))]
        laws = [fit_power_law(np.array(sizes), np.array(c)) for c in [*columns, list(invented.values())]]
        yield "| exponent | " + " | ".join(f"{law.exponent:.3f} ± {law.error:.3f}" for law in laws) + " |"
        ranges = ("{:.2g} ({:.2g}–{:.2g})".format(*(law.predicted[i] for i in (1, 0, 2))) for law in laws)
        yield "| at 220 million (1 sigma) | " + " | ".join(ranges) + " |"
        yield ""
        yield (
            f"Steps are the same at every size, {STEPS * BATCH / sizes[-1]:.1f} passes over the largest: what more stars would "
            f"give to a longer training is not in it. The last row goes {np.log10(SURVEY / sizes[-1]):.1f} decades beyond what "
            f"was measured ({SURVEY:,} training stars) "
            "and assumes that the law goes on; the limits are those of the fit, not of that assumption."
        )


def _astrometry(found: dict[str, list[dict]]) -> Iterator[str]:
    yield from ["", "## Parallax and proper motion", ""]
    yield (
        f"The network reads them; the mixture and every other method of [accuracy.md](accuracy.md) do not. Stored weights, the "
        f"same {TEST_STARS:,} test stars with them and without: NMAD against the truth, and share of truths inside 68 % "
        "intervals. A network trained without them throughout was not measured and might do better than the third column."
    )
    yield from [
        "",
        "| sky | hidden | NMAD with | without | ratio | 68 % with | without |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset, rows in found.items():
        for row in rows:
            yield (
                f"| {SKIES[dataset].removeprefix('The ').removesuffix(' sky')} | {SHORT[row['regime']]} "
                f"| {row['nmad']:.4f} | {row['nmad_without']:.4f} | {row['nmad_without'] / row['nmad']:.2f} "
                f"| {row['coverage68']:.2f} | {row['coverage68_without']:.2f} |"
            )


def _suspects(found: dict) -> Iterator[str]:
    yield from ["", "## What `suspect` finds", ""]
    yield (
        f"Dirty sky, stored weights, one survey hidden. Of the worst {WORST:.0%} of imputed magnitudes so many are flagged, "
        f"and so many of all; so many are among the {' and '.join(f'{w:.0%}' for w in WIDEST)} with the widest intervals. "
        f"*Off*: in half-widths of its own 68 % interval, what {WORST:.0%} of the values exceed; of normal errors, "
        f"{NORMAL_OFF:.2f}."
    )
    yield from [
        "",
        "| G | values | worst begins at, mag | flagged of the worst | flagged of all | "
        + " | ".join(f"in the widest {w:.0%}" for w in WIDEST)
        + " | off |",
        "|---|---|---|---|---|" + "---|" * (len(WIDEST) + 1),
    ]
    for row in found["values"]:
        low, high = row["g"]
        label = f"< {high}" if low == 0 else f"> {low}"
        yield (
            f"| {label} | {row['n']:,} | {row['worst_mag']:.2f} | {row['flagged_of_worst']:.1%} | {row['flagged']:.1%} | "
            + " | ".join(f"{share:.1%}" for share in row["widest_of_worst"])
            + f" | {row['errors_off']:.2f} |"
        )
    yield from [
        "",
        "Stars with any flag, by what they are (the sky has no hot subdwarfs):",
        "",
        "| class | stars | flagged |",
    ]
    yield "|---|---|---|"
    for row in found["classes"]:
        yield f"| {row['class'].replace('_', ' ')} | {row['n']:,} | {row['flagged']:.1%} |"


def _selection(rows: list[dict]) -> Iterator[str]:
    yield from ["", "## Selection", ""]
    yield (
        "Clean sky, stored weights, test stars. Percentiles ("
        + ", ".join(map(str, PERCENTILES))
        + ") of the truth of all stars; of all stars as enriched; and of the truth of those alone that every survey "
        "measured (for [Fe/H]: that have a label). KS: largest distance to the truth's cumulative distribution."
    )
    yield from ["", "| quantity | set | stars | percentiles | KS |", "|---|---|---|---|---|"]
    for row in rows:
        for name in ("truth", "enriched", "overlap"):
            one = row[name]
            numbers = ", ".join(f"{p:.2f}" for p in one["percentiles"])
            yield f"| {row['quantity']} | {name} | {one['n']:,} | {numbers} | {one['ks']:.3f} |"


if __name__ == "__main__":
    sys.exit(main())
