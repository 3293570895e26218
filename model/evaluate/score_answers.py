"""From answers to records: accuracy and honesty by quantity, brightness and class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from msacat.catalog.surveys.error_units import ONE_68, ONE_95
from msacat.model.evaluate.metrics import Accuracy, accuracy, accuracy_of_spectra, normal_cdf
from msacat.model.evaluate.questions import Answers, Asked
from msacat.model.reconstruction_loss import OUTLIER_WIDTH

FEWEST = 20  # values below which nothing is published


def score_answers(
    dataset: str, regime: str, method: str, quantity: str, asked: Asked, answers: Answers, cell_N: np.ndarray, seed: int
) -> Iterator[dict]:  # fmt: skip
    """Records of one quantity: "all" and every 1 mag of G; stars under `dataset`, other classes under <dataset>:<class>.

    cell_N: the sky cell of each value, the unit of the bootstrap.
    """
    answered = np.isfinite(answers.value)
    answered = answered.all(1) if answered.ndim == 2 else answered
    for kind in dict.fromkeys(["star", *asked.kind.tolist()]):
        name = dataset if kind == "star" else f"{dataset}:{kind}"
        for g_bin, use in _bins(asked.g, answered & (asked.kind == kind)):
            if use.sum() < FEWEST:
                continue
            for against, result in _both(asked, answers, use, cell_N, seed):
                yield {"dataset": name, "regime": regime, "quantity": quantity, "g_bin": g_bin, "method": method,
                       "against": against, **asdict(result)}  # fmt: skip


def _bins(g: np.ndarray, chosen: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield "all", chosen
    for low in np.unique(np.floor(g[chosen])).astype(int):
        yield f"{low}-{low + 1}", chosen & (np.floor(g) == low)


def _both(
    asked: Asked, answers: Answers, use: np.ndarray, cell_N: np.ndarray, seed: int
) -> Iterator[tuple[str, Accuracy]]:
    score = accuracy if answers.value.ndim == 1 else accuracy_of_spectra
    value, err68, err95 = answers.value[use], answers.err68[use], answers.err95[use]
    floor = asked.floor[use].reshape(-1, *[1] * (value.ndim - 1))
    published = np.sqrt(np.clip(asked.noise[use] ** 2 - floor**2, 0, None))
    noise = np.sqrt((published * answers.noise[use]) ** 2 + floor**2 + answers.shared[use] ** 2)
    if np.isfinite(asked.truth[use]).all():
        yield "truth", score(value - asked.truth[use], err68, err95, cell_N[use], seed)
    if np.isfinite(asked.observed[use]).all():
        wrong = answers.wrong[use]
        wrong = wrong[:1] if wrong.ndim == 2 else wrong  # a coefficient's is the same for all stars
        by68, by95 = (of_observed(wrong, level) for level in (ONE_68, ONE_95))
        err68, err95 = by68 * np.hypot(err68 / ONE_68, noise), by95 * np.hypot(err95 / ONE_95, noise)
        yield "observed", score(value - asked.observed[use], err68, err95, cell_N[use], seed)


def of_observed(wrong: np.ndarray, half_width: float) -> np.ndarray:
    """Half-width, in sigmas of prediction and noise together, that holds as many observed values as a normal's `half_width`.

    Of them a share `wrong` is spread OUTLIER_WIDTH times as wide: to hold 68 % of all, 70 % of the right ones if 3 % are wrong.
    """
    share, place = np.unique(wrong, return_inverse=True)
    target = 2 * normal_cdf(np.array(half_width)) - 1
    low, high = np.zeros(len(share)), np.full(len(share), 10.0 * OUTLIER_WIDTH)
    for _ in range(60):
        middle = 0.5 * (low + high)
        inside = (1 - share) * (2 * normal_cdf(middle) - 1)
        inside += share * (2 * normal_cdf(middle / OUTLIER_WIDTH) - 1)
        low, high = np.where(inside < target, middle, low), np.where(inside < target, high, middle)
    return high[place].reshape(wrong.shape)
