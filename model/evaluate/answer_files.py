"""Answers on disk, one file a (data, regime, method, settings): judged anew without asking anew."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from msacat.model.evaluate.questions import Answers


class AnswerFiles:
    """float32 arrays in FOLDER/<key>.npz; a file is whole or not there."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, key: str) -> dict[str, Answers] | None:
        path = self.folder / f"{key}.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            quantities = dict.fromkeys(name.split(":")[0] for name in file.files)
            if any(f"{q}:{name}" not in file for q in quantities for name in Answers.__dataclass_fields__):
                return None  # of a version that asked for less
            return {q: Answers(*(file[f"{q}:{name}"].astype(float) for name in Answers.__dataclass_fields__))
                    for q in quantities}  # fmt: skip

    def save(self, key: str, answers: dict[str, Answers]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{key}.{os.getpid()}.npz"
        np.savez(partial, **{f"{q}:{name}": getattr(a, name).astype(np.float32)
                             for q, a in answers.items() for name in Answers.__dataclass_fields__})  # fmt: skip
        partial.replace(self.folder / f"{key}.npz")
