"""Radius and temperature of stars from mass, age and [Fe/H]: analytic, good enough to look like isochrones.

- Zero-age main sequence L and R: Tout et al. 1996, MNRAS 281, 257, Eqs. 1-4 (coefficients of their Tables 1, 2).
- Time to the base of the giant branch: Hurley, Pols & Tout 2000, MNRAS 315, 543, Eq. 4.
- Between the two, and up the giant branch: hand-made curves through the Sun (L = 1, R = 1 at 4.6 Gyr) and the
  usual run of giants (Teff = 4650 K at logg 2.5 and solar metallicity, 310 K hotter at [Fe/H] = -1). They are
  approximations to the eye, not a stellar model, and nothing should be learnt about real stars from them.

Masses in Msun, radii in Rsun, luminosities in Lsun, ages in Gyr.
"""

from __future__ import annotations

import numpy as np

SUN_TEFF, SUN_LOGG = 5772.0, 4.438
# Rows: polynomials in log10(Z / 0.02), Tout et al. 1996 Table 1 (luminosity) and Table 2 (radius).
_LUM = np.array([
    [0.3970417, -0.32913574, 0.34776688, 0.37470851, 0.09011915],
    [8.527626, -24.41225973, 56.43597107, 37.06152575, 5.4562406],
    [2.5546e-4, -1.23461e-3, -2.3246e-4, 4.5519e-4, 1.6176e-4],
    [5.432889, -8.62157806, 13.44202049, 14.51584135, 3.39793084],
    [5.563579, -10.32345224, 19.4432298, 18.97361347, 4.16903097],
    [0.7886606, -2.90870942, 6.54713531, 4.05606657, 0.53287322],
    [5.86685e-3, -1.704237e-2, 3.872348e-2, 2.570041e-2, 3.83376e-3],
])  # fmt: skip
_RAD = np.array([
    [1.715359, 0.62246212, -0.92557761, -1.16996966, -0.30631491],
    [6.597788, -0.42450044, -12.13339427, -10.73509484, -2.51487077],
    [10.08855, -7.11727086, -31.67119479, -24.24848322, -5.33608972],
    [1.012495, 0.3269969, -9.23418e-3, -3.876858e-2, -4.1275e-3],
    [0.07490166, 0.02410413, 0.07233664, 0.03040467, 1.97741e-3],
    [0.01077422, 0.0, 0.0, 0.0, 0.0],
    [3.082234, 0.9447205, -2.15200882, -2.49219496, -0.63848738],
    [17.84778, -7.4534569, -48.96066856, -40.05386135, -9.09331816],
    [2.2582e-4, -1.86899e-3, 3.88783e-3, 1.42402e-3, -7.671e-5],
])  # fmt: skip
# Hurley et al. 2000, appendix: a1..a4 as polynomials in the same variable; a5 is constant.
_AGE = np.array([
    [1.59389e3, 2.053038e3, 1.231226e3, 2.327785e2],
    [2.706708e3, 1.483131e3, 5.772723e2, 7.41123e1],
    [1.466143e2, -1.048442e2, -6.795374e1, -1.391127e1],
    [4.14196e-2, 4.564888e-2, 2.958542e-2, 5.571483e-3],
])  # fmt: skip
_A5 = 0.3426349
#: Fraction of the time to the giant branch's base at which hydrogen leaves the core.
TURN_OFF = 0.92
GIANT_BASE_LOGG = 3.6


def zeta_of(fe_h: np.ndarray) -> np.ndarray:
    """log10(Z / 0.02), held inside the fits' range Z = 0.0001 to 0.03."""
    return np.clip(fe_h, -2.3, 0.17)


def _polynomials(table: np.ndarray, zeta: np.ndarray) -> list[np.ndarray]:
    return [np.polynomial.polynomial.polyval(zeta, row) for row in table]


def zero_age(mass: np.ndarray, fe_h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log10 L and log10 R on the zero-age main sequence."""
    z = zeta_of(fe_h)
    root = np.sqrt(mass)
    m2 = mass * mass
    m5, m7 = m2 * m2 * mass, m2 * m2 * m2 * mass
    c = _polynomials(_LUM, z)
    lum = (c[0] * m5 * root + c[1] * m7 * m2 * m2) / (
        c[2] + mass * m2 + c[3] * m5 + c[4] * m7 + c[5] * m7 * mass + c[6] * m7 * m2 * root
    )
    r = _polynomials(_RAD, z)
    m8, m11, m19 = m7 * mass, m7 * m2 * m2, m7 * m7 * m5
    rad = (r[0] * m2 * root + r[1] * m5 * mass * root + r[2] * m11 + r[3] * m19 + r[4] * m19 * root) / (
        r[5] + r[6] * m2 + r[7] * m8 * root + m19 / mass * root + r[8] * m19 * root
    )
    return np.log10(lum), np.log10(rad)


def giant_branch_age(mass: np.ndarray, fe_h: np.ndarray) -> np.ndarray:
    """Gyr until the star stands at the base of the giant branch."""
    a1, a2, a3, a4 = _polynomials(_AGE, zeta_of(fe_h))
    m2 = mass * mass
    m4, m55, m7 = m2 * m2, m2 * m2 * mass * np.sqrt(mass), m2 * m2 * m2 * mass
    return (a1 + a2 * m4 + a3 * m55 + m7) / (a4 * m2 + _A5 * m7) / 1000.0


def giant_mass(age_gyr: np.ndarray, fe_h: np.ndarray) -> np.ndarray:
    """Mass of the stars that reach the giant branch at this age (fixed point, better than 1 %)."""
    mass = (10.0 / age_gyr) ** 0.33
    for _ in range(6):
        mass = np.clip(mass * (giant_branch_age(mass, fe_h) / age_gyr) ** 0.3, 0.6, 4.0)
    return mass


def giant_teff(logg: np.ndarray, mass: np.ndarray, fe_h: np.ndarray) -> np.ndarray:
    below_clump = logg - 2.5
    metal = -360.0 * fe_h - 50.0 * np.minimum(fe_h, 0) ** 2
    return 4650.0 + 440.0 * below_clump - 30.0 * below_clump**2 + metal + 120.0 * (mass - 1.0)


def radius_of(logg: np.ndarray, mass: np.ndarray) -> np.ndarray:
    return np.sqrt(mass) * 10 ** (0.5 * (SUN_LOGG - logg))


def logg_of(radius: np.ndarray, mass: np.ndarray) -> np.ndarray:
    return SUN_LOGG + np.log10(mass) - 2 * np.log10(radius)


def dwarf(mass: np.ndarray, age_gyr: np.ndarray, fe_h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Teff (K) and radius of a star on the main sequence or the subgiant branch."""
    log_l, log_r = zero_age(mass, fe_h)
    tau = np.clip(age_gyr / giant_branch_age(mass, fe_h), 0, 1)
    log_l = log_l + 0.35 * tau + 0.17 * tau**4
    log_r = log_r + 0.09 * tau + 0.10 * tau**3
    log_teff = np.log10(SUN_TEFF) + 0.25 * log_l - 0.5 * log_r
    # From the turn-off the star crosses to the giant branch's base at nearly constant luminosity.
    crossing = np.clip((tau - TURN_OFF) / (1 - TURN_OFF), 0, 1) ** 2
    base_logg = np.full_like(mass, GIANT_BASE_LOGG)
    base_teff = np.log10(giant_teff(base_logg, mass, fe_h))
    log_teff = (1 - crossing) * log_teff + crossing * base_teff
    log_r = (1 - crossing) * log_r + crossing * np.log10(radius_of(base_logg, mass))
    return 10**log_teff, 10**log_r


def red_giant(mass: np.ndarray, fe_h: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Teff and radius on the giant branch; u in [0, 1) picks the gravity, fewer stars the higher up."""
    slope = 0.55  # dex of star numbers per dex of gravity: the time spent falls as the luminosity rises
    lowest, highest = 10 ** (slope * 0.4), 10 ** (slope * GIANT_BASE_LOGG)
    logg = np.log10(lowest + u * (highest - lowest)) / slope
    return giant_teff(logg, mass, fe_h), radius_of(logg, mass)


def clump_giant(
    mass: np.ndarray, fe_h: np.ndarray, u: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Helium-burning stars: the red clump, stretched into a horizontal branch below [Fe/H] = -1."""
    log_l = 1.72 - 0.05 * fe_h + 0.03 * noise
    clump_teff = 4780.0 - 300.0 * np.maximum(fe_h, -1.2) + 60.0 * noise
    branch = fe_h < -1.0
    teff = np.where(branch, 5000.0 + 4500.0 * u**1.5, clump_teff)
    return teff, 10 ** (0.5 * log_l) * (SUN_TEFF / teff) ** 2
