"""What cannot be done is refused with the right exit code, and the words say what to do next."""

from __future__ import annotations

import gzip
import json
import re
from importlib.resources import files

import psycopg
import pytest

from msacat.catalog.server.connect import advisory_lock, connect


@pytest.fixture
def sky_store(store, sky, msacat_at):
    """A store with a quarter of the sky's Gaia stars and 2MASS, not matched."""
    assert (
        msacat_at(store, "ingest", "gaia_source", sorted((sky.folder / "gaia_source").iterdir())[0]).code == 0
    )
    assert msacat_at(store, "ingest", "twomass_psc", sky.folder / "twomass_psc").code == 0
    return store


def refused(ended, code: int, *words: str) -> str:
    assert ended.code == code, ended.err
    assert ended.out == "" and "Traceback" not in ended.err
    for word in words:
        assert word in ended.err
    return ended.err


class TestTrain:
    def test_an_empty_store(self, store, msacat_at):
        refused(msacat_at(store, "train", "--name", "a"), 1, "no stars", "msacat ingest gaia_source")

    def test_too_few_stars(self, store, sky, tmp_path, msacat_at):
        some = tmp_path / "some.csv"
        with gzip.open(sorted((sky.folder / "gaia_source").iterdir())[0], "rt") as lines:
            some.write_text("".join(next(lines) for _ in range(200)))
        assert msacat_at(store, "ingest", "gaia_source", some).code == 0
        refused(msacat_at(store, "train", "--name", "a"), 1, "too few stars", "at least 500")

    def test_no_matches(self, sky_store, msacat_at):
        ended = msacat_at(sky_store, "train", "--name", "a")
        refused(ended, 1, "twomass_psc never cross-matched", "next:     msacat crossmatch twomass_psc")

    def test_options_that_cannot_be(self, trained, msacat_at):
        for arguments, words in {
            ("--name", "Not A Name"): "not a usable model name",
            ("--name", "a", "--minutes", "1", "--epochs", "1"): "not both",
            ("--name", "a", "--minutes", "-1"): "--minutes",
            ("--name", "a", "--device", "abacus"): "cpu, cuda",
            ("--name", "a", "--where", "gaia_g <"): "not a condition",
            ("--name", "a", "--where", "gaia_g < 17); DROP TABLE survey.gaia_source; --"): "not a condition",
            ("--name", "a", "--where", "no_such_column < 17"): "no_such_column",
            ("--name", "trained_store"): "exists (finished)",
            ("--name", "nobody", "--resume"): "no model called 'nobody'",
            ("--name", "trained_store", "--resume"): "no interrupted training",
            ("--name", "a", "--resume", "--where", "gaia_g < 17"): "keeps its own",
            ("--name", "a", "--resume", "--epochs", "1"): "keeps its own",
            ("--name", "a", "--resume", "--seed", "0"): "keeps its own",
            ("--name", "a", "--seed", "-1"): "--seed",
            ("--name", "a", "--split", "/no/such/file"): "/no/such/file",
        }.items():
            refused(msacat_at(trained, "train", *arguments), 2, words)
        assert [m["name"] for m in json.loads(msacat_at(trained, "models", "list", "--json").out)] == [
            "trained_store"
        ]

    def test_a_device_that_is_not_there_is_refused_before_anything_is_packed(
        self, trained, msacat_at, monkeypatch
    ):
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        err = refused(msacat_at(trained, "train", "--name", "a", "--device", "cuda"), 2, "no CUDA device")
        assert "packed" not in err
        assert len(json.loads(msacat_at(trained, "models", "list", "--json").out)) == 1

    def test_a_name_is_free_again_after_a_failure(self, trained, msacat_at):
        refused(msacat_at(trained, "train", "--name", "a", "--where", "gaia_g < 0"), 1, "too few stars")
        (model,) = json.loads(msacat_at(trained, "models", "list", "--json").out)[1:]
        assert (model["name"], model["state"]) == ("a", "failed") and "too few stars" in model["stale_reason"]
        refused(msacat_at(trained, "enrich", "--model", "a"), 1, "is failed")
        refused(msacat_at(trained, "train", "--name", "a", "--resume"), 2, "no interrupted training")
        refused(msacat_at(trained, "train", "--name", "a", "--where", "gaia_g < 1"), 1, "too few stars")

    def test_a_folder_that_another_store_knows_is_left_alone(self, sky_store, trained_once, msacat_at):
        assert msacat_at(sky_store, "crossmatch").code == 0
        err = refused(msacat_at(sky_store, "train", "--name", "trained_store"), 2, "this store does not know")
        assert "models import" in err
        assert json.loads(msacat_at(sky_store, "models", "list", "--json").out) == []


class TestEnrich:
    def test_without_a_model(self, sky_store, msacat_at):
        refused(msacat_at(sky_store, "enrich"), 1, "no finished model", "msacat train")
        refused(msacat_at(sky_store, "enrich", "--model", "a"), 2, "no model called 'a'")

    def test_options_that_cannot_be(self, trained, msacat_at, tmp_path):
        ids = tmp_path / "ids.txt"
        ids.write_text("12345678901234567890\n")
        unknown = tmp_path / "unknown.csv"
        unknown.write_text("source_id\n4711\n")
        empty = tmp_path / "empty.csv"
        empty.write_text("source_id\n")
        other = tmp_path / "other.csv"
        other.write_text("id\n1\n")
        for code, words, arguments in [
            (2, "give one of", ("--where", "gaia_g < 17", "--new")),
            (2, "not a condition", ("--where", "gaia_g <")),
            (1, "no star to enrich", ("--where", "gaia_g < 0")),
            (1, "not a source_id", ("--ids", ids)),
            (1, "the first is 4711", ("--ids", unknown)),
            (2, "no column source_id", ("--ids", other)),
            (2, "the list of ids is empty", ("--ids", empty)),
            (2, "there is no run 99", ("--resume", 99)),
            (2, "run 1 is published", ("--resume", 1)),
            (2, "--resume goes without them", ("--resume", 1, "--new")),
        ]:
            refused(msacat_at(trained, "enrich", *arguments), code, words)
        assert len(json.loads(msacat_at(trained, "runs", "list", "--json").out)) == 1

    def test_what_stands_on_forgotten_files_is_stale(self, trained, msacat_at):
        ended = msacat_at(trained, "forget", "apogee_dr17")
        assert ended.code == 0 and "models trained_store" in ended.err and "runs 1" in ended.err
        why = "file forgotten: "
        refused(msacat_at(trained, "enrich"), 1, "no finished model", "trained_store is stale", why)
        refused(msacat_at(trained, "enrich", "--model", "trained_store"), 1, "is stale", why)
        refused(msacat_at(trained, "runs", "publish", 1), 1, "run 1 is stale", why, "train and enrich again")
        status = json.loads(msacat_at(trained, "status", "--json").out)
        assert [m["state"] for m in status["models"]] == [r["state"] for r in status["runs"]] == ["stale"]
        assert status["next_step"] == "msacat crossmatch apogee_dr17"
        with psycopg.connect(trained) as conn:
            conn.execute("UPDATE learned.models SET state = 'finished'")
        refused(msacat_at(trained, "runs", "publish", 1), 1, "run 1 is stale", "next:     msacat enrich ")
        with psycopg.connect(trained) as conn:  # marked, not taken away
            assert conn.execute("SELECT count(*) FROM enriched.stars WHERE run_id = 1").fetchone() == (2500,)

    def test_a_model_with_runs_is_not_dropped(self, trained, msacat_at):
        refused(msacat_at(trained, "models", "drop", "trained_store"), 2, "msacat runs drop 1")


class TestQuery:
    @pytest.mark.parametrize(
        ("statement", "words"),
        [
            ("DELETE FROM survey.gaia_source", "only reads"),
            ("COPY survey.gaia_source TO '/tmp/never'", "only reads"),
            ("SET TRANSACTION READ WRITE", "only reads"),
            ("COMMIT", "only reads"),
            ("/* hidden */ -- twice\n DROP SCHEMA survey CASCADE", "only reads"),
            ("WITH x AS (DELETE FROM msacat.files RETURNING 1) SELECT * FROM x", "only reads"),
            ("SELECT nextval(pg_get_serial_sequence('msacat.files', 'file_id'))", "only reads"),
            ("SELECT set_config('transaction_read_only', 'off', false)", "read-write"),
            ("SELECT 1; DELETE FROM msacat.files", "multiple commands"),
            ("SELECT 1; SELECT 2", "multiple commands"),
            ("SELECT source_id FORM enriched.stars", "syntax error"),
            ("SELECT no_such_column FROM enriched.stars", "msacat describe"),
            ("SELECT * FROM enriched.no_such_view", "msacat describe"),
            ("SELECT 1/0", "division by zero"),
            ("", "only reads"),
        ],
    )  # fmt: skip
    def test_what_is_no_question(self, trained_once, msacat_at, statement, words):
        refused(msacat_at(trained_once, "query", statement), 2, words)

    def test_nothing_was_written(self, trained_once, msacat_at):
        """After all of the above."""
        ended = msacat_at(trained_once, "query", "SELECT count(*) AS n FROM survey.gaia_source", "--json")
        assert json.loads(ended.out)["rows"] == [{"n": 2500}]

    def test_too_many_rows_are_cut_and_said(self, trained_once, msacat_at):
        code, out, err = msacat_at(
            trained_once, "query", "SELECT source_id FROM enriched.stars", "--max-rows", 7, "--json"
        )
        found = json.loads(out)
        assert code == 0 and len(found["rows"]) == 7 and found["truncated"] is True
        assert "only the first 7 rows" in err
        code, out, err = msacat_at(trained_once, "query", "SELECT 1 AS one", "--max-rows", 1, "--json")
        assert (code, json.loads(out)["truncated"], err) == (0, False, "")

    def test_a_query_that_takes_too_long(self, trained_once, msacat_at):
        refused(
            msacat_at(trained_once, "query", "SELECT pg_sleep(60)", "--timeout", 0.2), 1, "longer than 0.2 s"
        )

    def test_options_that_cannot_be(self, trained_once, msacat_at, tmp_path):
        for arguments, words in {
            (): "one of a statement, --cone, --star",
            ("SELECT 1", "--cone", 1, 2, 3): "one of a statement, --cone, --star",
            ("--cone", 1, 2, 3, "--star", 4): "one of a statement, --cone, --star",
            ("--star", 2**63): "--star",
            ("--cone", 10, 91, 1): "not a declination",
            ("--cone", 10, 0, -1): "not a radius",
            ("--cone", "nan", 0, 1): "not a right ascension",
            ("SELECT 1", "--max-rows", 0): "--max-rows",
            ("SELECT 1 AS a", "--out", tmp_path / "x.xlsx"): "unknown file type",
            ("SELECT 1 AS a", "--out", tmp_path / "no" / "x.csv"): "no such folder",
            ("SELECT ARRAY[1, 2] AS a", "--out", tmp_path / "x.csv"): "CSV cannot hold arrays",
            ("SELECT ARRAY[1, 2] AS a", "--csv"): "CSV cannot hold arrays",
            ("SELECT 1 AS a, 2 AS a", "--json"): "two columns are called a",
            ("SELECT 1 AS a", "--json", "--csv"): "give one of",
        }.items():
            refused(msacat_at(trained_once, "query", *arguments), 2, words)
        assert list(tmp_path.iterdir()) == []

    def test_a_cone_or_a_star_before_anything_is_published(self, store, msacat_at):
        for asked in (("--cone", 1, 2, 3), ("--star", 1), ("SELECT gaia_g FROM enriched.stars",)):
            refused(msacat_at(store, "query", *asked), 1, "no run is published", "msacat enrich")


class TestOtherVerbs:
    def test_crossmatch_without_stars_or_positions(self, store, sky, msacat_at):
        ended = msacat_at(store, "crossmatch")
        assert (ended.code, ended.out) == (0, "") and "nothing to match" in ended.err
        assert msacat_at(store, "ingest", "twomass_psc", sky.folder / "twomass_psc").code == 0
        refused(msacat_at(store, "crossmatch"), 1, "no reference stars", "msacat ingest gaia_source")
        assert msacat_at(store, "survey", "add", "xp_continuous").code == 0
        refused(msacat_at(store, "crossmatch", "xp_continuous"), 2, "its role is spectra", "twomass_psc")

    def test_crossmatch_without_rows_or_index(self, sky_store, msacat_at):
        refused(msacat_at(sky_store, "crossmatch", "gaia_source"), 2, "its role is reference")
        refused(msacat_at(sky_store, "crossmatch", "twomas_psc"), 2, "did you mean twomass_psc")
        assert msacat_at(sky_store, "survey", "add", "sdss_dr13").code == 0
        refused(msacat_at(sky_store, "crossmatch", "sdss_dr13"), 1, "has no rows", "msacat ingest sdss_dr13")
        with psycopg.connect(sky_store, autocommit=True) as conn:
            conn.execute("DROP INDEX survey.twomass_psc_q3c")
        err = refused(msacat_at(sky_store, "crossmatch", "twomass_psc"), 1, "no Q3C index")
        with psycopg.connect(sky_store, autocommit=True) as conn:
            conn.execute(err.split("in psql: ")[1])  # the very command it names
        assert msacat_at(sky_store, "crossmatch", "twomass_psc").code == 0

    def test_a_survey_keeps_what_a_published_run_stands_on(self, trained, tmp_path, msacat_at):
        """enriched.stars stands on matched.stars, which may grow and not shrink."""
        had = '"parallax", "pmra", "pmdec"'
        text = (files("msacat.catalog.surveys") / "gaia_source.toml").read_text("utf-8")
        assert f"scalars = [{had}]" in text
        later = re.sub(r"(?m)^version = \d+", "version = 99", text)
        path = tmp_path / "gaia_source.toml"
        path.write_text(later.replace(had, '"parallax", "pmra"', 1))
        refused(msacat_at(trained, "survey", "update", path), 2, "scalar pmdec is gone")
        path.write_text(later.replace(had, f'{had}, "phot_g_mean_flux"', 1))
        assert msacat_at(trained, "survey", "update", path).code == 0
        with psycopg.connect(trained) as conn:
            both = (
                "SELECT count(m.phot_g_mean_flux) FROM enriched.stars JOIN matched.stars m USING (source_id)"
            )
            assert conn.execute(both).fetchone()[0] > 2000

    def test_simulate_into_an_existing_folder(self, tmp_path, msacat_at):
        (tmp_path / "mine.txt").write_text("precious")
        refused(msacat_at(None, "simulate", tmp_path), 2, str(tmp_path), "nothing is ever overwritten")
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
        refused(msacat_at(None, "simulate", tmp_path / "new", "--stars", 3), 2, "--stars")

    def test_unknown_names_come_with_suggestions(self, trained_once, msacat_at):
        refused(msacat_at(trained_once, "ingest", "gaia_sorce", "x.csv"), 2, "did you mean gaia_source")
        refused(msacat_at(trained_once, "survey", "show", "twomas"), 2, "twomass_psc")
        refused(msacat_at(trained_once, "describe", "enriched.star"), 2, "enriched.stars")
        refused(msacat_at(trained_once, "describe", "stars; DROP"), 2, "no table or view")
        refused(msacat_at(trained_once, "models", "show", "a"), 2, "trained_store")
        refused(msacat_at(trained_once, "forget", "nothing.csv"), 2, "nothing.csv")
        refused(msacat_at(trained_once, "runs", "drop", 99), 2, "there is no run 99")
        refused(msacat_at(None, "frobnicate"), 2, "frobnicate")

    def test_no_server_no_schema(self, server, msacat_at):
        for verb in (["status"], ["query", "SELECT 1"], ["describe"], ["crossmatch"], ["train", "--name", "a"],
                     ["enrich"], ["models", "list"], ["runs", "list"], ["verify"],
                     ["ingest", "gaia_source", "x.csv"], ["forget", "gaia_source"]):  # fmt: skip
            refused(msacat_at("host=/no/such/folder dbname=a", *verb), 3, "msacat doctor")
            refused(msacat_at(server.dsn_of("postgres"), *verb), 3, "no msacat store", "msacat db upgrade")
        err = refused(msacat_at("nonsense://x:secret@y", "status"), 2, "cannot be read")
        assert "secret" not in err

    def test_locked(self, sky_store, msacat_at):
        with connect(sky_store, autocommit=True, application="another job") as conn:
            with advisory_lock(conn, "crossmatch twomass_psc"):
                refused(
                    msacat_at(sky_store, "crossmatch", "twomass_psc"), 4, "another job", "wait until it ends"
                )
            with advisory_lock(conn, "train a"):
                refused(msacat_at(sky_store, "train", "--name", "a"), 4, "another job")
        assert msacat_at(sky_store, "crossmatch", "twomass_psc").code == 0
