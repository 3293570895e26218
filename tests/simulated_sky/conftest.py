"""Two small skies, simulated once for all tests here, and readers that share nothing with the writers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from msacat.catalog.simulated_sky.simulate_sky import SimulatedSky, simulate

STARS = 4000


@dataclass
class Sky:
    made: SimulatedSky
    truth: pa.Table

    def files(self, dataset: str) -> list[Path]:
        return sorted((self.made.folder / dataset).iterdir())

    def array(self, name: str) -> np.ndarray:
        return self.truth.column(name).to_numpy(zero_copy_only=False)

    def csv(self, dataset: str, null: str, delimiter: str = ",") -> pa.Table:
        """All files of a dataset with a header line, by pyarrow; ECSV's # lines are skipped."""
        return pa.concat_tables(_read(path, null, delimiter) for path in self.files(dataset))


def _read(path: Path, null: str, delimiter: str) -> pa.Table:
    with pa.input_stream(path, compression="gzip" if path.suffix == ".gz" else None) as stream:
        text = stream.read()
    head = 0
    while text[head : head + 1] == b"#":
        head = text.index(b"\n", head) + 1
    return pa_csv.read_csv(
        pa.BufferReader(text[head:]),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter),
        convert_options=pa_csv.ConvertOptions(null_values=[null], strings_can_be_null=True),
    )


def _sky(tmp_path_factory: pytest.TempPathFactory, name: str, clean: bool) -> Sky:
    out = tmp_path_factory.mktemp("simulated") / name
    made = simulate(out, STARS, 5, clean)
    return Sky(made, pq.read_table(out / "truth.parquet"))


@pytest.fixture(scope="session")
def clean_sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    return _sky(tmp_path_factory, "clean", True)


@pytest.fixture(scope="session")
def dirty_sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    return _sky(tmp_path_factory, "dirty", False)
