"""The product's own model as a method: what `msacat enrich` would write, intervals included."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msacat.catalog.surveys.error_units import ONE_68, ONE_95
from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.predict_stars import StarModel
from msacat.model.train_autoencoder import train
from msacat.model.train_config import TrainConfig


class OwnModel(Method):
    """A trained model; fit() only re-maps it to the stars' bands.

    identity   sha256 of the model's manifest: another training is another method to the records
    """

    def __init__(self, model: StarModel, identity: str, name: str = "msacat"):
        self.model, self.identity, self.name = model, identity, name
        self.labels = model.predicts_labels

    def settings(self) -> dict:
        return {"model": self.identity, "code": model_code()}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.model = self.model.remap(features)

    def embedding(self, block: StarBlock) -> np.ndarray:
        """float64[B, 64]."""
        return self.model.predict(block).embedding_BE.astype(np.float64)

    def predict(self, block: StarBlock) -> Guess:
        found = self.model.predict(block)
        noise_M, noise_K, zero_point_M, wrong_M, wrong_K = self._noise()
        xp_err = found.xp_err_BK.astype(np.float64)
        fe_h_err = 0.5 * (found.fe_h_hi_B - found.fe_h_lo_B).astype(np.float64)
        return Guess(
            found.mag_BM.astype(np.float64),
            found.xp_BK.astype(np.float64),
            found.err68_BM.astype(np.float64),
            found.err95_BM.astype(np.float64),
            xp_err,
            xp_err * ONE_95 / ONE_68,
            found.fe_h_B.astype(np.float64),
            fe_h_err,
            fe_h_err * ONE_95 / ONE_68,
            noise_M,
            noise_K,
            zero_point_M,
            wrong_M,
            wrong_K,
        )

    def _noise(self) -> tuple[np.ndarray, ...]:
        """As the model fitted them, of the bands asked for and of the coefficients: real over published error, zero points
        (mag), shares of wrong measurements."""
        scaling = self.model.scaling
        noise_D = scaling.noise_D * self.model.stored.calibration.noise(scaling.n_cells)
        wrong_D = self.model.network.wrong_shares().cpu().numpy().astype(np.float64)
        asked = self.model.features.band_names

        def of_asked(fitted_M: np.ndarray, unknown: float) -> np.ndarray:
            known = dict(zip(scaling.features.band_names, fitted_M, strict=True))
            return np.array([known.get(name, unknown) for name in asked])

        return (
            of_asked(noise_D[: scaling.n_bands], 1.0),
            noise_D[scaling.n_bands :] if scaling.features.xp else np.ones(K),
            of_asked(scaling.zero_point_M, 0.0),
            of_asked(wrong_D[: scaling.n_bands], 0.0),
            wrong_D[scaling.n_bands :] if scaling.features.xp else np.zeros(K),
        )


class TrainedHere(Method):
    """The product's model with its default configuration, trained on the evaluation's own training stars.

    minutes  wall time of each training
    folder   where models are left; a training that was interrupted goes on there
    """

    labels = True

    def __init__(self, minutes: float, device: str, folder: Path, name: str = "msacat"):
        self.minutes, self.device, self.folder, self.name = minutes, device, folder, name
        self.model: OwnModel

    def settings(self) -> dict:
        return {"minutes": self.minutes, "code": model_code()}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        stars = hashlib.sha256(train.source_id_B.tobytes()).hexdigest()
        key = hashlib.sha256(f"{stars}:{seed}:{self.minutes}:{model_code()}".encode()).hexdigest()[:16]
        folder = self.folder / f"model-{key}"
        if not (folder / "manifest.json").is_file():
            config = TrainConfig(minutes=self.minutes, seed=seed, device=self.device)
            _train(ArrayStream(features, train, calibrate), folder, config)
        self.model = OwnModel(StarModel.load(folder, self.device), key, self.name)
        self.model.fit(train, calibrate, features, regime, seed)

    def embedding(self, block: StarBlock) -> np.ndarray:
        """float64[B, 64]."""
        return self.model.embedding(block)

    def predict(self, block: StarBlock) -> Guess:
        return self.model.predict(block)


def _train(stream: ArrayStream, folder: Path, config: TrainConfig) -> None:
    """Resumed if it was interrupted; the folder is moved into place when all is done."""
    growing = folder.with_name(folder.name + ".growing")
    train(stream, growing, config, resume=growing.exists())
    shutil.rmtree(folder, ignore_errors=True)
    growing.rename(folder)


@dataclass
class ArrayStream:
    """A StarStream over stars in memory. The scores a training reports are not used: its test part is the calibrate part."""

    features: StarFeatures
    train: StarBlock
    calibrate: StarBlock
    block_size: int = 2048

    def _part(self, part: str) -> StarBlock:
        return self.train if part == "train" else self.calibrate

    def n_stars(self, part: str) -> int:
        return len(self._part(part))

    def blocks(self, part: str, epoch: int, seed: int, skip: int = 0) -> Iterator[StarBlock]:
        stars = self._part(part)
        order = np.random.default_rng([seed, epoch, part == "train"]).permutation(len(stars))
        for start in range(skip * self.block_size, len(order), self.block_size):
            yield stars.take(order[start : start + self.block_size])


def model_code() -> str:
    """Hash of the sources of msacat.model: other code may answer otherwise with the same weights."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).resolve().parents[2].glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
