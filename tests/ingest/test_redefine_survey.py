"""A survey file with a mistake in it: corrected once its rows are forgotten."""

from __future__ import annotations

import psycopg
import pytest

from msacat.catalog.ingest.ingest_ledger import files_lock
from msacat.catalog.server.connect import advisory_lock, connect

SURVEY = """
name = "mine"
title = "A survey of mine"
version = 1
release = "dr1"
role = "photometry"
description = "One made-up band."
reference = "none"
attribution = "none"
columns = [
  { name = "mine_id", type = "bigint", published = ["ID"], description = "Number of the object." },
  { name = "ra", type = "double precision", published = ["RA"], unit = "deg", description = "Right ascension." },
  { name = "dec", type = "double precision", published = ["DEC"], unit = "deg", description = "Declination." },
  { name = "mag", type = "real", published = ["MAG"], unit = "mag", range = [5.0, 10.0], description = "Magnitude." },
  { name = "err", type = "real", published = ["ERR"], unit = "mag", description = "Its error." },
]
[id]
column = "mine_id"
[position]
epoch = 2012.0
match_radius_arcsec = 1.0
[[bands]]
name = "mine_m"
mag = "mag"
err = "err"
system = "AB"
zero_point_jy = 3631.0
wavelength_nm = 470.0
width_nm = 120.0
reference = "none"
typical_err = 0.02
"""


@pytest.fixture
def command(store, msacat_at):
    def run(*arguments, code: int = 0) -> str:
        ended = msacat_at(store, *arguments)
        assert ended.code == code, ended.err
        return ended.out + ended.err

    return run


@pytest.fixture
def version(tmp_path):
    """version(2, ("old", "new"), ...): the survey file with these corrections."""

    def write(number: int, *corrections: tuple[str, str]):
        text = SURVEY.replace("version = 1", f"version = {number}")
        for old, new in corrections:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"mine_{number}.toml"
        path.write_text(text)
        return path

    return write


def rows(dsn: str, query: str) -> list[tuple]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(query).fetchall()


def test_a_wrong_range_and_type_are_corrected_once_the_rows_are_forgotten(
    store, command, version, write_csv, gaia_rows
):
    (star,) = gaia_rows(1)
    file = write_csv("mine.csv", [{"ID": 1, "RA": star["ra"], "DEC": star["dec"], "MAG": 18.0, "ERR": 0.1}])
    command("ingest", "gaia_source", write_csv("gaia.csv", [star]))
    command("survey", "add", version(1))
    command("ingest", "mine", file)
    command("crossmatch", "mine")
    measured = "SELECT mine_id, mine_m FROM matched.stars"
    assert rows(store, measured) == [(1, None)]
    corrected = version(2, ("[5.0, 10.0]", "[5.0, 30.0]"), ('"bigint"', '"text"'))
    refused = command("survey", "update", corrected, code=2)
    assert "mag: range changed" in refused and "msacat forget mine" in refused
    command("forget", "mine")
    assert "column mag: range changed" in command("survey", "update", corrected)
    assert rows(store, measured) == [(None, None)]
    command("ingest", "mine", file)
    command("crossmatch", "mine")
    assert rows(store, measured) == [("1", 18.0)]
    command("verify")


def test_a_new_version_is_said_where_nothing_else_differs(store, command, version, write_csv):
    command("survey", "add", version(1))
    assert "version 1 became 2; nothing else differs" in command("survey", "update", version(2))
    command("ingest", "mine", write_csv("mine.csv", [{"ID": 1, "RA": 10, "DEC": 5, "MAG": 8.0, "ERR": 0.1}]))
    assert "version 2 became 3; nothing else differs" in command("survey", "update", version(3))
    assert "this very file is registered" in command("survey", "update", version(3))
    assert rows(store, "SELECT version FROM msacat.surveys WHERE name = 'mine'") == [(3,)]


def test_what_outlives_the_rows_stays(store, command, version):
    command("survey", "add", "gaia_source")
    command("survey", "add", version(1))
    for change, words in (
        (('"AB"', '"Vega"'), "band mine_m: system changed"),
        (('"mine_m"', '"mine_n"'), "band mine_m is gone"),
        (('"mine_id"', '"other_id"'), "id.column changed"),
    ):
        assert words in command("survey", "update", version(2, change), code=2)
    for table in ("survey.mine", "matched.mine"):
        with psycopg.connect(store) as conn:
            conn.execute(f"CREATE VIEW public.theirs AS SELECT mine_id FROM {table}")
        assert "view theirs" in command("survey", "update", version(3, ('"bigint"', '"text"')), code=2)
        with psycopg.connect(store) as conn:
            conn.execute("DROP VIEW public.theirs")
    assert rows(store, "SELECT version FROM msacat.surveys WHERE name = 'mine'") == [(1,)]


def test_an_update_does_not_queue_readers_behind_files_that_come_in(store, command, version):
    command("survey", "add", "gaia_source")
    command("survey", "add", version(1))
    with connect(store) as coming_in, advisory_lock(coming_in, files_lock("mine"), shared=True):
        coming_in.execute("INSERT INTO survey.mine (mine_id, ra, dec, file_id) VALUES (1, 10, 20, 1)")
        coming_in.commit()
        coming_in.execute("UPDATE survey.mine SET mag = 7")
        column = (
            '  { name = "more", type = "real", published = ["MORE"], description = "Another one." },\n]\n[id]'
        )
        refused = command("survey", "update", version(2, ("]\n[id]", column)), code=4)
        assert "'files of mine'" in refused and rows(store, "SELECT count(*) FROM matched.stars") == [(0,)]
