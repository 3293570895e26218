"""What is hidden from every method, the same cells for all: masks on StarBlocks.

A regime gives one or several cases. A case is some stars with cells made NaN, and what is asked about them. Hidden
bands and spectra are asked for only where they were measured, so that truth and observation can both be compared
with. G is never hidden; labels always are.
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
    "faint_xp_one_survey_seen",
    "faint_xp_infrared_seen",
    "labels_xp_seen",
    "labels_magnitudes_seen",
    "cell_hidden",
    "survey_hidden",
)
SKY_REGIMES, APOGEE_REGIMES, M67_REGIMES = (
    REGIMES[:7],
    ("survey_hidden_xp_seen", *REGIMES[7:9]),
    REGIMES[9:],
)
XP_LIMIT_G = 17.65  # mag; Gaia published XP for almost no fainter star
FAINTEST_XP_G = 19.0  # mag; to where the predicted spectrum is judged by its synthetic magnitudes
INFRARED_NM = 1100.0  # bands beyond lie outside the XP range
HIDDEN_SHARE = 0.3


@dataclass
class Case:
    """Stars with hidden cells.

    name      the regime, and which survey or band is hidden
    row_B     index of each star in the block the case was made from
    block     the stars, hidden cells NaN
    asked_BM  bool, hidden bands that were measured
    asked_xp_B  bool, the spectrum is hidden, was measured, and is asked for
    asked_synthetic_B  bool, synthetic g r i z of the predicted spectrum are asked for
    asked_fe_h_B  bool, [Fe/H] was measured and is asked for
    """

    name: str
    row_B: np.ndarray
    block: StarBlock
    asked_BM: np.ndarray
    asked_xp_B: np.ndarray
    asked_synthetic_B: np.ndarray
    asked_fe_h_B: np.ndarray


def cases(block: StarBlock, features: StarFeatures, regime: str, seed: int) -> Iterator[Case]:
    """The cases of `regime`; the same block and seed give the same cells."""
    ref = features.band_names.index(features.reference_band)
    g = block.mag_BM[:, ref]
    has_g = np.isfinite(g)
    measured = np.isfinite(block.mag_BM)
    xp = np.isfinite(block.xp_BK).all(1)
    nothing_M = np.zeros(len(features.bands), bool)
    if regime == "random_cells":
        yield _random_cells(block, measured, xp, has_g, ref, seed)
    elif regime == "xp_hidden":
        yield _case(regime, block, has_g & xp, nothing_M, hide_xp=True, ask_xp=True)
    elif regime in ("labels_xp_seen", "labels_magnitudes_seen"):
        chosen = has_g & xp & np.isfinite(fe_h_of(block, features)[0])
        yield _case(regime, block, chosen, nothing_M, hide_xp=regime != "labels_xp_seen", ask_fe_h=True)
    elif regime == "cell_hidden":
        for m in range(len(features.bands)):
            if features.bands[m].survey in surveys_to_hide(features):
                hidden_M = np.arange(len(features.bands)) == m
                yield _case(f"{regime}:{features.bands[m].name}", block, has_g & measured[:, m], hidden_M)
    elif regime.startswith("faint_xp_"):
        yield from _faint_spectra(
            regime, block, features, has_g & ~xp & (g > XP_LIMIT_G) & (g < FAINTEST_XP_G)
        )
    elif regime in REGIMES:
        faint = regime == "faint_survey_hidden"
        eligible = has_g & ((g > XP_LIMIT_G) if faint else xp | (regime == "survey_hidden"))
        for survey in surveys_to_hide(features):
            hidden_M = of_survey(features, survey)
            chosen = eligible & (measured & hidden_M).any(1)
            yield _case(
                f"{regime}:{survey}", block, chosen, hidden_M, hide_xp=regime == "xp_and_survey_hidden"
            )
    else:
        raise ValueError(regime)


def of_survey(features: StarFeatures, survey: str) -> np.ndarray:
    """bool_M, the bands of one survey."""
    return np.array([band.survey == survey for band in features.bands])


def surveys_to_hide(features: StarFeatures) -> list[str]:
    """Every survey with bands except the one of the reference band."""
    reference = next(b.survey for b in features.bands if b.name == features.reference_band)
    return list(dict.fromkeys(b.survey for b in features.bands if b.survey != reference))


def optical_surveys(features: StarFeatures) -> list[str]:
    """Those to hide that have bands inside the XP range."""
    inside = {band.survey for band in features.bands if band.wavelength_nm <= INFRARED_NM}
    return [survey for survey in surveys_to_hide(features) if survey in inside]


def fe_h_of(block: StarBlock, features: StarFeatures) -> tuple[np.ndarray, np.ndarray]:
    """([Fe/H] on the reference scale, its error), dex; NaN where not measured."""
    for i, label in enumerate(features.labels):
        if label.quantity == "fe_h" and label.scale == "reference":
            error = np.where(
                np.isfinite(block.label_err_BL[:, i]), block.label_err_BL[:, i], label.typical_err
            )
            return block.label_BL[:, i].astype(float), error.astype(float)
    return np.full(len(block), np.nan), np.full(len(block), np.nan)


def _faint_spectra(
    regime: str, block: StarBlock, features: StarFeatures, chosen: np.ndarray
) -> Iterator[Case]:
    """Stars beyond the XP limit, with one optical survey beside Gaia and the infrared, or with none."""
    reference = features.bands[features.band_names.index(features.reference_band)].survey
    gaia_M = of_survey(features, reference)
    infrared_M = np.array([band.wavelength_nm > INFRARED_NM for band in features.bands])
    measured = np.isfinite(block.mag_BM)
    if regime == "faint_xp_infrared_seen":
        whole = (measured | ~(gaia_M | infrared_M)).all(1)
        yield _case(regime, block, chosen & whole, ~(gaia_M | infrared_M), ask_synthetic=True)
        return
    for survey in optical_surveys(features):
        seen_M = of_survey(features, survey) & ~infrared_M
        some = (measured & seen_M).sum(1) >= min(3, seen_M.sum())
        hidden_M = ~(gaia_M | infrared_M | seen_M)
        yield _case(f"{regime}:{survey}", block, chosen & some, hidden_M, ask_synthetic=True)


def _random_cells(block: StarBlock, measured, xp, has_g, ref: int, seed: int) -> Case:
    """30 % of each star's measured cells (rounded at random), the whole spectrum counting as one; G is kept."""
    rng = np.random.default_rng([seed, REGIMES.index("random_cells")])
    cell = np.concatenate([measured, xp[:, None]], axis=1)
    cell[:, ref] = False
    n_hidden = np.floor(HIDDEN_SHARE * cell.sum(1) + rng.random(len(cell))).astype(int)
    draw = np.where(cell, rng.random(cell.shape), 2.0)
    rank = draw.argsort(1).argsort(1)
    hidden = cell & (rank < n_hidden[:, None]) & has_g[:, None]
    return _case("random_cells", block, hidden.any(1), hidden[:, :-1], hide_xp=hidden[:, -1], ask_xp=True)


def _case(
    name: str, block: StarBlock, chosen: np.ndarray, hidden: np.ndarray, hide_xp: np.ndarray | bool = False,
    ask_xp: bool = False, ask_synthetic: bool = False, ask_fe_h: bool = False,
) -> Case:  # fmt: skip
    """`hidden` is bool_BM, or bool_M for all stars alike; `hide_xp` bool_B or one for all."""
    rows = np.flatnonzero(chosen)
    part = block.take(rows)
    hidden = np.broadcast_to(hidden, block.mag_BM.shape)[rows]
    no_xp = np.broadcast_to(hide_xp, len(block))[rows]
    bands = hidden & np.isfinite(part.mag_BM) & (not ask_synthetic and not ask_fe_h)
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
    everyone = np.ones(len(rows), bool)
    return Case(
        name, rows, masked, bands, had_xp & no_xp & ask_xp, everyone & ask_synthetic, everyone & ask_fe_h
    )
