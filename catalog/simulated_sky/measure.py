"""What a survey's detector makes of true fluxes: noise by depth, detection, magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.simulated_sky.parameters import Parameters
from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX

#: Ivezic et al. 2019, ApJ 873, 111, Eq. 5.
GAMMA = 0.039
DETECT_SIGMA = 5.0


@dataclass
class Measurement:
    """One band of one survey, a value per row; NaN where the band has no measurement."""

    mag: np.ndarray
    err: np.ndarray  # as the survey quotes it
    limit: np.ndarray  # magnitude of a detection threshold, for surveys that publish upper limits


def relative_noise(mag: np.ndarray, depth: float) -> np.ndarray:
    """Photon and sky noise over flux at a magnitude, for a 5-sigma depth."""
    x = 10 ** (0.4 * (np.minimum(mag, depth + 8.0) - depth))
    return np.sqrt((0.04 - GAMMA) * x + GAMMA * x * x)


def measure_band(
    rng: np.random.Generator,
    true_mag: np.ndarray,
    survey: dict,
    band: str,
    noise_factor: float = 1.0,
    shift_mag: np.ndarray | float = 0.0,
    saturation_bias: float | None = None,
) -> Measurement:
    """Noisy magnitudes of one band.

    true_mag : noise-free, in the survey's published system (for SDSS its asinh magnitudes)
    noise_factor : real noise over quoted noise
    shift_mag : what else the detector saw or suffered, mag: variability, blends, zero point, outliers
    saturation_bias : None drops saturated magnitudes; else they are published, pulled by this share to the limit
    """
    depth, softening = survey["bands"][band], survey.get("asinh_b", {}).get(band)
    flux = to_maggies(true_mag, softening) * 10 ** (-0.4 * np.asarray(shift_mag))
    sky = flux * relative_noise(-2.5 * np.log10(np.maximum(flux, 1e-30)), depth)
    quoted = np.hypot(sky, flux * survey["quoted_floor"] / MAG_PER_RELATIVE_FLUX)
    noise = np.hypot(noise_factor * quoted, flux * survey["floor"][band] / MAG_PER_RELATIVE_FLUX)
    seen = flux + noise * rng.standard_normal(len(flux))
    mag = from_maggies(seen, softening)
    detected = seen > survey.get("detect_sigma", {}).get(band, DETECT_SIGMA) * sky
    limit = survey["saturates"][band]
    if saturation_bias is None:
        detected &= mag > limit
    else:
        mag = np.where(mag < limit, mag + saturation_bias * (limit - mag), mag)
    detected &= rng.random(len(flux)) >= survey.get("band_gap", {}).get(band, 0.0)
    slope = 2 * softening if softening else 0.0
    err = MAG_PER_RELATIVE_FLUX * quoted / np.hypot(np.where(detected, seen, 1.0), slope)
    threshold = -2.5 * np.log10(10 ** (-0.4 * depth) * 0.8)
    return Measurement(
        np.where(detected, mag, np.nan), np.where(detected, err, np.nan), np.full(len(flux), threshold)
    )


def to_maggies(mag: np.ndarray, softening: float | None) -> np.ndarray:
    if softening is None:
        return 10 ** (-0.4 * mag)
    # Lupton, Gunn & Szalay 1999, AJ 118, 1406; b from the DR13 algorithms page.
    return 2 * softening * np.sinh(-mag / MAG_PER_RELATIVE_FLUX - np.log(softening))


def from_maggies(flux: np.ndarray, softening: float | None) -> np.ndarray:
    """Pogson magnitudes (NaN for flux <= 0), or SDSS's asinh magnitudes where a softening is given."""
    if softening is None:
        positive = flux > 0
        return np.where(positive, -2.5 * np.log10(np.where(positive, flux, 1.0)), np.nan)
    return -MAG_PER_RELATIVE_FLUX * (np.arcsinh(flux / (2 * softening)) + np.log(softening))


def fades_out(rng: np.random.Generator, mag: np.ndarray, limit: dict | None) -> np.ndarray:
    """Rows the survey still lists near its limit: chance falls from 1 to 0 around it."""
    if limit is None:
        return np.ones(len(mag), bool)
    listed = 1 / (1 + np.exp((mag - limit["mag"]) / (limit["softness"] / 2)))
    return rng.random(len(mag)) < listed


def gaia_errors(g: np.ndarray, bp: np.ndarray, rp: np.ndarray, p: Parameters) -> dict[str, np.ndarray]:
    """Quoted errors: magnitudes by band, parallax, position and motion (mas, mas/yr)."""
    t = p["gaia"]
    nodes = t["g_nodes"]

    def at(mag: np.ndarray, key: str) -> np.ndarray:
        return 10 ** np.interp(mag, nodes, np.log10(t[key]))

    parallax = at(g, "parallax_error_mas")
    return {
        "g": at(g, "g_error"),
        "bp": at(np.where(np.isfinite(bp), bp - 0.4, g), "bp_error"),
        "rp": at(rp + 0.6, "rp_error"),
        "parallax": parallax,
        "position": t["position_over_parallax"] * parallax,
        "motion": t["motion_over_parallax"] * parallax,
    }


def xp_errors(coefficients: np.ndarray, p: Parameters) -> np.ndarray:
    """(N, 110) quoted errors of the coefficients, from each half's first one."""
    x = p["xp"]
    order, profile = zip(*x["order_profile"], strict=True)
    by_order = np.interp(np.arange(55), order, profile)
    halves = []
    for half in (coefficients[:, :55], coefficients[:, 55:]):
        c0 = np.maximum(half[:, :1], 0)
        halves.append(np.sqrt(x["constant"] + x["linear"] * c0 + (x["relative"] * c0) ** 2) * by_order)
    return np.hstack(halves)
