"""The stars of an evaluation: out of a store, or out of the file an earlier evaluation kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msacat.cli.evaluation_store import evaluation_store

BLOCKS = 0  # no model of a store has this number: its packed blocks are the evaluation's
APOGEE_DATASETS = ("gaia_source", "xp_sampled", "twomass_psc", "apogee_dr17")


def sky_stars(sky: Path, dsn: str | None, seed: int, name: str | None, cache: Path | None) -> Any:
    """EvaluationData of a simulated sky. `name` as dataset; else sky, or sky-dirty where not all are stars."""
    from msacat.model.evaluate.read_truth import fingerprint

    def made() -> Any:
        return _from_store(sky, dsn, lambda store: stars_of_store(store, sky, seed, name))

    return _kept(cache, f"sky-{fingerprint(sky)[:12]}-{seed}", made)


def stars_of_store(store: str, sky: Path, seed: int, name: str | None) -> Any:
    """The same, of a store that holds the sky."""
    from msacat.model.evaluate.read_truth import fingerprint, truth_of

    features, parts, divisor = _read_parts(store, seed)
    truth = truth_of(sky, parts["test"].source_id_B, features)
    found = "sky" if set(truth.class_B) == {"star"} else "sky-dirty"
    return _data(name or found, fingerprint(sky), features, parts, truth, divisor, seed)


def apogee_stars(folder: Path, dsn: str | None, seed: int, cache: Path | None) -> Any:
    """EvaluationData of the real APOGEE stars with XP spectra; `folder` is where the demo keeps its downloads."""
    from msacat.catalog.demo.apogee_xp_demo import convert_apogee_xp
    from msacat.catalog.demo.apogee_xp_wheel import WHEEL_SHA256, find_apogee_xp_wheel

    def made() -> Any:
        files = folder / "apogee_xp"
        if not all((files / dataset).is_dir() for dataset in APOGEE_DATASETS):
            convert_apogee_xp(find_apogee_xp_wheel(folder / "downloads"), files)
        return _from_store(files, dsn, read)

    def read(store: str) -> Any:
        features, parts, divisor = _read_parts(store, seed)
        return _data("apogee", WHEEL_SHA256, features, parts, None, divisor, seed)

    return _kept(cache, f"apogee-{WHEEL_SHA256[:12]}-{seed}", made)


def _kept(cache: Path | None, name: str, make: Any) -> Any:
    from msacat.model.evaluate.evaluation_data import EvaluationData

    if cache is None:
        return make()
    path = cache / f"{name}.npz"
    if not path.is_file():
        make().save(path)
    return EvaluationData.load(path)


def _from_store(files: Path, dsn: str | None, read: Any) -> Any:
    with evaluation_store(files, dsn) as store:
        return read(store)


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
    from msacat.catalog.stream.split_sky import make_split
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
        row = conn.execute(
            "SELECT cell_divisor FROM msacat.split_sets WHERE split_id = %s", [split_id]
        ).fetchone()
    assert row is not None
    return features, parts, row[0]
