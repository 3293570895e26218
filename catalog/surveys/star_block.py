"""StarBlock: some stars as numpy arrays, the one shape in which stars leave the database.

Suffixes: B stars, M bands, K = 110 XP coefficients (55 BP then 55 RP), S scalars, L labels.
NaN means "not measured" here and only here; in PostgreSQL it is NULL.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

K = 110


@dataclass
class StarBlock:
    """Arrays in the order of a StarFeatures.

    mag_BM          float32, mag, published system; NaN = not measured
    mag_err_BM      float32, mag, 1 sigma; NaN = not measured, or measured without an error
    xp_BK           float32, Gaia internal flux units; NaN over a missing half
    xp_err_BK       float32, likewise
    scalar_BS       float32 (mas, mas/yr); NaN = not measured
    scalar_err_BS   float32
    label_BL        float32 (dex, K, log cm/s2); NaN = no label
    label_err_BL    float32; NaN = error not published
    """

    source_id_B: np.ndarray
    mag_BM: np.ndarray
    mag_err_BM: np.ndarray
    xp_BK: np.ndarray
    xp_err_BK: np.ndarray
    scalar_BS: np.ndarray
    scalar_err_BS: np.ndarray
    label_BL: np.ndarray
    label_err_BL: np.ndarray

    def __len__(self) -> int:
        return len(self.source_id_B)

    def take(self, index: np.ndarray) -> StarBlock:
        """The stars at `index` (integers or booleans), in that order."""
        return StarBlock(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def concatenate(blocks: list[StarBlock]) -> StarBlock:
        return StarBlock(*(np.concatenate([getattr(b, f.name) for b in blocks]) for f in fields(StarBlock)))

    @staticmethod
    def empty(n_stars: int, n_bands: int, n_scalars: int, n_labels: int) -> StarBlock:
        """All NaN, source_id 0: a canvas to fill."""

        def nan(width: int) -> np.ndarray:
            return np.full((n_stars, width), np.nan, np.float32)

        return StarBlock(
            np.zeros(n_stars, np.int64),
            nan(n_bands), nan(n_bands), nan(K), nan(K),
            nan(n_scalars), nan(n_scalars), nan(n_labels), nan(n_labels),
        )  # fmt: skip
