"""What `msacat query` prints: every character as the store has it."""

from __future__ import annotations

import json


def test_text_is_printed_as_it_is(trained_once, msacat_at):
    """No smileys for what stands between colons, no spaces for tabs."""
    asked = "SELECT 'x:star:y' AS a, '94:100:3' AS id, 'tab' || chr(9) || 'ulator' AS t, '[bold]b' AS m"
    found = msacat_at(trained_once, "query", asked)
    assert found.code == 0 and found.out.splitlines()[1] == "x:star:y  94:100:3  tab\tulator  [bold]b"


def test_documents_are_json_wherever_they_are_printed(trained_once, msacat_at):
    asked = """SELECT '{"a": [1, null]}'::jsonb AS d, '["é", 2]'::json AS l"""
    assert msacat_at(trained_once, "query", asked).out.splitlines()[1] == '{"a": [1, null]}  ["é", 2]'
    csv = msacat_at(trained_once, "query", asked, "--csv").out.splitlines()[1]
    assert csv == '"{""a"": [1, null]}","[""é"", 2]"'


def test_what_is_no_number_is_null_in_json(trained_once, msacat_at):
    asked = "SELECT 'infinity'::numeric AS a, 'NaN'::numeric AS b, 'NaN'::real AS c, 1.5::numeric AS d"
    found = msacat_at(trained_once, "query", asked, "--json")
    assert json.loads(found.out)["rows"] == [{"a": None, "b": None, "c": None, "d": 1.5}], found.err
