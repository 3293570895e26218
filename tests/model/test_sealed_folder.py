"""A model folder is data, whole, and unaltered, or it is refused; nothing in it is ever executed."""

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch

from msacat.catalog.errors import InputRejected, MsacatError
from msacat.model.model_folder import load_model
from msacat.model.predict_stars import StarModel
from msacat.model.sealed_folder import copy_sealed, is_sealed, manifest_sha256, read_sealed, write_sealed

MODEL = "model.safetensors"


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    shutil.copytree(trained, tmp_path / "model")
    return tmp_path / "model"


def reseal(folder: Path) -> None:
    """Make the manifest agree with the files, as an attacker would."""
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_model_is_tensors_json_and_a_card(trained):
    assert sorted(p.name for p in trained.iterdir() if p.is_file()) == [
        "README.md", "manifest.json", "model.json", MODEL,
    ]  # fmt: skip
    assert load_model(trained).provenance == {"sky": "made up"}
    card = (trained / "README.md").read_text()
    assert "twomass_ks" in card and "made up" in card and "Calibration" in card


@pytest.mark.parametrize("name", [MODEL, "model.json", "README.md"])
@pytest.mark.parametrize("where", [0, 0.5, -1])
def test_one_flipped_byte_is_found(folder, name, where):
    data = bytearray((folder / name).read_bytes())
    data[int(where * len(data)) if where != -1 else -1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(InputRejected, match="not the one that was written"):
        StarModel.load(folder, "cpu")


class Bomb:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_under_another_name_is_refused_unread(folder, tmp_path, kind):
    bomb, pwned = folder / MODEL, tmp_path / "pwned"
    if kind == "pickle":
        bomb.write_bytes(pickle.dumps(Bomb(pwned)))
    else:
        torch.save({"weights": Bomb(pwned)}, bomb)
    reseal(folder)
    with pytest.raises(InputRejected, match="pickle"):
        StarModel.load(folder, "cpu")
    assert not pwned.exists()


def test_impossible_headers_are_refused(folder):
    whole = (folder / MODEL).read_bytes()
    for data in (
        b"", b"\x01", struct.pack("<Q", 2**62) + whole[8:], struct.pack("<Q", len(whole)) + whole[8:],
        struct.pack("<Q", 10) + b"not json!!" + whole[18:], whole[:-4], whole + b"more",
    ):  # fmt: skip
        (folder / MODEL).write_bytes(data)
        reseal(folder)
        with pytest.raises(InputRejected):
            StarModel.load(folder, "cpu")


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/passwd", "a/b.json", "weights.pt", "manifest.json", ".hidden.json"]
)
def test_names_that_leave_the_folder_or_the_formats_are_refused(folder, name):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputRejected, match="the manifest lists"):
        read_sealed(folder)


def test_symbolic_links_are_refused(folder, tmp_path):
    outside = tmp_path / "outside.json"
    shutil.move(folder / "model.json", outside)
    os.symlink(outside, folder / "model.json")
    with pytest.raises(InputRejected, match="regular file"):
        read_sealed(folder)


@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "dtype", "nan"])
def test_tensors_that_do_not_fit_are_refused(folder, damage):
    tensors, documents = read_sealed(folder)
    name = "network.enter.weight"
    if damage == "missing":
        del tensors[name]
    elif damage == "extra":
        tensors["network.more"] = torch.zeros(2)
    elif damage == "shape":
        tensors[name] = tensors[name][:, :-1].contiguous()
    elif damage == "dtype":
        tensors[name] = tensors[name].double()
    else:
        tensors[name][0, 0] = float("nan")
    write_sealed(folder, tensors, documents)
    with pytest.raises(InputRejected, match=r"missing|unknown|does not fit|NaN"):
        StarModel.load(folder, "cpu")


def test_another_order_of_features_does_not_load_silently(folder):
    tensors, documents = read_sealed(folder)
    del documents["model.json"]["scaling"]["features"]["bands"][-1]
    write_sealed(folder, tensors, documents)
    with pytest.raises(InputRejected):
        StarModel.load(folder, "cpu")


def test_json_that_is_no_model_is_refused(folder):
    tensors, documents = read_sealed(folder)
    whole = documents["model.json"]
    for broken in ({}, {"format": "other"}, {**whole, "scaling": 3}, {**whole, "config": {"steps": -1}},
                   {k: v for k, v in whole.items() if k != "calibration"}):  # fmt: skip
        write_sealed(folder, tensors, {"model.json": broken})
        with pytest.raises(MsacatError):
            load_model(folder)


def test_an_unsealed_folder_is_no_model(folder):
    (folder / "manifest.json").unlink()
    assert not is_sealed(folder)
    with pytest.raises(InputRejected, match="not a complete model folder"):
        StarModel.load(folder, "cpu")
    with pytest.raises(InputRejected):
        StarModel.load(folder / "nowhere", "cpu")


def test_a_copy_takes_what_the_manifest_lists_and_nothing_else(folder, tmp_path):
    (folder / "stowaway.json").write_text("{}")
    copy_sealed(folder, tmp_path / "copy")
    assert not (tmp_path / "copy" / "stowaway.json").exists()
    assert manifest_sha256(tmp_path / "copy") == manifest_sha256(folder)
    StarModel.load(tmp_path / "copy", "cpu")


def test_an_interrupted_rewrite_leaves_no_model_rather_than_a_mixed_one(folder, monkeypatch):
    from msacat.model import sealed_folder

    tensors, documents = read_sealed(folder)
    real = sealed_folder._write

    def torn(path, data):
        if path.name == "model.json":
            raise OSError("disk full")
        real(path, data)

    monkeypatch.setattr(sealed_folder, "_write", torn)
    with pytest.raises(OSError, match="disk full"):
        write_sealed(folder, tensors, documents)
    assert not is_sealed(folder)
    assert not list(folder.glob(".tmp-*"))


def test_no_code_of_the_model_can_unpickle_or_evaluate():
    product = Path(__file__).parents[2]
    for path in product.glob("model/*.py"):
        words = ("torch.load(", "import pickle", "yaml", "allow_pickle=True", "eval(", "exec(")
        text = path.read_text().replace(".eval()", "")
        assert not [word for word in words if word in text], path
