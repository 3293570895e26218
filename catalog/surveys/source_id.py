"""Gaia's source_id: a nested HEALPix cell of level 12 in its upper bits (Gaia DR3 data model, gaia_source.source_id)."""

from __future__ import annotations

SOURCE_ID_LEVEL = 12
#: source_id >> 35 is that cell
SOURCE_ID_SHIFT = 35
LARGEST_SOURCE_ID = (12 * 4**SOURCE_ID_LEVEL << SOURCE_ID_SHIFT) - 1


def cell_shift(level: int) -> int:
    """source_id >> cell_shift(level) is the nested cell of `level` (0..12) that the star lies in."""
    if not 0 <= level <= SOURCE_ID_LEVEL:
        raise ValueError(f"a source_id knows its cell at levels 0 to {SOURCE_ID_LEVEL}, not {level}")
    return SOURCE_ID_SHIFT + 2 * (SOURCE_ID_LEVEL - level)
