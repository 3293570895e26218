"""After the last step: calibrate the intervals on stars that trained nothing, write the model folder."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from msacat.model.calibrate_intervals import Calibration, fit_calibration
from msacat.model.held_out import HeldOut, hold_out
from msacat.model.hide_features import group_of_cells
from msacat.model.keep_corrections import measure_kept
from msacat.model.model_card import model_card
from msacat.model.model_folder import StoredModel, save_model
from msacat.model.out_of_support import support_limit
from msacat.model.star_network import StarNetwork
from msacat.model.train_config import StarStream, TrainReport

MIN_CALIBRATION_STARS = 30


def finish_training(
    model: StarNetwork,
    stream: StarStream,
    folder: Path,
    report: TrainReport,
    provenance: dict,
    device: torch.device,
) -> StoredModel:
    """Calibrate, measure the support, save; adds to `report.notes` what could not be done."""
    model.eval()
    calibration = calibrate(model, stream, report.notes, device)
    stored = StoredModel(
        model,
        calibration,
        support_limit(model, stream, device),
        [],
        report.offsets,
        {
            k: getattr(report, k)
            for k in ("steps", "epochs", "seconds", "stars", "final_losses", "notes", "resumed_from")
        },
        provenance,
        version("msacat"),
    )
    save_model(folder, stored, model_card(stored))
    return stored


def calibrate(model: StarNetwork, stream: StarStream, notes: list[str], device: torch.device) -> Calibration:
    """Sets how much of its corrections `model` keeps, then finds the factors of its sigmas, from the `calibrate` part.

    Bands are hidden, and every survey of every star in turn, its spectrum hidden or not.
    Under much noise a band tells little of its sigmas: nothing that it can say is left out.
    """
    features = model.scaling.features
    M, L = len(features.bands), len(features.labels)
    survey_M = group_of_cells(features)[:M]
    surveys = range(int(survey_M.max()) + 1)
    hidings: list[tuple[str, int | None]] = [("cells_hidden", None)]
    hidings += [("survey_hidden", survey) for survey in surveys]
    if model.scaling.n_xp:
        hidings += [("xp_and_survey_hidden", survey) for survey in surveys]
    model.kept_SXM.fill_(1.0)
    held: list[HeldOut] = []
    n = 0
    for block in stream.blocks("calibrate", 0, model.config.seed):
        rng = np.random.default_rng([model.config.seed, n])
        held += [
            hold_out(model, block, regime, rng, device, unbiased=True, survey=survey)
            for regime, survey in hidings
        ]
        n += len(block)
        if n >= model.config.calibrate_stars:
            break
    if n < MIN_CALIBRATION_STARS:
        notes.append(f"only {n} stars to calibrate on: intervals are the model's own, uncalibrated")
        held = []
    whole = HeldOut.concatenate(held) if held else HeldOut.of_nobody(model.scaling.n_cells, M, L)
    kept_SXM = measure_kept(whole)
    model.kept_SXM.copy_(torch.as_tensor(kept_SXM))
    scaled_M = (model.scaling.noise_D[:M] > 1).tolist()
    common_var_D = model.scaling.common_var
    return fit_calibration(whole.keeping(kept_SXM), survey_M.tolist(), L, scaled_M, common_var_D)
