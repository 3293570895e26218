"""The dirty sky's objects: classes mixed, variables, neighbours, and objects that Gaia does not list."""

from __future__ import annotations

import numpy as np

from msacat.catalog.healpix import nested_pixel
from msacat.catalog.simulated_sky.other_classes import MAKERS
from msacat.catalog.simulated_sky.parameters import Parameters, pair
from msacat.catalog.simulated_sky.sky_objects import SkyObjects, stars_at
from msacat.catalog.simulated_sky.sky_positions import Positions, scatter_around
from msacat.catalog.simulated_sky.star_library import StarLibrary
from msacat.catalog.surveys.source_id import SOURCE_ID_LEVEL, SOURCE_ID_SHIFT


def dirty_objects(
    positions: Positions, seed: int, rng: np.random.Generator, p: Parameters, library: StarLibrary
) -> SkyObjects:
    """Gaia's objects in the order of `positions`, then those without a Gaia row."""
    population = p["dirt"]["population"]
    kind = _draw_kinds(rng, len(positions), p)
    parts, index = [], []
    here = np.flatnonzero(kind == "star")
    parts.append(stars_at(positions.take(here), seed, rng, p, library, dirt=population))
    index.append(here)
    for name, make in MAKERS.items():
        here = np.flatnonzero(kind == name)
        if len(here):
            parts.append(make(positions.take(here), seed, rng, p, library))
            index.append(here)
    order = np.argsort(np.concatenate(index), kind="stable")
    gaia = SkyObjects.concatenate(parts).take(order)
    extra = _unlisted(positions, seed, rng, p, library)
    objects = SkyObjects.concatenate([gaia, extra])
    _make_variable(objects, rng, p)
    return objects


def _draw_kinds(rng: np.random.Generator, n: int, p: Parameters) -> np.ndarray:
    share = {name: p["dirt"]["classes"][name] for name in MAKERS}
    names = ["star", *share]
    return rng.choice(np.array(names, object), n, p=[1 - sum(share.values()), *share.values()])


def _unlisted(
    positions: Positions, seed: int, rng: np.random.Generator, p: Parameters, library: StarLibrary
) -> SkyObjects:
    """Stars below Gaia's limit: some beside a Gaia source, some in the field."""
    pairs, n = p["dirt"]["pairs"], len(positions)
    beside = rng.integers(0, n, rng.binomial(n, pairs["neighbour_fraction"]))
    field = rng.integers(0, n, rng.binomial(n, pairs["field_fraction"]))
    near = scatter_around(rng, positions.ra[beside], positions.dec[beside], pairs["separation_arcsec"])
    # Field objects lie some arcminutes from a random source: inside the patch, near nobody in particular.
    far = scatter_around(rng, positions.ra[field], positions.dec[field], pairs["field_arcsec"])
    ra, dec = (np.concatenate(pair) for pair in zip(near, far, strict=True))
    cells = nested_pixel(SOURCE_ID_LEVEL, ra, dec) << SOURCE_ID_SHIFT
    g = rng.uniform(*pair(pairs["extra_g"]), len(ra))
    extra = stars_at(Positions(cells, ra, dec), seed, rng, p, library, g_mag=g, dirt=p["dirt"]["population"])
    extra.source_id = np.zeros(len(ra), np.int64)
    return extra


def _make_variable(objects: SkyObjects, rng: np.random.Generator, p: Parameters) -> None:
    """Amplitudes of variable stars: a few of all, and the RR Lyrae strip of the horizontal branch."""
    v, n = p["dirt"]["variability"], len(objects)
    star = np.isin(objects.kind, ["star", "m_dwarf"])
    variable = star & (rng.random(n) < v["fraction"])
    amplitude = np.minimum(v["median_mag"] * np.exp(v["sigma_ln"] * rng.standard_normal(n)), v["largest_mag"])
    objects.amplitude = np.where(variable, amplitude, objects.amplitude)
    strip = objects.giant & (objects.teff > 6000) & (objects.teff < 7400)
    pulsation = rng.uniform(*pair(v["horizontal_branch_mag"]), n) / 2
    objects.amplitude = np.where(strip, pulsation, objects.amplitude)
