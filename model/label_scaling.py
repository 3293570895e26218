"""Spectroscopic labels in the network's units: fe_h and logg as they are, teff as its logarithm.

Everything is on the reference survey's scale; another survey's labels carry a fitted constant offset.
Suffixes: L labels (one survey's quantity), Q quantities (fe_h, teff, logg).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.autoencoder import QUANTITIES

MIN_LABELS = 20


@dataclass(frozen=True)
class LabelScaling:
    """Fitted on training stars.

    center_Q, scale_Q   of the transformed quantity
    low_Q, high_Q       central 99.8 % of the training labels, scaled: outside, a label is an extrapolation
    n_L                 labelled stars
    fitted_L            the survey's scale has a fitted offset
    """

    features: StarFeatures
    center_Q: np.ndarray
    scale_Q: np.ndarray
    low_Q: np.ndarray
    high_Q: np.ndarray
    n_L: np.ndarray
    fitted_L: np.ndarray

    @property
    def quantity_of_label(self) -> np.ndarray:
        return np.array([QUANTITIES.index(x.quantity) for x in self.features.labels], np.int64)

    @property
    def supported_quantities(self) -> np.ndarray:
        """Quantities with enough labelled training stars to predict."""
        n = np.zeros(len(QUANTITIES))
        np.add.at(n, self.quantity_of_label, self.n_L)
        return n >= MIN_LABELS

    def to_json(self) -> dict:
        return {
            "center": self.center_Q.tolist(), "scale": self.scale_Q.tolist(),
            "low": self.low_Q.tolist(), "high": self.high_Q.tolist(),
            "n": self.n_L.tolist(), "fitted": self.fitted_L.tolist(),
        }  # fmt: skip

    @staticmethod
    def from_json(features: StarFeatures, data: dict) -> LabelScaling:
        return LabelScaling(
            features,
            np.asarray(data["center"], np.float64),
            np.asarray(data["scale"], np.float64),
            np.asarray(data["low"], np.float64),
            np.asarray(data["high"], np.float64),
            np.asarray(data["n"], np.int64),
            np.asarray(data["fitted"], bool),
        )

    def encode(self, label_BL: np.ndarray, err_BL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(value_BL, err_BL) float32 scaled; NaN = no label."""
        value, err = _transform(self.features, label_BL, err_BL)
        q = self.quantity_of_label
        return (
            ((value - self.center_Q[q]) / self.scale_Q[q]).astype(np.float32),
            (err / self.scale_Q[q]).astype(np.float32),
        )

    def decode(self, median_BQ: np.ndarray, sd_BQ: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Physical median and 1-sigma of every quantity (dex, K, log cm/s2)."""
        median = median_BQ.astype(np.float64) * self.scale_Q + self.center_Q
        sd = sd_BQ.astype(np.float64) * self.scale_Q
        t = QUANTITIES.index("teff")
        median[:, t] = 10.0 ** median[:, t]
        sd[:, t] = median[:, t] * np.log(10) * sd[:, t]
        return median, sd

    def offset_in_units(self, label: int, offset: float) -> float:
        """A fitted offset in the label's unit: dex; K at the median temperature."""
        q = self.quantity_of_label[label]
        if QUANTITIES[q] == "teff":
            median = 10.0 ** self.center_Q[q]
            return float(median * (10.0 ** (offset * self.scale_Q[q]) - 1))
        return float(offset * self.scale_Q[q])


def fit_label_scaling(features: StarFeatures, block: StarBlock) -> LabelScaling:
    """Median and robust width of each quantity over all its surveys."""
    Q, L = len(QUANTITIES), len(features.labels)
    quantity = [QUANTITIES.index(x.quantity) for x in features.labels]
    value, _ = _transform(features, block.label_BL, block.label_err_BL)
    n = np.isfinite(value).sum(0).astype(np.int64)
    center, scale = np.zeros(Q), np.ones(Q)
    lowest, highest = np.full(Q, -3.0), np.full(Q, 3.0)
    center[QUANTITIES.index("teff")], scale[QUANTITIES.index("teff")] = 3.7, 0.1
    for q in range(Q):
        seen = np.concatenate(
            [np.empty(0)] + [value[np.isfinite(value[:, j]), j] for j in range(L) if quantity[j] == q]
        )
        if len(seen) >= MIN_LABELS:
            low, center[q], high = np.percentile(seen, [16, 50, 84])
            scale[q] = max((high - low) / 2, 0.01)
            lowest[q], highest[q] = (np.percentile(seen, [0.1, 99.9]) - center[q]) / scale[q]
    # Without a survey on the reference scale there is nothing to be offset from.
    anchored = {
        q
        for q, x, k in zip(quantity, features.labels, n, strict=True)
        if x.scale == "reference" and k >= MIN_LABELS
    }
    fitted = np.array(
        [
            x.scale == "fitted_offset" and q in anchored
            for q, x in zip(quantity, features.labels, strict=True)
        ],
        bool,
    )
    return LabelScaling(features, center, scale, lowest, highest, n, fitted)


def _transform(features: StarFeatures, label_BL: np.ndarray, err_BL: np.ndarray):
    value, err = label_BL.astype(np.float64).copy(), err_BL.astype(np.float64).copy()
    for j, label in enumerate(features.labels):
        bad = ~np.isfinite(err[:, j]) | (err[:, j] < 0)
        err[bad, j] = label.typical_err
        if label.quantity == "teff":
            with np.errstate(invalid="ignore", divide="ignore"):
                err[:, j] = err[:, j] / (value[:, j] * np.log(10))
                value[:, j] = np.where(value[:, j] > 0, np.log10(value[:, j]), np.nan)
    return value, np.where(np.isfinite(value), np.maximum(err, 1e-4), np.nan)
