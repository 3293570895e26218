"""The brute-force oracle both matchers are judged by: every pair, by the great circle, in extended precision."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from msacat.catalog.crossmatch.sky_pairs import ObjectPositions, StarPositions

ARCSEC = np.arccos(np.longdouble(-1)) / (180 * 3600)
GRAIN = np.longdouble("1e-8")


def moved(stars: StarPositions, epoch: float) -> tuple[np.ndarray, np.ndarray]:
    """Position of every star at `epoch`, rad: a step on the tangent plane, then back to the sphere."""
    ra, dec = (np.radians(np.asarray(x, np.longdouble)) for x in (stars.ra, stars.dec))
    years = np.longdouble(epoch) - np.asarray(stars.ref_epoch, np.longdouble)
    east, north = (
        np.nan_to_num(np.asarray(pm, np.longdouble)) * ARCSEC / 1000 * years
        for pm in (stars.pmra, stars.pmdec)
    )
    # The inverse gnomonic projection: a uniform straight motion in the tangent plane.
    down = np.cos(dec) - north * np.sin(dec)
    return ra + np.arctan2(east, down), np.arctan2(np.sin(dec) + north * np.cos(dec), np.hypot(east, down))


def great_circle_grains(
    stars: StarPositions, objects: ObjectPositions, far_arcsec: float = 100
) -> np.ndarray:
    """Vincenty's formula for every pair, (stars, objects), in units of 1e-8 arcsec.

    Pairs further than `far_arcsec` apart in declination alone are only said to be far.
    """
    out = np.full((len(stars), len(objects)), np.iinfo(np.int64).max)
    epochs = np.broadcast_to(objects.epoch, len(objects))
    for epoch in np.unique(epochs):
        all_ra, all_dec = moved(stars, epoch)
        for j in np.flatnonzero(epochs == epoch):
            ra2, dec2 = (np.radians(np.longdouble(x)) for x in (objects.ra[j], objects.dec[j]))
            near = np.flatnonzero(np.abs(all_dec - dec2) < far_arcsec * ARCSEC)
            dec1, d = all_dec[near], ra2 - all_ra[near]
            a = np.cos(dec2) * np.sin(d)
            b = np.cos(dec1) * np.sin(dec2) - np.sin(dec1) * np.cos(dec2) * np.cos(d)
            c = np.sin(dec1) * np.sin(dec2) + np.cos(dec1) * np.cos(dec2) * np.cos(d)
            out[near, j] = np.rint(np.arctan2(np.hypot(a, b), c) / ARCSEC / GRAIN)
    return out


def oracle(stars, objects, radius_arcsec, grains):
    """{source_id: (id or None, separation, n_candidates)} by looking at every pair."""
    limit = round(radius_arcsec * 1e8)
    flagged = np.zeros(len(objects), bool) if objects.flagged is None else objects.flagged
    near = grains <= limit
    favourite = {}
    for j in range(len(objects)):
        who = np.flatnonzero(near[:, j])
        if len(who):
            favourite[j] = min(who, key=lambda i: (grains[i, j], stars.source_id[i]))
    result = {}
    for i in range(len(stars)):
        which = np.flatnonzero(near[i])
        if len(which):
            j = min(which, key=lambda j: (grains[i, j] + 50_000_000 * flagged[j], flagged[j], objects.id[j]))
            match = objects.id[j] if favourite[j] == i else None
            result[int(stars.source_id[i])] = (match, grains[i, j] * 1e-8, len(which))
    return result


def offset(ra, dec, east_arcsec, north_arcsec):
    """Points at tangent-plane offsets from (ra, dec) deg."""
    e, n = (np.asarray(x, float) * np.pi / 180 / 3600 for x in (east_arcsec, north_arcsec))
    a, d = np.radians(ra), np.radians(dec)
    x = np.cos(d) * np.cos(a) - e * np.sin(a) - n * np.sin(d) * np.cos(a)
    y = np.cos(d) * np.sin(a) + e * np.cos(a) - n * np.sin(d) * np.sin(a)
    z = np.sin(d) + n * np.cos(d)
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


@pytest.fixture(scope="session")
def sky_oracle() -> SimpleNamespace:
    return SimpleNamespace(moved=moved, great_circle_grains=great_circle_grains, oracle=oracle, offset=offset)
