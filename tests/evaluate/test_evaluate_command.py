"""msacat evaluate as it is typed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from msacat.catalog.server.connect import connect
from msacat.cli.evaluation_store import listing

FEW = ["--methods", "msacat,median_colour,colour_locus", "--regimes", "survey_hidden_xp_seen,xp_hidden"]


def test_a_sky_is_judged_and_an_interrupted_run_goes_on(store, sky, model_folder, tmp_path, msacat_at):
    record, page = tmp_path / "accuracy.json", tmp_path / "accuracy.md"
    command = ["evaluate", "--sky", sky.folder, "--model", model_folder, "--record", record, *FEW]
    first = msacat_at(store, *command, "--cache", tmp_path / "cache", "--json", "--page", page)
    assert first.code == 0, first.err
    records = json.loads(first.out)
    assert {(r["regime"], r["method"]) for r in records} == {
        (regime, m) for regime in ("survey_hidden_xp_seen", "xp_hidden") for m in ("msacat", "median_colour", "colour_locus")
    }  # fmt: skip
    assert all(r["dataset"].split(":")[0] == "sky-dirty" and len(r["commit"]) > 4 for r in records)
    assert "## sky-dirty" in page.read_text() and "| msacat |" in page.read_text()
    # The stars are kept: no store is opened again, and nothing is judged twice.
    again = msacat_at(None, *command, "--cache", tmp_path / "cache")
    assert again.code == 0 and "answered" not in again.err and "colour_locus" in again.out
    assert "nan" not in again.out  # no mixture was asked: nothing to compare with
    named = msacat_at(None, *command[:3], *FEW[2:], "--methods", "median_colour", "--cache", tmp_path / "cache",
                      "--dataset", "other", "--json")  # fmt: skip
    assert {r["dataset"].split(":")[0] for r in json.loads(named.out)} == {"other"}
    # Nor with the store alone: its table knows what was done.
    with connect(store) as conn:
        assert conn.execute("SELECT count(*) FROM learned.accuracy").fetchone() == (len(records),)
    table = msacat_at(store, "evaluate", "--sky", sky.folder, "--model", model_folder, *FEW, "--json")
    assert table.code == 0 and "answered" not in table.err
    assert sorted(json.loads(table.out), key=str) == sorted(records, key=str)


def test_too_few_stars_for_a_mean_are_said_to_be(store, sky, model_folder, tmp_path, msacat_at):
    few = ["--test-stars", "100", "--methods", "median_colour", "--regimes", "survey_hidden_xp_seen"]
    ended = msacat_at(store, "evaluate", "--sky", sky.folder, *few, "--record", tmp_path / "few.json")
    assert ended.code == 0 and "No band has 100 test stars" in ended.out
    assert json.loads((tmp_path / "few.json").read_text())


def test_arms_and_the_oracle_are_judged_beside_the_rest(store, sky, model_folder, msacat_at):
    """The arm is the model itself, under another name; the oracle has seen the very stars."""
    command = ["evaluate", "--sky", sky.folder, "--model", model_folder, "--arm", f"again={model_folder}",
               "--oracle", sky.folder, "--methods", "msacat,msacat:again,oracle,median_colour",
               "--regimes", "survey_hidden_xp_seen", "--test-stars", "200", "--json"]  # fmt: skip
    ended = msacat_at(store, *command)
    assert ended.code == 0, ended.err
    nmad: dict[str, dict[str, float]] = {}
    for r in json.loads(ended.out):
        if (r["g_bin"], r["against"]) == ("all", "truth"):
            nmad.setdefault(r["method"], {})[r["quantity"]] = r["nmad"]
    assert nmad["msacat:again"] == nmad["msacat"]
    better = [nmad["oracle"][band] < value for band, value in nmad["median_colour"].items()]
    assert len(better) > 5 and np.mean(better) > 0.8


def test_wrong_words(sky, tmp_path, model_folder, msacat_at):
    assert "give one set of stars" in msacat_at(None, "evaluate").err
    assert msacat_at(None, "evaluate", "--sky", sky.folder, "--m67", tmp_path / "x").code == 2
    assert (
        "no method called 'guess'"
        in msacat_at(None, "evaluate", "--sky", sky.folder, "--methods", "guess").err
    )
    assert (
        "no regime called 'all'" in msacat_at(None, "evaluate", "--sky", sky.folder, "--regimes", "all").err
    )
    unnamed = msacat_at(None, "evaluate", "--sky", sky.folder, "--arm", model_folder)
    assert unnamed.code == 2 and "NAME=FOLDER" in unnamed.err
    other = msacat_at(None, "evaluate", "--sky", sky.folder, "--model", model_folder, "--seed", "7")
    assert other.code == 2 and "trained on another split" in other.err


def test_a_folder_without_truth_is_refused_with_the_next_step(tmp_path, msacat_at):
    ended = msacat_at(None, "evaluate", "--sky", tmp_path, "--methods", "median_colour")
    assert ended.code == 1 and "no truth beside the survey files" in ended.err
    assert "msacat simulate DIR" in ended.err


def test_a_store_with_other_files_is_refused(trained, tmp_path, sky, msacat_at):
    import shutil

    shutil.copytree(sky.folder, tmp_path / "copy")
    ended = msacat_at(trained, "evaluate", "--sky", tmp_path / "copy", "--methods", "median_colour")
    assert ended.code == 2 and "a store of its own" in ended.err
    with connect(trained) as conn:
        gone = str(sky.folder / "gaia_source" / "gone.csv")
        conn.execute("UPDATE msacat.files SET path = %s WHERE file_id = 1", [gone])
        conn.commit()
    ended = msacat_at(trained, "evaluate", "--sky", sky.folder, "--methods", "median_colour")
    assert ended.code == 2 and gone in ended.err


def test_a_cache_of_other_survey_files_is_refused(data, sky, tmp_path, msacat_at):
    """The truth is the same, the stars are not: a survey was taken away, say, to see what it is worth."""
    import shutil

    copy, cache = tmp_path / "copy", tmp_path / "cache"
    shutil.copytree(sky.folder, copy)
    kept = replace(data, files=listing(sky.folder))
    assert listing(copy) == kept.files
    kept.save(cache / f"sky-{kept.fingerprint[:12]}-0.npz")
    command = [
        "evaluate",
        "--sky",
        copy,
        "--cache",
        cache,
        "--methods",
        "median_colour",
        "--regimes",
        "xp_hidden",
    ]
    assert msacat_at(None, *command).code == 0
    shutil.rmtree(copy / "twomass_psc")
    ended = msacat_at(None, *command)
    assert ended.code == 2 and "other survey files" in ended.err and "another --cache" in ended.err
