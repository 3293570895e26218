"""What the README shows can be typed as it stands: its SQL answers, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import psycopg
import pytest
import typer

from msacat.cli.main import app

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text()
#: each ```sql block and, after it, the output it had in the demo's stores
QUESTIONS = re.findall(r"```sql\n(.*?)```\n+```text\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("msacat ")
]


def test_five_questions_with_their_answers():
    assert len(QUESTIONS) == README.count("```sql") == 5


@pytest.mark.parametrize(("statement", "shown"), QUESTIONS, ids=range(1, len(QUESTIONS) + 1))
def test_a_question_is_answered_with_the_columns_shown(trained_once, msacat_at, statement, shown):
    """By another sky than the README's, so not with its numbers; a model of seconds knows no star to be metal-poor."""
    statement = statement.replace("fe_h_hi < -1 AND fe_h_hi - fe_h_lo < 0.4", "fe_h_hi < 1")
    code, out, err = msacat_at(trained_once, "query", statement)
    assert (code, err) == (0, ""), err
    header, *rows = out.splitlines()
    expected, *some = shown.splitlines()
    assert header.split() == expected.split()
    assert rows and some


def test_commands_and_their_options_exist():
    assert len(COMMANDS) > 5
    for command in COMMANDS:
        group, words = typer.main.get_command(app), shlex.split(command)[1:]
        while hasattr(group, "commands"):
            assert words[0] in group.commands, command
            group = group.commands[words.pop(0)]
        group.make_context(group.name, words)  # parses: an unknown option or a missing argument raises


def test_queries_in_its_commands_are_answered(trained_once, msacat_at):
    queries = [shlex.split(command)[2:] for command in COMMANDS if command.startswith("msacat query")]
    assert queries
    for words in queries:
        code, out, err = msacat_at(trained_once, "query", *words)
        assert code == 0 and len(out.splitlines()) > 1, err


def test_a_list_of_targets_is_joined_through_the_index(trained):
    (block,) = re.findall(r"```\n(CREATE SCHEMA mine;.*?)```", README, re.DOTALL)
    made, asked = re.split(r"^\\copy .*$", block, flags=re.MULTILINE)
    asked = asked.strip().removesuffix(";")
    with psycopg.connect(trained) as conn:
        conn.execute(made)
        conn.execute(
            "INSERT INTO mine.targets SELECT source_id, ra, dec FROM survey.gaia_source ORDER BY 1 LIMIT 5"
        )
        found = {row[:2] for row in conn.execute(asked).fetchall()}
        plan = "\n".join(line for (line,) in conn.execute("EXPLAIN " + asked))
    assert len({a for a, b in found if a == b}) == 5
    assert plan.count("Seq Scan") == 1 and "q3c_nearby_it" in plan


def test_links_lead_somewhere():
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
