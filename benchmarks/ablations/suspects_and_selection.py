"""What `suspect` finds, and whether enriched stars are free of the surveys' selection: tables from stored weights.

`suspect`: on test stars of the dirty sky with one survey hidden, the share of the worst one per cent of imputed
magnitudes that is flagged, beside the share of all; the share that is among the one and five per cent with the widest
intervals; how many of its own errors the worst value in a hundred is off; and the share of stars flagged in anything,
by class.
Selection: distributions of [Fe/H] and colours of all test stars of the clean sky as enriched, and of the stars that
all surveys measured, against the truth of all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from msacat.model.evaluate.evaluation_data import EvaluationData
from msacat.model.evaluate.regimes import cases
from msacat.model.predict_stars import StarModel

WORST = 0.01
WIDEST = (0.01, 0.05)
BRIGHTNESS = ((0.0, 17.65), (17.65, 30.0))  # G, mag
COLOURS = (("ps1_g", "ps1_i"), ("sdss_u", "sdss_g"), ("twomass_j", "catwise_w1"))
PERCENTILES = (5, 25, 50, 75, 95)


def suspect_power(data: EvaluationData, weights: Path) -> dict:
    """{"values": [...], "classes": [...]} of a dirty sky's test stars."""
    assert data.truth is not None
    model = StarModel.load(weights, "cpu").remap(data.features)
    size, flagged, wide, g = [], [], [], []
    for case in cases(data.test, data.features, "survey_hidden", data.seed):
        found = model.predict(case.block)
        asked = case.asked_BM & np.isfinite(data.truth.mag_BM[case.row_B])
        size.append(np.abs(found.mag_BM - data.truth.mag_BM[case.row_B])[asked])
        flagged.append(found.suspect_BM[asked])
        wide.append(found.err68_BM[asked])
        g.append(np.broadcast_to(case.block.mag_BM[:, [data.reference]], asked.shape)[asked])
    size, flagged, wide, g = (np.concatenate(parts) for parts in (size, flagged, wide, g))
    values = []
    for low, high in BRIGHTNESS:
        here = (g >= low) & (g < high) & np.isfinite(size)
        worst = here & (size >= np.quantile(size[here], 1 - WORST))
        values.append(
            {"g": [low, high], "n": int(here.sum()), "worst_mag": float(size[worst].min()),
             "flagged_of_worst": float(flagged[worst].mean()), "flagged": float(flagged[here].mean()),
             "widest_of_worst": [float((wide[worst] >= np.quantile(wide[here], 1 - w)).mean()) for w in WIDEST],
             "errors_off": float(np.quantile(size[here] / wide[here], 1 - WORST))}
        )  # fmt: skip
    found = model.predict(data.test)
    any_B = found.suspect_BM.any(1)
    classes = [
        {"class": kind, "n": int((data.truth.class_B == kind).sum()),
         "flagged": float(any_B[data.truth.class_B == kind].mean())}
        for kind in sorted(set(data.truth.class_B))
    ]  # fmt: skip
    return {"values": values, "classes": classes}


def selection(data: EvaluationData, weights: Path, sky: Path) -> list[dict]:
    """One row a quantity: percentiles and KS distance to the truth, of the enriched and of the overlap."""
    assert data.truth is not None
    model = StarModel.load(weights, "cpu").remap(data.features)
    found, names = model.predict(data.test), list(data.features.band_names)
    overlap = np.ones(len(data.test), bool)
    for survey in dict.fromkeys(band.survey for band in data.features.bands):
        mine = np.array([band.survey == survey for band in data.features.bands])
        overlap &= np.isfinite(data.test.mag_BM[:, mine]).any(1)
    table = pq.read_table(sky / "truth.parquet", columns=["source_id", "fe_h"])
    ids = table["source_id"].to_numpy()
    order = np.argsort(ids)
    true_fe_h = table["fe_h"].to_numpy()[order][np.searchsorted(ids[order], data.test.source_id_B)]
    labelled = np.isfinite(data.test.label_BL).any(1)
    rows = [_compare("[Fe/H] (labelled stars as overlap)", true_fe_h, found.fe_h_B, labelled)]
    for blue, red in COLOURS:
        b, r = names.index(blue), names.index(red)
        true = data.truth.mag_BM[:, b] - data.truth.mag_BM[:, r]
        rows.append(_compare(f"{blue} − {red}", true, found.mag_BM[:, b] - found.mag_BM[:, r], overlap))
    return rows


def _compare(quantity: str, true: np.ndarray, enriched: np.ndarray, overlap: np.ndarray) -> dict:
    known = np.isfinite(true)
    sets = {
        "truth": true[known],
        "enriched": enriched[known & np.isfinite(enriched)],
        "overlap": true[known & overlap],
    }
    return {
        "quantity": quantity,
        **{name: {"n": len(x), "percentiles": np.percentile(x, PERCENTILES).tolist(), "ks": ks(x, sets["truth"])}
           for name, x in sets.items()},
    }  # fmt: skip


def ks(a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance between two cumulative distributions."""
    at = np.sort(np.concatenate([a, b]))
    return float(
        np.max(
            np.abs(
                np.searchsorted(np.sort(a), at, "right") / len(a)
                - np.searchsorted(np.sort(b), at, "right") / len(b)
            )
        )
    )
