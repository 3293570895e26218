"""Says in words what a training set has no stars for."""

from __future__ import annotations

from msacat.model.scale_features import MIN_SUPPORT
from msacat.model.star_network import StarNetwork


def what_is_skipped(model: StarNetwork) -> list[str]:
    """One sentence for each thing that this training set cannot teach."""
    scaling, labels = model.scaling, model.labels
    notes = []
    bands = scaling.features.bands
    if scaling.features.xp and not scaling.n_xp:
        notes.append("no training star has an XP spectrum: spectra are neither used nor predicted")
    through = [
        b.name for b, t, n in zip(bands, scaling.through_xp_M, scaling.n_derived_M, strict=True) if t and n
    ]
    if through:
        notes.append(
            f"reachable only through the XP spectra, measured of fewer than {MIN_SUPPORT} stars of the sample: {', '.join(through)}"
        )
    if unsupported := [b.name for b, ok in zip(bands, scaling.supported_bands, strict=True) if not ok]:
        notes.append(
            f"no number will be given for bands that fewer than {MIN_SUPPORT} stars of the sample have: "
            + ", ".join(unsupported)
        )
    if not labels.supported_quantities.any():
        notes.append("no labels: no metallicities, temperatures or gravities")
    if not model.consistency.active:
        notes.append("no band in common with the XP spectra: the consistency term is off")
    return notes
