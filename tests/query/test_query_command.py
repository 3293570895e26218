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


def test_a_column_of_whole_numbers_is_of_one_type_in_json(trained_once, msacat_at):
    """Strings throughout where one number needs it, numbers throughout where none does; ids are always strings."""
    asked = (
        "SELECT * FROM (VALUES (1::bigint, 9007199254740992::bigint, 2::bigint, 5::numeric, ARRAY[1::bigint]), "
        "(2, 3, NULL, 10000000000000000000.0, ARRAY[9007199254740993]), (3, NULL, 4, 1.5, NULL)) "
        "AS v (source_id, big, small, n, list)"
    )
    found = json.loads(msacat_at(trained_once, "query", asked, "--json").out)
    columns = {name: [row[name] for row in found["rows"]] for name in found["columns"]}
    assert columns == {
        "source_id": ["1", "2", "3"],
        "big": ["9007199254740992", "3", None],
        "small": [2, None, 4],
        "n": ["5", "10000000000000000000.0", "1.5"],
        "list": [["1"], ["9007199254740993"], None],
    }
    none = json.loads(msacat_at(trained_once, "query", f"{asked} WHERE source_id > 3", "--json").out)
    assert (none["columns"], none["rows"]) == (found["columns"], [])


def test_bytes_are_hexadecimal_as_the_server_writes_them(trained_once, msacat_at):
    asked = r"SELECT '\x00ff61'::bytea AS b, NULL::bytea AS n"
    assert json.loads(msacat_at(trained_once, "query", asked, "--json").out)["rows"] == [
        {"b": r"\x00ff61", "n": None}
    ]
    assert msacat_at(trained_once, "query", asked, "--csv").out == "b,n\n" r"\x00ff61," "\n"
    assert r"\x00ff61" in msacat_at(trained_once, "query", asked).out
