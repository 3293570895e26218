"""Held-out scores as a person reads them: one line a quantity, one column for each thing that was hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msacat.cli.output import print_line, print_table

#: regimes of model/score_model.py; of bands the whole survey is hidden, of labels nothing but the label
COLUMNS = {
    "star with XP": ("survey_hidden_xp_seen", "xp_seen"),
    "star without XP": ("survey_hidden_no_xp", "no_xp"),
    "its XP hidden": ("xp_and_survey_hidden", "xp_hidden"),
}


def by_quantity(
    scores: Iterable[Mapping[str, Any]], words: Callable[[Mapping[str, Any]], str]
) -> dict[str, dict[str, str]]:
    """Scores (score_model.Score as mappings) in words: {quantity: {column: words}}."""
    column_of = {regime: column for column, regimes in COLUMNS.items() for regime in regimes}
    found: dict[str, dict[str, str]] = {}
    for s in scores:
        found.setdefault(s["quantity"], {})[column_of[s["regime"]]] = words(s)
    return found


def print_scores(scores: Iterable[Mapping[str, Any]]) -> None:
    """Scores (score_model.Score as mappings) on stdout."""
    found = by_quantity(scores, _words)
    if not found:
        print_line("no star is held out that has what was hidden: no scores")
        return
    print_line(
        "Held-out sky, predicted against observed: NMAD (share inside the 68 % interval, number of stars)"
    )
    columns = [name for name in COLUMNS if any(name in row for row in found.values())]
    print_table(
        ["quantity", *columns],
        [(quantity, *(row.get(name) for name in columns)) for quantity, row in found.items()],
    )


def _words(s: Mapping[str, Any]) -> str:
    digits = 0 if s["unit"] == "K" else 3
    return f"{s['nmad']:.{digits}f} {s['unit']} ({100 * s['coverage68']:.0f} %, {s['n']})"


def print_offsets(offsets: Sequence[tuple[str, float, str]]) -> None:
    """Fitted offsets (quantity, value, unit): of labels to APOGEE's scale, of bands to their synthetic photometry."""
    if offsets:
        print_line("")
        print_table(["fitted offset of", "value", "unit"], [(q, f"{v:+.4f}", u) for q, v, u in offsets])
