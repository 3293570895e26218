"""Folders of tensors and JSON that are either whole or refused: checkpoints and models.

Every file is written beside its name, fsynced and renamed; `manifest.json` (sizes and sha256 of the others)
comes last, so a folder without a fitting manifest was interrupted and does not count. Tensors are
safetensors, everything else JSON or text: reading one runs no code from it. Pickles are refused by content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from msacat.catalog.errors import InputRejected, written_to

MANIFEST = "manifest.json"
TENSORS = "model.safetensors"
FORMAT = "msacat-folder/1"
MAX_HEADER_BYTES = 16 << 20
MAX_JSON_BYTES = 256 << 20
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[a-z]+)?$")
_SUFFIXES = (".safetensors", ".json", ".md")


def write_sealed(folder: Path, tensors: dict[str, Tensor], documents: dict[str, dict | str]) -> None:
    """Write `tensors` and `documents` (dict = JSON, str = text) and seal the folder.

    A sealed folder of the same name is unsealed first: at no moment does an old manifest vouch for new files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    _sync(folder)
    contents = {TENSORS: save_safetensors({k: v.detach().cpu().contiguous() for k, v in tensors.items()})}
    for name, document in documents.items():
        text = document if isinstance(document, str) else json.dumps(document, indent=1, allow_nan=False)
        contents[name] = text.encode()
    files = {}
    for name, data in contents.items():
        _write(folder / name, data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    _write(folder / MANIFEST, json.dumps({"format": FORMAT, "files": files}, indent=1).encode())


def is_sealed(folder: Path) -> bool:
    """True if the folder was written to the end (contents are checked by `read_sealed`)."""
    return (folder / MANIFEST).is_file()


def read_sealed(folder: Path) -> tuple[dict[str, Tensor], dict[str, dict | str]]:
    """(tensors, documents) of a sealed folder, every byte checked.

    Raises InputRejected naming the file: no manifest, a name that leaves the folder, a symbolic link,
    another format, a wrong size or checksum, an impossible tensor header, NaN or infinity in a tensor.
    """
    manifest = _manifest(folder)
    documents: dict[str, dict | str] = {}
    tensors: dict[str, Tensor] = {}
    for name, entry in manifest.items():
        data = _read(folder, name, entry)
        if name.endswith(".safetensors"):
            tensors = _tensors(folder / name, data)
        elif name.endswith(".json"):
            documents[name] = _json(folder / name, data)
        else:
            documents[name] = data.decode("utf-8", errors="replace")
    return tensors, documents


def copy_sealed(source: Path, target: Path) -> None:
    """Copy a sealed folder, and nothing that its manifest does not list, to `target`, which does not exist yet.

    Whole or not at all: it is copied beside its name and renamed.
    """
    manifest = _manifest(source)
    beside = f".{target.name}.tmp-"
    temporary = target.with_name(f"{beside}{os.getpid()}")
    try:
        with written_to(target):
            temporary.mkdir(parents=True)
            for left in target.parent.iterdir():
                if left.name.startswith(beside) and not _is_at_work(left.name.removeprefix(beside)):
                    shutil.rmtree(left)
            for name, entry in manifest.items():
                _write(temporary / name, _read(source, name, entry))
            _write(temporary / MANIFEST, json.dumps({"format": FORMAT, "files": manifest}, indent=1).encode())
            temporary.rename(target)
            _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_at_work(pid: str) -> bool:
    """Not a process that was killed while it copied; what is no process's number is nobody's to judge."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        return True
    return True


def manifest_sha256(folder: Path) -> str:
    """Identity of a sealed folder: the checksum of its manifest, which holds those of all its files."""
    _manifest(folder)
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def remove_folder(folder: Path) -> None:
    """Unseal, then delete: an interrupted removal leaves no half-folder that looks whole."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _manifest(folder: Path) -> dict[str, dict]:
    path = folder / MANIFEST
    if not path.is_file():
        raise InputRejected(
            "not a complete model folder",
            file=str(folder),
            expected=MANIFEST,
            found="nothing of that name",
            next_step="give the folder that `msacat train` reported, or continue with --resume",
        )
    if path.is_symlink() or path.stat().st_size > MAX_JSON_BYTES:
        raise InputRejected("the manifest is a link or too large", file=str(path))
    data = _json(path, path.read_bytes())
    if not isinstance(data, dict) or data.get("format") != FORMAT or not isinstance(data.get("files"), dict):
        raise InputRejected("unknown manifest format", file=str(path), expected=FORMAT, found=str(data)[:80])
    for name, entry in data["files"].items():
        if not _NAME.match(name) or not name.endswith(_SUFFIXES) or name == MANIFEST:
            raise InputRejected(
                f"the manifest lists '{name[:80]}'",
                file=str(path),
                expected="plain names ending in " + " ".join(_SUFFIXES),
            )
        if not isinstance(entry, dict) or set(entry) != {"bytes", "sha256"}:
            raise InputRejected(f"the manifest's entry for {name} is malformed", file=str(path))
    if TENSORS not in data["files"]:
        raise InputRejected(f"the manifest does not list {TENSORS}", file=str(path))
    return data["files"]


def _read(folder: Path, name: str, entry: dict) -> bytes:
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise InputRejected("listed in the manifest but not a regular file", file=str(path))
    if path.stat().st_size != entry["bytes"]:
        raise InputRejected(
            "wrong size", file=str(path), expected=f"{entry['bytes']} bytes", found=str(path.stat().st_size)
        )
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != entry["sha256"]:
        raise InputRejected(
            "the file is not the one that was written",
            file=str(path),
            expected=f"sha256 {entry['sha256']}",
            found=found,
            next_step="copy the model folder again from its source",
        )
    return data


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    # A safetensors file has "{" after its eight length bytes, whatever those happen to be.
    if data[8:9] != b"{" and (data[:2] == b"PK" or data[:1] == b"\x80"):
        raise InputRejected(
            "this is a pickle or a .pt file: such files can run code when read, and are refused",
            file=str(path),
            expected="safetensors",
        )
    size = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else -1
    if not 2 <= size <= min(len(data) - 8, MAX_HEADER_BYTES):
        raise InputRejected("impossible safetensors header length", file=str(path), found=str(size))
    try:
        tensors = load_safetensors(data)
    except Exception as error:  # the library's errors have no common base
        raise InputRejected(f"not a readable safetensors file: {error}", file=str(path)) from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputRejected(f"tensor {name} holds NaN or infinity", file=str(path))
    return tensors


def _json(path: Path, data: bytes) -> dict:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputRejected(f"not valid JSON: {error}", file=str(path)) from None


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
