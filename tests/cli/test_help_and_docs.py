"""The command line's surface: it is documented, it changes only on purpose, it starts without loading the world."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from msacat.catalog import errors
from msacat.cli.main import app

REPOSITORY = Path(__file__).resolve().parents[2]
FROZEN = Path(__file__).with_name("commands.json")
HEAVY = ("torch", "astropy", "gaiaxpy", "pandas", "pyarrow", "scipy", "sqlalchemy", "numpy")


def commands() -> Iterator[tuple[str, Any]]:
    """("runs list", command) of every command that does something."""

    def walk(group: Any, path: list[str]) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, [*path, name])
            else:
                yield " ".join([*path, name]), command

    yield from walk(typer.main.get_command(app), [])


COMMANDS = dict(commands())


def surface() -> dict[str, list[str]]:
    return {
        name: [
            "/".join([*p.opts, *p.secondary_opts]) if p.param_type_name == "option"
            else f"{p.name.upper()}{'...' if p.nargs == -1 else ''}"
            for p in command.params
        ]
        for name, command in sorted(COMMANDS.items())
    }  # fmt: skip


def test_commands_and_options_change_only_on_purpose():
    """Scripts of others rest on them. If a change is meant: python tests/cli/test_help_and_docs.py"""
    assert surface() == json.loads(FROZEN.read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does(name, msacat_at):
    command = COMMANDS[name]
    assert command.help and len(command.help.splitlines()[0]) > 10
    assert [p.name for p in command.params if not (p.help or "").strip().endswith((".", ")", "]"))] == []
    code, out, err = msacat_at(None, *name.split(), "--help")
    assert code == 0 and "Usage: msacat " + name in out and err == ""


def test_every_verb_is_in_the_readme():
    table = [line for line in (REPOSITORY / "README.md").read_text().splitlines() if line.startswith("| `")]
    written = set(re.findall(r"[a-z]+", " ".join(line.split(" | ")[0] for line in table)))
    assert {word for name in COMMANDS for word in name.split()} - written == set()


def test_exit_codes_are_documented_and_said_in_the_help(msacat_at):
    page = (REPOSITORY / "docs" / "exit_codes.md").read_text()
    rows = dict(re.findall(r"^\| (\d) \| ([^|]+) \|", page, re.MULTILINE))
    classes = [getattr(errors, name) for name in dir(errors) if isinstance(getattr(errors, name), type)]
    codes = {str(c.exit_code): c.__name__ for c in classes if issubclass(c, errors.MsacatError)}
    assert rows.keys() == codes.keys() | {"0"}
    for code, name in codes.items():
        assert name == "MsacatError" or f"`{name}` ({code})" in page or f"{name}` ({code})" in page
    shown = re.sub(r"\s+", " ", msacat_at(None, "--help").out)
    assert all(re.search(rf"\b{code} \w+", shown.split("Exit codes:")[1]) for code in rows)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["query", "--help"], ["db", "--help"], ["--version"]]
)
def test_help_loads_nothing_heavy(arguments):
    program = f"import sys; from msacat.cli.main import main; main({arguments!r}); print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "msacat" in ended.stdout
    assert set(HEAVY) & set(ended.stderr.split()) == set()


JSON_COMMANDS = [
    ["status"], ["describe"], ["describe", "enriched.stars"], ["survey", "list"], ["survey", "show", "gaia_source"],
    ["models", "list"], ["models", "show", "trained_store"], ["runs", "list"], ["verify"], ["doctor"], ["db", "status"],
    ["crossmatch", "twomass_psc"], ["query", "SELECT source_id, embedding, now() AS t FROM enriched.stars LIMIT 2"],
]  # fmt: skip


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("arguments", JSON_COMMANDS, ids=" ".join)
def test_json_is_all_that_stands_on_stdout(trained_once, msacat_at, arguments):
    code, out, err = msacat_at(trained_once, *arguments, "--json")
    assert code in (0, 1 if arguments == ["doctor"] else 0), err
    json.loads(out, parse_constant=no_constant)
    assert out.endswith("\n") and "{" not in err


def test_survey_show_says_where_the_names_come_from(trained_once, msacat_at):
    for survey, words in (
        ("lsst", "names of all columns: lsst/sdm_schemas"),
        ("gaia_source", "msacat's own converters"),
    ):
        assert words in msacat_at(trained_once, "survey", "show", survey).out


def test_every_command_with_json_is_tried():
    offer = {name for name, command in COMMANDS.items() if any("--json" in p.opts for p in command.params)}
    tried = {" ".join(a[:2]) if " ".join(a[:2]) in offer else a[0] for a in JSON_COMMANDS}
    elsewhere = {"ingest", "forget", "adopt", "train", "enrich", "simulate",  # tests/ingest, tests/end_to_end
                 "evaluate"}  # tests/evaluate  # fmt: skip
    assert offer == tried | elsewhere


def test_ids_beyond_exact_floats_are_strings_in_json(trained_once, msacat_at):
    query = "SELECT source_id, source_id::text AS same, 7::bigint AS small, ARRAY[source_id] AS list FROM enriched.stars LIMIT 1"
    (row,) = json.loads(msacat_at(trained_once, "query", query, "--json").out)["rows"]
    assert int(row["same"]) > 2**53
    assert row == {"source_id": row["same"], "same": row["same"], "small": 7, "list": [row["same"]]}


def test_quiet_silences_stderr_and_only_for_one_command(trained, msacat_at):
    assert msacat_at(trained, "forget", "lamost_dr9", "--quiet").err == ""
    ended = msacat_at(trained, "query", "SELECT source_id FROM enriched.stars", "--max-rows", 1)
    assert "only the first 1 rows" in ended.err and ended.out.count("\n") == 2


def test_results_are_piped_as_they_are(trained_once, msacat_at):
    """No wrapping, no colours, no blanks at the ends of lines; CSV has exact ids."""
    code, out, _ = msacat_at(trained_once, "describe", "enriched.stars")
    assert code == 0 and "\x1b" not in out and not re.search(r" +$", out, re.MULTILINE)
    lines = out.splitlines()
    assert lines[0] == "enriched.stars" and lines[1].split() == ["column", "type", "unit", "UCD", "meaning"]
    suspect = next(line for line in lines if line.startswith("suspect "))
    assert "Bits of the bands" in suspect
    code, out, _ = msacat_at(
        trained_once,
        "query",
        "SELECT source_id, ra, gaia_g, xp_origin FROM enriched.stars ORDER BY 1 LIMIT 3",
        "--csv",
    )
    header, *rows = out.splitlines()
    assert header == "source_id,ra,gaia_g,xp_origin" and all(
        re.match(r"\d{15,19},\d+\.\d{6,},\d+\.\d+,", row) for row in rows
    )


def test_the_bits_of_quality_are_described_beside_the_column(trained_once, msacat_at):
    for relation in ("survey.panstarrs1", "panstarrs1_clean"):
        code, out, _ = msacat_at(trained_once, "describe", relation)
        assert code == 0 and "quality " in out
        assert re.search(r"^1 +not_good +objinfoflag no_bit 33554432 +drops the row ", out, re.MULTILINE)
    for relation in ("survey.xp_spectra", "matched.panstarrs1"):
        assert "quality cut" not in msacat_at(trained_once, "describe", relation).out


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(surface(), indent=1) + "\n")
