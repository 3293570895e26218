"""Stars whose features stand in another order than the model's: found by name, never by position."""

from __future__ import annotations

import numpy as np

from msacat.catalog.errors import UsageError
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures


class Renaming:
    """From the features a caller asks with to the model's own.

    shared_asked, shared_own   positions of the bands both have, in step
    """

    def __init__(self, asked: StarFeatures, own: StarFeatures):
        if asked.reference_band != own.reference_band:
            raise UsageError(
                "the model was trained on another reference",
                expected=own.reference_band,
                found=asked.reference_band,
            )
        self.own = own
        self.same = asked == own
        self.shared_asked, self.shared_own = _shared(asked.band_names, own.band_names)
        names = [s.name for s in asked.scalars], [s.name for s in own.scalars]
        self.scalars_asked, self.scalars_own = _shared(*names)

    def to_model(self, block: StarBlock) -> StarBlock:
        """`block` in the model's order; labels are left out (they are never inputs)."""
        if self.same:
            return block
        out = StarBlock.empty(len(block), len(self.own.bands), len(self.own.scalars), len(self.own.labels))
        out.source_id_B[:] = block.source_id_B
        out.mag_BM[:, self.shared_own] = block.mag_BM[:, self.shared_asked]
        out.mag_err_BM[:, self.shared_own] = block.mag_err_BM[:, self.shared_asked]
        out.scalar_BS[:, self.scalars_own] = block.scalar_BS[:, self.scalars_asked]
        out.scalar_err_BS[:, self.scalars_own] = block.scalar_err_BS[:, self.scalars_asked]
        out.xp_BK[:], out.xp_err_BK[:] = block.xp_BK, block.xp_err_BK
        return out


def _shared(asked: list[str], own: list[str]) -> tuple[np.ndarray, np.ndarray]:
    both = [name for name in asked if name in own]
    return (
        np.array([asked.index(n) for n in both], np.int64),
        np.array([own.index(n) for n in both], np.int64),
    )
