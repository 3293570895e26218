"""Helpers to read whole files, and real rows to rewrite in formats of which no real file is at hand."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from msacat.catalog.read.read_survey_file import open_survey_file

ReadAll = Callable[..., pa.Table]


@pytest.fixture(scope="session")
def read_all() -> ReadAll:
    """read_all(path, wanted, rows=..., **options) -> one table; checks the row numbers on the way."""

    def read(path: Path, wanted: Mapping[str, pa.DataType], rows: int = 65536, **options: object) -> pa.Table:
        with open_survey_file(path, **options) as file:
            batches, next_row = [], 1
            for first_row, batch in file.batches(wanted, rows):
                assert 0 < batch.num_rows <= rows
                assert first_row >= next_row, "rows are numbered upwards"
                if not options.get("max_bad_rows"):
                    assert first_row == next_row, "no row is left out"
                assert batch.schema.names == list(wanted)
                assert batch.schema.types == list(wanted.values())
                next_row = first_row + batch.num_rows
                batches.append(batch)
        schema = pa.schema(list(wanted.items()))
        return pa.Table.from_batches(batches, schema).combine_chunks()

    return read


@pytest.fixture(scope="session")
def datalink(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """The members of astroquery's DataLink bundles: {'csv': {'XP_SAMPLED': path, ...}, 'ecsv': ..., ...}."""
    members: dict[str, dict[str, Path]] = {}
    for kind in ("csv", "ecsv", "fits", "vot"):
        folder = tmp_path_factory.mktemp(kind)
        bundle = shared_data / "astropy__astroquery" / "gaia"
        with zipfile.ZipFile(
            bundle / f"gaia_dr3_source_id_5937083312263887616_dl_products_{kind}.zip"
        ) as archive:
            archive.extractall(folder)
        members[kind] = {path.name.split("-Gaia")[0]: path for path in folder.iterdir()}
    return members
