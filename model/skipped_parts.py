"""Says in words what a training set has no stars for, or few."""

from __future__ import annotations

import numpy as np

from msacat.model.autoencoder import QUANTITIES
from msacat.model.scale_features import MIN_SUPPORT
from msacat.model.star_network import StarNetwork

#: Training stars of a band, or labels of a quantity, from which on its intervals can be trusted. On a simulated sky of
#: 4,162, 68 % intervals of SkyMapper g to z, spectrum seen, held 28 to 56 % of the truths where 60 to 200 had been measured.
ENOUGH = 500


def what_is_skipped(model: StarNetwork) -> list[str]:
    """One sentence for each thing that this training set cannot teach, or hardly."""
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
            f"known only through the XP spectra, measured in fewer than {MIN_SUPPORT} stars of the sample: {', '.join(through)}"
        )
    few = (scaling.n_seen_M >= MIN_SUPPORT) & (scaling.n_seen_M < ENOUGH)
    few &= np.arange(len(bands)) != scaling.reference
    if few.any():
        counts = ", ".join(f"{bands[m].name} {scaling.n_seen_M[m]}" for m in np.flatnonzero(few))
        notes.append(
            f"measured in few stars of the sample, so that their intervals may be much too small: {counts}"
        )
    if unsupported := [b.name for b, ok in zip(bands, scaling.supported_bands, strict=True) if not ok]:
        notes.append(
            f"no number will be given for bands that fewer than {MIN_SUPPORT} stars of the sample have: "
            + ", ".join(unsupported)
        )
    n_Q = np.zeros(len(QUANTITIES), np.int64)
    np.add.at(n_Q, labels.quantity_of_label, labels.n_L)
    few_Q = labels.supported_quantities & (n_Q < ENOUGH)
    if few_Q.any():
        counts = ", ".join(f"{QUANTITIES[q]} {n_Q[q]}" for q in np.flatnonzero(few_Q))
        notes.append(
            "learned from few labels, so that their intervals may be much too small, above all for stars unlike the labelled "
            f"ones: {counts}"
        )
    if not labels.supported_quantities.any():
        notes.append("no labels: no metallicities, temperatures or gravities")
    if not model.consistency.active:
        notes.append("no band in common with the XP spectra: the consistency term is off")
    return notes
