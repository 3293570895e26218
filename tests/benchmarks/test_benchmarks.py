"""Every benchmark at its smallest: all sides run, all results are right, the records are whole. No time is judged."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FIELDS = [
    "stage",
    "work",
    "ours_s",
    "peer",
    "peer_s",
    "ratio",
    "spread",
    "peak_mb",
    "correct",
    "rows",
    "commit",
    "date",
]


@pytest.fixture(scope="module")
def bench(short_folder: Path) -> Iterator[tuple]:
    """(server, size, folder for files); the benchmarks import one another by bare names."""
    sys.path.insert(0, str(BENCHMARKS))
    home = os.environ["MSACAT_HOME"]
    try:
        from sizes import SIZES
        from temporary_server import temporary_server

        with temporary_server(short_folder) as server:
            files = server.folder / "files"
            files.mkdir(mode=0o755)
            yield server, SIZES["tiny"], files
    finally:
        sys.path.remove(str(BENCHMARKS))
        os.environ["MSACAT_HOME"] = home


@pytest.mark.parametrize(
    "stage",
    ["ingest_numeric", "ingest_published", "ingest_xp", "crossmatch", "stream", "train", "enrich", "query"],
)
def test_benchmark_runs_and_is_right(bench, stage):
    records = importlib.import_module(stage).run(*bench)
    assert records
    for record in map(asdict, records):
        assert list(record) == FIELDS
        assert record["correct"] and record["rows"] > 0
        assert record["ours_s"] > 0 and record["peer_s"] > 0
        assert record["ratio"] == pytest.approx(record["peer_s"] / record["ours_s"])
        assert record["spread"][0] <= record["spread"][1]


def test_a_wrong_result_is_no_result(bench):
    from harness import Side, compare

    def wrong(found: int) -> None:
        assert found == 2

    right, liar = Side("right", lambda: 2, wrong), Side("liar", lambda: 3, wrong)
    with pytest.raises(AssertionError, match="liar"):
        compare("made up", "one and one", 1, right, [liar], 1)


def test_records_replace_their_older_selves(bench, tmp_path):
    from harness import Side, compare, write_records

    side = Side("side", lambda: None, lambda _: None)
    path = tmp_path / "speed.json"
    for _ in range(2):
        write_records(compare("made up", "nothing", 1, side, [side], 1), path)
    write_records(compare("made up", "nothing", 2, side, [side], 1), path)
    assert [record["rows"] for record in json.loads(path.read_text())] == [1, 2]
