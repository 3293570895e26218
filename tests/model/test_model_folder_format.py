"""A model of another version of msacat is refused by name, not by a missing key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from msacat.catalog.errors import InputRejected
from msacat.model.model_folder import load_model
from msacat.model.sealed_folder import read_sealed, write_sealed


def test_a_model_of_another_version(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "old", ignore=shutil.ignore_patterns("checkpoints"))
    tensors, documents = read_sealed(tmp_path / "old")
    model = documents["model.json"]
    assert isinstance(model, dict)
    old = json.loads(json.dumps(model)) | {"format": "msacat-model/1"}
    del old["scaling"]["snr_limit_M"]
    write_sealed(tmp_path / "old", tensors, documents | {"model.json": old})
    with pytest.raises(InputRejected, match="msacat-model/1") as refused:
        load_model(tmp_path / "old")
    assert "train it again" in str(refused.value)
