"""What is hidden from every method, the same cells for all: masks on StarBlocks.

A regime gives one or several cases. A case is some stars with cells made NaN, and which of those cells are asked
for: only cells that were measured, so that truth and observation can both be compared with. G is never hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures

REGIMES = (
    "random_cells",
    "survey_hidden_xp_seen",
    "xp_hidden",
    "xp_and_survey_hidden",
    "faint_survey_hidden",
)
XP_LIMIT_G = 17.65  # mag; Gaia published XP for almost no fainter star
HIDDEN_SHARE = 0.3


@dataclass
class Case:
    """Stars with hidden cells.

    name      the regime, and which survey is hidden
    row_B     index of each star in the block the case was made from
    block     the stars, hidden cells NaN
    asked_BM  bool, hidden bands that were measured
    asked_xp_B  bool, the spectrum is hidden, was measured, and is asked for
    """

    name: str
    row_B: np.ndarray
    block: StarBlock
    asked_BM: np.ndarray
    asked_xp_B: np.ndarray


def cases(block: StarBlock, features: StarFeatures, regime: str, seed: int) -> Iterator[Case]:
    """The cases of `regime`; the same block and seed give the same cells."""
    ref = features.band_names.index(features.reference_band)
    has_g = np.isfinite(block.mag_BM[:, ref])
    measured = np.isfinite(block.mag_BM)
    xp = np.isfinite(block.xp_BK).all(1)
    if regime == "random_cells":
        yield _random_cells(block, measured, xp, has_g, ref, seed)
    elif regime == "xp_hidden":
        chosen = has_g & xp
        yield _case(regime, block, chosen, np.zeros_like(measured), hide_xp_B=chosen, ask_xp=True)
    elif regime in REGIMES:
        g = block.mag_BM[:, ref]
        faint = regime == "faint_survey_hidden"
        eligible = has_g & ((g > XP_LIMIT_G) if faint else xp)
        hide_xp = regime == "xp_and_survey_hidden"
        for survey in surveys_to_hide(features):
            of_survey_M = np.array([b.survey == survey for b in features.bands])
            chosen = eligible & (measured & of_survey_M).any(1)
            hidden = np.broadcast_to(of_survey_M, measured.shape)
            yield _case(
                f"{regime}:{survey}", block, chosen, hidden, hide_xp_B=np.full(len(block), hide_xp)
            )
    else:
        raise ValueError(regime)


def surveys_to_hide(features: StarFeatures) -> list[str]:
    """Every survey with bands except the one of the reference band."""
    reference = next(b.survey for b in features.bands if b.name == features.reference_band)
    return list(dict.fromkeys(b.survey for b in features.bands if b.survey != reference))


def _random_cells(block: StarBlock, measured, xp, has_g, ref: int, seed: int) -> Case:
    """30 % of each star's measured cells (rounded at random), the whole spectrum counting as one; G is kept."""
    rng = np.random.default_rng([seed, REGIMES.index("random_cells")])
    cell = np.concatenate([measured, xp[:, None]], axis=1)
    cell[:, ref] = False
    n_hidden = np.floor(HIDDEN_SHARE * cell.sum(1) + rng.random(len(cell))).astype(int)
    draw = np.where(cell, rng.random(cell.shape), 2.0)
    rank = draw.argsort(1).argsort(1)
    hidden = cell & (rank < n_hidden[:, None]) & has_g[:, None]
    return _case(
        "random_cells", block, hidden.any(1), hidden[:, :-1], hide_xp_B=hidden[:, -1], ask_xp=True
    )


def _case(name, block: StarBlock, chosen, hidden_BM, hide_xp_B, ask_xp: bool = False) -> Case:
    rows = np.flatnonzero(chosen)
    part, hidden, no_xp = block.take(rows), hidden_BM[rows], hide_xp_B[rows]
    asked = hidden & np.isfinite(part.mag_BM)
    had_xp = np.isfinite(part.xp_BK).all(1)
    nan = np.float32(np.nan)
    masked = replace(
        part,
        mag_BM=np.where(hidden, nan, part.mag_BM),
        mag_err_BM=np.where(hidden, nan, part.mag_err_BM),
        xp_BK=np.where(no_xp[:, None], nan, part.xp_BK),
        xp_err_BK=np.where(no_xp[:, None], nan, part.xp_err_BK),
        # Labels come from spectra no imputed star has: no method may see them.
        label_BL=np.full_like(part.label_BL, nan),
        label_err_BL=np.full_like(part.label_err_BL, nan),
    )
    return Case(name, rows, masked, asked, had_xp & no_xp & ask_xp)
