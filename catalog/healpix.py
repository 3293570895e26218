"""HEALPix cells in the nested scheme, in numpy: Gaia's source_id is such a cell number.

Method: Gorski et al. 2005, ApJ 622, 759, sections 4-5. A level is log2(nside); level 12 cells are 51.5 arcsec wide.
"""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.source_id import cell_shift

MAX_LEVEL = 29
# Ring and longitude offsets of the 12 base faces: four round the north pole, four equatorial, four south.
_FACE_RING = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])
_FACE_LONGITUDE = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])


def cell_of(source_id, level: int) -> np.ndarray:
    """Nested cell at `level` (0..12) that a Gaia source_id lies in: int64, same shape."""
    return np.asarray(source_id, np.int64) >> cell_shift(level)


def cell_size_deg(level: int) -> float:
    """Square root of a cell's area, deg."""
    return float(np.degrees(np.sqrt(4 * np.pi / (12 * 4 ** _checked(level)))))


def nested_centre_deg(level: int, pix) -> tuple[np.ndarray, np.ndarray]:
    """Centre of each cell: (ra, dec) in deg, ra in [0, 360). ValueError for a cell that does not exist."""
    nside = 1 << _checked(level)
    pix = np.asarray(pix, np.int64)
    if np.any((pix < 0) | (pix >= 12 * nside * nside)):
        raise ValueError(f"cells of level {level} run from 0 to {12 * nside * nside - 1}")
    face = pix >> (2 * level)
    within = pix & (nside * nside - 1)
    ix, iy = _even_bits(within), _even_bits(within >> 1)
    ring = _FACE_RING[face] * nside - ix - iy - 1
    in_cap = (ring < nside) | (ring > 3 * nside)
    cells_quarter = np.where(in_cap, np.minimum(ring, 4 * nside - ring), nside)
    # In the caps keep 1 - |z|, which does not cancel next to the pole.
    below_pole = cells_quarter.astype(float) ** 2 / (3.0 * nside * nside)
    z = np.where(in_cap, np.copysign(1 - below_pole, 2 * nside - ring), (2 * nside - ring) * 2 / (3 * nside))
    sin_theta = np.where(in_cap, np.sqrt(below_pole * (2 - below_pole)), np.sqrt(1 - z * z))
    along = (_FACE_LONGITUDE[face] * cells_quarter + ix - iy) % (8 * cells_quarter)
    return 45.0 * along / cells_quarter, np.degrees(np.arctan2(z, sin_theta))


def nested_pixel(level: int, ra_deg, dec_deg) -> np.ndarray:
    """Cell holding each position: int64. ValueError for NaN or a declination beyond the poles."""
    nside = 1 << _checked(level)
    ra, dec = np.broadcast_arrays(np.asarray(ra_deg, float), np.asarray(dec_deg, float))
    if not (np.all(np.isfinite(ra)) and np.all(np.abs(dec) <= 90)):
        raise ValueError("positions must be finite, with declination in [-90, 90] deg")
    z = np.sin(np.radians(dec))
    quarter = (ra % 360.0) / 90.0 % 4.0  # in [0, 4), rounding of a tiny negative ra included

    up, down = nside * (0.5 + quarter), nside * 0.75 * z
    jp, jm = np.floor(up - down).astype(np.int64), np.floor(up + down).astype(np.int64)
    face_p, face_m = jp >> level, jm >> level
    face_belt = np.where(face_p == face_m, face_p | 4, np.where(face_p < face_m, face_p, face_m + 8))
    x_belt, y_belt = jm & (nside - 1), nside - 1 - (jp & (nside - 1))

    column = np.minimum(quarter.astype(np.int64), 3)
    # nside * sqrt(3 (1 - |z|)), written with cos(dec) so that it keeps its digits at the pole.
    reach = nside * np.sqrt(3.0 / (1.0 + np.abs(z))) * np.cos(np.radians(dec))
    jp = np.minimum(((quarter - column) * reach).astype(np.int64), nside - 1)
    jm = np.minimum(((1 - (quarter - column)) * reach).astype(np.int64), nside - 1)
    north = z >= 0
    face_cap = np.where(north, column, column + 8)
    x_cap, y_cap = np.where(north, nside - 1 - jm, jp), np.where(north, nside - 1 - jp, jm)

    in_belt = np.abs(z) <= 2 / 3
    face = np.where(in_belt, face_belt, face_cap)
    ix, iy = np.where(in_belt, x_belt, x_cap), np.where(in_belt, y_belt, y_cap)
    return (face << (2 * level)) | _spread_bits(ix) | (_spread_bits(iy) << 1)


def separation_deg(ra1_deg, dec1_deg, ra2_deg, dec2_deg) -> np.ndarray:
    """Great-circle distance, deg (haversine: exact for small angles)."""
    ra1, dec1, ra2, dec2 = (np.radians(np.asarray(x, float)) for x in (ra1_deg, dec1_deg, ra2_deg, dec2_deg))
    half = np.sin((dec2 - dec1) / 2) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin((ra2 - ra1) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.minimum(half, 1.0))))


def _checked(level: int) -> int:
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"HEALPix levels run from 0 to {MAX_LEVEL}, not {level}")
    return level


_STEPS = [
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
]


def _spread_bits(value: np.ndarray) -> np.ndarray:
    """Bit i of a 32-bit number moves to bit 2i."""
    bits = value.astype(np.uint64)
    for shift, mask in _STEPS:
        bits = (bits | (bits << np.uint64(shift))) & np.uint64(mask)
    return bits.astype(np.int64)


def _even_bits(value: np.ndarray) -> np.ndarray:
    """The inverse of _spread_bits: bit 2i moves to bit i, odd bits are dropped."""
    bits = value.astype(np.uint64) & np.uint64(_STEPS[-1][1])
    masks = [*(mask for _, mask in _STEPS[-2::-1]), 0xFFFFFFFF]
    for (shift, _), mask in zip(_STEPS[::-1], masks, strict=True):
        bits = (bits | (bits >> np.uint64(shift))) & np.uint64(mask)
    return bits.astype(np.int64)
