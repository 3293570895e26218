"""Spectra of simulated objects, and what Gaia's XP and the surveys' bands make of them: all linear operators.

Data: star_library.npz (make_star_library.py says where it comes from). Suffixes: N objects, W wavelengths,
B bands, K = 110 XP coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from msacat.catalog.simulated_sky.extinction_curve import extinction_terms

FILE = Path(__file__).parent / "star_library.npz"
SIGMA_SB = 5.670374e-8  # W m-2 K-4
SUN_RADIUS_OVER_10PC = 6.957e8 / 3.0856776e17


@dataclass(frozen=True)
class GridTable:
    """Values (W wide) on a regular grid of (Teff, logg, [Fe/H]), read trilinearly in log Teff."""

    log_teff: np.ndarray
    logg: np.ndarray
    fe_h: np.ndarray
    values: np.ndarray  # (T, G, M, W)

    def __call__(self, log_teff_N: np.ndarray, logg_N: np.ndarray, fe_h_N: np.ndarray) -> np.ndarray:
        """(N, W) values; points outside the grid take its edge."""
        out: np.ndarray | None = None
        axes = [
            _bracket(self.log_teff, log_teff_N),
            _bracket(self.logg, logg_N),
            _bracket(self.fe_h, fe_h_N),
        ]
        for corner in range(8):
            weight = np.ones(len(log_teff_N), self.values.dtype)
            index = []
            for axis, (lower, fraction) in enumerate(axes):
                high = corner >> axis & 1
                index.append(lower + high)
                weight *= fraction if high else 1 - fraction
            term = self.values[tuple(index)]
            term = term * (weight[:, None] if term.ndim == 2 else weight)
            out = term if out is None else out + term
        assert out is not None
        return out


def _bracket(nodes: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lower = np.clip(np.searchsorted(nodes, x) - 1, 0, len(nodes) - 2)
    fraction = np.clip((x - nodes[lower]) / (nodes[lower + 1] - nodes[lower]), 0, 1)
    return lower, fraction.astype(np.float32)


@dataclass(frozen=True)
class StarLibrary:
    wavelength_nm: np.ndarray  # (W,)
    shape: GridTable  # log10 of F_lambda / (sigma Teff^4), per nm
    alpha_effect: GridTable  # log10 flux at [alpha/Fe] = 0.4 minus that at 0
    absolute_g: GridTable  # M_G of one solar radius, unreddened
    band_names: list[str]
    band_response: np.ndarray  # (B, W): maggies of the published system per W m-2 nm-1
    xp_operator: np.ndarray  # (K, W): coefficients per W m-2 nm-1
    extinction_a: np.ndarray  # (W,)
    extinction_b: np.ndarray

    @property
    def band_wavelength_nm(self) -> np.ndarray:
        """(B,) mean wavelength of each band's response."""
        weight = np.abs(self.band_response)
        return weight @ self.wavelength_nm / weight.sum(axis=1)

    def log_flux_10pc(
        self, teff: np.ndarray, logg: np.ndarray, fe_h: np.ndarray, radius: np.ndarray, alpha: np.ndarray
    ) -> np.ndarray:
        """log10 F_lambda (W m-2 nm-1) at 10 pc without dust, float32 (N, W); radius in solar radii."""
        log_teff = np.log10(teff)
        log_f = self.shape(log_teff, logg, fe_h)
        enhanced = np.flatnonzero(np.abs(alpha) > 1e-3)
        if len(enhanced):
            effect = self.alpha_effect(log_teff[enhanced], logg[enhanced], fe_h[enhanced])
            log_f[enhanced] += effect * (alpha[enhanced, None] / 0.4).astype(np.float32)
        scale = np.log10(SIGMA_SB) + 4 * log_teff + 2 * np.log10(radius * SUN_RADIUS_OVER_10PC)
        return log_f + scale[:, None].astype(np.float32)

    def dim(self, flux_NW: np.ndarray, a_v: np.ndarray, r_v: np.ndarray) -> np.ndarray:
        """The flux behind dust."""
        magnitude_to_ln = -0.4 * np.log(10.0)
        per_a = (magnitude_to_ln * a_v).astype(np.float32)[:, None]
        per_b = (magnitude_to_ln * a_v / r_v).astype(np.float32)[:, None]
        return flux_NW * np.exp(per_a * self.extinction_a + per_b * self.extinction_b)


@cache
def load_library() -> StarLibrary:
    with np.load(FILE) as z:
        axes = np.log10(z["teff"]), z["logg"], z["fe_h"]
        quantum = np.float32(z["quantum"])
        shape = z["shape"].astype(np.float32) * quantum + np.float32(z["shape_middle"])
        wavelength, response = z["wavelength_nm"], z["band_response"]
        names = z["band_names"].tolist()
        # A map from node to M_G spares the candidates of draw_stars.py their whole spectra.
        flux_g = np.power(10.0, shape) @ response[names.index("gaia_g")]
        node_g = -2.5 * np.log10(flux_g * SIGMA_SB * SUN_RADIUS_OVER_10PC**2) - 10 * axes[0][:, None, None]
        alpha = GridTable(
            np.log10(z["alpha_teff"]), z["alpha_logg"], z["alpha_fe_h"],
            z["alpha_effect"].astype(np.float32) * quantum,
        )  # fmt: skip
        a, b = extinction_terms(wavelength)
        return StarLibrary(
            wavelength, GridTable(*axes, shape), alpha, GridTable(*axes, node_g.astype(np.float32)),
            names, response.astype(np.float32), z["xp_operator"].astype(np.float32),
            a.astype(np.float32), b.astype(np.float32),
        )  # fmt: skip
