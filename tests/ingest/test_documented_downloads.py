"""docs/downloads.md: each query asks for the columns its dataset needs, under names it knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from msacat.catalog.ingest.bind_columns import bind_columns
from msacat.catalog.read.read_survey_file import open_survey_file
from msacat.catalog.surveys.load_specs import builtin_specs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "downloads.md"
TABLES = {
    "panstarrs1": "FROM ObjectThin",
    "sdss_dr13": "FROM PhotoObjAll",
    "skymapper_dr2": "FROM dr2.master",
}


@pytest.mark.parametrize("dataset", TABLES)
def test_a_documented_query_gives_what_its_dataset_needs(dataset, tmp_path):
    queries = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    [query] = [q for q in queries if TABLES[dataset] in q]
    selected = re.search(r"SELECT (.*?)\nFROM", query, re.DOTALL)
    assert selected
    names = [name.split(".")[-1].strip() for name in selected[1].split(",")]
    path = tmp_path / "answer.csv"
    path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    spec = builtin_specs()[dataset]
    with open_survey_file(path, file_columns=spec.file_columns) as source:
        binding = bind_columns(spec, source.columns, str(path), source.format)
    assert not binding.unused
    bound = {b.column.name for b in binding.columns if b.sources}
    used = {q.column for q in spec.quality} | {x for band in spec.bands for x in (band.mag, band.err)}
    assert used <= bound, f"not asked for: {sorted(used - bound)}"


def test_every_published_dataset_has_a_line():
    text = PAGE.read_text()
    unsaid = {"delve_dr2", "euclid", "lsst", "galah_dr3", "reddening_sfd", "tmass_psc_xsc_join", "xp_sampled"}
    assert {name for name in builtin_specs() if f"`{name}`" not in text} == unsaid
