"""Reads survey TOML files into SurveySpec; errors name file, key and line."""

from __future__ import annotations

import difflib
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from msacat.catalog.errors import StoreUnavailable, UsageError
from msacat.catalog.surveys.survey_spec import SpecClash, SurveySpec

FOLDER = Path(__file__).parent


def load_spec(path: Path) -> SurveySpec:
    """Parse and validate one survey file.

    Raises UsageError naming file, key and line for a syntax error, an unknown key, unit or UCD, or a clash.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the survey file: {error}", file=str(path)) from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"not valid TOML: {error}", file=str(path)) from None
    try:
        return SurveySpec.model_validate(data)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where, message = _in_our_words(problem)
            key = ".".join(str(part) for part in where) or "(whole file)"
            lines.append(f"{key}, line {_line_of(text, where)}: {message}")
        raise UsageError(
            "the survey file is not valid:\n  " + "\n  ".join(lines),
            file=str(path),
            next_step="docs/survey_files.md lists every key",
        ) from None


def stored_spec(data: dict[str, Any]) -> SurveySpec:
    """A survey as a store keeps it. StoreUnavailable for one that this msacat no longer takes, as an older one did."""
    try:
        return SurveySpec.model_validate(data)
    except ValidationError as error:
        where, message = _in_our_words(error.errors()[0])
        raise StoreUnavailable(
            f"the store's survey '{data.get('name')}' is none that this msacat takes",
            column=".".join(str(part) for part in where) or None,
            found=message,
            next_step="with the msacat that registered it: take its data into a store made with a mended survey file",
        ) from None


@cache
def builtin_specs() -> dict[str, SurveySpec]:
    """The surveys that come with msacat, by dataset keyword."""
    specs = [load_spec(path) for path in sorted(FOLDER.glob("*.toml"))]
    return {spec.name: spec for spec in specs}


def builtin_or_file(name: str) -> SurveySpec:
    """The built-in survey of that keyword, else the survey file of that path; UsageError with near keywords."""
    builtin = builtin_specs()
    if name in builtin:
        return builtin[name]
    if not Path(name).exists():
        near = difflib.get_close_matches(name, builtin, n=3, cutoff=0.6)
        raise UsageError(
            f"{name}: neither a file nor the keyword of a built-in survey",
            next_step=(f"did you mean {' or '.join(near)}? " if near else "")
            + "`msacat survey list` shows the keywords",
        )
    return load_spec(Path(name))


def _in_our_words(problem: Any) -> tuple[tuple, str]:
    """Where a validation problem lies and what it is, without pydantic's vocabulary."""
    where, kind = problem["loc"], problem["type"]
    clash = problem.get("ctx", {}).get("error")
    if isinstance(clash, SpecClash):
        return clash.where, str(clash)
    if kind == "extra_forbidden":
        return where, "no such key"
    if kind == "missing":
        return where, "this key is missing"
    return where, problem["msg"].removeprefix("Value error, ") + (
        f", not {problem['input']!r}"
        if isinstance(problem["input"], str | int | float) and kind != "value_error"
        else ""
    )


def _line_of(text: str, location: tuple) -> int:
    """Line (from 1) where the key at `location` stands; the nearest enclosing table if it is absent.

    pydantic's location is made of keys and list positions: ('columns', 3, 'unit'), ('position', 'epoch').
    """
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.lstrip().startswith("[") and not _in_array(lines, i)]

    def end_of(start: int) -> int:
        return next((i for i in heads if i > start), len(lines))

    start, end, line = 0, heads[0] if heads else len(lines), 0
    table = ""
    for part in location:
        if isinstance(part, int):
            entries = [i for i in heads if lines[i].strip() == f"[[{table}]]"]
            # the short form: `columns = [`, then one { ... } a line
            inline = [i for i in range(line, end) if lines[i].lstrip().startswith("{")]
            if part < len(entries):
                line = start = entries[part]
                end = end_of(start)
            elif part < len(inline):
                line, start, end = inline[part], 0, 0  # the keys inside share the line
            continue
        table = str(part)
        head = next((i for i in heads if lines[i].strip() in (f"[{table}]", f"[[{table}]]")), None)
        if line == 0 and head is not None:
            line = start = head
            end = end_of(start)
            continue
        found = [i for i in range(start, end) if re.match(rf'\s*"?{re.escape(table)}"?\s*=', lines[i])]
        line = found[0] if found else line
    return line + 1


def _in_array(lines: list[str], i: int) -> bool:
    """Whether a line that opens with a bracket is a value (a row of an array), not a table's head."""
    return not re.fullmatch(r"\s*(\[[\w.]+\]|\[\[[\w.]+\]\])\s*(#.*)?", lines[i])
