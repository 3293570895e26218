"""How much larger than stated a survey's errors are, from stars that it lists twice.

Two rows of one survey at the same place are two observations of one star: their magnitudes differ by noise alone, and
no model is needed to see how much of it there is. What repeats say stands above what a model would infer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from psycopg import Connection, sql

from msacat.catalog.store.survey_table import MATCHED_ROLES, band_mask, removing_mask, repeat_mask
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.catalog.surveys.survey_spec import SurveySpec

MATCHES_SEARCHED = 200_000  # of a survey, spread over its table
FEWEST_PAIRS = 100
MOST_UNCERTAIN = 0.06  # 1 sigma of the scale's logarithm; a scale known less well is not used
COARSE_SCALES = np.geomspace(0.5, 4.0, 9)
FINE_STEPS = np.linspace(-1.0, 1.0, 13)  # between the neighbours of the best coarse one
FLOOR_SHARES = (0.0, 0.5, 1.0)  # of the calibration floor; two rows may have it in common
CHANGED_MAG_J = np.array(
    [0.0, 0.03, 0.1, 0.3, 1.0]
)  # by which two rows differ beside noise: stars vary, pairs blend
CHANGED_SHARE_J = np.array([0.9, 0.04, 0.03, 0.02, 0.01])  # to begin with
ROUNDS = 10
PAIRS_FITTED = 20_000


def with_error_scales(conn: Connection, specs: dict[str, SurveySpec], features: StarFeatures) -> StarFeatures:
    """`features` with err_scale of every band whose survey lists enough stars twice."""
    scales: dict[str, float] = {}
    for spec in specs.values():
        if spec.role in MATCHED_ROLES and spec.bands and spec.id.unique:
            scales |= _survey_scales(conn, spec)
    return replace(
        features, bands=tuple(replace(b, err_scale=scales.get(b.name, b.err_scale)) for b in features.bands)
    )


def fit_error_scale(difference_N: np.ndarray, err_N2: np.ndarray, floor: float) -> float | None:
    """Real over stated error from differences of two measurements (mag); None where they cannot tell.

    difference ~ N(0, scale² (err1² + err2²) + 2 floor² + what changed), what changed being nothing for most pairs; how
    many changed, and how much of the floor two rows have in common, is chosen by likelihood with the scale.
    """
    usable = np.isfinite(difference_N) & np.isfinite(err_N2).all(1) & (err_N2 > 0).all(1)
    d, stated = difference_N[usable].astype(float), (err_N2[usable].astype(float) ** 2).sum(1)
    if len(d) < FEWEST_PAIRS:
        return None
    step = -(-len(d) // PAIRS_FITTED)
    d, stated = d[::step], stated[::step]

    def score(scale: float) -> float:
        return max(_log_likelihood(d, scale**2 * stated + 2 * (share * floor) ** 2) for share in FLOOR_SHARES)

    coarse = np.array([score(scale) for scale in COARSE_SCALES])
    best = int(coarse.argmax())
    if not 0 < best < len(COARSE_SCALES) - 1:
        return None
    apart = np.log(COARSE_SCALES[1] / COARSE_SCALES[0])
    logs = np.log(COARSE_SCALES[best]) + apart * FINE_STEPS
    fine = np.array([score(np.exp(x)) for x in logs])
    weight = np.exp(fine - fine.max())
    weight /= weight.sum()
    mean = weight @ logs
    if np.sqrt(weight @ (logs - mean) ** 2) > MOST_UNCERTAIN:
        return None
    return float(np.exp(mean))


def _log_likelihood(d: np.ndarray, var: np.ndarray) -> float:
    """Of the best shares of changed pairs."""
    var_NJ = var[:, None] + CHANGED_MAG_J**2
    density_NJ = np.exp(-0.5 * d[:, None] ** 2 / var_NJ) / np.sqrt(var_NJ)
    share_J = CHANGED_SHARE_J
    for _ in range(ROUNDS):
        share_J = share_J * ((1 / (density_NJ @ share_J).clip(1e-300)) @ density_NJ) / len(d)
    return float(np.log((density_NJ @ share_J).clip(1e-300)).sum())


def _survey_scales(conn: Connection, spec: SurveySpec) -> dict[str, float]:
    pairs = np.array(_pairs(conn, spec), dtype=float)
    if len(pairs) < FEWEST_PAIRS:
        return {}
    found = {}
    for m, band in enumerate(spec.bands):
        mag1, err1, mag2, err2 = pairs[:, 4 * m : 4 * m + 4].T
        scale = fit_error_scale(mag1 - mag2, np.stack([err1, err2], 1), band.floor_err)
        if scale is not None:
            found[band.name] = scale
    return found


def _pairs(conn: Connection, spec: SurveySpec) -> list[tuple]:
    """mag, err of a matched object and of another row at its place, for every band: four columns a band."""
    position, matched = spec.position, sql.Identifier("matched", spec.name)
    assert position is not None and position.match_radius_arcsec is not None
    row = conn.execute(
        "SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [matched.as_string(conn)]
    ).fetchone()
    if row is None:
        return []
    percent = min(100.0, 100.0 * MATCHES_SEARCHED / max(row[0], 1.0))
    columns = [
        sql.SQL("CASE WHEN {side}.quality & {mask} = 0 THEN {side}.{name} END").format(
            side=sql.Identifier(side), mask=sql.Literal(band_mask(spec, name)), name=sql.Identifier(name)
        )
        for band in spec.bands for side in "ab" for name in (band.mag, band.err)
    ]  # fmt: skip
    query = sql.SQL(
        # Object by object: the server takes every condition on quality for a rare one and would scan the survey.
        "SELECT {columns} FROM {matched} m TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1) "
        "JOIN {survey} a ON a.{id} = m.{id} CROSS JOIN LATERAL (SELECT * FROM {survey} o "
        "WHERE q3c_join(a.{ra}, a.{dec}, o.{ra}, o.{dec}, {radius}::double precision) OFFSET 0) b "
        "WHERE b.{id} <> a.{id} AND a.quality & {unsound} = 0 AND b.quality & {unsound} = 0 "
        "ORDER BY a.{id}, b.{id}"
    ).format(
        columns=sql.SQL(", ").join(columns),
        matched=matched,
        percent=sql.Literal(percent),
        survey=sql.Identifier("survey", spec.name),
        id=sql.Identifier(spec.id.column),
        unsound=sql.Literal(removing_mask(spec) & ~repeat_mask(spec)),
        ra=sql.Identifier(position.ra),
        dec=sql.Identifier(position.dec),
        radius=sql.Literal(str(position.match_radius_arcsec / 2 / 3600)),
    )
    return conn.execute(query).fetchall()
