"""Checkpoints of a training in progress: all that is needed to go on as if it had never stopped.

`folder/checkpoints/step-00001234/` is sealed (sealed_folder.py); the newest two are kept.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from msacat.catalog.errors import InputRejected
from msacat.model.sealed_folder import is_sealed, read_sealed, remove_folder, write_sealed

KEEP = 2
FORMAT = "msacat-checkpoint/2"  # what the numbers in it mean
_STEP = re.compile(r"^step-(\d{8,})$")


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.AdamW, state: dict) -> Path:
    """Write the checkpoint of `state['step']`; older ones than the last two go only after it is whole."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"adam.{key}.{name}"] = torch.as_tensor(value)
    path = folder / "checkpoints" / f"step-{state['step']:08d}"
    write_sealed(path, tensors, {"state.json": state | {"format": FORMAT}})
    for old in _all(folder)[:-KEEP]:
        remove_folder(old)
    for torn in (p for p in path.parent.iterdir() if _STEP.match(p.name) and not is_sealed(p)):
        remove_folder(torn)
    return path


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; one that was being written when the power went is passed over."""
    found = _all(folder)
    return found[-1] if found else None


def remove_checkpoints(folder: Path) -> None:
    """What is recorded as finished needs them no more."""
    for path in _all(folder):
        remove_folder(path)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict]:
    """(tensors, state) as saved."""
    tensors, documents = read_sealed(path)
    state = documents.get("state.json")
    if not isinstance(state, dict):
        raise InputRejected("the checkpoint has no state.json", file=str(path))
    if state.get("format") != FORMAT:
        raise InputRejected(
            "not a checkpoint of this format",
            file=str(path), expected=FORMAT, found=str(state.get("format"))[:80],
            next_step="another version of msacat wrote it: finish the run with that one, or train under another --name",
        )  # fmt: skip
    return tensors, state


def restore(model: nn.Module, optimizer: torch.optim.AdamW, tensors: dict[str, Tensor]) -> None:
    """Put saved weights and moments back."""
    load_weights(model, {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}, "checkpoint")
    for name, parameter in model.named_parameters():
        state = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if (saved := tensors.get(f"adam.{key}.{name}")) is not None:
                state[key] = saved.clone().to(parameter.device)  # fused AdamW wants its step there too
        if state:
            optimizer.state[parameter] = state


def load_weights(model: nn.Module, tensors: dict[str, Tensor], file: str) -> None:
    """Copy `tensors` into `model`; InputRejected where names, shapes or types differ."""
    expected = model.state_dict()
    if missing := sorted(set(expected) - set(tensors)):
        raise InputRejected(f"tensors are missing: {', '.join(missing[:5])}", file=file)
    if extra := sorted(set(tensors) - set(expected)):
        raise InputRejected(f"unknown tensors: {', '.join(extra[:5])}", file=file)
    for name, tensor in tensors.items():
        want = expected[name]
        if tensor.shape != want.shape or tensor.dtype != want.dtype:
            raise InputRejected(
                f"tensor {name} does not fit this model",
                file=file,
                expected=f"{tuple(want.shape)} {want.dtype}",
                found=f"{tuple(tensor.shape)} {tensor.dtype}",
            )
    model.load_state_dict(tensors)


def _all(folder: Path) -> list[Path]:
    root = folder / "checkpoints"
    if not root.is_dir():
        return []
    found = [p for p in root.iterdir() if _STEP.match(p.name) and is_sealed(p)]
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))
