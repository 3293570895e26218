"""Reads survey TOML files into SurveySpec; errors name file, key and line."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from msacat.catalog.errors import UsageError
from msacat.catalog.surveys.survey_spec import SurveySpec
from pydantic import ValidationError

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
            key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{key}, line {_line_of(text, problem['loc'])}: {message}")
        raise UsageError(
            "the survey file is not valid:\n  " + "\n  ".join(lines),
            file=str(path),
            next_step="docs/survey_files.md lists every key",
        ) from None


@cache
def builtin_specs() -> dict[str, SurveySpec]:
    """The surveys that come with msacat, by dataset keyword."""
    specs = [load_spec(path) for path in sorted(FOLDER.glob("*.toml"))]
    return {spec.name: spec for spec in specs}


def _line_of(text: str, location: tuple) -> int:
    """Line (from 1) where the key at `location` stands; the nearest enclosing table if it is absent."""
    lines = text.splitlines()
    start, end = 0, len(lines)
    line, table = 0, ""
    for part in location:
        if isinstance(part, int):
            heads = [i for i in range(start, end) if lines[i].strip() == f"[[{table}]]"]
            if part < len(heads):
                line = start = heads[part]
                later = [i for i in range(line + 1, end) if lines[i].lstrip().startswith("[")]
                end = later[0] if later else end
            continue
        table = str(part)
        for i in range(start, end):
            if lines[i].split("=")[0].strip() in (table, f"[{table}]"):
                line = start = i
                break
    return line + 1
