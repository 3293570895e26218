"""What is not an ordinary star: M dwarfs, white dwarfs, quasars, galaxies (dirty sky only; stated approximations).

- M dwarfs: PHOENIX atmospheres on the zero-age main sequence.
- White dwarfs: the library's hottest-gravity (logg 5) hydrogen-rich atmospheres at white-dwarf radii: Balmer lines are
  too narrow; no helium or magnetic ones.
- Quasars: a broken power law with broad lines and the Lyman forest and break, after Vanden Berk et al. 2001, AJ 122, 549.
- Galaxies: an old population (70 % K giants, 30 % F-G dwarfs at 600 nm), redshifted, seen as points.
"""

from __future__ import annotations

import numpy as np

from msacat.catalog.simulated_sky import stellar_evolution as evolution
from msacat.catalog.simulated_sky.draw_stars import A_G_OVER_A_V
from msacat.catalog.simulated_sky.parameters import Parameters, pair
from msacat.catalog.simulated_sky.sky_objects import SkyObjects, light_of
from msacat.catalog.simulated_sky.sky_positions import Positions, dust_columns, proper_motions
from msacat.catalog.simulated_sky.star_library import StarLibrary

#: Rest wavelength (nm), equivalent width (nm) and width sigma (nm) of a quasar's broad lines (Vanden Berk, Table 2).
QUASAR_LINES = [
    (121.6, 9.3, 1.9), (154.9, 2.4, 1.4), (190.9, 2.1, 2.4), (279.8, 3.2, 3.5),
    (486.1, 4.6, 4.1), (500.7, 1.3, 0.6), (656.3, 19.5, 4.7),
]  # fmt: skip


def m_dwarfs(
    positions: Positions, seed: int, rng: np.random.Generator, p: Parameters, library: StarLibrary
) -> SkyObjects:
    c, n = p["dirt"]["classes"], len(positions)
    mass = rng.uniform(*pair(c["m_dwarf_mass"]), n)
    fe_h = np.clip(rng.normal(*pair(p["population"]["thin_fe_h"]), n), *c["m_dwarf_fe_h_range"])
    log_l, log_r = evolution.zero_age(mass, fe_h)
    teff = evolution.SUN_TEFF * 10 ** (0.25 * log_l - 0.5 * log_r)
    body = teff, evolution.logg_of(10**log_r, mass), fe_h, 10**log_r
    return _stars("m_dwarf", body, c["m_dwarf_faint_g"], positions, seed, rng, p, library)


def white_dwarfs(
    positions: Positions, seed: int, rng: np.random.Generator, p: Parameters, library: StarLibrary
) -> SkyObjects:
    c, n = p["dirt"]["classes"], len(positions)
    teff = np.exp(rng.uniform(*pair(np.log(c["white_dwarf_teff"])), n))
    radius = np.clip(rng.normal(*pair(c["white_dwarf_radius"]), n), *c["white_dwarf_radius_range"])
    body = teff, evolution.logg_of(radius, np.full(n, c["white_dwarf_mass"])), np.zeros(n), radius
    return _stars("white_dwarf", body, c["white_dwarf_faint_g"], positions, seed, rng, p, library)


def _stars(
    kind: str, body: tuple[np.ndarray, ...], faint_g: float, positions: Positions, seed: int,
    rng: np.random.Generator, p: Parameters, library: StarLibrary,
) -> SkyObjects:  # fmt: skip
    """Single dwarfs of the thin disk put where they show a uniform G."""
    teff, logg, fe_h, radius = body
    n = len(positions)
    nothing = np.zeros(n)
    flux = np.power(np.float32(10), library.log_flux_10pc(teff, logg, fe_h, radius, nothing))
    absolute_g = -2.5 * np.log10(flux @ library.band_response[library.band_names.index("gaia_g")])
    g = rng.uniform(faint_g, p["magnitudes"]["g_range"][1], n)
    distance = 10 ** (0.2 * (g - absolute_g) - 2)
    near = 1 - np.exp(-distance / p["dust"]["distance_scale_kpc"])
    a_v = dust_columns(positions, seed, p) * near
    distance = distance * 10 ** (-0.2 * A_G_OVER_A_V * a_v)
    r_v = np.full(n, p["dust"]["r_v"][0])
    nearer = ((0.01 / distance) ** 2).astype(np.float32)
    mag, xp = light_of(library.dim(flux * nearer[:, None], a_v, r_v), p, library)
    pmra, pmdec = proper_motions(rng, distance, np.zeros(n, bool), p)
    no = np.zeros(n, bool)
    return SkyObjects(
        positions.source_id, positions.ra, positions.dec, pmra, pmdec, np.full(n, kind, object),
        teff, logg, fe_h, nothing, radius, distance, a_v, r_v, no, no, np.zeros(n), mag, xp,
    )  # fmt: skip


def quasars(
    positions: Positions, seed: int, rng: np.random.Generator, p: Parameters, library: StarLibrary
) -> SkyObjects:
    c, n = p["dirt"]["classes"], len(positions)
    lo, hi = c["quasar_redshift"]
    z = lo + (hi - lo) * rng.beta(*pair(c["quasar_redshift_beta"]), n)
    rest = library.wavelength_nm / (1 + z[:, None])
    # f_lambda: two power laws that meet near Hbeta, continued by hot dust beyond 1 micron.
    blue, red = c["quasar_slopes"]
    flux = np.where(rest < 500, (rest / 500) ** blue, (rest / 500) ** red)
    flux *= 10 ** (c["quasar_slope_scatter"] * rng.standard_normal((n, 1)) * np.log10(rest / 500))
    for centre, width, sigma in QUASAR_LINES:
        strength = (
            width
            * np.exp(c["quasar_line_scatter_ln"] * rng.standard_normal((n, 1)))
            / (sigma * np.sqrt(2 * np.pi))
        )
        flux *= 1 + strength * np.exp(-0.5 * ((rest - centre) / sigma) ** 2)
    forest = np.exp(-0.0036 * (1 + z[:, None]) ** 3.46)  # mean Lyman-alpha opacity, Madau 1995, ApJ 441, 18
    flux = np.where(rest < 121.6, flux * forest, flux)
    flux = np.where(rest < 91.2, flux * 1e-3, flux)
    objects = _extragalactic("quasar", flux, c["quasar_faint_g"], positions, seed, rng, p, library)
    v = p["dirt"]["variability"]
    objects.amplitude = v["quasar_mag"] * np.exp(v["quasar_sigma_ln"] * rng.standard_normal(n))
    return objects


def galaxies(
    positions: Positions, seed: int, rng: np.random.Generator, p: Parameters, library: StarLibrary
) -> SkyObjects:
    c, n = p["dirt"]["classes"], len(positions)
    z = rng.uniform(*pair(c["galaxy_redshift"]), n)
    fe_h = rng.uniform(*pair(c["galaxy_fe_h"]), n)
    one, none = np.ones(n), np.zeros(n)
    giant = library.log_flux_10pc(rng.uniform(*pair(c["galaxy_giant_teff"]), n), 2.0 * one, fe_h, one, none)
    dwarf = library.log_flux_10pc(rng.uniform(*pair(c["galaxy_dwarf_teff"]), n), 4.3 * one, fe_h, one, none)
    at_600 = int(np.searchsorted(library.wavelength_nm, 600))
    share = rng.uniform(*pair(c["galaxy_giant_share"]), (n, 1))
    giant, dwarf = (10.0 ** (log_f - log_f[:, at_600 : at_600 + 1]) for log_f in (giant, dwarf))
    rest_flux = share * giant + (1 - share) * dwarf
    wave = library.wavelength_nm
    flux = np.array(
        [np.interp(wave / (1 + zi), wave, row) for zi, row in zip(z, rest_flux, strict=True)]
    ).reshape(n, -1)
    return _extragalactic("galaxy", flux, c["galaxy_faint_g"], positions, seed, rng, p, library)


def _extragalactic(
    kind: str, flux: np.ndarray, faint_g: float, positions: Positions, seed: int,
    rng: np.random.Generator, p: Parameters, library: StarLibrary,
) -> SkyObjects:  # fmt: skip
    """Spectra of any scale behind the whole Galactic column, scaled to a uniform G; they do not move."""
    n = len(positions)
    a_v, r_v = dust_columns(positions, seed, p), np.full(n, p["dust"]["r_v"][0])
    g_row = library.band_response[library.band_names.index("gaia_g")]
    target = 10 ** (-0.4 * rng.uniform(faint_g, p["magnitudes"]["g_range"][1], n))
    dimmed = library.dim(flux.astype(np.float32), a_v, r_v)
    scale = target / (dimmed @ g_row)
    mag, xp = light_of(dimmed * scale[:, None].astype(np.float32), p, library)
    nan, no, zero = np.full(n, np.nan), np.zeros(n, bool), np.zeros(n)
    return SkyObjects(
        positions.source_id, positions.ra, positions.dec, zero, zero, np.full(n, kind, object),
        nan, nan, nan, nan, nan, np.full(n, np.inf), a_v, r_v, no, no, np.zeros(n), mag, xp,
    )  # fmt: skip


MAKERS = {"m_dwarf": m_dwarfs, "white_dwarf": white_dwarfs, "quasar": quasars, "galaxy": galaxies}
