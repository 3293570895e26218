"""Stars, answers and records on disk: read back as written, refused when they are something else."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest

from msacat.catalog.errors import InputRejected
from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.evaluate.answer_files import AnswerFiles
from msacat.model.evaluate.evaluation_data import EvaluationData
from msacat.model.evaluate.questions import Answers
from msacat.model.evaluate.record_file import FIELDS, RecordFile


def record(**changed) -> dict:
    return (
        {name: 1.0 for name in FIELDS}
        | {"dataset": "sky", "regime": "xp_hidden", "method": "knn", "g_bin": "all", "key": "a"}
        | changed
    )


def test_stars_come_back(data, tmp_path):
    data.save(tmp_path / "stars.npz")
    again = EvaluationData.load(tmp_path / "stars.npz")
    assert (again.name, again.features, again.seed) == (data.name, data.features, data.seed)
    assert again.identity == data.identity
    for f in fields(StarBlock):
        np.testing.assert_array_equal(getattr(again.test, f.name), getattr(data.test, f.name))
    np.testing.assert_array_equal(again.truth.class_B, data.truth.class_B)


def test_a_file_that_holds_no_stars_is_refused(tmp_path):
    (tmp_path / "stars.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputRejected, match="not a file of evaluation stars"):
        EvaluationData.load(tmp_path / "stars.npz")


def test_answers_come_back(tmp_path):
    files = AnswerFiles(tmp_path / "answers")
    assert files.load("k") is None
    said = {"xp": Answers(*np.random.default_rng(0).normal(size=(6, 5, 110)))}
    files.save("k", said)
    np.testing.assert_allclose(files.load("k")["xp"].err95, said["xp"].err95, rtol=1e-6)
    assert [p.name for p in files.folder.iterdir()] == ["k.npz"]


def test_answers_of_an_older_version_are_asked_for_anew(tmp_path):
    files = AnswerFiles(tmp_path)
    np.savez(
        tmp_path / "k.npz", **{f"ps1_g:{name}": np.zeros(3) for name in ("value", "err68", "err95", "noise")}
    )
    assert files.load("k") is None


def test_records_are_kept_and_replaced_by_newer_ones(tmp_path):
    path = tmp_path / "accuracy.json"
    RecordFile(path).add([record(nmad=0.123456789)])
    again = RecordFile(path)
    assert again.has("a") and again.records[0]["nmad"] == 0.12346
    again.add([record(key="b")])
    assert not again.has("a") and len(json.loads(path.read_text())) == 1
    again.add([record(key="c", method="mfa")])
    assert {r["key"] for r in RecordFile(path).records} == {"b", "c"}


@pytest.mark.parametrize("text", ["{", "{}", '[{"dataset": "sky"}]'])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    path = tmp_path / "accuracy.json"
    path.write_text(text)
    with pytest.raises(InputRejected, match="not a file of records"):
        RecordFile(path)


def test_by_brightness_the_file_holds_only_what_is_judged_so(tmp_path):
    path = tmp_path / "accuracy.json"
    file = RecordFile(path)
    file.add([record(g_bin=g, method=m, key=m) for m in ("knn",) for g in ("all", "17-18")])
    file.add([record(g_bin=g, method=m, key=m) for m in ("msacat:mae",) for g in ("all", "17-18")])
    assert len(file.records) == 4
    assert [(r["method"], r["g_bin"]) for r in RecordFile(path).records] == [
        ("knn", "all"),
        ("msacat:mae", "all"),
        ("msacat:mae", "17-18"),
    ]
