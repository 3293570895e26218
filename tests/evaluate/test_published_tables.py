"""What `make evaluate` and `make evaluate-full` would run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.evaluate.accuracy_page import accuracy_page
from msacat.model.evaluate.record_file import read_records
from msacat.model.model_card import model_card
from msacat.model.predict_stars import StarModel

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "benchmarks" / "accuracy.py"
STORED = sorted(path.name for path in (REPOSITORY / "benchmarks" / "weights").iterdir())


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script with its weights elsewhere, and the commands it would run."""
    spec = importlib.util.spec_from_file_location("accuracy_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ran = []
    monkeypatch.setattr(module, "_msacat", lambda *arguments: module.ran.append([*map(str, arguments)]))
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / "weights")

    def run(*arguments: str) -> list[list[str]]:
        monkeypatch.setattr(sys, "argv", ["accuracy.py", "--work", str(tmp_path / "work"), *arguments])
        assert module.main() == 0
        return module.ran

    module.run = run
    return module


def test_stored_weights_alone_are_scored(script, tmp_path, capsys):
    (tmp_path / "weights" / "sky-1").mkdir(parents=True)
    ran = script.run()
    assert [command[0] for command in ran] == ["simulate", "evaluate", "simulate"]
    (judged,) = (command for command in ran if command[0] == "evaluate")
    assert judged[judged.index("--model") + 1] == str(tmp_path / "weights" / "sky-1")
    assert judged[judged.index("--methods") + 1] == "msacat"
    assert "sky, seed 0: no weights" in capsys.readouterr().err


def test_in_full_everything_is_asked_and_what_has_no_weights_is_trained(script, tmp_path):
    (tmp_path / "weights" / "sky-1").mkdir(parents=True)
    ran = script.run("--full", "--m67", "m67_flat.csv")
    judged = [command for command in ran if command[0] == "evaluate"]
    assert len(judged) == 2 * 3 + 1 + 2
    assert sum("--model" in command for command in judged) == 1
    assert sum("--oracle" in command for command in judged) == 1
    assert [c[2] for c in judged if "--m67" in c] == ["m67_flat.csv"]
    assert (
        sum("--methods" in command for command in judged) == 1
    )  # the oracle's: all other tables hold every method


@pytest.mark.parametrize("name", STORED)
def test_stored_weights_predict_with_this_code(name):
    model = StarModel.load(REPOSITORY / "benchmarks" / "weights" / name, "cpu")
    features = model.features
    stars = StarBlock.empty(3, len(features.bands), len(features.scalars), len(features.labels))
    stars.mag_BM[:2, features.band_names.index(features.reference_band)] = 15.0
    found = model.predict(stars)
    assert np.isfinite(found.mag_BM[:2]).any() and np.isnan(found.mag_BM[2]).all()
    card = model_card(model.stored)
    use = card[card.index("## Use") : card.index("## Bands")]
    assert use in (REPOSITORY / "benchmarks" / "weights" / name / "README.md").read_text("utf-8")


def test_stored_weights_are_no_larger_than_promised():
    files = (path for path in (REPOSITORY / "benchmarks" / "weights").rglob("*") if path.is_file())
    assert STORED and sum(path.stat().st_size for path in files) <= 30e6


def test_the_published_page_is_made_of_the_published_records():
    records = read_records(REPOSITORY / "benchmarks" / "results" / "accuracy.json")
    page = (REPOSITORY / "docs" / "accuracy.md").read_text("utf-8")
    assert page == accuracy_page(records)
