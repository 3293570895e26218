"""The stars of one evaluation, in three parts, and their file: what is expensive to make is made once."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from msacat.catalog.errors import InputRejected
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.read_truth import Truth

PARTS = ("train", "calibrate", "test")
_HEADER = "header"


@dataclass(frozen=True)
class EvaluationData:
    """Stars that methods learn from, choose by, and are judged on.

    name         dataset in the records: sky, sky-dirty, apogee, m67
    fingerprint  hash of the files the stars came from
    truth        of the test stars; None for real stars
    cell_divisor source_id // cell_divisor is the sky cell, the unit of the bootstrap
    seed         of split, cells and fits
    files        hash of names and sizes of the survey files; "" where that was not kept
    """

    name: str
    fingerprint: str
    features: StarFeatures
    train: StarBlock
    calibrate: StarBlock
    test: StarBlock
    truth: Truth | None
    cell_divisor: int
    seed: int
    files: str = ""

    @property
    def reference(self) -> int:
        """Column of the reference magnitude G."""
        return self.features.band_names.index(self.features.reference_band)

    @property
    def n_stars(self) -> int:
        return len(self.train) + len(self.calibrate) + len(self.test)

    @property
    def identity(self) -> str:
        """Hash of files, stars, bands and seed."""
        ids = hashlib.sha256()
        for part in PARTS:
            ids.update(getattr(self, part).source_id_B.tobytes() + b"|")
        what = [self.fingerprint, ids.hexdigest(), self.features.band_names, self.seed]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def fewer(self, n: int) -> EvaluationData:
        """With n test stars drawn at random, under the name <dataset>-<n>."""
        chosen = np.sort(np.random.default_rng([self.seed, n]).permutation(len(self.test))[:n])
        truth = None if self.truth is None else self.truth.take(chosen)
        return replace(self, name=f"{self.name}-{n}", test=self.test.take(chosen), truth=truth)

    def save(self, path: Path) -> None:
        """One .npz; whole or not at all."""
        arrays = {f"{part}.{f.name}": getattr(getattr(self, part), f.name)
                  for part in PARTS for f in fields(StarBlock)}  # fmt: skip
        if self.truth is not None:
            arrays |= {f"truth.{f.name}": getattr(self.truth, f.name) for f in fields(Truth)}
            arrays["truth.class_B"] = self.truth.class_B.astype(str)
        header = {"name": self.name, "fingerprint": self.fingerprint, "features": self.features.to_json(),
                  "cell_divisor": self.cell_divisor, "seed": self.seed, "files": self.files}  # fmt: skip
        arrays[_HEADER] = np.array(json.dumps(header))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        partial.write_bytes(buffer.getbuffer())
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> EvaluationData:
        """Raises InputRejected for a file that save() did not write."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays.pop(_HEADER)))
        except (OSError, ValueError, KeyError) as error:
            raise InputRejected("not a file of evaluation stars", file=str(path), found=str(error),
                                next_step="delete it: it is made again") from None  # fmt: skip
        parts = {part: StarBlock(*(arrays[f"{part}.{f.name}"] for f in fields(StarBlock))) for part in PARTS}
        truth = None
        if "truth.mag_BM" in arrays:
            truth = Truth(*(arrays[f"truth.{f.name}"] for f in fields(Truth)))
            truth.class_B = truth.class_B.astype(object)
        return EvaluationData(
            header["name"], header["fingerprint"], StarFeatures.from_json(header["features"]),
            parts["train"], parts["calibrate"], parts["test"], truth, header["cell_divisor"], header["seed"],
            header.get("files", ""),
        )  # fmt: skip
