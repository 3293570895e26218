"""What is hidden from the network while it learns: the situations in which it will be asked.

Each star of a batch gets one *situation*, drawn by weight: single cells, a whole survey, the XP
spectrum, one half of it, spectrum and survey, any subset of surveys, or the star made faint (errors
as at G 17.65-20.5, no spectrum), because the aim is to go beyond the XP limit. A star without a spectrum, or faint
already, is given another situation where its own would hide nothing.
Two masks, two names: `observed_BD` (what was measured) and `hidden_BD` (what the network may not see).
The reference band G is never hidden; everything is normalised by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.cells import Cells
from msacat.model.scale_features import FeatureScaling

BP, RP = -1, -2  # group numbers of the two halves of a spectrum; surveys count from 0
SITUATIONS = ("cells", "survey", "xp", "half_xp", "xp_and_survey", "subset", "faint", "nothing")
WITHOUT_SPECTRUM = ("cells", "survey", "subset")  # for stars from which other situations would hide nothing
FAINT_G = (17.65, 20.5)  # mag, where XP spectra are no longer published, down to Gaia's limit
DETECTION_ERR = 0.36  # mag; S/N 3, a fainter star would not be in the survey


@dataclass(frozen=True)
class HidingPolicy:
    """Relative weights of the situations, and the share of cells hidden in `cells`.

    jittered   share of stars whose visible cells get fresh noise on top of their own, and errors to match: a network
               that meets the same stars many times must not know them by their noise
    jitter     by how much their errors grow
    """

    weights: dict[str, float] = field(
        default_factory=lambda: {
            "cells": 0.2,
            "survey": 0.25,
            "xp": 0.15,
            "half_xp": 0.05,
            "xp_and_survey": 0.1,
            "subset": 0.1,
            "faint": 0.1,
            "nothing": 0.05,
        }
    )
    cell_share: tuple[float, float] = (0.1, 0.5)
    scalar_hidden: float = 0.3
    jittered: float = 0.7
    jitter: tuple[float, float] = (1.0, 1.8)


@dataclass
class HiddenBatch:
    """Numpy arrays of one batch.

    cells        what the network is given (degraded where the situation is `faint`, noisier where jittered)
    hidden_BD    observed, but not shown
    visible_BD   observed, and shown
    target       cells as measured: value_BD, var_BD; scored where observed_BD | derived_BD
    """

    cells: Cells
    hidden_BD: np.ndarray
    visible_BD: np.ndarray
    target: Cells


def group_of_cells(features: StarFeatures) -> np.ndarray:
    """Group of every cell: the number of its survey (in order of appearance), BP or RP."""
    surveys = list(dict.fromkeys(b.survey for b in features.bands))
    bands = [surveys.index(b.survey) for b in features.bands]
    return np.array(bands + ([BP] * 55 + [RP] * 55 if features.xp else []))


def hide(
    cells: Cells, scaling: FeatureScaling, rng: np.random.Generator, policy: HidingPolicy
) -> HiddenBatch:
    """Draw a situation for every star and hide accordingly; `cells` is left as it is."""
    observed = cells.observed_BD
    B, D = observed.shape
    group = group_of_cells(scaling.features)
    situation = _draw(SITUATIONS, policy, rng, B)
    idle = np.isin(situation, ("xp", "half_xp")) & ~observed[:, group < 0].any(1)
    idle |= (situation == "faint") & ~_can_be_faint(cells)
    if idle.any() and any(policy.weights.get(s, 0) > 0 for s in WITHOUT_SPECTRUM):
        situation[idle] = _draw(WITHOUT_SPECTRUM, policy, rng, int(idle.sum()))

    hidden = np.zeros((B, D), bool)
    groups = np.unique(group)
    at = np.searchsorted(groups, group)
    low, high = policy.cell_share
    share = rng.uniform(low, high, (B,))
    # In "cells" a half spectrum counts as one cell: real spectra are there or not.
    cell_draw = rng.random((B, D)) < share[:, None]
    half_draw = rng.random((B, 2)) < share[:, None]
    cell_draw = np.where(group == BP, half_draw[:, :1], np.where(group == RP, half_draw[:, 1:], cell_draw))
    hidden |= (situation == "cells")[:, None] & cell_draw
    # Of a star made faint, every other time: what is asked of faint stars is what a survey does not say of them.
    a_survey = np.isin(situation, ("survey", "xp_and_survey")) | (
        (situation == "faint") & (rng.random(B) < 0.5)
    )
    hidden |= a_survey[:, None] & (group == one_survey(observed, group, rng)[:, None])
    hidden |= np.isin(situation, ("xp", "xp_and_survey", "faint"))[:, None] & (group < 0)
    half = np.where(rng.random(B) < 0.5, BP, RP)
    hidden |= (situation == "half_xp")[:, None] & (group == half[:, None])
    hidden |= (situation == "subset")[:, None] & (rng.random((B, len(groups))) < 0.5)[:, at]
    hidden &= observed
    hidden[:, scaling.reference] = False

    target = cells
    faint = situation == "faint"
    if faint.any():
        cells, target = _make_faint(cells, scaling, faint, rng)
        hidden &= cells.observed_BD
    jittered = ~faint & (rng.random(B) < policy.jittered)
    if jittered.any():
        cells = _make_noisier(cells, scaling.reference, jittered, policy.jitter, rng)
    if cells.scalar_BX.shape[1]:
        kept = (rng.random((B,)) >= policy.scalar_hidden)[:, None]
        cells = replace(cells, scalar_BX=cells.scalar_BX * kept)
    return HiddenBatch(cells, hidden, cells.observed_BD & ~hidden, target)


def _draw(names: Sequence[str], policy: HidingPolicy, rng: np.random.Generator, n: int) -> np.ndarray:
    """(n,) situations, by weight."""
    weights = np.array([policy.weights.get(s, 0.0) for s in names])
    return np.array(names)[rng.choice(len(names), n, p=weights / weights.sum())]


def _can_be_faint(cells: Cells) -> np.ndarray:
    """bool (B,): bright enough to be made fainter, and known to be."""
    return (cells.norm_B < FAINT_G[0]) & ~cells.proxy_B


def one_survey(known: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For every star one of the surveys that say something of it, at random; −9 where none does."""
    n = group.max() + 1
    seen = np.stack([known[:, group == g].any(1) for g in range(n)], axis=1)
    draw = np.where(seen, rng.random(seen.shape), -1.0)
    return np.where(seen.any(1), draw.argmax(1), -9)


def _make_noisier(
    cells: Cells, reference: int, rows_B: np.ndarray, jitter: tuple[float, float], rng: np.random.Generator
) -> Cells:
    """A copy in which the measured cells of `rows_B` have errors larger by one factor a star, and noise to match.

    G is left as it is: every colour hangs on it.
    """
    given, rows = cells.copy(), np.flatnonzero(rows_B)
    growth = rng.uniform(*jitter, (len(rows), 1)).astype(np.float32)
    touched = given.observed_BD[rows]
    touched[:, reference] = False
    var = given.var_BD[rows]
    noise = np.sqrt((growth**2 - 1) * var) * rng.standard_normal(var.shape, np.float32)
    given.value_BD[rows] += np.where(touched, noise, 0.0)
    given.var_BD[rows] = np.where(touched, growth**2 * var, var)
    return given


def _make_faint(
    cells: Cells, scaling: FeatureScaling, rows_B: np.ndarray, rng: np.random.Generator
) -> tuple[Cells, Cells]:
    """(what is given, what is scored): `rows_B` moved to a faint G, noise added, bands below depth lost.

    The colours themselves do not change, so the bright measurement stays the target.
    """
    M, ref = scaling.n_bands, scaling.reference
    given, target = cells.copy(), cells.copy()
    rows = np.flatnonzero(rows_B & _can_be_faint(cells))
    if not len(rows):
        return given, target
    dm = rng.uniform(*FAINT_G, len(rows)) - cells.norm_B[rows]
    mag = scaling.magnitudes(cells.value_BD[rows], cells.norm_B[rows]) + dm[:, None]
    err_now = np.sqrt(cells.var_BD[rows, :M]) * scaling.scale_D[:M]
    stated = np.stack([np.interp(mag[:, m], scaling.err_mag_T, scaling.err_MT[m]) for m in range(M)], axis=1)
    # Where no training star is that faint: noise of the sky, capped so that its square stays finite.
    beyond = scaling.stated_error(err_now) * 10.0 ** (0.4 * np.clip(dm, 0, 10))[:, None]
    faintest = np.array([t[t > 0][-1] if (t > 0).any() else 0.0 for t in scaling.err_MT])
    stated = np.where((stated <= 0) | (mag > _limit(scaling)), np.maximum(beyond, faintest), stated)
    err_then = scaling.believed_error(stated)
    err_then[:, ref] = err_now[:, ref]
    err_then = np.clip(err_then, err_now, 5.0)
    # A survey lists what it states to be a detection, however wrong its errors.
    listed = (stated < DETECTION_ERR) | (np.arange(M) == ref)
    seen = given.observed_BD[rows, :M] & listed
    added = np.sqrt(np.clip(err_then**2 - err_now**2, 0, None)) * rng.standard_normal(err_now.shape)
    value = given.value_BD[rows].copy()
    value[:, :M] += np.where(seen, added / scaling.scale_D[:M], 0.0)
    value[:, ref] += dm / scaling.scale_D[ref]
    var = given.var_BD[rows].copy()
    var[:, :M] = np.where(seen, (err_then / scaling.scale_D[:M]) ** 2, var[:, :M])
    observed = given.observed_BD[rows].copy()
    observed[:, :M] = seen
    observed[:, M:] = False
    given.value_BD[rows], given.var_BD[rows], given.observed_BD[rows] = value, var, observed
    given.norm_B[rows] += dm
    # A parallax or proper motion of the bright star says nothing about the faint one it plays.
    angle_X = np.tile(scaling.features.scales_with_distance, 4)
    given.scalar_BX[rows] = np.where(angle_X, 0.0, given.scalar_BX[rows])
    target.value_BD[rows, ref] = value[:, ref]
    return given, target


def _limit(scaling: FeatureScaling) -> np.ndarray:
    """Faint end of the error table of every band, mag."""
    return np.array([scaling.err_mag_T[t > 0][-1] if (t > 0).any() else -np.inf for t in scaling.err_MT])
