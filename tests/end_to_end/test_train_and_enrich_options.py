"""Every option of train, enrich and runs, as typed; and the enriched views, column by column."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from msacat.catalog.enrich.write_enriched import RunRequest, start_run
from msacat.catalog.server.connect import connect

KINDS = ("magnitudes", "xp_coefficients", "embeddings", "metallicities")


@pytest.fixture
def run(trained, msacat_at):
    """run("train", ...) in the copied store: succeeds, and returns what --json printed (None where there is none)."""

    def command(*arguments: object):
        verb = arguments[0]
        ended = msacat_at(None if verb == "simulate" else trained, *arguments)
        assert ended.code == 0, ended.err
        return json.loads(ended.out) if "--json" in arguments else None

    return command


def rows(dsn: str, query: str) -> list[tuple]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(query).fetchall()


def test_the_views_have_the_columns_that_users_were_promised(trained_once):
    columns: dict[str, dict[str, str]] = {}
    for view, name, kind in rows(
        trained_once,
        "SELECT table_name, column_name, udt_name FROM information_schema.columns WHERE table_schema = 'enriched' "
        "AND table_name !~ '^r[0-9]' ORDER BY ordinal_position",
    ):
        columns.setdefault(view, {})[name] = kind
    key = {"source_id": "int8", "run_id": "int8"}
    bands = [band for (band,) in rows(trained_once, "SELECT band FROM msacat.bands")]
    magnitudes = {f"{band}{tail}": "float4" for band in bands for tail in ("", "_err", "_err95")}
    masks = dict.fromkeys(("observed", "suspect", "no_support", "through_xp"), "int8") | {"has_input": "bool"}
    xp = {f"{half}_coefficient{tail}": "_float4" for half in ("bp", "rp") for tail in ("s", "_errors")}
    seen = {"bp_observed": "bool", "rp_observed": "bool"}
    labels = dict.fromkeys(("fe_h", "fe_h_lo", "fe_h_hi", "teff", "teff_err", "logg", "logg_err"), "float4")
    assert columns["magnitudes"] == key | magnitudes | masks
    assert columns["xp_coefficients"] == key | xp | seen
    assert columns["embeddings"] == key | {"embedding": "_float4"}
    assert columns["metallicities"] == key | labels | {"suspect": "bool"}
    joined = key | magnitudes | masks | xp | seen | labels | {"embedding": "_float4", "metallicity_suspect": "bool",
              "ra": "float8", "dec": "float8", "parallax": "float8", "ps1_id": "int8", "apogee_dr17_fe_h": "float4"}  # fmt: skip
    assert joined.items() <= columns["stars"].items() and columns.keys() == {*KINDS, "stars"}
    assert rows(
        trained_once,
        "SELECT DISTINCT cardinality(embedding) FROM enriched.embeddings WHERE embedding IS NOT NULL",
    ) == [(64,)]


@pytest.mark.slow
def test_train_on_a_condition_with_a_split_of_ones_own(run, trained, sky, msacat_at, tmp_path):
    bright = [
        source_id for (source_id,) in rows(trained, "SELECT source_id FROM matched.stars WHERE gaia_g < 17")
    ]
    parts = ["train", "train", "calibrate", "test"]
    split = tmp_path / "split.csv"
    lines = [f"{source_id},{parts[i % 4]}" for i, source_id in enumerate(bright)]
    split.write_text("source_id,part\n" + "\n".join(lines) + "\n")
    model = run("train", "--name", "own-split", "--split", split, "--where", "gaia_g < 17 AND dec > -90",
                "--seed", 5, "--device", "cpu", "--epochs", 1, "--tensorboard", tmp_path / "events", "--json")  # fmt: skip
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    last = {name: events.Scalars(name)[-1] for name in ("loss", "gradient_norm", "loss_bands", "loss_xp")}
    recorded = dict(rows(trained, "SELECT DISTINCT ON (s.name) s.name, (step, value)::text FROM learned.train_steps s "
                                  "JOIN learned.models m USING (model_id) WHERE m.name = 'own-split' "
                                  "ORDER BY s.name, step DESC"))  # fmt: skip
    for name, event in last.items():
        step, value = recorded[name].strip("()").split(",")
        assert event.step == int(step) and event.value == pytest.approx(float(value), rel=1e-5)
    assert sum(model["stars"].values()) <= len(bright)
    for part in set(parts):
        assert model["stars"][part] == pytest.approx(len(bright) * parts.count(part) / 4, rel=0.05)
    ((split_kind, where, seed),) = rows(
        trained, "SELECT kind, where_sql, config->>'seed' FROM learned.models JOIN msacat.split_sets USING (split_id) "
        "WHERE name = 'own-split'")  # fmt: skip
    assert (split_kind, where, seed) == ("stars", "gaia_g < 17 AND dec > -90", "5")
    assert "* split: a file, sha256 " in (Path(model["folder"]) / "README.md").read_text()
    judged = msacat_at(None, "evaluate", "--sky", sky.folder, "--model", model["folder"])
    assert judged.code == 2 and "a split of its own" in judged.err


@pytest.mark.slow
def test_train_for_minutes_reports_offsets_in_words(trained, msacat_at):
    ended = msacat_at(trained, "train", "--name", "timed", "--minutes", 0.05)
    assert ended.code == 0, ended.err
    assert "Held-out" in ended.out and "apogee_dr17.fe_h" in ended.out
    after = ended.out.split("fitted offset of")[1]
    assert "lamost_dr9.fe_h" in after and " dex" in after
    assert "apogee_dr17" not in after.split("next:")[0]  # it is the scale


def test_enrich_the_stars_of_a_condition_or_a_list(run, trained, tmp_path):
    ids = [
        source_id
        for (source_id,) in rows(trained, "SELECT source_id FROM survey.gaia_source ORDER BY dec LIMIT 7")
    ]
    plain, table = tmp_path / "ids.txt", tmp_path / "ids.csv"
    plain.write_text("\n".join(map(str, ids[:3])) + "\n")
    table.write_text("name,SOURCE_ID\n" + "".join(f"a,{source_id}\n" for source_id in ids))
    assert run("enrich", "--ids", plain, "--json")["rows"] == dict.fromkeys(KINDS, 3)
    assert run("enrich", "--ids", table, "--device", "cpu", "--json")["rows"]["magnitudes"] == 7
    some = run("enrich", "--where", "gaia_g < 14", "--model", "trained_store", "--json")
    counts = dict(rows(trained, "SELECT run_id, count(*) FROM enriched.stars GROUP BY 1"))
    assert counts[some["run_id"]] == some["rows"]["magnitudes"] < 2500
    assert sum(counts.values()) == 2500, "the rest is from the runs before"


def test_enrich_new_stars_only(run, trained, tmp_path, msacat_at):
    ended = msacat_at(trained, "enrich", "--new")
    assert ended.code == 0 and "no star is new or changed" in ended.err
    assert run("simulate", tmp_path / "more", "--stars", 100, "--seed", 8, "--json")
    run("ingest", "gaia_source", tmp_path / "more" / "gaia_source")
    new = run("enrich", "--new", "--json")
    assert new["rows"] == dict.fromkeys(KINDS, 100)
    assert dict(rows(trained, "SELECT run_id, count(*) FROM enriched.stars GROUP BY 1")) == {
        1: 2500, new["run_id"]: 100}  # fmt: skip


def test_a_run_is_resumed_without_the_bands_of_a_survey_added_since(run, trained, msacat_at):
    with connect(trained) as conn:
        ((model_id,),) = conn.execute("SELECT model_id FROM learned.models").fetchall()
        run_id = start_run(conn, model_id, RunRequest(), list(KINDS))
    run("survey", "add", "lsst")
    assert run("enrich", "--resume", run_id, "--json")["rows"] == dict.fromkeys(KINDS, 2500)
    bands = "SELECT sum(1::bigint << bit) FROM msacat.bands WHERE survey = 'lsst'"
    assert rows(
        trained, f"SELECT count(*) FROM enriched.magnitudes WHERE no_support & ({bands})::bigint = ({bands})"
    ) == [(2500,)]


def test_what_enrich_leaves_out_for_want_of_matches_is_said(run, trained, tmp_path, msacat_at):
    def next_step() -> str:
        return run("status", "--json")["next_step"]

    assert next_step().startswith("msacat query")
    assert run("simulate", tmp_path / "more", "--stars", 100, "--seed", 8, "--json")
    run("ingest", "twomass_psc", tmp_path / "more" / "twomass_psc")
    for arguments in (["--new"], ["--where", "gaia_g < 12"]):
        ended = msacat_at(trained, "enrich", *arguments)
        assert ended.code == 0 and "the cross-match of twomass_psc is out of date" in ended.err
    with psycopg.connect(trained) as conn:
        conn.execute("DELETE FROM msacat.crossmatches WHERE dataset = 'twomass_psc'")
    assert "twomass_psc was never cross-matched" in " ".join(run("enrich", "--new", "--json")["notes"])
    run("crossmatch", "twomass_psc")
    assert next_step() == "msacat enrich --new"
    run("ingest", "gaia_source", tmp_path / "more" / "gaia_source")
    run("crossmatch")
    assert next_step() == "msacat enrich --new"
    run("enrich", "--new")
    assert next_step().startswith("msacat query")
    with psycopg.connect(trained) as conn:
        conn.execute("UPDATE msacat.runs SET state = 'stale' WHERE state = 'published'")
    assert next_step() == "msacat enrich"


def test_what_becomes_of_a_survey_without_rows_is_said(trained):
    from msacat.catalog.server.connect import connect
    from msacat.catalog.store.register_survey import registered_specs
    from msacat.catalog.stream.training_ready import check_ready

    with connect(trained) as conn:
        for survey in ("panstarrs1", "catwise2020"):
            conn.execute(f"DELETE FROM survey.{survey}")
        notes = check_ready(conn, registered_specs(conn))
        conn.rollback()
    assert [note for note in notes if "no rows" in note] == [
        "panstarrs1 has no rows: learned through the XP spectra alone: ps1_g, ps1_r, ps1_i, ps1_z, ps1_y"
    ]
    assert "without rows, so skipped: catwise2020" in notes


def test_runs_are_shown_listed_and_dropped(run, trained, msacat_at):
    unseen = run("enrich", "--where", "gaia_g < 15", "--no-publish", "--json")
    number = unseen["run_id"]
    assert unseen["published"] == []
    assert rows(trained, "SELECT DISTINCT run_id FROM enriched.stars") == [(1,)]
    listed = {r["run_id"]: r for r in run("runs", "list", "--json")}
    assert (listed[number]["state"], listed[1]["state"]) == ("verified", "published")
    code, out, _ = msacat_at(trained, "runs", "publish", number)
    assert code == 0 and "enriched.stars" in out
    assert {run_id for (run_id,) in rows(trained, "SELECT DISTINCT run_id FROM enriched.magnitudes")} == {
        1,
        number,
    }
    code, out, _ = msacat_at(trained, "runs", "list")
    assert code == 0 and "stars where gaia_g < 15" in out
    run("runs", "drop", number)
    assert rows(trained, "SELECT DISTINCT run_id FROM enriched.stars") == [(1,)]
    assert rows(trained, f"SELECT to_regclass('enriched.r{number}_magnitudes')") == [(None,)]
    assert {r["run_id"]: r["state"] for r in run("runs", "list", "--json")}[number] == "dropped"
    code, _, err = msacat_at(trained, "runs", "publish", number)
    assert code == 2 and "was dropped" in err


def test_a_view_of_the_users_in_the_way_refuses_publishing(run, trained, msacat_at):
    unseen = run("enrich", "--where", "gaia_g < 14", "--no-publish", "--json")["run_id"]
    with psycopg.connect(trained) as conn:
        conn.execute("ALTER VIEW enriched.stars RENAME TO former_stars")
        conn.execute("CREATE VIEW enriched.stars AS SELECT 1 AS mine")
    code, out, err = msacat_at(trained, "runs", "publish", unseen)
    assert (code, out) == (1, "") and "enriched.stars is not msacat's" in err and "RENAME TO" in err
    assert rows(trained, "SELECT mine FROM enriched.stars") == [(1,)]
    assert rows(trained, f"SELECT state FROM msacat.runs WHERE run_id = {unseen}") == [("verified",)]


def test_status_asks_for_the_training_that_enrich_would_go_without(trained, msacat_at):
    """`msacat enrich` takes what model there is; that another one is due only `status` can say."""

    def next_step() -> str:
        return json.loads(msacat_at(trained, "status", "--json").out)["next_step"]

    def now(statement: str) -> None:
        with psycopg.connect(trained) as conn:
            conn.execute(statement)

    newer = (
        "INSERT INTO learned.models (name, state, folder, features, file_ids, code_version, finished) "
        "SELECT 'newer', 'finished', '/newer', features, file_ids, code_version, now() FROM learned.models"
    )
    now(newer)
    assert next_step() == "msacat enrich --model newer"
    now("UPDATE learned.models SET state = 'stale' WHERE name = 'newer'")
    assert next_step() == "msacat train --name NAME   (model newer is stale)"
    now("DELETE FROM learned.models WHERE name = 'newer'")
    assert next_step().startswith("msacat query")
    # a survey whose matches came after the training
    now(
        "UPDATE learned.models SET features = jsonb_set(features, '{bands}', (SELECT jsonb_agg(b) "
        "FROM jsonb_array_elements(features->'bands') b WHERE b->>'survey' <> 'twomass_psc'))"
    )
    assert next_step() == (
        "msacat train --name NAME   (model trained_store does not know twomass_j, twomass_h, twomass_ks)"
    )
    now("UPDATE msacat.crossmatches SET n_matched = 0 WHERE dataset = 'twomass_psc'")
    assert next_step().startswith("msacat query")
