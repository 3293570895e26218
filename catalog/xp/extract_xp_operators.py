"""Build-time only: takes the linear operators of Gaia's XP instrument out of GaiaXPy into xp_operators.npz.

Run `python -m msacat.catalog.xp.extract_xp_operators` (needs gaiaxpy 2.1.5). Nothing else in msacat touches
gaiaxpy's internals, so the matrices cannot drift under a trained model: they are data, with their
provenance in xp_operators.json, and tests/xp re-extracts and compares them.

An XP spectrum is 55 BP + 55 RP coefficients c. Everything below is linear in c or in the flux:
- photometry: maggies_b = M_b . c (+ offset_b in standardised systems), with M already times 10^(-0.4 zp);
- samples: f_lambda at 336(2)1020 nm = S . c, what the archive publishes as xp_sampled;
- inverse: c from f_lambda by regularised least squares in photon space, see `coefficients_operator`.
Sources: Montegriffo et al. 2023 (A&A 674, A3; the instrument model), Gaia Collaboration 2023 (A&A 674, A33;
synthetic photometry), gaiaxpy 2.1.5 (BSD-3, its configuration files).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from ast import literal_eval
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
NPZ, JSON = FOLDER / "xp_operators.npz", FOLDER / "xp_operators.json"
GAIAXPY_VERSION = "2.1.5"
#: gaiaxpy.PhotometricSystem members, in the order of the rows.
SYSTEMS = (
    "Gaia_DR3_Vega", "SDSS", "SDSS_Std", "PanSTARRS1", "PanSTARRS1_Std",
    "Sky_Mapper", "DECam", "LSST", "Euclid_VIS",
)  # fmt: skip

N_HALF = 55
SAMPLE_NM = np.arange(336.0, 1020.1, 2.0)  # 343 wavelengths of xp_sampled and of gaiaxpy.calibrate
SED_NM = np.arange(330.0, 1050.1, 1.0)  # 721 wavelengths of the simulator's spectra, bins 1 nm wide
#: Models of the dispersion, response and bases that DR3's coefficients were made with.
MODEL = {"bp": "v375wi", "rp": "v142r"}
#: Where each half sees light (nm); outside, the response is below 1e-4 of its peak.
SEES_NM = {"bp": (330.0, 690.0), "rp": (614.0, 1050.0)}
#: Samples end inside what RP (and, barely, BP) sees. The last 20 nm are held constant beyond both ends:
#: without this the y bands of real stars are biased by up to 0.3 mag, with it by 1-2 mmag.
HELD_SAMPLES = 10
#: Pseudo-wavelengths (sample numbers) on which "no light outside the response" is imposed.
PSEUDO_WAVELENGTHS = np.arange(-14.0, 74.0, 0.5)
#: Weight of those rows per sample against the photon rows per nm, and the ridge. On 596 bright archive
#: spectra and 65 with emission lines, weights 0.3-30 keep g, i within 3 mmag; 3 brings the coefficients
#: closest. A ridge above 1e-5 biases every band (1e-4: 0.3 mmag, 1e-2: 40 mmag).
OUTSIDE_WEIGHT = 3.0
RIDGE = 1e-6
#: Typical published coefficient error by order, in units of its median over the orders (2,000 archive
#: spectra): smooth knots (order, relative error). They set `error_scale`.
ERROR_PROFILE = {
    "bp": ((0, 2.1), (10, 1.7), (25, 1.2), (35, 0.8), (45, 0.6), (50, 0.31), (54, 0.07)),
    "rp": ((0, 1.35), (10, 1.2), (20, 1.2), (28, 1.05), (40, 0.6), (50, 0.33), (53, 0.13), (54, 0.07)),
}


@dataclass
class InstrumentHalf:
    """BP or RP: basis functions, dispersion and response, from gaiaxpy's configuration files."""

    name: str
    model: Any  # gaiaxpy's ExternalInstrumentModel
    photons_per_joule_area: float

    @staticmethod
    def load(name: str) -> InstrumentHalf:
        from gaiaxpy.calibrator.external_instrument_model import ExternalInstrumentModel
        from gaiaxpy.core import nature, satellite

        files = [str(path) for path in instrument_files(name)]
        with contextlib.redirect_stdout(io.StringIO()):  # gaiaxpy reports every file it reads
            model = ExternalInstrumentModel.from_config_csv(*files)
        return InstrumentHalf(name, model, satellite.TELESCOPE_PUPIL_AREA / (1e9 * nature.C * nature.PLANCK))

    def pseudo_wavelength(self, wavelength_nm: np.ndarray) -> np.ndarray:
        return self.model.wl_to_pwl(wavelength_nm)

    def electrons(self, wavelength_nm: np.ndarray) -> np.ndarray:
        """e- s-1 nm-1 for 1 W m-2 nm-1."""
        response = self.model.get_response(wavelength_nm)
        return self.photons_per_joule_area * np.maximum(response, 0.0) * wavelength_nm

    def bases(self, pseudo_wavelength: np.ndarray) -> np.ndarray:
        """The 55 external bases, (n, 55): bases(u) @ c = electrons s-1 nm-1 at u."""
        b = self.model.bases
        scale = (b["normRangeMax"] - b["normRangeMin"]) / (b["pwlRangeMax"] - b["pwlRangeMin"])
        x = (pseudo_wavelength - b["pwlRangeMin"]) * scale + b["normRangeMin"]
        hermite = np.zeros((int(b["nInverseBasesCoefficients"]), len(x)))
        hermite[0] = np.pi**-0.25 * np.exp(-x * x / 2)
        hermite[1] = np.sqrt(2) * x * hermite[0]
        for n in range(2, len(hermite)):
            hermite[n] = np.sqrt(2 / n) * x * hermite[n - 1] - np.sqrt((n - 1) / n) * hermite[n - 2]
        return (b["transformationMatrix"] @ (b["inverseBasesCoefficients"] @ hermite)).T


def instrument_files(half: str) -> list[Path]:
    from gaiaxpy.config.paths import config_path

    return [
        Path(config_path) / f"{half}C03_{MODEL[half]}_{k}.csv" for k in ("dispersion", "response", "bases")
    ]


def coefficients_operator(half: InstrumentHalf, wavelength_nm: np.ndarray) -> np.ndarray:
    """(55, n) operator: f_lambda (W m-2 nm-1) on an even grid -> coefficients of this half.

    Minimises  sum_lambda |bases(u) c - electrons f|^2 dlambda  inside what the half sees,
             + OUTSIDE_WEIGHT sum_u |bases(u) c|^2 du           outside it (no light there),
             + RIDGE |c|^2.
    Wavelengths the half does not see get zero columns.
    """
    lo, hi = SEES_NM[half.name]
    seen = (wavelength_nm >= lo) & (wavelength_nm <= hi)
    seen_nm, step_nm = wavelength_nm[seen], wavelength_nm[1] - wavelength_nm[0]
    inside = half.bases(half.pseudo_wavelength(seen_nm))
    u_lo, u_hi = sorted(half.pseudo_wavelength(np.array(SEES_NM[half.name])))
    dark = (u_lo > PSEUDO_WAVELENGTHS) | (u_hi < PSEUDO_WAVELENGTHS)
    outside = half.bases(PSEUDO_WAVELENGTHS[dark])
    du = PSEUDO_WAVELENGTHS[1] - PSEUDO_WAVELENGTHS[0]
    normal = step_nm * inside.T @ inside + OUTSIDE_WEIGHT * du * outside.T @ outside + RIDGE * np.eye(N_HALF)
    operator = np.zeros((N_HALF, len(wavelength_nm)))
    operator[:, seen] = np.linalg.solve(normal, step_nm * inside.T) * half.electrons(seen_nm)
    return operator


def hold_ends(from_nm: np.ndarray, to_nm: np.ndarray) -> np.ndarray:
    """(n_to, n_from): copies samples, continues both ends by the mean of the HELD_SAMPLES nearest ones."""
    extend = np.zeros((len(to_nm), len(from_nm)))
    step = from_nm[1] - from_nm[0]
    for row, nm in enumerate(to_nm):
        if nm < from_nm[0]:
            extend[row, :HELD_SAMPLES] = 1 / HELD_SAMPLES
        elif nm > from_nm[-1]:
            extend[row, -HELD_SAMPLES:] = 1 / HELD_SAMPLES
        else:
            extend[row, round((nm - from_nm[0]) / step)] = 1
    return extend


def photometry_rows() -> dict[str, np.ndarray]:
    """Rows in maggies of every band of SYSTEMS, their offsets, keys, zero points, and SDSS_Std's u equation."""
    from gaiaxpy import PhotometricSystem
    from gaiaxpy.config.paths import filters_path

    rows, offsets, keys, zero_points = [], [], [], []
    for name in SYSTEMS:
        system = PhotometricSystem[name].value
        _, weight = system.load_xpmerge_from_xml()
        bases = system.load_xpsampling_from_xml()
        matrix = np.hstack([(bases[half] * weight[half]).T for half in ("bp", "rp")])
        zero = np.asarray(system.get_zero_points(), float)
        # Only standardised systems have an offset: elsewhere gaiaxpy ignores the file's fluxBias.
        offset = np.asarray(system.get_offsets(), float) if name.endswith("_Std") else np.zeros(len(zero))
        # In W m-2 Hz-1 the entries are ~1e-32 and their squares leave float32: maggies stay near 1.
        unit = 10 ** (-0.4 * zero)
        rows.append(matrix * unit[:, None])
        offsets.append(offset * unit)
        zero_points.append(zero)
        keys += [f"{name}:{band}" for band in system.get_bands()]
    equation = ConfigParser()
    equation.read(Path(filters_path).parent / "colour_eq_files" / "SdssStd_colour_eq.ini")
    return {
        "band_keys": np.array(keys),
        "band_rows": np.vstack(rows),
        "band_offsets": np.concatenate(offsets),
        "band_zero_points": np.concatenate(zero_points),
        "sdss_std_u_polynomial": np.array(literal_eval(equation["SdssStd"]["POLY_COEFFICIENTS"]), float),
        "sdss_std_u_colour_range": np.array(literal_eval(equation["SdssStd"]["COLOUR_RANGE"]), float),
    }


def spectrum_operators() -> dict[str, np.ndarray]:
    """Coefficients -> samples, samples -> coefficients with their error scale, SED -> coefficients."""
    from gaiaxpy.core.config import load_xpmerge_from_xml, load_xpsampling_from_xml

    grid, weight = load_xpmerge_from_xml(bp_model=MODEL["bp"], rp_model=MODEL["rp"])
    if not np.array_equal(grid, SAMPLE_NM):
        raise SystemExit(f"gaiaxpy's sample grid is {grid[0]}..{grid[-1]} nm x {len(grid)}, not 336(2)1020")
    bases = load_xpsampling_from_xml(bp_model=MODEL["bp"], rp_model=MODEL["rp"])
    to_samples = np.hstack([(bases[half] * weight[half]).T for half in ("bp", "rp")])
    whole_nm = np.arange(330.0, 1050.1, 2.0)
    extend = hold_ends(SAMPLE_NM, whole_nm)
    halves = [InstrumentHalf.load(name) for name in ("bp", "rp")]
    from_samples = np.vstack([coefficients_operator(half, whole_nm) @ extend for half in halves])
    from_sed = np.vstack([coefficients_operator(half, SED_NM) for half in halves])
    return {
        "sample_nm": SAMPLE_NM,
        "samples_from_coefficients": to_samples,
        "coefficients_from_samples": from_samples,
        "error_scale": error_scale(to_samples, from_samples),
        "sed_nm": SED_NM,
        "coefficients_from_sed": from_sed.astype(np.float32),
    }


def error_scale(to_samples: np.ndarray, from_samples: np.ndarray) -> np.ndarray:
    """(110,) factor on errors propagated through `from_samples` as if samples were independent.

    The 343 samples come from 110 coefficients, so their errors are correlated and the plain propagation is
    wrong by a factor that depends on the order only. It is found by sending coefficient errors of the typical
    shape (ERROR_PROFILE) to sample errors and back; on archive spectra nine orders in ten come within 30 %.
    """
    halves = []
    for half in ("bp", "rp"):
        order, relative_error = np.array(ERROR_PROFILE[half]).T
        halves.append(np.interp(np.arange(N_HALF), order, relative_error))
    typical = np.concatenate(halves)
    return typical / np.sqrt((from_samples**2) @ ((to_samples**2) @ typical**2))


def extract() -> dict[str, np.ndarray]:
    """All arrays of xp_operators.npz. SystemExit if the installed gaiaxpy is not the pinned version."""
    from gaiaxpy.core.version import __version__

    if __version__ != GAIAXPY_VERSION:
        raise SystemExit(f"the operators are extracted from gaiaxpy {GAIAXPY_VERSION}; found {__version__}")
    return photometry_rows() | spectrum_operators()


def provenance(arrays: dict[str, np.ndarray], npz: bytes) -> dict:
    """What xp_operators.json says: version, checksums, units, keys; no dates, so that it is reproducible."""
    from gaiaxpy import PhotometricSystem

    files = [Path(PhotometricSystem[name].value.filter_file) for name in SYSTEMS]
    files += [path for half in ("bp", "rp") for path in instrument_files(half)]
    zero_points = zip(arrays["band_keys"].tolist(), arrays["band_zero_points"].tolist(), strict=True)
    return {
        "made_by": "msacat.catalog.xp.extract_xp_operators",
        "source": f"gaiaxpy {GAIAXPY_VERSION} (BSD-3-Clause), models bp {MODEL['bp']}, rp {MODEL['rp']}",
        "sha256": hashlib.sha256(npz).hexdigest(),
        "arrays": {name: f"{a.dtype} {list(a.shape)}" for name, a in arrays.items()},
        "units": {
            "coefficients": "Gaia internal flux, e- s-1 per sample (bp 55, then rp 55)",
            "band_rows": "maggies per coefficient, zero point of the system applied: m = -2.5 log10(row.c + offset)",
            "band_offsets": "maggies",
            "band_zero_points": "mag, of fluxes in W m-2 Hz-1 (AB) or W m-2 nm-1 (Vega)",
            "sample_nm, sed_nm": "nm",
            "samples_from_coefficients": "W m-2 nm-1 per coefficient",
            "coefficients_from_samples, coefficients_from_sed": "coefficient per W m-2 nm-1",
        },
        "zero_points": dict(zero_points),
        "gaiaxpy_files_sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
    }


def main() -> None:
    arrays = extract()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    NPZ.write_bytes(buffer.getvalue())
    JSON.write_text(json.dumps(provenance(arrays, buffer.getvalue()), indent=1) + "\n", encoding="utf-8")
    print(f"{NPZ.name}: {len(buffer.getvalue()) / 1e6:.2f} MB, {len(arrays['band_keys'])} bands")


if __name__ == "__main__":
    main()
