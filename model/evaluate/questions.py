"""What is asked of every method, and what each answered, as columns.

A quantity is a band, "xp" (spectra of K coefficients in units of their scatter), "synthetic_g" … "synthetic_z"
(synthetic photometry of the predicted spectrum, PS1 system) or "fe_h".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from msacat.catalog.surveys.error_units import ONE_68, ONE_95
from msacat.catalog.xp.xp_operators import synthetic_magnitudes
from msacat.model.evaluate.evaluation_data import EvaluationData
from msacat.model.evaluate.guess import Guess
from msacat.model.evaluate.regimes import Case, fe_h_of

#: quantity -> (band whose truth it should meet, GaiaXPy's row)
SYNTHETIC = {
    "synthetic_g": ("ps1_g", "PanSTARRS1_Std:gp"),
    "synthetic_r": ("ps1_r", "PanSTARRS1_Std:rp"),
    "synthetic_i": ("ps1_i", "PanSTARRS1_Std:ip"),
    "synthetic_z": ("ps1_z", "PanSTARRS1_Std:zp"),
}


@dataclass
class Asked:
    """N values of one quantity; (N,), or (N, K) for "xp".

    truth     NaN where there is none
    observed  NaN where not measured; noise: its published error, or the survey's typical one, with
              the calibration error the survey does not quote; floor: that one alone
    g, source_id, kind  (N,): magnitude, star, class ("star" for all real stars)
    """

    truth: np.ndarray
    observed: np.ndarray
    noise: np.ndarray
    floor: np.ndarray
    g: np.ndarray
    source_id: np.ndarray
    kind: np.ndarray


@dataclass
class Answers:
    """What a method said to the same N questions; NaN = nothing. err68, err95: half-widths of its intervals.

    noise: how many times the published error it takes the observed value's to be; shared: what adds to that and to the floor
    in quadrature; wrong: what share of observed values it takes to be wrong
    """

    value: np.ndarray
    err68: np.ndarray
    err95: np.ndarray
    noise: np.ndarray
    shared: np.ndarray
    wrong: np.ndarray


@dataclass
class Question:
    """One quantity asked of the stars `use_B` of one case; `unit` is what values are divided by."""

    quantity: str
    case: int
    use_B: np.ndarray
    unit: np.ndarray | float
    asked: Asked


def questions(data: EvaluationData, cases: list[Case]) -> Iterator[Question]:
    """Every question of a regime, in a fixed order."""
    for i, case in enumerate(cases):
        own = data.test.take(case.row_B)
        truth = None if data.truth is None else data.truth.take(case.row_B)
        none_B = np.full(len(own), np.nan)
        g = own.mag_BM[:, data.reference].astype(float)
        kind = np.full(len(own), "star", object) if truth is None else truth.class_B

        def ask(
            quantity, use, true, observed, noise, unit=1.0, floor=0.0, i=i, own=own, g=g, kind=kind
        ) -> Question:
            unit = unit[use] if isinstance(unit, np.ndarray) else unit
            columns = (true[use] / unit, observed[use] / unit, noise[use] / unit, np.full(use.sum(), floor))
            return Question(quantity, i, use, unit, Asked(*columns, g[use], own.source_id_B[use], kind[use]))

        for m, band in enumerate(data.features.bands):
            true = none_B if truth is None else truth.mag_BM[:, m]
            use = case.asked_BM[:, m] & (np.isfinite(true) | (truth is None))
            if use.any():
                error = np.where(np.isfinite(own.mag_err_BM[:, m]), own.mag_err_BM[:, m], band.typical_err)
                error = np.hypot(error, band.floor_err)
                yield ask(band.name, use, true, own.mag_BM[:, m].astype(float), error, floor=band.floor_err)
        # Of stars too faint for a published spectrum the truth alone is known.
        asked_xp_B = case.asked_xp_B if truth is None else case.asked_xp_B | case.asked_synthetic_B
        if asked_xp_B.any():
            true = np.full(own.xp_BK.shape, np.nan) if truth is None else truth.xp_BK
            known, flux = own.xp_BK if truth is None else true, 10 ** (-0.4 * g)[:, None]
            stars = asked_xp_B & (kind == "star")
            scatter = (known / flux)[stars if stars.any() else asked_xp_B].std(0)
            unit = np.where(scatter > 0, scatter, np.nan) * flux  # one star has none: it is not judged
            yield ask("xp", asked_xp_B, true, own.xp_BK.astype(float), own.xp_err_BK, unit)
        for quantity, (band_name, _) in SYNTHETIC.items():
            if truth is not None and case.asked_synthetic_B.any() and band_name in data.features.band_names:
                true = truth.mag_BM[:, data.features.band_names.index(band_name)]
                yield ask(quantity, case.asked_synthetic_B, true, none_B, none_B)
        if case.asked_fe_h_B.any():
            yield ask("fe_h", case.asked_fe_h_B, none_B, *fe_h_of(own, data.features))


def answer(question: Question, guess: Guess, band_names: list[str]) -> Answers:
    """What a guess about the question's case says."""
    use, unit, quantity = question.use_B, question.unit, question.quantity
    noise: np.ndarray | float = 1.0
    shared = 0.0
    wrong: np.ndarray | float = 0.0
    found: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]
    if quantity == "xp":
        found = guess.xp_BK, guess.xp_err68_BK, guess.xp_err95_BK
        noise = 1.0 if guess.noise_K is None else guess.noise_K
        wrong = 0.0 if guess.wrong_K is None else guess.wrong_K
    elif quantity == "fe_h":
        found = guess.fe_h_B, guess.fe_h_err68_B, guess.fe_h_err95_B
    elif quantity in SYNTHETIC:
        sigma = (
            np.full(guess.xp_BK.shape, np.nan) if guess.xp_err68_BK is None else guess.xp_err68_BK / ONE_68
        )
        endless_B = np.any(np.isinf(sigma), axis=1)  # nobody to learn errors from
        mag, error = synthetic_magnitudes(
            guess.xp_BK, [SYNTHETIC[quantity][1]], np.where(endless_B[:, None], 0, sigma)
        )
        error[endless_B] = np.inf
        found = mag[:, 0], ONE_68 * error[:, 0], ONE_95 * error[:, 0]
    else:
        m = band_names.index(quantity)
        noise = 1.0 if guess.noise_M is None else guess.noise_M[m]
        shared = 0.0 if guess.zero_point_M is None else guess.zero_point_M[m]
        wrong = 0.0 if guess.wrong_M is None else guess.wrong_M[m]
        found = guess.mag_BM[:, m], _column(guess.mag_err68_BM, m), _column(guess.mag_err95_BM, m)
    shape = question.asked.observed.shape
    value, err68, err95 = (np.full(shape, np.nan) if a is None else a[use] / unit for a in found)
    return Answers(
        value,
        err68,
        err95,
        np.broadcast_to(noise, shape),
        np.full(shape, shared),
        np.broadcast_to(wrong, shape),
    )


def _column(array_BM: np.ndarray | None, m: int) -> np.ndarray | None:
    return None if array_BM is None else array_BM[:, m]


def joined(parts: list[Asked] | list[Answers]):
    """One after the other."""
    kind = type(parts[0])
    return kind(*(np.concatenate([getattr(p, name) for p in parts]) for name in kind.__dataclass_fields__))
