"""Bands that are a linear map of the XP coefficients: flux = row · c + offset, in maggies.

Two uses: magnitudes of a measured spectrum are the training target of bands that no training star was
measured in, and the rows feed the consistency loss. Both are GaiaXPy's maps (catalog/xp), which exist
only for filters inside 330-1050 nm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.catalog.xp.xp_operators import synthetic_magnitudes, synthetic_row

MAX_ERR_MAG = (
    0.1  # S/N 10: a noisier synthetic magnitude is biased, since it is cut where the flux is negative
)
UNKNOWN_XP_ERR = 0.01  # of the coefficient: where the archive gives no error
LEAST_SHARE = 0.25  # of the spectra of a colour, that give a magnitude: of fewer only the brightest do
COLOUR_BIN = 50  # spectra
ANY_COLOUR = (-99.0, 99.0)  # mag


@dataclass(frozen=True)
class SyntheticBands:
    """Rows of every band with an `xp` key.

    row_MK, offset_M   maggies per coefficient unit; NaN for a band without a key
    key_M              GaiaXPy's system and band, None without
    shift_M            mag, added to GaiaXPy's to be in the survey's system (already in row_MK, offset_M)
    """

    row_MK: np.ndarray
    offset_M: np.ndarray
    key_M: tuple[str | None, ...]
    shift_M: np.ndarray

    @property
    def has_row(self) -> np.ndarray:
        return np.isfinite(self.offset_M)

    @staticmethod
    def of(features: StarFeatures) -> SyntheticBands:
        row = np.full((len(features.bands), K), np.nan)
        offset = np.full(len(features.bands), np.nan)
        for m, band in enumerate(features.bands):
            if features.xp and band.xp:
                # maggies of the survey's own system, which may not be the row's
                row[m], offset[m] = (x * 10 ** (-0.4 * band.xp_shift) for x in synthetic_row(band.xp))
        shift = np.array([band.xp_shift for band in features.bands])
        return SyntheticBands(
            row, offset, tuple(b.xp if features.xp else None for b in features.bands), shift
        )

    def flux_of_nothing(self, background_K: np.ndarray) -> np.ndarray:
        """What is to be added to R · c in each band, maggies, for a published spectrum c that holds background_K.

        Standardised systems have an offset that takes the background out; the others would take it for the star's.
        """
        return np.where(self.offset_M == 0, -self.row_MK @ background_K, self.offset_M)

    def from_spectra(
        self, block: StarBlock, bands_M: np.ndarray, background_K: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Synthetic mag_BM and err_BM (float64) of the bands where `bands_M`; NaN elsewhere.

        NaN too where half a spectrum is missing or the error exceeds MAX_ERR_MAG. background_K, which published spectra
        hold, is taken out for bands whose system has no offset that does (flux_of_nothing): about .01 mag at G 17.65.
        """
        mag = np.full(block.mag_BM.shape, np.nan)
        err = np.full(block.mag_BM.shape, np.nan)
        use = np.flatnonzero(bands_M & self.has_row)
        whole = np.flatnonzero(np.isfinite(block.xp_BK).all(1))
        if len(use) and len(whole):
            xp, xp_err = block.xp_BK[whole].astype(np.float64), block.xp_err_BK[whole]
            xp_err = np.where(np.isfinite(xp_err), xp_err, UNKNOWN_XP_ERR * np.abs(xp))
            for bands, own in (
                (use[self.offset_M[use] != 0], xp),
                (use[self.offset_M[use] == 0], xp - background_K),
            ):
                if len(bands):
                    found, error = synthetic_magnitudes(own, [str(self.key_M[m]) for m in bands], xp_err)
                    good = np.isfinite(found) & (error < MAX_ERR_MAG)
                    mag[np.ix_(whole, bands)] = np.where(good, found + self.shift_M[bands], np.nan)
                    err[np.ix_(whole, bands)] = np.where(good, error, np.nan)
        return mag, err


def colours_with_targets(colour_N: np.ndarray, has_target_N: np.ndarray) -> tuple[float, float]:
    """Range of colour (mag) in which spectra, one a star, teach a band: a red star's give no light in u above their noise.

    Open where the reddest or bluest spectra do. Whoever learns from the others alone takes red stars for as bright in u
    as bluer ones: 2 mag too bright on a simulated sky.
    """
    order = np.argsort(colour_N, kind="stable")
    bins = np.array_split(order, max(1, len(order) // COLOUR_BIN))
    share = np.array([has_target_N[rows].mean() if len(rows) else 0.0 for rows in bins])
    first = last = int(np.argmax(share))
    while first > 0 and share[first - 1] >= LEAST_SHARE:
        first -= 1
    while last + 1 < len(bins) and share[last + 1] >= LEAST_SHARE:
        last += 1
    low, high = ANY_COLOUR
    return (
        low if first == 0 else float(colour_N[bins[first][0]]),
        high if last + 1 == len(bins) else float(colour_N[bins[last][-1]]),
    )
