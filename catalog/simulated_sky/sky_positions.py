"""Where the simulated stars stand: patches of sky, survey footprints, dust columns, motions, Gaia identifiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.healpix import cell_of, nested_centre_deg, nested_pixel
from msacat.catalog.simulated_sky.parameters import Parameters, pair
from msacat.catalog.surveys.source_id import SOURCE_ID_LEVEL, SOURCE_ID_SHIFT

#: Galactic axes in ICRS (Hipparcos catalogue, ESA SP-1200, vol. 1, Eq. 1.5.11).
_TO_GALACTIC = np.array([
    [-0.0548755604, -0.8734370902, -0.4838350155],
    [+0.4941094279, -0.4448296300, +0.7469822445],
    [-0.8676661490, -0.1980763734, +0.4559837762],
])  # fmt: skip
KM_S_PER_MAS_YR_KPC = 4.74047
#: Dust is shared by the cells of this HEALPix level, the one that splits are drawn by.
DUST_LEVEL = 5


@dataclass
class Positions:
    """Sorted by source_id. Angles in deg, ICRS at the reference epoch."""

    source_id: np.ndarray
    ra: np.ndarray
    dec: np.ndarray

    def __len__(self) -> int:
        return len(self.source_id)

    def take(self, part: slice | np.ndarray) -> Positions:
        return Positions(self.source_id[part], self.ra[part], self.dec[part])


def galactic(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Galactic longitude and latitude, deg."""
    a, d = np.radians(ra), np.radians(dec)
    x, y, z = _TO_GALACTIC @ np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arcsin(np.clip(z, -1, 1)))


def draw_positions(rng: np.random.Generator, n: int, p: Parameters, pairs: dict | None = None) -> Positions:
    """n positions, uniform inside each patch, with source_ids that hold their HEALPix cell and a running number.

    pairs : the table dirt.pairs, to place some sources beside others; by default none are
    """
    share = np.array([patch["share"] for patch in p["patches"]])
    patch = rng.choice(len(share), n, p=share / share.sum())
    ra, dec = np.empty(n), np.empty(n)
    for i, box in enumerate(p["patches"]):
        here = np.flatnonzero(patch == i)
        ra[here] = rng.uniform(*pair(box["ra"]), len(here)) % 360.0
        dec[here] = np.degrees(np.arcsin(rng.uniform(*pair(np.sin(np.radians(box["dec"]))), len(here))))
    if pairs:
        beside = np.flatnonzero(rng.random(n) < pairs["gaia_pair_fraction"])
        of = rng.integers(0, n, len(beside))
        ra[beside], dec[beside] = scatter_around(rng, ra[of], dec[of], pairs["separation_arcsec"])
    cell = nested_pixel(SOURCE_ID_LEVEL, ra, dec)
    order = np.argsort(cell, kind="stable")
    source_id = (cell[order] << SOURCE_ID_SHIFT) | np.arange(1, n + 1, dtype=np.int64)
    return Positions(source_id, ra[order], dec[order])


def scatter_around(
    rng: np.random.Generator, ra: np.ndarray, dec: np.ndarray, separation_arcsec: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """A position beside each given one, uniform in distance: closer pairs than chance, as on the sky."""
    rho = rng.uniform(*pair(separation_arcsec), len(ra)) * 1000
    angle = rng.uniform(0, 2 * np.pi, len(ra))
    return move(ra, dec, rho * np.sin(angle), rho * np.cos(angle), 1.0)


def split_by_cell(source_id: np.ndarray, about: int) -> list[slice]:
    """Slices of roughly `about` stars that never cut a dust cell in two."""
    cell = cell_of(source_id, DUST_LEVEL)
    ends = np.append(np.flatnonzero(np.diff(cell)) + 1, len(cell))
    slices, start = [], 0
    for end in ends:
        if end - start >= about or end == ends[-1]:
            slices.append(slice(start, int(end)))
            start = int(end)
    return slices


def in_footprint(dataset: str, ra: np.ndarray, dec: np.ndarray, p: Parameters) -> np.ndarray:
    """Whether the survey ever looked there: True over the whole sky for 2MASS, CatWISE and Gaia."""
    f = p["footprints"]
    if dataset == "sdss_dr13":
        box = f["sdss"]
        _, b = galactic(ra, dec)
        inside = (ra >= box["ra"][0]) & (ra <= box["ra"][1]) & (dec >= box["dec"][0]) & (dec <= box["dec"][1])
        return inside & (b > box["b_min"])
    if dataset == "skymapper_dr2":
        return dec < f["skymapper_dec_max"]
    if dataset == "panstarrs1":
        return dec > f["ps1_dec_min"]
    return np.ones(len(ra), bool)


def dust_columns(positions: Positions, seed: int, p: Parameters) -> np.ndarray:
    """A_V of the whole dust column (mag): one draw a cell, the same whatever else is simulated."""
    d = p["dust"]
    at = nested_pixel(DUST_LEVEL, positions.ra, positions.dec)
    cells, inverse = np.unique(at, return_inverse=True)
    ra, dec = nested_centre_deg(DUST_LEVEL, cells)
    sin_b = np.maximum(np.abs(np.sin(np.radians(galactic(ra, dec)[1]))), 0.1)
    draw = np.array([cell_generator(seed, int(c), "dust").standard_normal() for c in cells])
    column = d["median_a_v"] * (np.sqrt(0.5) / sin_b) ** d["latitude_power"] * 10 ** (d["sigma_log10"] * draw)
    return np.minimum(column, d["a_v_max"])[inverse]


def cell_generator(seed: int, cell: int, what: str) -> np.random.Generator:
    """A stream of random numbers that belongs to one sky cell and one purpose."""
    return np.random.default_rng([seed, cell, *what.encode()])


def proper_motions(
    rng: np.random.Generator, distance_kpc: np.ndarray, metal_poor: np.ndarray, p: Parameters
) -> tuple[np.ndarray, np.ndarray]:
    """pmra (with cos dec) and pmdec, mas/yr, a few of them enormous."""
    m = p["motion"]
    n = len(distance_kpc)
    sigma = np.where(metal_poor, m["poor_velocity"], m["thin_velocity"])
    motion = sigma / (KM_S_PER_MAS_YR_KPC * distance_kpc) * rng.standard_normal((2, n))
    fast = rng.random(n) < m["high_motion_fraction"]
    speed, angle = rng.uniform(*pair(m["high_motion_mas_yr"]), n), rng.uniform(0, 2 * np.pi, n)
    motion[:, fast] = (speed * np.array([np.sin(angle), np.cos(angle)]))[:, fast]
    return motion[0], motion[1]


def move(
    ra: np.ndarray, dec: np.ndarray, pmra: np.ndarray, pmdec: np.ndarray, years: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Position `years` later, along the great circle of the motion; angles in deg, motions in mas/yr."""
    a, d = np.radians(ra), np.radians(dec)
    east, north = (np.radians(pm * years / 3.6e6) for pm in (pmra, pmdec))
    rho = np.hypot(east, north)
    safe = np.where(rho > 0, rho, 1.0)
    sin_rho = np.sin(rho) / safe
    x = np.cos(rho) * np.cos(d) - north * sin_rho * np.sin(d)
    y = east * sin_rho
    z = np.cos(rho) * np.sin(d) + north * sin_rho * np.cos(d)
    return np.degrees(a + np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))
