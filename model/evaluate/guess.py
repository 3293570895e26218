"""What a method says of the stars it is asked about, and how every method is called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures


@dataclass
class Guess:
    """Numpy arrays in the order of the features; NaN = no answer.

    mag_BM   mag, published system
    xp_BK    Gaia internal flux units
    mag_err68_BM, mag_err95_BM, xp_err68_BK, xp_err95_BK
             half-widths of the 68 % and 95 % intervals of the noise-free value; None for a method that has no error
             bars of its own: it is given those its residuals on the calibration stars deserve
    fe_h_B, fe_h_err68_B, fe_h_err95_B
             dex, likewise; None for a method that knows no labels
    noise_M, noise_K
             how much larger than published the method holds the errors of a band or coefficient to be: its intervals
             of *observed* values; None: as published
    wrong_M, wrong_K
             share of measurements that it holds to be wrong, off by OUTLIER_WIDTH (reconstruction_loss.py) times their noise; None: none
    zero_point_M
             what it adds to that and to the floor of a band in quadrature, mag; None: nothing
    """

    mag_BM: np.ndarray
    xp_BK: np.ndarray
    mag_err68_BM: np.ndarray | None = None
    mag_err95_BM: np.ndarray | None = None
    xp_err68_BK: np.ndarray | None = None
    xp_err95_BK: np.ndarray | None = None
    fe_h_B: np.ndarray | None = None
    fe_h_err68_B: np.ndarray | None = None
    fe_h_err95_B: np.ndarray | None = None
    noise_M: np.ndarray | None = None
    noise_K: np.ndarray | None = None
    zero_point_M: np.ndarray | None = None
    wrong_M: np.ndarray | None = None
    wrong_K: np.ndarray | None = None


class Method:
    """One way of filling in what was not measured.

    name        as it stands in the records
    per_regime  it must be fitted anew for every regime (it learns from masked training stars)
    partial     it answers only where it can (synthetic photometry); its records hold fewer values
    imputes     it answers for bands and spectra
    labels      it answers for [Fe/H]
    """

    name: str
    per_regime = False
    partial = False
    imputes = True
    labels = False

    def settings(self) -> dict:
        """All that decides its answers beside data and seed; part of the key of its records."""
        return {}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        """Learn from whole stars. `calibrate` is for choosing sizes and stopping only."""
        raise NotImplementedError

    def predict(self, block: StarBlock) -> Guess:
        """Every band and coefficient of stars whose hidden cells are NaN."""
        raise NotImplementedError
