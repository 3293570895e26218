"""Every star and object that lie within a radius of each other on the sphere, in numpy.

A star is moved to each object's epoch by the standard model of stellar motion with the unknown radial velocity
and parallax taken as zero, p(t) = normalise(p0 + mu t) (Hipparcos catalogue, ESA SP-1200, vol. 1, sec. 1.2.8).

Objects are sorted by (declination zone, right ascension); a star asks, in each zone its reach touches, for one
contiguous interval of that order (the zones algorithm: Gray, Nieto-Santisteban & Szalay 2006, cs/0701171). Its
reach is the match radius plus how far it can move, so a star of 10 arcsec/yr costs more than others but
makes no other star dearer. Every pair found is then measured exactly, by the chord between unit vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ARCSEC = np.pi / 180 / 3600  # rad
MAS = ARCSEC / 1000  # rad
#: Separations are whole numbers of this: coarser than float64's noise on the sphere (4e-11 arcsec), far finer
#: than any catalogue. Two objects equally far from a star by construction are therefore a tie, not a coin toss.
GRAIN_ARCSEC = 1e-8
RA_BINS_A_RADIUS = (
    8  # right ascension inside a zone: the coarser, the faster objects and questions are sorted
)
MOST_RA_BINS = 32  # bits
STARS_AT_ONCE = 1 << 17  # what stays in a processor's cache
PAIRS_AT_ONCE = 1 << 22  # what bounds memory in dense fields


@dataclass(frozen=True)
class StarPositions:
    """Reference stars. Shapes (N,); ref_epoch also a plain number.

    source_id int64, unique; ra, dec deg at ref_epoch (Julian year); pmra (with cos dec), pmdec mas/yr, NaN = not
    measured, taken as 0.
    """

    source_id: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    pmra: np.ndarray
    pmdec: np.ndarray
    ref_epoch: np.ndarray | float

    def __len__(self) -> int:
        return len(self.source_id)


@dataclass(frozen=True)
class ObjectPositions:
    """A survey's objects. Shapes (N,); epoch also a plain number.

    id: unique and sortable, int64 or bytes; ra, dec deg at epoch (Julian year).
    flagged: objects that a quality cut removes; a star prefers another about as near. None = no object.
    best_by: of objects that a star would take alike the one with the largest value wins, NaN last. None = the smaller id.
    """

    id: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    epoch: np.ndarray | float
    flagged: np.ndarray | None = None
    best_by: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.id)

    def rank(self) -> np.ndarray:
        """Ascending from the best by `best_by`; all 0 without it."""
        if self.best_by is None:
            return np.zeros(len(self))
        return -np.where(np.isnan(self.best_by), -np.inf, self.best_by)


@dataclass(frozen=True)
class Pairs:
    """Pairs within the radius: star int64 (index), obj int64 (index), grains int64 (separation / GRAIN_ARCSEC).

    Sorted by star.
    """

    star: np.ndarray
    obj: np.ndarray
    grains: np.ndarray

    def __len__(self) -> int:
        return len(self.star)

    @staticmethod
    def concatenate(parts: list[Pairs]) -> Pairs:
        names = ("star", "obj", "grains")
        none = [np.zeros(0, np.int64)]
        return Pairs(*(np.concatenate(none + [getattr(p, name) for p in parts]) for name in names))


class SkySearch:
    """Objects in zone order, ready to be asked for those near some stars. Safe to share between threads."""

    def __init__(self, objects: ObjectPositions, radius_arcsec: float):
        """ValueError for a position or epoch that is not finite, a declination beyond a pole, no positive radius."""
        if not 0 < radius_arcsec < 90 * 3600:
            raise ValueError(f"the match radius must be positive and finite, not {radius_arcsec} arcsec")
        _check("object", objects.ra, objects.dec, objects.epoch)
        self.radius_deg = radius_arcsec / 3600
        self.max_grains = int(np.rint(radius_arcsec / GRAIN_ARCSEC))
        self.zone_deg = 10 * self.radius_deg
        self.ra_bits = min(int(RA_BINS_A_RADIUS * 360 / self.radius_deg).bit_length(), MOST_RA_BINS)
        ra, dec = _wrapped(objects.ra), np.asarray(objects.dec, float)
        key, self.order = _sorted(self._key(self._zone(dec), ra))
        self.key_and_end = np.append(key, np.iinfo(np.int64).max)
        self.key = self.key_and_end[:-1]
        self.ra, self.dec = ra[self.order], dec[self.order]
        epoch = np.asarray(objects.epoch, float)
        self.epoch = epoch[self.order] if epoch.ndim else epoch
        self.epochs = (float(epoch.min()), float(epoch.max())) if epoch.size else (0.0, 0.0)

    def near(self, stars: StarPositions) -> Pairs:
        """Every pair of one of `stars` with an object within the radius at the object's epoch."""
        _check("star", stars.ra, stars.dec, stars.ref_epoch)
        if not len(self.key):
            return Pairs.concatenate([])
        return Pairs.concatenate(
            [
                self._near(stars, a, min(a + STARS_AT_ONCE, len(stars)))
                for a in range(0, len(stars), STARS_AT_ONCE)
            ]
        )

    def _near(self, s: StarPositions, start: int, stop: int) -> Pairs:
        part = slice(start, stop)
        ra, dec = _wrapped(s.ra[part]), np.asarray(s.dec[part], float)
        pmra, pmdec = _motion(s.pmra[part]), _motion(s.pmdec[part])
        ref = np.asarray(s.ref_epoch, float)
        ref = ref[part] if ref.ndim else ref
        longest = np.maximum(np.abs(self.epochs[0] - ref), np.abs(self.epochs[1] - ref))
        # A thousandth of an arcsecond and a ppm more than needed: bounds need not be sharp, only safe.
        reach = (self.radius_deg + np.degrees(np.hypot(pmra, pmdec) * longest)) * (1 + 1e-6) + 1e-3 / 3600
        query, left, count = self._intervals(ra, dec, np.minimum(reach, 180.0))
        found = []
        for few in _batches(count):
            index = ranges(left[few], count[few])
            who = np.repeat(query[few], count[few])
            grains = self._separations(who, index, ra, dec, pmra, pmdec, ref)
            near = grains <= self.max_grains
            found.append(Pairs(who[near], index[near], grains[near]))
        pairs = Pairs.concatenate(found)
        star, order = _sorted(pairs.star)
        return Pairs(star + start, self.order[pairs.obj[order]], pairs.grains[order])

    def _zone(self, dec: np.ndarray) -> np.ndarray:
        return np.floor((dec + 90) / self.zone_deg).astype(np.int64)

    def _key(self, zone: np.ndarray, ra: np.ndarray) -> np.ndarray:
        n_bins = 1 << self.ra_bits
        ra_bin = np.minimum((ra * (n_bins / 360)).astype(np.int64), n_bins - 1)
        return (zone << self.ra_bits) | np.maximum(ra_bin, 0)

    def _intervals(self, ra, dec, reach) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(star, first object, number of objects): one a zone that the star's reach touches and that has any."""
        lowest = self._zone(np.maximum(dec - reach, -90))
        n_more = self._zone(np.minimum(dec + reach, 90)) - lowest
        # Nearly all stars touch one zone; the few others ask once more in each zone above it.
        wide = np.flatnonzero(n_more)
        again = np.repeat(wide, n_more[wide])
        query = np.append(np.arange(len(ra)), again)
        zone = np.append(lowest, ranges(lowest[wide] + 1, n_more[wide]))
        half = _half_width(dec, reach)
        low, high = ra - half, ra + half
        # Round a pole once, and no further: the ends of an interval must not fall into one bin, whose objects were twice.
        round_ = half >= 180 - 360 / (1 << self.ra_bits)
        low[round_], high[round_] = 0.0, np.nextafter(360.0, 0.0)
        low, high = np.append(low, low[again]), np.append(high, high[again])
        # An interval across RA 0 is two.
        below, above = np.flatnonzero(low < 0), np.flatnonzero(high >= 360)
        if len(below) or len(above):
            query = np.r_[query, query[below], query[above]]
            zone = np.r_[zone, zone[below], zone[above]]
            wrapped_low, wrapped_high = low[below] + 360, high[above] - 360
            low, high = np.maximum(low, 0), np.minimum(high, 360)
            low = np.r_[low, wrapped_low, np.zeros(len(above))]
            high = np.r_[high, np.full(len(below), 360.0), wrapped_high]
        return self._look_up(query, self._key(zone, low), self._key(zone, high))

    def _look_up(self, query, low, high) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(star, first object, number of objects) of the intervals low..high of keys that hold any."""
        # Sorted questions walk through memory once; unsorted ones cost a cache miss a step.
        low, order = _sorted(low)
        query, high = query[order], high[order]
        left = np.searchsorted(self.key, low, "left")
        some = np.flatnonzero(self.key_and_end[left] <= high)
        query, left, high = query[some], left[some], high[some]
        # Most intervals hold one object or two: step to their ends, and search only for the ends of the others.
        right = left + 1
        open_ = np.arange(len(left))
        for _ in range(4):
            open_ = open_[self.key_and_end[right[open_]] <= high[open_]]
            right[open_] += 1
        right[open_] = np.searchsorted(self.key, high[open_], "right")
        return query, left, right - left

    def _separations(self, who, index, ra, dec, pmra, pmdec, ref) -> np.ndarray:
        """Separation of star `who` from object `index`, in grains."""
        # Unit vectors only of stars that have something near: consecutive pairs share theirs.
        used, row = _distinct(who, len(ra))
        p, v = _place_and_velocity(ra[used], dec[used], pmra[used], pmdec[used])
        speed2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
        epoch = self.epoch[index] if self.epoch.ndim else self.epoch
        years = epoch - (ref[who] if ref.ndim else ref)
        o = _unit(self.ra[index], self.dec[index])
        return _grains([c[row] for c in p], [c[row] for c in v], speed2[row], years, o)


def grains_apart(stars: StarPositions, objects: ObjectPositions) -> np.ndarray:
    """Separation of star i from object i at the object's epoch, int64, in units of GRAIN_ARCSEC."""
    _check("star", stars.ra, stars.dec, stars.ref_epoch)
    _check("object", objects.ra, objects.dec, objects.epoch)
    p, v = _place_and_velocity(stars.ra, stars.dec, _motion(stars.pmra), _motion(stars.pmdec))
    years = np.asarray(objects.epoch, float) - stars.ref_epoch
    speed2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
    return _grains(p, v, speed2, years, _unit(objects.ra, objects.dec))


def _grains(p, v, speed2, years, o) -> np.ndarray:
    """Great-circle distance of p + v * years from o, in grains; p, o unit vectors, v tangential with square speed2."""
    # The motion is tangential, so the moved vector has length sqrt(1 + (speed years)^2).
    shrink = 1 / np.sqrt(1 + speed2 * years * years)
    dx, dy, dz = ((p[i] + v[i] * years) * shrink - o[i] for i in range(3))
    chord = np.sqrt(dx * dx + dy * dy + dz * dz)
    separation = 2 * np.arcsin(np.minimum(chord / 2, 1.0)) / ARCSEC
    return np.rint(separation / GRAIN_ARCSEC).astype(np.int64)


def _half_width(dec, reach) -> np.ndarray:
    """At least the difference in right ascension, deg, of points within `reach` deg of declination `dec`.

    On the way to such a point right ascension nowhere changes faster than at the way's highest latitude.
    """
    highest = np.abs(dec) + reach
    half = np.minimum(reach / np.cos(np.radians(np.minimum(highest, 89.9999))) * (1 + 1e-9) + 1e-12, 180.0)
    half[highest >= 89.9999] = 180.0
    return half


def _wrapped(ra) -> np.ndarray:
    """Right ascension in [0, 360)."""
    ra = np.asarray(ra, float)
    return ra if np.all((ra >= 0) & (ra < 360)) else np.mod(ra, 360.0)


def _motion(pm) -> np.ndarray:
    """mas/yr -> rad/yr, 0 where not measured."""
    return np.where(np.isfinite(pm), pm, 0.0) * MAS


def _unit(ra, dec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ra, dec = np.radians(ra), np.radians(dec)
    cos_dec = np.cos(dec)
    return cos_dec * np.cos(ra), cos_dec * np.sin(ra), np.sin(dec)


def _place_and_velocity(ra, dec, pmra, pmdec) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Unit vector and its motion, rad/yr: pmra along east, pmdec along north (Hipparcos sec. 1.2.8)."""
    ra, dec = np.radians(ra), np.radians(dec)
    sin_ra, cos_ra, sin_dec, cos_dec = np.sin(ra), np.cos(ra), np.sin(dec), np.cos(dec)
    velocity = (
        -sin_ra * pmra - sin_dec * cos_ra * pmdec,
        cos_ra * pmra - sin_dec * sin_ra * pmdec,
        cos_dec * pmdec,
    )
    return (cos_dec * cos_ra, cos_dec * sin_ra, sin_dec), velocity


def _sorted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(values ascending, the order that makes them so) of int64 >= 0.

    Value and place packed into one integer are sorted three times as fast as by argsort.
    """
    bits = len(values).bit_length()
    if not len(values) or int(values.max()).bit_length() + bits > 63:
        order = np.argsort(values)
        return values[order], order
    packed = np.sort((values << bits) | np.arange(len(values)))
    return packed >> bits, packed & ((1 << bits) - 1)


def ranges(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """start[0], start[0] + 1, ... (count[0] of them), start[1], ..."""
    ends = np.cumsum(count)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(start - (ends - count), count)


def _distinct(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values (0 <= value < size), ascending, and for each of `values` its place among them."""
    present = np.zeros(size, bool)
    present[values] = True
    used = np.flatnonzero(present)
    place = np.empty(size, np.int64)
    place[used] = np.arange(len(used))
    return used, place[values]


def _batches(count: np.ndarray) -> Iterator[slice]:
    """Slices of queries with about PAIRS_AT_ONCE candidates each."""
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + PAIRS_AT_ONCE, "right")), start + 1)
        yield slice(start, stop)
        start = stop


def _check(what: str, ra, dec, epoch) -> None:
    if not (np.all(np.isfinite(ra)) and np.all(np.isfinite(epoch))):
        raise ValueError(f"{what} positions and epochs must be finite")
    if not np.all(np.abs(dec) <= 90):
        raise ValueError(f"{what} declinations must lie in [-90, 90] deg")
