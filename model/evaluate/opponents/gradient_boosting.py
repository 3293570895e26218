"""Gradient boosting: one LightGBM model a target and regime, missing values native."""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.regimes import HIDDEN_SHARE, of_survey, optical_surveys, surveys_to_hide
from msacat.model.evaluate.scaled_table import ScaledTable

MAX_STARS = 40_000
TREES = 300
#: A robust loss, in scaled colours; with few stars the better of the two, by the calibration stars.
LOSSES = ({"objective": "huber", "alpha": 0.1}, {"objective": "regression_l1"})
FEW_STARS = 12_000
MASKINGS = 3  # of every training star where cells are hidden at random
PARAMETERS = {
    "learning_rate": 0.08,
    "num_leaves": 48,
    "min_child_samples": 20,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}


class GradientBoosting(Method):
    """Learns from at most 40,000 training stars, masked as the regime masks test stars.

    Targets: every band of a hidden survey, or the leading components of a hidden spectrum. Where the same cells are
    missing from all stars each is fitted to its difference from a linear model of the same inputs, so that trees need
    not build a slope from steps; where they are missing at random such a model only adds to the scatter.
    """

    name = "lightgbm"
    per_regime = True
    trees = TREES

    def settings(self) -> dict:
        return {
            "max_stars": MAX_STARS,
            "trees": self.trees,
            "maskings": MASKINGS,
            "losses": LOSSES,
            **PARAMETERS,
        }

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        import lightgbm

        self.table = ScaledTable.fit(train, features)
        rng = np.random.default_rng([seed, 7])
        values, _ = self.table.encode(train.take(np.sort(rng.permutation(len(train))[:MAX_STARS])))
        judged, _ = self.table.encode(calibrate)
        M = self.table.n_bands
        self.models: dict[int, tuple[object, np.ndarray, list[int]]] = {}
        spectrum = list(range(M, values.shape[1]))
        for column in self._targets(features, regime, spectrum):
            use = np.flatnonzero(np.isfinite(values[:, column]))
            if len(use) < 100:
                continue
            at_random = regime == "random_cells"
            if at_random and column < M:
                use = np.tile(use, MASKINGS)
            x = values[use].copy()
            hidden = self._hidden_with(column, features, regime, spectrum)
            x[:, hidden] = np.nan
            x[self._also_hidden(regime, features, x.shape, rng)] = np.nan
            slope = np.zeros(2 * x.shape[1] + 1) if at_random else _linear(x, values[use, column])
            target = values[use, column] - _apply(slope, x)
            models = [
                lightgbm.train(
                    PARAMETERS | loss | {"seed": seed, "num_threads": 1},
                    lightgbm.Dataset(x, target),
                    self.trees,
                )
                for loss in (LOSSES if len(values) < FEW_STARS else LOSSES[:1])
            ]
            off = [self._off(model, slope, hidden, column, judged) for model in models]
            self.models[column] = models[int(np.argmin(off))], slope, hidden

    def predict(self, block: StarBlock) -> Guess:
        values, norm = self.table.encode(block)
        filled = np.nan_to_num(values)
        for column, (model, slope, hidden) in self.models.items():
            rows = np.flatnonzero(~np.isfinite(values[:, column]))
            if len(rows):
                x = values[rows].copy()
                x[:, hidden] = np.nan
                filled[rows, column] = model.predict(x, num_threads=1) + _apply(slope, x)  # type: ignore[attr-defined]
        return Guess(*self.table.decode(filled, norm))

    def _off(self, model, slope: np.ndarray, hidden: list[int], column: int, judged: np.ndarray) -> float:
        """Median error on calibration stars; 0 without any."""
        x = judged[np.isfinite(judged[:, column])].copy()
        true = x[:, column].copy()
        x[:, hidden] = np.nan
        return (
            float(np.median(np.abs(model.predict(x, num_threads=1) + _apply(slope, x) - true)))
            if len(x)
            else 0.0
        )

    def _targets(self, features: StarFeatures, regime: str, spectrum: list[int]) -> list[int]:
        reference = self.table.scaling.reference
        bands = [m for m in range(len(features.bands)) if m != reference]
        if regime == "random_cells":
            return bands + spectrum
        if regime == "xp_hidden" or regime.startswith("faint_xp_"):
            return spectrum
        return [m for m in bands if features.bands[m].survey in surveys_to_hide(features)]

    def _hidden_with(
        self, column: int, features: StarFeatures, regime: str, spectrum: list[int]
    ) -> list[int]:
        """What the regime hides together with this target."""
        if column in spectrum:
            return spectrum
        if regime in ("random_cells", "cell_hidden"):
            return [column]
        survey = features.bands[column].survey
        same = [m for m, band in enumerate(features.bands) if band.survey == survey]
        xp_hidden = regime in ("xp_and_survey_hidden", "faint_survey_hidden")
        return same + (spectrum if xp_hidden else [])

    def _also_hidden(
        self, regime: str, features: StarFeatures, shape: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        """bool: cells of training stars that the regime's test stars lack besides."""
        M = self.table.n_bands
        hidden = np.zeros(shape, bool)
        if regime == "random_cells":
            hidden = rng.random(shape) < HIDDEN_SHARE
            hidden[:, M:] = rng.random((shape[0], 1)) < HIDDEN_SHARE
            hidden[:, self.table.scaling.reference] = False
        elif regime.startswith("faint_xp_"):
            optical = optical_surveys(features)
            kept = rng.integers(0, len(optical), shape[0])
            for i, survey in enumerate(optical):
                gone = np.ones(shape[0], bool) if regime == "faint_xp_infrared_seen" else kept != i
                hidden[:, :M] |= gone[:, None] & of_survey(features, survey)
        return hidden


def _linear(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ridge with a presence indicator for each column; missing values stand at 0, the median."""
    design = _design(x)
    weights = np.zeros(design.shape[1])
    use = np.ones(len(y), bool)
    for _ in range(3):
        gram = design[use].T @ design[use] + 1.0 * np.eye(design.shape[1])
        weights = np.linalg.solve(gram, design[use].T @ y[use])
        residual = np.abs(y - design @ weights)
        use = residual <= 4 * 1.4826 * np.median(residual) + 1e-12
    return weights


def _apply(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    return _design(x) @ weights


def _design(x: np.ndarray) -> np.ndarray:
    seen = np.isfinite(x)
    return np.concatenate([np.clip(np.nan_to_num(x), -8, 8), seen, np.ones((len(x), 1))], axis=1)
