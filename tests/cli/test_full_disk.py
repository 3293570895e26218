"""A disk that is full: one message with the place and what to do next, and nothing half-written stays."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from msacat.catalog.server.connect import connect
from msacat.catalog.stream.model_ledger import find_model
from msacat.model import sealed_folder

COMMAND = [sys.executable, "-c", "import sys; from msacat.cli.main import main; sys.exit(main())"]
# a result that fits the buffer is only written at the end
BUFFERED = {"PYTHONUNBUFFERED": ""}
MANY = "SELECT i AS source_id, i / 3.0::float8 AS x, 'star ' || i AS t FROM generate_series(1, 30000) AS i"


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """What `ulimit -f` does: a longer file cannot be written by this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refused(found, *words: str) -> None:
    assert found.code == 1 and "Traceback" not in found.err, found.err
    for word in ("no space left", "next:", "free space", *words):
        assert word in found.err


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", ["parquet", "fits", "vot", "ecsv", "csv"])
def test_query_into_a_file(store, msacat_at, tmp_path, suffix):
    path = tmp_path / f"stars.{suffix}"
    with files_of_at_most(8192):
        found = msacat_at(store, "query", MANY, "--max-rows", 30_000, "--out", path)
    refused(found, str(path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [[], ["--json"], ["--csv"]])
@pytest.mark.parametrize("asked", ["SELECT 1 AS one", MANY])
def test_query_into_a_full_device(store, how, asked):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "query", asked, "--max-rows", "30000", "--dsn", store, *how],
            stdout=full, stderr=subprocess.PIPE, text=True, env=os.environ | BUFFERED,
        )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert "standard output: no space left" in done.stderr and "free space" in done.stderr


def test_an_error_is_the_only_one_where_results_cannot_be_written(store, tmp_path):
    """The report of an ingest that a refused file ended goes nowhere; the refusal is what is said."""
    good, bad = tmp_path / "a.csv", tmp_path / "b.csv"
    good.write_text("source_id,ra,dec,phot_g_mean_mag\n4000000000000000001,1,1,12.5\n")
    bad.write_text("source_id,ra,dec,phot_g_mean_mag\n1,1\n")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "ingest", "gaia_source", str(good), str(bad), "--dsn", store],
            stdout=full, stderr=subprocess.PIPE, text=True, env=os.environ | BUFFERED,
        )  # fmt: skip
    assert done.returncode == 1 and f"msacat: {bad}, row 1" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_models_export_leaves_nothing(trained, msacat_at, tmp_path):
    target = tmp_path / "exported"
    with files_of_at_most(8192):
        refused(msacat_at(trained, "models", "export", "trained_store", target), str(target))
    assert not target.exists()
    assert msacat_at(trained, "models", "export", "trained_store", target).code == 0


def test_train_can_be_resumed(trained, msacat_at, monkeypatch):
    def write(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as changed:
        changed.setattr(sealed_folder, "_write", write)
        found = msacat_at(trained, "train", "--name", "full", "--epochs", "1", "--quiet")
    assert found.code == 5 and "Traceback" not in found.err, found.err
    with connect(trained) as conn:
        folder = find_model(conn, "full").folder
    for word in ("no space left", str(folder), "free space", "msacat train --name full --resume"):
        assert word in found.err
    found = msacat_at(trained, "train", "--name", "full", "--resume", "--quiet")
    assert found.code == 0, found.err
