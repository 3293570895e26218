"""What a model takes in and gives out: an ordered, named list derived from the survey specs.

Identity is the band's name, never a column position: a model trained on one store is re-mapped by
name on another, and a band the store lacks is simply unobserved.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np


@dataclass(frozen=True)
class BandFeature:
    """One photometric band as the model sees it (mag, in the survey's published system)."""

    name: str
    survey: str
    wavelength_nm: float
    typical_err: float  # mag, used where a measured magnitude has no error
    floor_err: float  # mag, added in quadrature
    xp: str | None = None  # synthetic-photometry row "<system>:<band>"
    xp_weight: float = 1.0
    xp_offset: bool = False
    xp_shift: float = 0.0  # mag, added to the row's synthetic magnitude


@dataclass(frozen=True)
class ScalarFeature:
    """A further input with an error: parallax (mas), pmra, pmdec (mas/yr), ebv (mag)."""

    name: str
    unit: str


@dataclass(frozen=True)
class LabelFeature:
    """A spectroscopic label of one survey: fe_h (dex), teff (K), logg (log cm/s2)."""

    name: str  # "<survey>.<quantity>"
    survey: str
    quantity: str
    typical_err: float
    scale: str  # "reference" or "fitted_offset"


@dataclass(frozen=True)
class StarFeatures:
    """Order is the order of every array in StarBlock and in a model's output."""

    reference_band: str  # the magnitude everything is normalised by (gaia_g)
    bands: tuple[BandFeature, ...]
    scalars: tuple[ScalarFeature, ...] = ()
    labels: tuple[LabelFeature, ...] = ()
    xp: bool = True
    extra: dict[str, str] = field(default_factory=dict)  # provenance, e.g. {"reference_release": "gaia_dr3"}

    @property
    def band_names(self) -> list[str]:
        return [b.name for b in self.bands]

    @property
    def scales_with_distance(self) -> np.ndarray:
        """bool, scalars that are angles (mas, mas/yr): the farther a star, the smaller."""
        return np.array([scalar.unit.startswith("mas") for scalar in self.scalars], bool)

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(data: dict) -> StarFeatures:
        return StarFeatures(
            reference_band=data["reference_band"],
            bands=tuple(BandFeature(**b) for b in data["bands"]),
            scalars=tuple(ScalarFeature(**s) for s in data["scalars"]),
            labels=tuple(LabelFeature(**x) for x in data["labels"]),
            xp=data["xp"],
            extra=dict(data.get("extra", {})),
        )
