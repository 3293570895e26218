"""The stars of a small dirty sky, split, with their truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from msacat.cli.evaluation_stars import stars_of_store
from msacat.model.evaluate.evaluation_data import EvaluationData

SEED = 0


@pytest.fixture(scope="session")
def data(trained_once: str, sky) -> EvaluationData:
    """2,500 stars of the dirty sky, split as the model of `trained_once` saw them."""
    return stars_of_store(trained_once, sky.folder, SEED, None)


@pytest.fixture(scope="session")
def model_folder(trained_once: str) -> Path:
    """The model that learned from that split."""
    from msacat.catalog.server.connect import connect

    with connect(trained_once) as conn:
        row = conn.execute("SELECT folder FROM learned.models").fetchone()
    assert row is not None
    return Path(row[0])
