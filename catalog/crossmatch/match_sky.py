"""Which object is which star: mutual nearest pairs on the sphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.crossmatch.sky_pairs import GRAIN_ARCSEC, ObjectPositions, Pairs, ranges

GIVES_WAY_ARCSEC = 0.5


@dataclass(frozen=True)
class Matches:
    """One row a star with at least one object within the radius, in the order of the stars given.

    star           int64, index of the star
    obj            int64, index of its nearest object (a flagged one counts as farther away, see preference())
    mutual         bool, that object's nearest star is this one: they match
    grains         int64, their separation / GRAIN_ARCSEC
    n_candidates   int32, objects within the radius
    """

    star: np.ndarray
    obj: np.ndarray
    mutual: np.ndarray
    grains: np.ndarray
    n_candidates: np.ndarray

    def __len__(self) -> int:
        return len(self.star)

    @property
    def separation_arcsec(self) -> np.ndarray:
        return self.grains * GRAIN_ARCSEC


def choose_mutual(pairs: Pairs, source_id: np.ndarray, objects: ObjectPositions) -> Matches:
    """Each star's preferred pair, and whether its object prefers that star too: then they match.

    Of equally near objects a star prefers the one of smaller id, of equally near stars an object the one of smaller
    source_id: the answer does not depend on the order of either side.
    pairs.star indexes source_id and need not be sorted, but each star's pairs must stand together.
    """
    if not len(pairs):
        none = np.zeros(0, np.int64)
        return Matches(none, none, np.zeros(0, bool), none, np.zeros(0, np.int32))
    first = np.flatnonzero(np.r_[True, pairs.star[1:] != pairs.star[:-1]])
    count = np.diff(np.r_[first, len(pairs)])
    best = _preferred(pairs, first, count, objects)
    star, obj = pairs.star[best], pairs.obj[best]
    nearest_star = _nearest_star(pairs, source_id, len(objects))
    return Matches(star, obj, nearest_star[obj] == star, pairs.grains[best], count.astype(np.int32))


def preference(grains: np.ndarray, flagged: np.ndarray) -> np.ndarray:
    """What a star minimises over its objects: separation in grains, a flagged object GIVES_WAY_ARCSEC farther away.

    A second entry of the same thing (SDSS's secondary observations, repeated detections) lies closer than that. A
    neighbour does not, and must not lend the star its magnitudes where the star's own are no good.
    """
    return grains + np.where(flagged, np.int64(GIVES_WAY_ARCSEC / GRAIN_ARCSEC), 0)


def _preferred(pairs: Pairs, first: np.ndarray, count: np.ndarray, objects: ObjectPositions) -> np.ndarray:
    """For each star (pairs first : first + count) the index of its preferred pair."""
    best = first.copy()
    many = np.flatnonzero(count > 1)
    index = ranges(first[many], count[many])
    group = np.repeat(np.arange(len(many)), count[many])
    obj = pairs.obj[index]
    flagged = np.zeros(len(obj), bool) if objects.flagged is None else objects.flagged[obj]
    order = np.lexsort(
        (objects.id[obj], objects.rank()[obj], flagged, preference(pairs.grains[index], flagged), group)
    )
    best[many] = index[order[np.cumsum(count[many]) - count[many]]]
    return best


def _nearest_star(pairs: Pairs, source_id: np.ndarray, n_objects: int) -> np.ndarray:
    """For each object the index of its nearest star (-1: none within the radius)."""
    nearest_star = np.full(n_objects, -1)
    nearest_star[pairs.obj] = pairs.star
    # Few objects lie near two stars; only theirs have to be compared.
    shared = np.flatnonzero(np.bincount(pairs.obj, minlength=n_objects)[pairs.obj] > 1)
    star, obj = pairs.star[shared], pairs.obj[shared]
    order = np.lexsort((source_id[star], pairs.grains[shared], obj))
    star, obj = star[order], obj[order]
    first = np.flatnonzero(np.diff(obj, prepend=-1))
    nearest_star[obj[first]] = star[first]
    return nearest_star
