"""A model is a folder: model.safetensors, model.json, README.md, sealed by manifest.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from msacat.catalog.errors import InputRejected, MsacatError
from msacat.model.calibrate_intervals import Calibration
from msacat.model.checkpoint import load_weights
from msacat.model.label_scaling import LabelScaling
from msacat.model.mixture_prior import MixturePrior
from msacat.model.scale_features import FeatureScaling
from msacat.model.sealed_folder import TENSORS, read_sealed, write_sealed
from msacat.model.star_network import StarNetwork
from msacat.model.train_config import TrainConfig

FORMAT = "msacat-model/7"


@dataclass
class StoredModel:
    """Everything a model folder holds.

    support_z     how far a star's cells may lie from the prior (see predict_stars.py) and still be in support
    training      steps, epochs, seconds, stars, losses, notes
    scores        held-out numbers (score_model.Score as dicts); [] until scored
    provenance    what the caller said of the data (releases, snapshot, selection)
    """

    network: StarNetwork
    calibration: Calibration
    support_z: float
    scores: list[dict]
    offsets: dict[str, float]
    training: dict
    provenance: dict
    code_version: str


def save_model(folder: Path, model: StoredModel, readme: str) -> None:
    """Write and seal the folder (atomic: until the manifest stands it is no model)."""
    network = model.network
    write_sealed(
        folder,
        network.state_dict(),
        {
            "model.json": {
                "format": FORMAT,
                "code_version": model.code_version,
                "config": network.config.to_json(),
                "prior": {"components": network.prior.components, "latent": network.prior.latent},
                "scaling": network.scaling.to_json(),
                "labels": network.labels.to_json(),
                "calibration": model.calibration.to_json(),
                "support_z": model.support_z,
                "scores": model.scores,
                "offsets": model.offsets,
                "training": model.training,
                "provenance": model.provenance,
            },
            "README.md": readme,
        },
    )


def load_model(folder: Path, device: torch.device | None = None) -> StoredModel:
    """Read a model folder, every byte, name, shape and number checked; InputRejected otherwise."""
    folder = Path(folder)
    tensors, documents = read_sealed(folder)
    data = documents.get("model.json")
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = str(data.get("format"))[:80] if isinstance(data, dict) else "no model.json"
        next_step = None
        if "state.json" in documents:
            next_step = "a checkpoint is continued with `msacat train --resume`"
        elif found.startswith(FORMAT.split("/")[0]):
            next_step = "another version of msacat wrote it: train it again with this one, or use that one"
        raise InputRejected(
            "not a model of this format",
            file=str(folder / "model.json"), expected=FORMAT, found=found, next_step=next_step,
        )  # fmt: skip
    try:
        scaling = FeatureScaling.from_json(data["scaling"])
        network = StarNetwork(
            scaling,
            LabelScaling.from_json(scaling.features, data["labels"]),
            MixturePrior(scaling.n_cells, data["prior"]["components"], data["prior"]["latent"]),
            TrainConfig.from_json(data["config"]),
        )
        stored = StoredModel(
            network,
            Calibration.from_json(data["calibration"]),
            float(data["support_z"]),
            list(data["scores"]),
            dict(data["offsets"]),
            data["training"],
            data["provenance"],
            data["code_version"],
        )
    except MsacatError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputRejected(
            f"model.json does not describe a model: {type(error).__name__} {error}",
            file=str(folder / "model.json"),
        ) from None
    load_weights(network, tensors, str(folder / TENSORS))
    network.to(device or torch.device("cpu")).eval()
    return stored
