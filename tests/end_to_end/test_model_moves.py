"""A model leaves one store as a folder and serves another whose bands are others, in another order."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import psycopg
import pytest

from msacat.catalog.errors import InputRejected
from msacat.catalog.server.connect import advisory_lock, connect
from msacat.catalog.stream.model_ledger import ModelRow, require_usable
from msacat.catalog.surveys.star_features import StarFeatures

GIVEN = ("gaia_source", "xp_continuous", "twomass_psc", "panstarrs1")  # ingested in both stores
ABSENT = (
    "sdss_dr13",
    "skymapper_dr2",
    "catwise2020",
)  # known to the model; registered, without rows, in one store
EXTRA = "delve_dr2"  # unknown to the model; registered in the other


@pytest.fixture
def exported(trained_once, msacat_at, tmp_path):
    folder = tmp_path / "exported"
    code, out, _ = msacat_at(trained_once, "models", "export", "trained_store", folder)
    assert code == 0 and str(folder) in out
    return folder


def fill(msacat_at, dsn: str, sky, registered: tuple[str, ...], model, name: str) -> dict[int, dict]:
    """Register surveys in this order, ingest a quarter of the sky, import the model, enrich; rows by source_id."""
    for survey in registered:
        assert msacat_at(dsn, "survey", "add", survey).code == 0
    for dataset in reversed(GIVEN):
        files = sorted((sky.folder / dataset).iterdir())
        chosen = files[:1] if dataset in ("gaia_source", "xp_continuous") else files
        assert msacat_at(dsn, "ingest", dataset, *chosen).code == 0
    assert msacat_at(dsn, "crossmatch").code == 0
    code, out, err = msacat_at(dsn, "models", "import", model, "--name", name)
    assert code == 0 and "24 bands" in out, err
    assert msacat_at(dsn, "enrich", "--model", name).code == 0
    with psycopg.connect(dsn) as conn:
        cursor = conn.execute("SELECT * FROM enriched.stars ORDER BY source_id")
        names = [c.name for c in cursor.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in cursor}


def test_predictions_are_the_same_in_a_store_with_other_bands(server, store, sky, exported, msacat_at):
    from msacat import migrations
    from msacat.catalog.server.connect import engine

    elsewhere = server.create_database("elsewhere")
    migrations.upgrade(engine(elsewhere))
    here = fill(msacat_at, store, sky, (*GIVEN, *ABSENT), exported, "moved-here")
    there = fill(msacat_at, elsewhere, sky, (EXTRA, *reversed(GIVEN)), exported, "moved-there")
    with psycopg.connect(store) as a, psycopg.connect(elsewhere) as b:
        bits_a, bits_b = (dict(c.execute("SELECT band, bit FROM msacat.bands").fetchall()) for c in (a, b))
    common = set(bits_a) & set(bits_b)
    assert {"gaia_g", "ps1_y", "twomass_ks"} <= common and bits_a["gaia_g"] != bits_b["gaia_g"]
    assert "sdss_u" not in bits_b and "delve_g" not in bits_a
    assert here.keys() == there.keys() and len(here) > 600

    numbers = [f"{band}{tail}" for band in common for tail in ("", "_err", "_err95")] + [
        "fe_h",
        "teff",
        "logg",
    ]
    for name in numbers:
        a, b = (np.array([row[name] for row in rows.values()], dtype=float) for rows in (here, there))
        assert np.isfinite(a).sum() > 500, name
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4, err_msg=name)
    for name in ("bp_coefficients", "rp_coefficients", "embedding"):
        a, b = (np.array([row[name] for row in rows.values() if row["has_input"]]) for rows in (here, there))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max(), err_msg=name)
    unknown = 1 << bits_b["delve_g"]
    assert all(row["delve_g"] is None and row["no_support"] & unknown for row in there.values())


def test_a_model_that_is_not_whole_or_not_welcome_is_refused(trained_once, exported, msacat_at, tmp_path):
    code, _, err = msacat_at(trained_once, "models", "import", exported, "--name", "trained_store")
    assert code == 2 and "exists" in err
    code, _, err = msacat_at(trained_once, "models", "export", "trained_store", exported)
    assert code == 2 and "exists" in err
    weights = exported / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    code, _, err = msacat_at(trained_once, "models", "import", exported, "--name", "damaged")
    assert code == 1 and str(weights) in err and "sha256" in err
    (tmp_path / "empty").mkdir()
    code, _, err = msacat_at(trained_once, "models", "import", tmp_path / "empty")
    assert code == 1 and "manifest.json" in err
    listed = json.loads(msacat_at(trained_once, "models", "list", "--json").out)
    assert [model["name"] for model in listed] == ["trained_store"]


@pytest.mark.crash
def test_an_import_that_was_killed_is_repeated(trained, exported, msacat_at):
    from msacat.catalog.server.connect import models_folder
    from msacat.model import sealed_folder

    pid = os.fork()
    if pid == 0:  # dies as by kill -9 with one of the files copied
        write, written = sealed_folder._write, []

        def die_at_the_second(path: Path, data: bytes) -> None:
            if written:
                os._exit(9)
            written.append(path)
            write(path, data)

        sealed_folder._write = die_at_the_second
        msacat_at(trained, "models", "import", exported, "--name", "killed")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    ended = msacat_at(trained, "models", "import", exported, "--name", "killed")
    assert ended.code == 0, ended.err
    assert [path.name for path in models_folder().iterdir() if "killed" in path.name] == ["killed"]
    assert msacat_at(trained, "models", "drop", "killed").code == 0


def test_two_imports_of_one_name_at_once(trained, exported, msacat_at):
    with connect(trained) as other, advisory_lock(other, "train twice"):
        ended = msacat_at(trained, "models", "import", exported, "--name", "twice")
    assert ended.code == 4 and "'train twice'" in ended.err


def test_the_card_says_how_a_store_takes_the_model_in(trained, exported, msacat_at):
    card = (exported / "README.md").read_text("utf-8")
    commands = re.findall(r"`msacat (.+?)`", card)
    assert len(commands) == 2
    for command in commands:
        words = command.replace("<this folder>", str(exported)).replace("NAME", exported.name).split()
        ended = msacat_at(trained, *words)
        assert ended.code == 0, ended.err
    runs = json.loads(msacat_at(trained, "runs", "list", "--json").out)
    assert [run["model"] for run in runs] == ["trained_store", exported.name]


def test_a_dropped_model_s_folder_goes_or_is_named(trained, exported, msacat_at):
    def imported(name: str) -> Path:
        assert msacat_at(trained, "models", "import", exported, "--name", name).code == 0
        listed = json.loads(msacat_at(trained, "models", "list", "--json").out)
        return next(Path(model["folder"]) for model in listed if model["name"] == name)

    folder = imported("to-drop")
    assert msacat_at(trained, "models", "drop", "to-drop").code == 0 and not folder.exists()
    shutil.rmtree(imported("gone-already"))
    assert msacat_at(trained, "models", "drop", "gone-already").code == 0
    folder = imported("cannot-go")
    shutil.rmtree(folder)
    folder.write_text("a file is no folder that could be emptied")
    code, out, err = msacat_at(trained, "models", "drop", "cannot-go")
    assert code == 1 and out == "" and str(folder) in err and "next:     remove the folder" in err
    listed = json.loads(msacat_at(trained, "models", "list", "--json").out)
    assert [model["name"] for model in listed] == ["trained_store"]
    folder.unlink()


def test_a_model_whose_folder_was_moved_is_refused_with_what_helps(tmp_path):
    model = ModelRow(
        1, "mine", "finished", None, tmp_path / "mine", StarFeatures("gaia_g", ()), {}, None, None
    )
    with pytest.raises(InputRejected, match="the folder of model 'mine' is not here") as refused:
        require_usable(model)
    assert refused.value.found == str(tmp_path / "mine")
    assert "docs/server.md has the UPDATE" in refused.value.next_step
    assert "UPDATE learned.models" in (Path(__file__).parents[2] / "docs" / "server.md").read_text()
    model.folder.mkdir()
    require_usable(model)
