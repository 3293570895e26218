"""Build-time only: condenses stellar model atmospheres and passbands into star_library.npz (run by hand).

    python -m msacat.catalog.simulated_sky.make_star_library \
        --sedfit SEDFit-0.6.1.tar.gz --speclite speclite-1.0.0-py3-none-any.whl \
        --pyphot pyphot-2.1.1-py3-none-any.whl

The archives come from PyPI (`pip download --no-deps --no-binary SEDFit SEDFit==0.6.1`, ...); h5py must be importable
for pyphot's passbands. Nothing is installed and no pickle is loaded freely (read_sed_grids.py).

Sources and licences of what is condensed:
- SEDFit 0.6.1 (MIT): Kurucz (Castelli & Kurucz 2003, ATLAS9) SEDs, and PHOENIX (Husser et al. 2013, A&A 553, A6) below
  ~4000 K and for alpha-enhanced mixtures;
- speclite 1.0.0 (BSD-3): SDSS u (Doi et al. 2010), 2MASS (Cohen et al. 2003), WISE (Wright et al. 2010) passbands;
- pyphot 2.1.1 (MIT): SkyMapper passbands (Bessell et al. 2011);
- catalog/xp/xp_operators.npz (from GaiaXPy, BSD-3): SED -> XP coefficients, and the bands that XP reaches.

The bands XP reaches are *defined* here by GaiaXPy's rows applied to the star's XP coefficients: SDSS g r i z and PS1 by
the standardised systems, which GaiaXPy fitted to those surveys' published magnitudes. So synthetic photometry of a
noise-free spectrum gives the catalogue's magnitude, as it does on the real sky.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from msacat.catalog.simulated_sky.read_sed_grids import SedGrid, read_grid

FOLDER = Path(__file__).parent
XP_OPERATORS = FOLDER.parent / "xp" / "xp_operators.npz"
LIGHT_NM_HZ = 2.99792458e17
AB_ZERO = 3.6308e-23  # W m-2 Hz-1, = 10^(-0.4 * 56.10), GaiaXPy's
SIGMA_SB = 5.670374e-8  # W m-2 K-4

#: The wavelengths kept (nm): 2 nm where XP and the optical bands look, coarser beyond.
WAVELENGTH = np.concatenate([
    np.arange(250.0, 300.0, 5.0), np.arange(300.0, 1052.0, 2.0), np.arange(1055.0, 1300.0, 5.0),
    np.arange(1300.0, 2400.0, 10.0), np.arange(2400.0, 5601.0, 40.0),
])  # fmt: skip
TEFF = np.array([2500, 2700, 2900, 3100, 3300, 3500, *range(3750, 7251, 250), 7500, 8000, 8500, 9000, 10000,
                 11000, 12000, 14000, 17000, 20000], float)  # fmt: skip
LOGG = np.arange(0.0, 5.01, 0.5)
FE_H = np.array([-4.0, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5])
#: Kurucz molecules fail below ~4000 K and PHOENIX here is coarser above: a linear hand-over between these.
PHOENIX_BELOW, KURUCZ_ABOVE = 3750.0, 4250.0
ALPHA_TEFF = np.array([3500.0, 4000, 4500, 5000, 5500, 6000, 7000, 8000])
ALPHA_LOGG = np.array([1.0, 3.0, 5.0])
ALPHA_FE_H = np.array([-2.0, -1.0, 0.0])
#: int16 steps of log10 flux: 1e-4 dex = 0.25 mmag; the range is +-3.2 dex around LOG_SHAPE_MIDDLE.
QUANTUM = 1e-4
#: log10 of F_lambda / sigma Teff^4, per nm.
LOG_SHAPE_MIDDLE = -4.6

#: band -> (where its response comes from, name there, published magnitude minus AB magnitude).
BANDS: dict[str, tuple[str, str, float]] = {
    "gaia_g": ("xp", "Gaia_DR3_Vega:G", 0.0),
    "gaia_bp": ("xp", "Gaia_DR3_Vega:BP", 0.0),
    "gaia_rp": ("xp", "Gaia_DR3_Vega:RP", 0.0),
    "sdss_u": ("speclite", "sdss2010-u", 0.04),  # u_AB = u_SDSS - 0.04
    "sdss_g": ("xp", "SDSS_Std:g", 0.0),
    "sdss_r": ("xp", "SDSS_Std:r", 0.0),
    "sdss_i": ("xp", "SDSS_Std:i", 0.0),
    "sdss_z": ("xp", "SDSS_Std:z", 0.0),
    "skymapper_u": ("pyphot", "SkyMapper_u", 0.0),
    "skymapper_v": ("pyphot", "SkyMapper_v", 0.0),
    "skymapper_g": ("xp", "Sky_Mapper:g", 0.0),
    "skymapper_r": ("xp", "Sky_Mapper:r", 0.0),
    "skymapper_i": ("xp", "Sky_Mapper:i", 0.0),
    "skymapper_z": ("xp", "Sky_Mapper:z", 0.0),
    "ps1_g": ("xp", "PanSTARRS1_Std:gp", 0.0),
    "ps1_r": ("xp", "PanSTARRS1_Std:rp", 0.0),
    "ps1_i": ("xp", "PanSTARRS1_Std:ip", 0.0),
    "ps1_z": ("xp", "PanSTARRS1_Std:zp", 0.0),
    "ps1_y": ("xp", "PanSTARRS1_Std:yp", 0.0),
    "twomass_j": ("speclite", "twomass-J", -0.91),
    "twomass_h": ("speclite", "twomass-H", -1.39),
    "twomass_ks": ("speclite", "twomass-Ks", -1.85),
    "catwise_w1": ("speclite", "wise2010-W1", -2.699),
    "catwise_w2": ("speclite", "wise2010-W2", -3.339),
}  # fmt: skip


def bin_edges(wavelength: np.ndarray) -> np.ndarray:
    middle = (wavelength[1:] + wavelength[:-1]) / 2
    return np.concatenate(
        [[1.5 * wavelength[0] - 0.5 * wavelength[1]], middle, [1.5 * wavelength[-1] - 0.5 * wavelength[-2]]]
    )


def on_grid(grid: SedGrid) -> np.ndarray:
    """log10 F_lambda of every node averaged over the bins of WAVELENGTH (flux is conserved), (N, W)."""
    flux = 10.0**grid.log_flux_NW
    lam, edges = grid.wavelength_W, bin_edges(WAVELENGTH)
    area = np.zeros_like(flux)
    area[:, 1:] = np.cumsum((flux[:, 1:] + flux[:, :-1]) / 2 * np.diff(lam), axis=1)
    at = np.array([np.interp(edges, lam, row) for row in area])
    return np.log10(np.maximum(np.diff(at, axis=1) / np.diff(edges), 1e-30))


def shape_at(grid: SedGrid, log_flux_NW: np.ndarray, teff: float, logg: float, fe_h: float) -> np.ndarray:
    """log10 of F_lambda / sigma Teff^4 at one point: linear in log Teff and [Fe/H], nearest published gravity."""
    scaled = log_flux_NW - np.log10(SIGMA_SB * grid.teff_N**4)[:, None]
    total, weight_sum = np.zeros(len(WAVELENGTH)), 0.0
    for metal, metal_weight in _neighbours(np.unique(grid.fe_h_N), fe_h):
        here = np.flatnonzero(grid.fe_h_N == metal)
        for t, t_weight in _neighbours(np.unique(grid.teff_N[here]), teff):
            nodes = here[grid.teff_N[here] == t]
            node = nodes[np.argmin(np.abs(grid.logg_N[nodes] - logg))]
            total += metal_weight * t_weight * scaled[node]
            weight_sum += metal_weight * t_weight
    return total / weight_sum


def _neighbours(values: np.ndarray, x: float) -> list[tuple[float, float]]:
    """The published value at x, or the two around it with linear weights; the end value beyond an end."""
    upper = int(np.clip(np.searchsorted(values, x), 1, len(values) - 1))
    lo, hi = values[upper - 1], values[upper]
    w = float(np.clip((x - lo) / (hi - lo), 0, 1))
    return [(v, p) for v, p in ((lo, 1 - w), (hi, w)) if p > 1e-9]


def build_shapes(kurucz: SedGrid, phoenix: SedGrid) -> np.ndarray:
    """int16 (T, G, M, W): quantised log10 flux shapes, Kurucz joined to PHOENIX at the cool end."""
    log_k, log_p = on_grid(kurucz), on_grid(phoenix)
    shapes = np.empty((len(TEFF), len(LOGG), len(FE_H), len(WAVELENGTH)))
    for i, teff in enumerate(TEFF):
        from_kurucz = np.clip((teff - PHOENIX_BELOW) / (KURUCZ_ABOVE - PHOENIX_BELOW), 0, 1)
        for j, logg in enumerate(LOGG):
            for k, fe_h in enumerate(FE_H):
                shape = np.zeros(len(WAVELENGTH))
                if from_kurucz > 0:
                    shape += from_kurucz * shape_at(kurucz, log_k, teff, logg, fe_h)
                if from_kurucz < 1:
                    shape += (1 - from_kurucz) * shape_at(phoenix, log_p, teff, logg, fe_h)
                shapes[i, j, k] = shape
    return quantise(shapes - LOG_SHAPE_MIDDLE)


def build_alpha_effect(phoenix: SedGrid) -> np.ndarray:
    """int16 (T, G, M, W): log10 flux at [alpha/Fe] = 0.4 minus that at 0, same Teff, logg, [Fe/H]."""
    rich, plain = (phoenix.select(phoenix.alpha_N == alpha) for alpha in (0.4, 0.0))
    log_rich, log_plain = on_grid(rich), on_grid(plain)
    effect = np.empty((len(ALPHA_TEFF), len(ALPHA_LOGG), len(ALPHA_FE_H), len(WAVELENGTH)))
    for i, teff in enumerate(ALPHA_TEFF):
        for j, logg in enumerate(ALPHA_LOGG):
            for k, fe_h in enumerate(ALPHA_FE_H):
                point = (teff, logg, fe_h)
                effect[i, j, k] = shape_at(rich, log_rich, *point) - shape_at(plain, log_plain, *point)
    return quantise(effect)


def quantise(log_flux: np.ndarray) -> np.ndarray:
    """Steps of QUANTUM; ultraviolet fluxes below the int16 range (10^-3.2 of the middle) stick at its end."""
    return np.clip(np.round(log_flux / QUANTUM), -32767, 32767).astype(np.int16)


def build_operators(speclite: Path, pyphot: Path) -> tuple[np.ndarray, np.ndarray]:
    """(110, W) SED -> XP coefficients, and (bands, W) SED -> maggies of the published system."""
    with np.load(XP_OPERATORS) as xp:
        fine_nm, fine = xp["sed_nm"], xp["coefficients_from_sed"].astype(float)
        rows = dict(zip(xp["band_keys"].tolist(), xp["band_rows"], strict=True))
    # A SED sampled at WAVELENGTH is taken as linear between samples, then sent through the fine operator.
    to_fine = np.array([np.interp(fine_nm, WAVELENGTH, unit) for unit in np.eye(len(WAVELENGTH))]).T
    xp_operator = fine @ to_fine
    response = []
    for source, name, published_minus_ab in BANDS.values():
        if source == "xp":
            response.append(rows[name] @ xp_operator)
        else:
            curve = speclite_curve(speclite, name) if source == "speclite" else pyphot_curve(pyphot, name)
            response.append(ab_row(*curve) * 10 ** (-0.4 * published_minus_ab))
    return xp_operator, np.array(response)


def ab_row(lam: np.ndarray, transmission: np.ndarray) -> np.ndarray:
    """Weights on F_lambda giving AB maggies, for a photon-counting transmission."""
    t = np.interp(WAVELENGTH, lam, transmission, left=0.0, right=0.0)
    width = np.diff(bin_edges(WAVELENGTH))
    return t * WAVELENGTH * width / (LIGHT_NM_HZ * np.sum(t / WAVELENGTH * width)) / AB_ZERO


def speclite_curve(wheel: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    from astropy.table import Table

    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"speclite/data/filters/{name}.ecsv").decode()
    table = Table.read(io.StringIO(text).read().splitlines(), format="ascii.ecsv")
    return np.asarray(table["wavelength"].to("nm")), np.asarray(table["response"], float)


def pyphot_curve(wheel: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    import h5py

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        path = archive.extract("pyphot/libs/new_filters.hd5", folder)
        with h5py.File(path) as file:
            table = file["filters"][name]
            if table.attrs["DETECTOR"] != b"photon" or table.attrs["WAVELENGTH_UNIT"] != b"AA":
                raise SystemExit(f"pyphot's {name} is not a photon-counting curve in Angstrom")
            return table["WAVELENGTH"] / 10.0, table["THROUGHPUT"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds star_library.npz from downloaded archives.")
    for name in ("sedfit", "speclite", "pyphot"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=FOLDER / "star_library.npz")
    a = parser.parse_args()
    kurucz, phoenix = read_grid(a.sedfit, "kurucz"), read_grid(a.sedfit, "phoenix")
    phoenix_plain = phoenix.select(phoenix.alpha_N == 0.0)
    xp_operator, response = build_operators(a.speclite, a.pyphot)
    np.savez_compressed(
        a.out, allow_pickle=False,
        wavelength_nm=WAVELENGTH, teff=TEFF, logg=LOGG, fe_h=FE_H,
        shape=build_shapes(kurucz, phoenix_plain), shape_middle=LOG_SHAPE_MIDDLE, quantum=QUANTUM,
        alpha_teff=ALPHA_TEFF, alpha_logg=ALPHA_LOGG, alpha_fe_h=ALPHA_FE_H,
        alpha_effect=build_alpha_effect(phoenix.select(phoenix.teff_N <= 9000)),
        band_names=np.array(list(BANDS)), band_response=response, xp_operator=xp_operator.astype(np.float32),
    )  # fmt: skip
    print(f"{a.out}: {a.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
