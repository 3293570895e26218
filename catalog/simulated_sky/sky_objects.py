"""The objects of one stretch of simulated sky with all that is true about them, before any survey looks.

N objects, B bands, K = 110 XP coefficients. The first ones are Gaia's; objects without a Gaia row (source_id 0)
may follow.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from msacat.catalog.simulated_sky.draw_stars import DrawnStars, draw_magnitudes, draw_stars
from msacat.catalog.simulated_sky.measure import from_maggies
from msacat.catalog.simulated_sky.parameters import Parameters
from msacat.catalog.simulated_sky.sky_positions import Positions, dust_columns, galactic, proper_motions
from msacat.catalog.simulated_sky.star_library import StarLibrary
from msacat.catalog.simulated_sky.xp_background import background_deficit

#: Truth's name of each class.
STAR = "star"


@dataclass
class SkyObjects:
    source_id: np.ndarray  # int64; 0 = not in Gaia
    ra: np.ndarray  # deg, ICRS, at the reference epoch
    dec: np.ndarray
    pmra: np.ndarray  # mas/yr, with cos(dec)
    pmdec: np.ndarray
    kind: np.ndarray  # object array of str: class
    teff: np.ndarray  # K; NaN for what is no star
    logg: np.ndarray
    fe_h: np.ndarray
    alpha: np.ndarray
    radius: np.ndarray  # Rsun
    distance_kpc: np.ndarray
    a_v: np.ndarray
    r_v: np.ndarray
    giant: np.ndarray  # bool
    binary: np.ndarray  # bool
    amplitude: np.ndarray  # mag: half the range of the variability at 500 nm
    mag: np.ndarray  # (N, B) true mean magnitudes in the published systems
    xp: np.ndarray  # (N, K) true coefficients as Gaia would publish them without noise, float32

    def __len__(self) -> int:
        return len(self.source_id)

    @property
    def in_gaia(self) -> np.ndarray:
        return self.source_id > 0

    def take(self, index: np.ndarray) -> SkyObjects:
        return SkyObjects(*(getattr(self, f.name)[index] for f in fields(SkyObjects)))

    @staticmethod
    def concatenate(parts: list[SkyObjects]) -> SkyObjects:
        return SkyObjects(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(SkyObjects)))


def stars_at(
    positions: Positions,
    seed: int,
    rng: np.random.Generator,
    p: Parameters,
    library: StarLibrary,
    g_mag: np.ndarray | None = None,
    dirt: dict | None = None,
) -> SkyObjects:
    """Ordinary stars, single or unresolved double, at the given positions.

    g_mag : Gaia G to aim at; by default the catalogue's own distribution
    dirt : parameters of the dirty sky's population; by default solar mixtures, no extremely metal-poor stars
    """
    n = len(positions)
    l_deg, b_deg = galactic(positions.ra, positions.dec)
    column = dust_columns(positions, seed, p)
    if g_mag is None:
        g_mag = draw_magnitudes(rng, n, p)
    drawn = draw_stars(rng, g_mag, l_deg, b_deg, column, p, library, dirt)
    pmra, pmdec = proper_motions(rng, drawn.distance_kpc, drawn.metal_poor, p)
    mag, xp = light_of(spectra_of(drawn, library), p, library)
    one = drawn.primary
    return SkyObjects(
        positions.source_id, positions.ra, positions.dec, pmra, pmdec, np.full(n, STAR, object),
        one.teff, one.logg, one.fe_h, one.alpha, one.radius, drawn.distance_kpc, drawn.a_v, drawn.r_v,
        drawn.giant, drawn.companion.radius > 0, np.zeros(n), mag, xp,
    )  # fmt: skip


def spectra_of(drawn: DrawnStars, library: StarLibrary) -> np.ndarray:
    """F_lambda (W m-2 nm-1) arriving here, companions' light and dust included, (N, W)."""
    ten = np.float32(10)
    one, two = drawn.primary, drawn.companion
    flux = np.power(ten, library.log_flux_10pc(one.teff, one.logg, one.fe_h, one.radius, one.alpha))
    double = np.flatnonzero(two.radius > 0)
    flux[double] += np.power(
        ten,
        library.log_flux_10pc(
            two.teff[double], two.logg[double], two.fe_h[double], two.radius[double], one.alpha[double]
        ),
    )
    nearer = ((0.01 / drawn.distance_kpc) ** 2).astype(np.float32)
    return library.dim(flux * nearer[:, None], drawn.a_v, drawn.r_v)


def light_of(flux_NW: np.ndarray, p: Parameters, library: StarLibrary) -> tuple[np.ndarray, np.ndarray]:
    """True magnitudes (N, B) and published-style XP coefficients (N, K) of arriving spectra."""
    maggies = (flux_NW @ library.band_response.T).astype(np.float64)
    # A very red spectrum may leave no light in u: held at a magnitude no survey reaches.
    maggies = np.maximum(maggies, 1e-14)
    mag = -2.5 * np.log10(maggies)
    for band, softening in p["surveys"]["sdss_dr13"]["asinh_b"].items():
        column = library.band_names.index(f"sdss_{band}")
        mag[:, column] = from_maggies(maggies[:, column], softening)
    deficit = background_deficit(p["xp"]["background_deficit_mag"])
    return mag, (flux_NW @ library.xp_operator.T - deficit).astype(np.float32)
