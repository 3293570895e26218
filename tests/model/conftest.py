"""A made-up sky with a known truth, held in memory: reddened black bodies with one metal line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import BandFeature, LabelFeature, StarFeatures
from msacat.catalog.xp.xp_operators import coefficients_from_sed, standardised_offsets, synthetic_magnitudes
from msacat.model.noise_in_flux import MAG
from msacat.model.train_config import TrainConfig

torch.set_num_threads(1)

#            name, survey, nm, true error at G 15, GaiaXPy key
BANDS = [
    ("gaia_g", "gaia_source", 622.0, 0.002, "Gaia_DR3_Vega:G"),
    ("gaia_bp", "gaia_source", 511.0, 0.006, "Gaia_DR3_Vega:BP"),
    ("gaia_rp", "gaia_source", 777.0, 0.006, "Gaia_DR3_Vega:RP"),
    ("ps1_g", "panstarrs1", 481.0, 0.012, "PanSTARRS1_Std:gp"),
    ("ps1_i", "panstarrs1", 752.0, 0.012, "PanSTARRS1_Std:ip"),
    ("ps1_z", "panstarrs1", 866.0, 0.012, "PanSTARRS1_Std:zp"),
    ("twomass_j", "twomass_psc", 1235.0, 0.02, None),
    ("twomass_ks", "twomass_psc", 2159.0, 0.03, None),
]
LABELS = (
    LabelFeature("apogee_dr17.fe_h", "apogee_dr17", "fe_h", 0.03, "reference"),
    LabelFeature("lamost_dr9.fe_h", "lamost_dr9", "fe_h", 0.1, "fitted_offset"),
    LabelFeature("apogee_dr17.teff", "apogee_dr17", "teff", 50.0, "reference"),
)
LAMOST_OFFSET = -0.12  # dex, of the made-up LAMOST scale
WAVELENGTH_NM = np.linspace(325, 1055, 366)


@dataclass
class MadeUpSky:
    """Stars as measured, and what is true of them."""

    features: StarFeatures
    stars: StarBlock
    mag_BM: np.ndarray
    xp_BK: np.ndarray
    fe_h_B: np.ndarray


@dataclass
class MemoryStream:
    """A StarStream over arrays in memory: 60 % train, 20 % calibrate, 20 % test."""

    features: StarFeatures
    stars: StarBlock
    block_size: int = 300

    def _part(self, part: str) -> np.ndarray:
        fifth = np.arange(len(self.stars)) % 5
        return np.flatnonzero({"train": fifth < 3, "calibrate": fifth == 3, "test": fifth == 4}[part])

    def n_stars(self, part: str) -> int:
        return len(self._part(part))

    def blocks(self, part: str, epoch: int, seed: int, skip: int = 0) -> Iterator[StarBlock]:
        rows = self._part(part)
        order = rows[np.random.default_rng([seed, epoch]).permutation(len(rows))]
        for start in range(skip * self.block_size, len(order), self.block_size):
            yield self.stars.take(order[start : start + self.block_size])


def _black_body(nm: np.ndarray, teff: np.ndarray) -> np.ndarray:
    """F_lambda, W m-2 nm-1 up to a constant."""
    return 1e3 * nm**-5.0 / np.expm1(1.4388e7 / (nm * teff[:, None]))


def smallest_background() -> np.ndarray:
    """What published coefficients have beside the star's own, as GaiaXPy's offsets say; (K,), internal flux units."""
    rows_JK, offset_J = standardised_offsets()
    return np.linalg.lstsq(rows_JK, -offset_J, rcond=None)[0]


def make_sky(n: int, seed: int = 0, xp: bool = True, labels: bool = True) -> MadeUpSky:
    """`n` stars, G 12-19; a spectrum where G < 17; each survey for about two stars in three."""
    rng = np.random.default_rng(seed)
    G = rng.uniform(12, 19, n)
    teff = 10 ** rng.normal(3.75, 0.06, n)
    fe_h = rng.normal(-0.5, 0.5, n)
    dust = rng.exponential(0.25, n)

    def light(nm: np.ndarray) -> np.ndarray:
        line = np.exp(-0.5 * ((nm - 420) / 25) ** 2) + 0.6 * np.exp(-0.5 * ((nm - 860) / 12) ** 2)
        transmitted = np.exp(-dust[:, None] * (550.0 / nm) ** 1.4)
        return _black_body(nm, teff) * transmitted * (1 - 0.25 * 10 ** (0.5 * fe_h[:, None]) * line)

    sed = light(WAVELENGTH_NM)
    xp_true = coefficients_from_sed(WAVELENGTH_NM, sed / sed.mean() * 1e-15)
    g_now = synthetic_magnitudes(xp_true, ["Gaia_DR3_Vega:G"])[0][:, 0]
    brighter = 10 ** (-0.4 * (G - g_now))
    xp_own = xp_true * brighter[:, None]
    xp_true = xp_own + smallest_background()
    mag = np.zeros((n, len(BANDS)))
    for m, band in enumerate(BANDS):
        if band[4]:
            light_of = xp_true if "_Std" in band[4] else xp_own  # a standardised system gives the light back
            mag[:, m] = synthetic_magnitudes(light_of, [band[4]])[0][:, 0]
    infrared = light(np.array([622.0, 1235.0, 2159.0]))
    for m, column in ((6, 1), (7, 2)):
        mag[:, m] = G - 2.5 * np.log10(infrared[:, column] / infrared[:, 0]) - 1.0

    block = StarBlock.empty(n, len(BANDS), 0, len(LABELS) if labels else 0)
    block.source_id_B[:] = (rng.permutation(n) + 1) * 2**36
    err = np.array([b[3] for b in BANDS]) * 10 ** (0.2 * np.clip(G - 15, 0, None))[:, None]
    # Normal in flux, as a detector has it: the published error follows the noise (noise_in_flux.py).
    flux = np.maximum(1 + err / MAG * rng.standard_normal(mag.shape), 0.1)
    block.mag_BM[:] = mag - MAG * np.log(flux)
    block.mag_err_BM[:] = err / flux
    for first, last in ((3, 6), (6, 8)):
        gone = rng.random(n) < 0.35
        block.mag_BM[gone, first:last] = np.nan
        block.mag_err_BM[gone, first:last] = np.nan
    if xp:
        c0 = np.abs(np.repeat(xp_true[:, [0, 55]], 55, axis=1))
        xp_err = np.sqrt(0.085 + 4.2e-4 * c0 + (2e-4 * c0) ** 2)
        block.xp_BK[:] = xp_true + xp_err * rng.standard_normal((n, K))
        block.xp_err_BK[:] = xp_err
        block.xp_BK[G > 17] = np.nan
        block.xp_err_BK[G > 17] = np.nan
    if labels:
        block.label_BL[:, 0] = np.where(rng.random(n) < 0.5, fe_h + 0.03 * rng.standard_normal(n), np.nan)
        lamost = fe_h + LAMOST_OFFSET + 0.08 * rng.standard_normal(n)
        block.label_BL[:, 1] = np.where(rng.random(n) < 0.4, lamost, np.nan)
        block.label_BL[:, 2] = np.where(rng.random(n) < 0.5, teff, np.nan)
        block.label_err_BL[:] = np.where(np.isfinite(block.label_BL), [0.03, 0.08, 40.0], np.nan)
    features = StarFeatures(
        "gaia_g",
        tuple(BandFeature(name, survey, nm, 0.02, 0.002, key) for name, survey, nm, _, key in BANDS),
        labels=LABELS if labels else (),
        xp=True,
    )
    return MadeUpSky(features, block, mag, xp_true, fe_h)


@pytest.fixture(scope="session")
def sky() -> MadeUpSky:
    return make_sky(4000)


@pytest.fixture(scope="session")
def background() -> np.ndarray:
    return smallest_background()


@pytest.fixture(scope="session")
def new_sky():
    return make_sky


@pytest.fixture(scope="session")
def stream_of():
    return MemoryStream


@pytest.fixture(scope="session")
def quick() -> TrainConfig:
    """A small network and few steps: seconds, not accuracy."""
    return TrainConfig(
        steps=12, batch_size=128, width=48, blocks=1, label_width=32, components=2, latent=4,
        prior_stars=900, prior_passes=2, calibrate_stars=400, device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="session")
def trained(sky: MadeUpSky, tmp_path_factory) -> Path:
    """A model good enough to be judged, in its folder."""
    from msacat.model.train_autoencoder import train

    folder = tmp_path_factory.mktemp("trained") / "model"
    config = TrainConfig(
        steps=220, batch_size=256, width=96, blocks=2, label_width=96, components=3, latent=6,
        prior_stars=2400, prior_passes=5, device="cpu", bf16="off",
    )  # fmt: skip
    train(MemoryStream(sky.features, sky.stars), folder, config, provenance={"sky": "made up"})
    return folder


@pytest.fixture(scope="session")
def without():
    """`without(block, 'mag', columns)`: a copy with these columns not measured."""

    def remove(block: StarBlock, what: str, columns) -> StarBlock:
        arrays: dict[str, np.ndarray] = {}
        names = {
            "mag": ("mag_BM", "mag_err_BM"),
            "xp": ("xp_BK", "xp_err_BK"),
            "label": ("label_BL", "label_err_BL"),
        }
        for name in names[what]:
            arrays[name] = getattr(block, name).copy()
            arrays[name][:, columns] = np.nan
        return replace(block, **arrays)

    return remove
