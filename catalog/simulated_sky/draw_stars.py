"""Draws the stars of a stretch of sky: what they are, how far, behind how much dust.

Gaia G is drawn first (parameters.toml, magnitudes); for each star a handful of candidates is then drawn from
the population, each put at the distance where it shows that G, and one kept with a chance proportional to
the stars the Galaxy has there. So counts follow G exactly and star types follow the Galaxy roughly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from msacat.catalog.simulated_sky import stellar_evolution as evolution
from msacat.catalog.simulated_sky.parameters import Parameters, pair
from msacat.catalog.simulated_sky.star_library import StarLibrary

#: Rough A_G / A_V, only for placing candidates; the star's own G comes from its spectrum.
A_G_OVER_A_V = 0.80


@dataclass
class Bodies:
    """N luminous bodies at 10 pc: primaries, or their unresolved companions."""

    teff: np.ndarray
    logg: np.ndarray
    fe_h: np.ndarray
    radius: np.ndarray  # Rsun; 0 = no body
    alpha: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass
class DrawnStars:
    primary: Bodies
    companion: Bodies
    giant: np.ndarray  # bool
    metal_poor: np.ndarray  # bool: the old population
    distance_kpc: np.ndarray
    a_v: np.ndarray
    r_v: np.ndarray


def draw_magnitudes(rng: np.random.Generator, n: int, p: Parameters) -> np.ndarray:
    """Gaia G: two exponentials that meet at the XP limit."""
    m = p["magnitudes"]
    (lo, hi), limit = m["g_range"], m["g_xp_limit"]
    bright = rng.random(n) < m["bright_fraction"]
    u = rng.random(n)

    def exponential(a: float, b: float, slope: float) -> np.ndarray:
        low, high = 10 ** (slope * a), 10 ** (slope * b)
        return np.log10(low + u * (high - low)) / slope

    return np.where(
        bright, exponential(lo, limit, m["bright_slope"]), exponential(limit, hi, m["faint_slope"])
    )


def draw_stars(
    rng: np.random.Generator,
    g_mag: np.ndarray,
    l_deg: np.ndarray,
    b_deg: np.ndarray,
    column_a_v: np.ndarray,
    p: Parameters,
    library: StarLibrary,
    dirt: dict | None = None,
) -> DrawnStars:
    """One star per position; column_a_v is the whole dust column there (mag).

    dirt : the table dirt.population, for alpha-enhanced and extremely metal-poor stars
    """
    pop, dust = p["population"], p["dust"]
    n, k = len(g_mag), pop["candidates"]
    poor = rng.random(n) < pop["metal_poor_fraction"]
    scatter = np.exp(dust["star_scatter"] * rng.standard_normal(n))
    r_v = np.clip(rng.normal(*pair(dust["r_v"]), n), *dust["r_v_range"])

    poor_k = np.repeat(poor, k)
    fe_h, age = _metals_and_ages(rng, poor_k, pop)
    if dirt:
        extreme = poor_k & (rng.random(n * k) < dirt["very_poor_fraction"])
        fe_h = np.where(extreme, rng.uniform(*pair(dirt["very_poor_fe_h"]), n * k), fe_h)
    giant = rng.random(n * k) < pop["giant_weight"]
    mass, teff, radius = _evolve(rng, giant, fe_h, age, pop)
    log_teff, logg = np.log10(teff), evolution.logg_of(radius, mass)
    absolute_g = library.absolute_g(log_teff, logg, fe_h) - 5 * np.log10(radius)
    column = np.repeat(column_a_v * scatter, k)
    distance = _distance_showing(np.repeat(g_mag, k), absolute_g, column, dust)
    log_weight = _log_star_density(distance, np.repeat(l_deg, k), np.repeat(b_deg, k), poor_k, p)
    # Gumbel noise turns weights into a draw.
    score = (log_weight + rng.gumbel(size=n * k)).reshape(n, k)
    best = np.arange(n) * k + np.argmax(score, axis=1)

    alpha = _alpha(rng, fe_h[best], poor, dirt) if dirt else np.zeros(n)
    primary = Bodies(teff[best], logg[best], fe_h[best], radius[best], alpha)
    a_v = column[best] * (1 - np.exp(-distance[best] / dust["distance_scale_kpc"]))
    companion = _companions(rng, mass[best], age[best], fe_h[best], pop)
    return DrawnStars(primary, companion, giant[best], poor, distance[best], a_v, r_v)


def _metals_and_ages(rng: np.random.Generator, poor: np.ndarray, pop: dict) -> tuple[np.ndarray, np.ndarray]:
    mean = np.where(poor, pop["poor_fe_h"][0], pop["thin_fe_h"][0])
    sigma = np.where(poor, pop["poor_fe_h"][1], pop["thin_fe_h"][1])
    lo, hi = pop["fe_h_range"]
    fe_h = mean + sigma * rng.standard_normal(len(poor))
    # Reflected at the ends: a clip would pile stars up there.
    fe_h = np.clip(np.where(fe_h > hi, 2 * hi - fe_h, np.where(fe_h < lo, 2 * lo - fe_h, fe_h)), lo, hi)
    u = rng.random(len(poor))
    old, thin = pop["poor_age_gyr"], pop["thin_age_gyr"]
    age = np.where(poor, old[0] + u * (old[1] - old[0]), thin[0] + u * (thin[1] - thin[0]))
    return fe_h, age


def _alpha(rng: np.random.Generator, fe_h: np.ndarray, poor: np.ndarray, dirt: dict) -> np.ndarray:
    """[alpha/Fe]: enhanced in the old population, falling with [Fe/H] in the young one."""
    mean, sigma = dirt["alpha_old"]
    old = mean + sigma * rng.standard_normal(len(fe_h))
    young = dirt["alpha_thin_slope"] * fe_h + dirt["alpha_thin_scatter"] * rng.standard_normal(len(fe_h))
    return np.clip(np.where(poor, old, young), *dirt["alpha_range"])


def _evolve(
    rng: np.random.Generator, giant: np.ndarray, fe_h: np.ndarray, age: np.ndarray, pop: dict
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mass, Teff and radius of the candidates."""
    oldest = evolution.giant_mass(age, fe_h)
    u, v, noise = rng.random(len(age)), rng.random(len(age)), rng.standard_normal(len(age))
    grid, cumulative = _mass_function(pop)
    mass = np.interp(u * np.interp(oldest, grid, cumulative), cumulative, grid)
    mass = np.where(giant, oldest, mass)
    teff, radius = evolution.dwarf(mass, age, fe_h)
    clump = giant & (v < pop["clump_share"])
    branch = giant & ~clump
    teff[branch], radius[branch] = evolution.red_giant(mass[branch], fe_h[branch], u[branch])
    teff[clump], radius[clump] = evolution.clump_giant(mass[clump], fe_h[clump], u[clump], noise[clump])
    return mass, teff, radius


def _mass_function(pop: dict) -> tuple[np.ndarray, np.ndarray]:
    grid = np.linspace(*pair(pop["mass_range"]), 400)
    low, high = pop["mass_function_slopes"]
    density = np.where(grid < 0.5, (grid / 0.5) ** -low, (grid / 0.5) ** -high)
    return grid, np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])


def _distance_showing(g: np.ndarray, absolute_g: np.ndarray, column: np.ndarray, dust: dict) -> np.ndarray:
    """kpc at which a star of this absolute G is seen at g through the dust."""
    modulus = g - absolute_g
    distance = 10 ** (0.2 * modulus - 2)
    for _ in range(6):
        a_g = A_G_OVER_A_V * column * (1 - np.exp(-distance / dust["distance_scale_kpc"]))
        distance = 10 ** (0.2 * (modulus - a_g) - 2)
    return distance


def _log_star_density(
    d: np.ndarray, l_deg: np.ndarray, b_deg: np.ndarray, poor: np.ndarray, p: Parameters
) -> np.ndarray:
    """ln of the stars per magnitude of distance modulus: density times d^3."""
    gal = p["distance"]
    cos_l, cos_b = np.cos(np.radians(l_deg)), np.cos(np.radians(b_deg))
    z = d * np.sin(np.radians(b_deg))
    r2 = gal["sun_radius"] ** 2 + (d * cos_b) ** 2 - 2 * gal["sun_radius"] * d * cos_b * cos_l
    r = np.sqrt(np.maximum(r2, 0.01))
    radial = np.exp(-(r - gal["sun_radius"]) / gal["disk_scale_length"])
    thin = radial * np.exp(-np.abs(z) / gal["thin_scale_height"])
    thick = radial * np.exp(-np.abs(z) / gal["thick_scale_height"])
    halo = gal["halo_fraction"] * ((r2 + z * z) / gal["sun_radius"] ** 2 + 0.05) ** (-gal["halo_power"] / 2)
    density = np.where(poor, thick + halo, thin + 0.1 * thick + 1e-3 * halo)
    return gal["distance_weight_power"] * (np.log(density + 1e-30) + 3 * np.log(d))


def _companions(
    rng: np.random.Generator, mass: np.ndarray, age: np.ndarray, fe_h: np.ndarray, pop: dict
) -> Bodies:
    """Unresolved main-sequence companions of the same age and metallicity; radius 0 where single."""
    n = len(mass)
    ratio = rng.uniform(*pair(pop["binary_mass_ratio"]), n)
    double = rng.random(n) < pop["binary_fraction"]
    light = np.maximum(mass * ratio, 0.15)
    teff, radius = evolution.dwarf(light, age, fe_h)
    radius = np.where(double, radius, 0.0)
    return Bodies(teff, np.clip(evolution.logg_of(np.where(double, radius, 1.0), light), 0, 5), fe_h, radius,
                  np.zeros(n))  # fmt: skip
