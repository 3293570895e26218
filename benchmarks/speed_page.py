"""docs/speed.md and its plots from benchmarks/results: `python benchmarks/speed_page.py`. Nothing on it is typed in."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from bars import bar_of
from earlier_forms import earlier_forms, earlier_growth, earlier_profile
from harness import REPOSITORY, RESULTS

DOCS = REPOSITORY / "docs"
PLOTS = {"ratios": "speed_ratios.svg", "growth": "speed_growth.svg"}
MET, MISSED, INFORMS = "#2a7f62", "#c1553b", "#8a8f98"
STYLE = {"svg.hashsalt": "msacat", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def main() -> int:
    speed = _read("speed.json")
    growth, profile, equal = _read("growth.json"), _read("profile.json"), _read("equal_time.json")
    with plt.rc_context(STYLE):
        plot_ratios(speed, DOCS / PLOTS["ratios"])
        plot_growth(growth, DOCS / PLOTS["growth"])
    (DOCS / "speed.md").write_text(page(speed, growth, profile, equal))
    return 0


def page(speed: list[dict], growth: dict, profile: dict, equal: dict) -> str:
    judged = [(r["ratio"], bar) for r in speed if (bar := bar_of(r["stage"], r["peer"])) is not None]
    n_missed = sum(ratio < bar for ratio, bar in judged)
    lines = [
        "# Speed",
        "",
        "Made by `python benchmarks/speed_page.py` from `benchmarks/results`; nothing is written by hand. `make bench` measures",
        "this first table and where the time goes; the other sections name their commands. Each stage runs side by side with",
        "what one would use instead: the sides take turns in one run on one server with msacat's own settings and full",
        "durability. *Ratio* is the peer's seconds over msacat's, of medians; in brackets the least and largest of single",
        f"rounds. *Bar* is what the project asks of itself; {n_missed} of {len(judged)} are missed. Seconds only inform: ratios are the",
        "claim. *Published architecture*: a residual MLP of 54 million parameters, written anew from its description",
        "(`benchmarks/reference_architecture.py`).",
        "",
        f"{_stamps(speed)} {profile['machine']}. {profile['note']}".rstrip(),
        "",
        f"![Ratios]({PLOTS['ratios']})",
        "",
        "| stage | against | ratio | bar | msacat s | peer s | rows | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in in_order(speed):
        bar = bar_of(r["stage"], r["peer"])
        digits = 3 if bar is not None and 0 < bar - r["ratio"] < 0.005 else 2  # a near miss must not look met
        ratio, least, largest = (_ratio(x, digits) for x in (r["ratio"], *r["spread"]))
        ratio = f"{ratio} ({least}–{largest})"
        mark = "" if bar is None or r["ratio"] >= bar else " **missed**"
        lines.append(
            f"| {r['stage']} | {r['peer']}{_detail(r)} | {ratio}{mark} | {'' if bar is None else f'{bar:.2f}'} "
            f"| {r['ours_s']:.3g} | {r['peer_s']:.3g} | {r['rows']:,} | {r['peak_mb']:.0f} |"
        )
    lines += [
        "",
        "MB: the most memory of msacat's process, the server's not counted; 0 where it was not measured. The peers of",
        "`crossmatch` do less: none moves the stars to each object's epoch, none looks for mutual pairs, astropy and LSDB",
        "find their catalogues in memory and write nothing. GaiaXPy's reader does more: it makes matrices of the correlations,",
        "which msacat reads past. `ingest` fills an empty store; the file after the first writes a log and finds indexes",
        f"there{_next_file(speed)}.",
        "",
        "A wrong result ends the benchmark. Judged after every run: ingested rows bit by bit, spectra number by number",
        "(GaiaXPy's up to rounding, of parsing alone the ids, of counting the count); of a crossmatch that 98.5 % of the",
        "counterparts are found and at most one pair in 200 is false, of its peers only how many pairs there are; of streams, the",
        "exclusive or of all bits; of training, that all steps were taken; of enrichment, that every star is once in every table",
        "and what was measured unchanged, of the forward pass the number of stars; of queries, every cone and every star; of",
        "neighbours, the first ten answers of each side.",
        "",
        *_earlier(speed),
        "## Accuracy after equal time",
        "",
        f"The default model and the published architecture ({equal['minutes']:g} minutes each, at the same time, on",
        f"{equal['stars']:,} made-up stars; {equal['machine']}, shared with other work). Mean absolute error of hidden",
        "values of held-out stars, in robust widths of their kind. By `python benchmarks/equal_time.py --minutes"
        f" {equal['minutes']:g} --stars {equal['stars']}`, commit {equal['commit']} of {equal['date'][:10]}.",
        "",
        f"| hidden | kind | msacat ({equal['ours']['steps']:,} steps) "
        f"| published architecture ({equal['published_architecture']['steps']:,} steps) |",
        "|---|---|---|---|",
    ]
    for regime, kinds in equal["ours"]["errors"].items():
        for kind, error in kinds.items():
            other = equal["published_architecture"]["errors"][regime][kind]
            lines.append(f"| {regime.replace('_', ' ')} | {kind} | {error:.3f} | {other:.3f} |")
    lines += [
        "",
        "## Cost as work grows",
        "",
        "Processor seconds of client and server (`train`: seconds of its steps). *Exponent*: of a power law through all",
        "points, fixed costs included; *last step*: between the two largest. By `python benchmarks/growth.py`.",
        " ".join([_stamps(growth["points"]), *earlier_growth(growth["points"])]),
        "",
        f"![Growth]({PLOTS['growth']})",
        "",
        "| stage | exponent | last step | rows: seconds |",
        "|---|---|---|---|",
    ]
    for stage, fit in growth["stages"].items():
        points = "; ".join(
            f"{p['rows']:,}: {p['cpu_s']:.3g}" for p in growth["points"] if p["stage"] == stage
        )
        lines.append(f"| {_title(stage)} | {fit['exponent']:.2f} | {fit['last_exponent']:.2f} | {points} |")
    able = profile["limits"]
    lines += [
        "",
        "## Where the time goes",
        "",
        f"One run of msacat's side, by `python benchmarks/profile_stages.py`, commit {profile['commit']} of {profile['date'][:10]}. *Limit*: what would",
        "rule the stage if nothing else took time. That of `ingest-numeric` and `crossmatch` is the stage's own measured cost: it",
        "says how little is waited for, not how cheap the work could be. FLOPs are of matrix products alone, at the rate of",
        "float32, forward and (`train`, the network's) backward. `train`: the seconds of its steps; nobody accounts for them apart",
        "from the rest of a training, so the other cells are empty.",
        "",
        f"The machine at best: memory copy {able['memory_copy_mb_s'] / 1000:.1f} GB/s, disk {able['disk_write_mb_s'] / 1000:.2f} GB/s",
        f"(written and synced), Unix socket {able['socket_mb_s'] / 1000:.1f} GB/s, inflate {able['inflate_mb_s']:.0f} MB/s of text,",
        f"matrix product {able['matmul_gflop_s']:.3g} GFLOP/s (float32), {able['matmul_bf16_gflop_s']:.3g} (bfloat16{'' if able['matmul_bf16_gflop_s'] > able['matmul_gflop_s'] else ', emulated'}).",
        *earlier_profile(profile),
        "",
        "| stage | rows | s | client CPU | server CPU | MB written | limit | s at the limit | distance | most of the client's time |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for s in profile["stages"]:
        top = ", ".join(f"{_function(name)} {seconds:.2g}" for name, seconds in s["top"][:4])
        lines.append(
            f"| {_title(s['stage'])} | {s['rows']:,} | {s['seconds']:.3g} | {_given(s['client_cpu_s'], '.3g')} "
            f"| {_given(s['server_cpu_s'], '.3g')} | {_given(s['written_mb'], '.0f')} | {s['limit']} | {s['at_limit_s']:.3g} | {s['seconds'] / max(s['at_limit_s'], 1e-9):.1f} | {top} |"
        )
    return "\n".join([*lines, ""])


def in_order(speed: list[dict]) -> list[dict]:
    stages = [
        "ingest-numeric",
        "ingest-published",
        "ingest-xp",
        "crossmatch",
        "stream",
        "train",
        "enrich",
        "query",
    ]
    return sorted(speed, key=lambda r: (stages.index(r["stage"]), r["work"]))


def plot_ratios(speed: list[dict], path: Path) -> None:
    records = in_order(speed)[::-1]
    figure, axes = plt.subplots(figsize=(7.6, 0.3 * len(records) + 0.9), layout="constrained")
    for i, r in enumerate(records):
        bar = bar_of(r["stage"], r["peer"])
        colour = INFORMS if bar is None else MET if r["ratio"] >= bar else MISSED
        axes.barh(i, r["ratio"], color=colour, height=0.62, left=0)
        axes.plot(r["spread"], [i, i], color="black", linewidth=1)
        if bar is not None:
            axes.plot([bar, bar], [i - 0.42, i + 0.42], color="black", linewidth=2)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(records)), [_label(r) for r in records], fontsize=7.5)
    axes.set_xlim(min(0.08, 0.6 * min(min(r["ratio"], *r["spread"]) for r in records)), None)
    axes.set_xlabel("peer's seconds / msacat's\nthick mark: the bar; thin line: single rounds")
    _save(figure, path)


def plot_growth(growth: dict, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for number, stage in enumerate(growth["stages"]):
        points = [(p["rows"], p["cpu_s"]) for p in growth["points"] if p["stage"] == stage]
        line, marker = ("-", "o") if number < 5 else ("--", "s")
        axes.plot(
            *zip(*points, strict=True),
            line,
            marker=marker,
            markersize=3.5,
            linewidth=1.2,
            label=_title(stage),
        )
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="processor seconds")
    axes.legend(fontsize=7.5, frameon=False)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def _label(r: dict) -> str:
    peer = "numpy" if r["stage"] == "query" and "numpy" in r["peer"] else r["peer"].split(",")[0][:44]
    return f"{r['stage']}: {peer}{_detail(r)}".replace(" among stars in memory", "")


def _detail(r: dict) -> str:
    """What tells two records against the same peer apart."""
    if r["stage"] == "train":
        words = r["work"].split(",")
        return f" ({words[0].split(' of ')[1]}, {words[1].strip()})"
    if r["stage"] == "query":
        return f" ({r['work'].split(',')[0]}{', in SQL' if 'in SQL' in r['work'] else ''})"
    return ""


def _title(stage: str) -> str:
    return stage.replace("_", "-")


def _function(name: str) -> str:
    return (
        f"`{name.removeprefix('<').split(' of ')[0].removesuffix('>').replace('method ', '').strip(chr(39))}`"
    )


def _read(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def _ratio(x: float, digits: int) -> str:
    """Two significant digits of what is small."""
    return f"{x:.{digits}f}" if x >= 0.1 else f"{x:.2g}"


def _given(x: float | None, form: str) -> str:
    return "" if x is None else format(x, form)


def _next_file(speed: list[dict]) -> str:
    """The ratio is the first file's seconds over its own."""
    found = next((r for r in speed if r["work"].startswith("next file")), None)
    return (
        " (not timed yet)" if found is None else f": {1 / found['ratio']:.2f} times the first file's seconds"
    )


def _earlier(speed: list[dict]) -> list[str]:
    lines = list(earlier_forms(speed))
    return ["Some records above are of an earlier form of the benchmark:", "", *lines, ""] if lines else []


def _stamps(records: list[dict]) -> str:
    """The commit and day of most; then those of other stages."""
    counts = Counter((r["commit"], r["date"][:10]) for r in records)
    (usual, _), *others = counts.most_common()
    words = ["Commit {} of {}".format(*usual)]
    for other, _ in others:
        stages = dict.fromkeys(_title(r["stage"]) for r in records if (r["commit"], r["date"][:10]) == other)
        words.append("{}: {} of {}".format(", ".join(stages), *other))
    return "; ".join(words) + "."


if __name__ == "__main__":
    sys.exit(main())
