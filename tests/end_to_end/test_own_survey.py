"""A survey nobody heard of: one TOML file, and it is ingested, matched, trained on and imputed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import psycopg
import pytest

SPEC = """
name = "own"
title = "A survey of my own"
version = 1
release = "dr1"
role = "photometry"
description = "Two made-up bands of part of the sky, 2012."
reference = "Me et al. 2030"
attribution = "Please cite Me et al. 2030."
columns = [
  { name = "own_id", type = "text", published = ["OBJECT"], ucd = "meta.id;meta.main", description = "Name of the object." },
  { name = "ra", type = "double precision", published = ["RAJ"], unit = "deg", ucd = "pos.eq.ra;meta.main", description = "Right ascension." },
  { name = "dec", type = "double precision", published = ["DEJ"], unit = "deg", ucd = "pos.eq.dec;meta.main", description = "Declination." },
  { name = "bmag", type = "real", published = ["B_MAG"], unit = "mag", ucd = "phot.mag;em.opt.B", sentinels = [-99.0], range = [5.0, 30.0], description = "b magnitude, AB." },
  { name = "berr", type = "real", published = ["B_ERR"], unit = "mag", ucd = "stat.error;phot.mag;em.opt.B", range = [0.0001, 10.0], description = "Error of b." },
  { name = "nmag", type = "real", published = ["N_MAG"], unit = "mag", ucd = "phot.mag;em.IR.J", sentinels = [-99.0], range = [5.0, 30.0], description = "n magnitude, AB." },
  { name = "nerr", type = "real", published = ["N_ERR"], unit = "mag", ucd = "stat.error;phot.mag;em.IR.J", range = [0.0001, 10.0], description = "Error of n." },
  { name = "flag", type = "integer", published = ["FLAG"], ucd = "meta.code.qual", description = "Not 0: blended." },
]
[id]
column = "own_id"
[position]
epoch = 2012.0
match_radius_arcsec = 1.0
[[bands]]
name = "own_b"
mag = "bmag"
err = "berr"
system = "AB"
zero_point_jy = 3631.0
wavelength_nm = 470.0
width_nm = 120.0
reference = "Me et al. 2030, table 1"
typical_err = 0.02
[[bands]]
name = "own_n"
mag = "nmag"
err = "nerr"
system = "AB"
zero_point_jy = 3631.0
wavelength_nm = 1100.0
width_nm = 150.0
reference = "Me et al. 2030, table 1"
typical_err = 0.03
[[quality]]
bit = 0
name = "blended"
description = "Light of a neighbour."
column = "flag"
bad_if = "!="
value = 0
"""
NOISE = 0.02  # mag
BLENDED_EVERY = 50


def own_magnitudes(truth) -> dict[int, tuple[float, float]]:
    """b and n of every source, made from what the simulation knows: filters of our own between known ones."""
    g, i, y, j = (truth[band].to_numpy() for band in ("ps1_g", "ps1_i", "ps1_y", "twomass_j"))
    b, n = g + 0.15 * (g - i) - 0.3, 0.5 * (y + j) + 0.9
    ordinary = np.array(truth["class"].to_pylist()) == "star"
    return {s: (b[k], n[k]) for k, s in enumerate(truth["source_id"].to_pylist()) if ordinary[k]}


def write_catalogue(path: Path, stars: list[tuple], mags: dict[int, tuple[float, float]]) -> None:
    rng = np.random.default_rng(11)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["OBJECT", "B_MAG", "B_ERR", "N_MAG", "N_ERR", "DEJ", "RAJ", "FLAG", "SEEING"])
        for k, (source_id, ra, dec) in enumerate(stars):
            b, n = mags[source_id] + rng.normal(0, NOISE, 2)
            jitter = rng.normal(0, 0.1 / 3600, 2)
            if k % 7 == 3:
                n = -99.0
            blended = k % BLENDED_EVERY == 0
            writer.writerow([f"OWN-{k:05d}", b - 2 * blended, NOISE, n, NOISE, dec + jitter[1],
                             (ra + jitter[0] / np.cos(np.radians(dec))) % 360, int(blended), 1.2])  # fmt: skip


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.toml"
    path.write_text(SPEC)
    return path


@pytest.mark.slow
def test_a_survey_of_ones_own_is_ingested_matched_trained_on_and_imputed(trained, sky, spec, msacat_at):
    def run(*arguments: object) -> dict:
        ended = msacat_at(trained, *arguments)
        assert ended.code == 0, ended.err
        return json.loads(ended.out) if "--json" in arguments else {}

    mags = own_magnitudes(sky.truth())
    with psycopg.connect(trained) as conn:
        stars = conn.execute(
            "SELECT source_id, ra, dec FROM survey.gaia_source WHERE source_id = ANY (%s) AND ra < 180 ORDER BY 1",
            [list(mags)],
        ).fetchall()
    assert len(stars) > 500
    catalogue = spec.with_name("own.csv")
    write_catalogue(catalogue, stars, mags)

    run("survey", "add", spec)
    file = run("ingest", "own", catalogue, "--json")["files"][0]
    assert (file["rows_read"], file["rows_kept"], file["columns_unused"]) == (
        len(stars),
        len(stars),
        ["SEEING"],
    )
    assert file["values_nulled"] == {"nmag: sentinel": sum(k % 7 == 3 for k in range(len(stars)))}
    (matched,) = run("crossmatch", "own", "--json")
    assert matched["n_matched"] > 0.97 * len(stars)
    model = run("train", "--name", "own-bands", "--epochs", 6, "--json")
    assert {"own_b", "own_n"} <= {score["quantity"] for score in model["scores"]}
    run("enrich", "--model", "own-bands", "--quiet")

    with psycopg.connect(trained) as conn:
        bits = dict(conn.execute("SELECT band, bit FROM msacat.bands").fetchall())
        rows = conn.execute(
            "SELECT source_id, own_b, own_b_err, own_n, own_n_err, observed & %s <> 0, observed & %s <> 0 "
            "FROM enriched.stars ORDER BY source_id",
            [1 << bits["own_b"], 1 << bits["own_n"]],
        ).fetchall()
        stored = dict(conn.execute("SELECT own_id, bmag FROM survey.own_clean").fetchall())
    assert len(rows) == 2500
    measured = sum(row[5] for row in rows)
    assert 0.9 * len(stars) < measured < len(stars) - len(stars) // BLENDED_EVERY
    assert {row[1] for row in rows if row[5]} <= {*stored.values()}, "measured values pass through"
    for place, seen, k in ((1, 5, 0), (3, 6, 1)):
        imputed = [row for row in rows if not row[seen] and row[0] in mags]
        assert len(imputed) > 400 and all(row[place] is not None for row in imputed)
        deviation = np.array([row[place] - mags[row[0]][k] for row in imputed])
        error = np.array([row[place + 1] for row in imputed])
        assert 1.4826 * np.median(np.abs(deviation)) < 0.08
        assert 0.45 < np.mean(np.abs(deviation) < error) < 0.95


def test_a_wrong_survey_file_is_refused_with_file_key_and_line(store, spec, msacat_at, tmp_path):
    faults = {
        'unit = "mag"': ('unit = "magg"', "unknown unit 'magg'", "columns.3.unit"),
        '"phot.mag;em.opt.B"': ('"phot.magg"', "phot.magg", "columns.3.ucd"),
        'sentinels = [-99.0], range = [5.0, 30.0], description = "b': (
            'sentinel = [-99.0], description = "b', "no such key", "columns.3.sentinel"),
        'name = "own_n"': ('name = "own_b"', "own_b is given twice", "bands.1.name"),
    }  # fmt: skip
    for old, (new, words, key) in faults.items():
        path = tmp_path / "faulty.toml"
        path.write_text(SPEC.replace(old, new, 1))
        line = SPEC[: SPEC.index(old)].count("\n") + 1
        for arguments in (["survey", "add", path], ["survey", "add", path, "--dry-run"]):
            code, out, err = msacat_at(store, *arguments)
            assert (code, out) == (2, "")
            assert str(path) in err and words in err and key in err and f"line {line}" in err


def test_a_name_that_is_taken_is_refused(store, spec, msacat_at, tmp_path):
    assert msacat_at(store, "survey", "add", spec).code == 0
    assert msacat_at(store, "survey", "add", spec).code == 0, "the same file again changes nothing"
    other = tmp_path / "other.toml"
    other.write_text(SPEC.replace("A survey of my own", "Another"))
    code, _, err = msacat_at(store, "survey", "add", other)
    assert code == 2 and "registered from another file" in err
    assert "`msacat survey update` with that file migrates it, once its version is raised" in err
    code, _, err = msacat_at(store, "survey", "add", "panstars1")
    assert code == 2 and "panstars1: neither a file nor" in err and "did you mean panstarrs1?" in err
    other.write_text(SPEC.replace('"own"', '"theirs"'))
    code, _, err = msacat_at(store, "survey", "add", other)
    assert code == 2 and "own_b (by own)" in err and "own_n (by own)" in err
    with psycopg.connect(store) as conn:
        assert conn.execute("SELECT to_regclass('survey.theirs')").fetchone() == (None,)
