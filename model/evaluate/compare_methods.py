"""Every method on the same stars and the same hidden cells; one record for every number published."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.evaluate.answer_files import AnswerFiles
from msacat.model.evaluate.evaluation_data import EvaluationData
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.opponents.median_colour import MedianColour
from msacat.model.evaluate.questions import Answers, Asked, Question, answer, joined, questions
from msacat.model.evaluate.regimes import Case, cases
from msacat.model.evaluate.residual_errors import fit_residual_errors
from msacat.model.evaluate.score_answers import score_answers

UNANSWERED_MAG = 1.0  # error bar of the median colour that stands in for an answer not given


def key_of(folds: list[EvaluationData], regime: str, method: Method) -> str:
    """Hash of all that decides the answers of a method in a regime."""
    what = {"data": [fold.identity for fold in folds], "regime": regime, "method": method.name,
            "settings": method.settings()}  # fmt: skip
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]


def compare_methods(
    folds: list[EvaluationData],
    methods: list[Method],
    regimes: list[str],
    done: Callable[[str], bool] = lambda key: False,
    tell: Callable[[str], None] = lambda words: None,
    answers: AnswerFiles | None = None,
) -> Iterator[list[dict]]:
    """Records of each (regime, method) that is not `done`, as they come; all of one pair at once.

    folds    several for cross-validation: each method is fitted to every fold, the answers are judged together
    answers  where answers are kept: another judgement of the same answers needs no method
    """
    fitted: dict[str, int] = {}
    for regime in regimes:
        prepared = [_Fold(fold, i, regime) for i, fold in enumerate(folds)]
        asked = _by_quantity([(q.quantity, q.asked) for fold in prepared for q in fold.questions])
        if not asked:
            tell(f"{regime}: no test star has what is hidden there")
        for method in methods:
            key = key_of(folds, regime, method)
            if done(key) or not asked or not knows(method, regime):
                continue
            began = time.monotonic()
            found = answers.load(key) if answers else None
            if found is None:
                found = _by_quantity([pair for fold in prepared for pair in fold.answers(method, fitted)])
                if answers:
                    answers.save(key, found)
            seconds = time.monotonic() - began
            records = list(_score(folds[0], regime, method.name, asked, found))
            tell(f"{regime}: {method.name} answered in {seconds:.0f} s, judged in "
                 f"{time.monotonic() - began - seconds:.0f} s")  # fmt: skip
            if records:
                yield [r | {"key": key, "seconds": round(seconds, 1)} for r in records]


def knows(method: Method, regime: str) -> bool:
    """Has this method anything to say of what the regime asks?"""
    return method.labels if regime.startswith("labels_") else method.imputes


class _Fold:
    """One fold's stars with hidden cells, and what is asked about them."""

    def __init__(self, data: EvaluationData, number: int, regime: str):
        self.data, self.number, self.regime = data, number, regime
        self.cases = self._not_empty(data.test)
        self.questions: list[Question] = list(questions(data, self.cases))
        self.fallback = MedianColour()
        self.fallback.fit(data.train, data.calibrate, data.features, "", data.seed)

    def answers(self, method: Method, fitted: dict[str, int]) -> Iterator[tuple[str, Answers]]:
        """(quantity, answers) of each question. `fitted`: the fold each method was last fitted to."""
        data = self.data
        if method.per_regime or fitted.get(method.name) != self.number:
            method.fit(data.train, data.calibrate, data.features, self.regime, data.seed)
            fitted[method.name] = self.number
        guesses = [_answer(method, case, self.fallback) for case in self.cases]
        if any(_lacks_errors(g, c) for g, c in zip(guesses, self.cases, strict=True)):
            rehearsal = [
                (case, _answer(method, case, self.fallback)) for case in self._not_empty(data.calibrate)
            ]
            errors = fit_residual_errors(data.calibrate, data.features, rehearsal)
            guesses = [
                errors.complete(g, c.block.mag_BM[:, data.reference].astype(float))
                for c, g in zip(self.cases, guesses, strict=True)
            ]
        for q in self.questions:
            yield q.quantity, answer(q, guesses[q.case], data.features.band_names)

    def _not_empty(self, block: StarBlock) -> list[Case]:
        """The regime's cases that have stars: of few stars, none may be that faint."""
        found = cases(block, self.data.features, self.regime, self.data.seed)
        return [case for case in found if len(case.row_B)]


def _lacks_errors(guess: Guess, case: Case) -> bool:
    bands = case.asked_BM.any() or case.asked_xp_B.any() or case.asked_synthetic_B.any()
    labels = case.asked_fe_h_B.any() and guess.fe_h_B is not None
    return bool((bands and guess.mag_err68_BM is None) or (labels and guess.fe_h_err68_B is None))


def _answer(method: Method, case: Case, fallback: MedianColour) -> Guess:
    """The method's answer; whoever must answer everything and does not is given the median colour."""
    guess = method.predict(case.block)
    if method.partial:
        return guess
    silent = case.asked_BM & ~np.isfinite(guess.mag_BM)
    silent_xp = (case.asked_xp_B | case.asked_synthetic_B) & ~np.isfinite(guess.xp_BK).all(1)
    if not silent.any() and not silent_xp.any():
        return guess
    other = fallback.predict(case.block)
    guess = replace(
        guess,
        mag_BM=np.where(silent, other.mag_BM, guess.mag_BM),
        xp_BK=np.where(silent_xp[:, None], other.xp_BK, guess.xp_BK),
    )
    if guess.mag_err68_BM is None:
        return guess
    assert guess.mag_err95_BM is not None and guess.xp_err68_BK is not None and guess.xp_err95_BK is not None
    wide = np.abs(other.xp_BK)
    return replace(
        guess,
        mag_err68_BM=np.where(silent, UNANSWERED_MAG, guess.mag_err68_BM),
        mag_err95_BM=np.where(silent, 2 * UNANSWERED_MAG, guess.mag_err95_BM),
        xp_err68_BK=np.where(silent_xp[:, None], wide, guess.xp_err68_BK),
        xp_err95_BK=np.where(silent_xp[:, None], 2 * wide, guess.xp_err95_BK),
    )


def _by_quantity(pairs: list) -> dict:
    quantities: dict[str, list] = {}
    for quantity, columns in pairs:
        quantities.setdefault(quantity, []).append(columns)
    return {quantity: joined(parts) for quantity, parts in quantities.items()}


def _score(
    data: EvaluationData, regime: str, method: str, asked: dict[str, Asked], found: dict[str, Answers]
) -> Iterator[dict]:
    for quantity, questions_of in asked.items():
        cell = questions_of.source_id // data.cell_divisor
        yield from score_answers(
            data.name, regime, method, quantity, questions_of, found[quantity], cell, data.seed
        )
