"""README.md of a model folder: what it is, what it was made from, how good it is, where it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from msacat.model.calibrate_intervals import G_EDGES

if TYPE_CHECKING:
    from msacat.model.model_folder import StoredModel
    from msacat.model.predict_stars import StarModel
    from msacat.model.train_config import TrainReport


def write_model_card(folder: Path, model: StarModel, report: TrainReport, scores: list[dict]) -> None:
    """Seal the folder again with held-out `scores` (score_model.Score as dicts) and the card that shows them."""
    from msacat.model.model_folder import save_model

    training = model.stored.training | {"notes": report.notes}
    stored = replace(model.stored, scores=scores, training=training)
    save_model(folder, stored, model_card(stored))


def model_card(model: StoredModel) -> str:
    """Markdown text."""
    sections = [
        _head(model), _use(), _bands(model), _held_out(model), _calibration(model), _background(model), _errors(model),
        _zero_points(model), _wrong_measurements(model), _corrections(model), _offsets(model), _limits(model),
    ]  # fmt: skip
    return "\n".join(line for section in sections if section for line in [*section, ""])


def _head(model: StoredModel) -> list[str]:
    scaling, training = model.network.scaling, model.training
    provenance = {**scaling.features.extra, **model.provenance}
    return [
        "# A msacat model",
        "",
        "Masked autoencoder over a mixture-of-factor-analysers prior: fills in the magnitudes, XP coefficients and",
        "labels a star lacks, with calibrated intervals. Equations: docs/model.md of msacat.",
        "",
        f"* Code: msacat {model.code_version}",
        f"* Trained on {training['stars']['train']:,} stars, {training['steps']:,} steps "
        f"({training['epochs']:.1f} epochs) in {training['seconds']:.0f} s; "
        f"{scaling.n_xp:,} stars of the sample had a spectrum.",
        f"* Prior: {model.network.prior.components} components of {model.network.prior.latent} dimensions; "
        f"network: {sum(p.numel() for p in model.network.network.parameters()):,} weights.",
        *(f"* {key}: {value}" for key, value in sorted(provenance.items())),
    ]


def _use() -> list[str]:
    return [
        "## Use",
        "",
        "`msacat models import <this folder>` takes it into a store, under the folder's name or another `--name`; then",
        "`msacat enrich --model NAME`. Magnitudes are in each survey's published system.",
    ]


def _bands(model: StoredModel) -> list[str]:
    scaling = model.network.scaling
    lines = ["## Bands", "", "| band | measured in the sample | support |", "|---|---|---|"]
    for m, band in enumerate(scaling.features.bands):
        how = "measured" if not scaling.through_xp_M[m] else "only through XP spectra (synthetic)"
        if not scaling.supported_bands[m]:
            how = "none: always NULL"
        lines.append(f"| {band.name} | {int(scaling.n_seen_M[m]):,} | {how} |")
    return lines


def _held_out(model: StoredModel) -> list[str]:
    head = ["## Held-out numbers", ""]
    if not model.scores:
        return [*head, "None: no star was left to test on."]
    return [
        *head,
        "Stars of the test part, against their measurements (whose own errors are part of NMAD).",
        "",
        "| quantity | regime | n | bias | NMAD | RMSE | unit | in 68 % | in 95 % |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {s['quantity']} | {s['regime']} | {s['n']:,} | {s['bias']:+.4f} | {s['nmad']:.4f} | {s['rmse']:.4f} "
            f"| {s['unit']} | {s['coverage68']:.3f} | {s['coverage95']:.3f} |"
            for s in model.scores
        ),
    ]


def _calibration(model: StoredModel) -> list[str]:
    edges = [f"< {G_EDGES[0]:.0f}", *(f"{g:.0f}" for g in G_EDGES)]
    lines = [
        "## Calibration",
        "",
        "Factors on sigma for 68 % intervals, spectrum visible / not, by G:",
        "",
        "| band | " + " | ".join(edges) + " |",
        "|---" * (len(edges) + 1) + "|",
    ]
    for m, band in enumerate(model.network.scaling.features.bands):
        f = model.calibration.band_VMTX[0, m]
        lines.append(f"| {band.name} | " + " | ".join(f"{x[1]:.2f} / {x[0]:.2f}" for x in f) + " |")
    return lines


def _background(model: StoredModel) -> list[str]:
    scaling = model.network.scaling
    if not scaling.n_xp:
        return []
    constant, unsure = (np.sqrt(np.mean(a**2)) for a in (scaling.background_K, scaling.background_err_K))
    return [
        "## Background of the spectra",
        "",
        "What published coefficients have beside the star's own, taken out and put back: "
        f"rms {constant:.3f} e-/s, known to {unsure:.3f}.",
    ]


def _errors(model: StoredModel) -> list[str]:
    scaling, n_bands = model.network.scaling, len(model.network.scaling.features.bands)
    noise = scaling.noise_D[:n_bands] * model.calibration.noise_M
    factors = [f"{band.name} {k:.2f}" for band, k in zip(scaling.features.bands, noise, strict=True)]
    if scaling.features.xp:
        noise_K = scaling.noise_D[n_bands:] * model.calibration.noise_xp
        factors.append(f"coefficients of spectra {noise_K.min():.3f} to {noise_K.max():.3f}")
    return [
        "## Real over stated errors",
        "",
        "Fitted from the stars themselves; each band's floor comes on top. The stated errors stay as they are in the tables.",
        "",
        ", ".join(factors),
    ]


def _zero_points(model: StoredModel) -> list[str]:
    scaling = model.network.scaling
    wandering = [
        f"{band.name} {scatter:.4f}"
        for band, scatter in zip(scaling.features.bands, scaling.zero_point_M, strict=True)
        if scatter > 0
    ]
    return [
        "## Zero points",
        "",
        "Scatter of a band's zero point from one sky cell (HEALPix level 5) to the next, mag; it counts as noise of what was",
        f"measured. Bands whose zero point is seen to wander: {', '.join(wandering) or 'none'}.",
    ]


def _wrong_measurements(model: StoredModel) -> list[str]:
    learned = _learned_bands(model)
    shares = model.network.wrong_shares()[: len(learned)].tolist()
    return [
        "## Wrong measurements",
        "",
        "Share of a band's measurements that lie further from what the star's others say than any error explains; learned.",
        "",
        ", ".join(f"{name} {100 * p:.2f} %" for name, p in zip(learned, shares, strict=True) if name),
    ]


def _corrections(model: StoredModel) -> list[str]:
    kept = model.network.kept_SXM[0].flip(0).tolist()
    return [
        "## Corrections kept",
        "",
        "Share of the network's corrections to the prior that stars which trained nothing bear out, for a band whose survey",
        "is not seen: spectrum visible / hidden.",
        "",
        ", ".join(
            f"{name} {seen:.2f} / {hidden:.2f}"
            for name, seen, hidden in zip(_learned_bands(model), *kept, strict=True)
            if name
        ),
    ]


def _learned_bands(model: StoredModel) -> list[str | None]:
    """Names of the bands that were hidden where they were measured, so not of the reference band; None for others."""
    scaling = model.network.scaling
    learned = scaling.supported_bands & (np.arange(scaling.n_bands) != scaling.reference)
    return [band.name if known else None for band, known in zip(scaling.features.bands, learned, strict=True)]


def _offsets(model: StoredModel) -> list[str]:
    if not model.offsets:
        return []
    return [
        "## Fitted offsets",
        "",
        "Bands: synthetic − survey (mag). Labels: survey − reference scale (dex, K).",
        "",
        *(f"* {name}: {value:+.4f}" for name, value in model.offsets.items()),
    ]


def _limits(model: StoredModel) -> list[str]:
    return [
        "## Known limits",
        "",
        *(f"* {note}" for note in model.training["notes"]),
        "* Intervals are calibrated on stars like those of the calibrate part; a star unlike any trained on is",
        "  flagged `suspect`, not corrected.",
        "* XP coefficient errors are given without correlations.",
        "* Magnitudes are not dereddened; extinction is learned only as far as the training sky shows it.",
    ]
