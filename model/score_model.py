"""Held-out numbers: how far imputed magnitudes, spectra and labels lie from what was measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.model.calibrate_intervals import holds
from msacat.model.deconvolve_errors import scaled_noise
from msacat.model.held_out import REGIMES, HeldOut, hold_out
from msacat.model.predict_stars import StarModel
from msacat.model.train_config import StarStream

MIN_SCORED = 10
_UNITS = {"fe_h": "dex", "teff": "K", "logg": "dex"}


@dataclass(frozen=True)
class Score:
    """One quantity in one regime, against observed values of stars not trained on.

    quantity   band name, "xp" (units of each coefficient's robust scatter) or label name
    regime     survey_hidden_xp_seen, survey_hidden_no_xp (stars without spectrum), xp_hidden, xp_and_survey_hidden
               (stars with one); for labels xp_seen, no_xp, xp_hidden
    unit       of bias, nmad, rmse: mag, dex, K; "scatter" for xp
    bias, nmad, rmse   imputed − observed
    coverage68, coverage95   share of observed values inside the calibrated interval, their own error included
    """

    quantity: str
    regime: str
    unit: str
    n: int
    bias: float
    nmad: float
    rmse: float
    coverage68: float
    coverage95: float


def score(model: StarModel, stream: StarStream, part: str = "test", max_stars: int = 6_000) -> list[Score]:
    """Scores of about `max_stars` stars of `part` (whole blocks); [] if it is empty."""
    network = model.network
    held: dict[str, list[HeldOut]] = {r: [] for r in REGIMES}
    n = 0
    for block in stream.blocks(part, epoch=0, seed=0):
        rng = np.random.default_rng([0, n])
        # Of a star without spectrum none can be hidden: such stars are fainter, and are scored as what they are.
        with_xp = block.take(np.isfinite(block.xp_BK).any(1) & (network.scaling.n_xp > 0))
        for regime in REGIMES:
            stars = with_xp if "xp" in regime else block
            if len(stars):
                held[regime].append(hold_out(network, stars, regime, rng, model.device))
        n += len(block)
        if n >= max_stars:
            break
    scores: list[Score] = []
    for regime, parts in held.items():
        if parts:
            scores += _of_regime(model, HeldOut.concatenate(parts), regime)
    return scores


def _of_regime(model: StarModel, held: HeldOut, regime: str) -> list[Score]:
    scaling, M, calibration = model.scaling, model.scaling.n_bands, model.stored.calibration
    out: list[Score] = []
    difference = held.value_BD - held.mean_BD
    factor = calibration.bands(held.g_B, held.xp_seen_B, held.beside_BM)
    noise_var = scaled_noise(held.var_BD, calibration.noise(scaling.n_cells), scaling.common_var)
    inside = holds(difference[:, :M], held.sd_BD[:, :M], noise_var[:, :M], factor)
    names = {False: "survey_hidden_no_xp", True: "survey_hidden_xp_seen"}
    if regime in ("survey_hidden", "xp_and_survey_hidden"):
        for m, band in enumerate(scaling.features.bands):
            for seen in (True, False) if regime == "survey_hidden" else (False,):
                use = held.scored_BD[:, m] & (held.xp_seen_B == seen)
                name = names[seen] if regime == "survey_hidden" else regime
                out += _score(
                    band.name, name, "mag",
                    -difference[use, m] * scaling.scale_D[m],
                    inside[:, use, m],
                )  # fmt: skip
    if regime == "xp_hidden":
        use = held.scored_BD[:, M:]
        factor = calibration.coefficients(held.g_B)
        inside = holds(difference[:, M:], held.sd_BD[:, M:], noise_var[:, M:], factor)
        out += _score("xp", regime, "scatter", -difference[:, M:][use], inside[:, use])
    if regime in ("as_observed", "xp_hidden"):
        out += _labels(model, held, regime)
    return out


def _labels(model: StarModel, held: HeldOut, regime: str) -> list[Score]:
    """With everything the star has, with a spectrum or without one; and with the spectrum hidden."""
    out: list[Score] = []
    names = {"xp_seen": True, "no_xp": False} if regime == "as_observed" else {"xp_hidden": False}
    labels = model.network.labels
    factor = model.stored.calibration.labels(held.xp_seen_B)
    inside = holds(held.label_BL - held.label_median_BL, held.label_sd_BL, held.label_err_BL**2, factor)
    for name, seen in names.items():
        for j, label in enumerate(model.scaling.features.labels):
            use = np.isfinite(held.label_BL[:, j]) & (held.xp_seen_B == seen)
            q = labels.quantity_of_label[j]
            difference = (held.label_median_BL - held.label_BL)[use, j] * labels.scale_Q[q]
            if label.quantity == "teff":
                truth = 10 ** (held.label_BL[use, j] * labels.scale_Q[q] + labels.center_Q[q])
                difference = truth * (10**difference - 1)
            out += _score(label.name, name, _UNITS[label.quantity], difference, inside[:, use, j])
    return out


def _score(
    quantity: str, regime: str, unit: str, difference: np.ndarray, inside_V: np.ndarray
) -> list[Score]:
    n = len(difference)
    if n < MIN_SCORED:
        return []
    bias = float(np.median(difference))
    return [
        Score(
            quantity,
            regime,
            unit,
            n,
            bias,
            float(1.4826 * np.median(np.abs(difference - bias))),
            float(np.sqrt(np.mean(difference**2))),
            float(np.mean(inside_V[0])),
            float(np.mean(inside_V[1])),
        )
    ]
