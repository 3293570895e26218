"""Emptying the cells that nobody reads changes nothing of what is read, whatever the text."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msacat.catalog.read import unread_cells
from msacat.catalog.read.read_survey_file import open_survey_file
from msacat.catalog.read.unread_cells import without_unread_cells

ARRAY = '"[' + ", ".join(["-0.125"] * 100) + ']"'
pieces = st.text('ab,"|\r\n 1', max_size=6)
cells = st.one_of(
    st.sampled_from(["", "1", "null", '""', '"a"', '"a,b,c"', '"[1, 2, 3]"', '"a""b"']), pieces,
    pieces.map(lambda text: '"' + text.replace('"', '""') + '"'),
)  # fmt: skip
lines = st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=6)


def read(block: bytes, columns: list[str]) -> pa.Table | None:
    options = pa_csv.ConvertOptions(
        include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=True
    )
    names = pa_csv.ReadOptions(column_names=["c0", "c1", "c2"], use_threads=False)
    try:
        return pa_csv.read_csv(pa.BufferReader(block), read_options=names, convert_options=options)
    except pa.ArrowInvalid:
        return None


@settings(max_examples=500, deadline=None)
@given(
    rows=lines,
    wanted=st.sets(st.integers(0, 2), min_size=1),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_what_is_read_is_the_same(rows, wanted, end, last):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unread_cells, "LONG", 2)
        block = (end.join(",".join(row) for row in rows) + (end if last else "")).encode()
        lean = without_unread_cells(block, ",", '"', wanted)
    columns = [f"c{i}" for i in sorted(wanted)]
    assert len(lean) <= len(block) and lean.count(b"\n") == block.count(b"\n")
    assert read(lean, columns) == read(block, columns)


def test_long_cells_go_and_the_wanted_ones_stay():
    block = f"1,{ARRAY},{ARRAY}\n2,null,{ARRAY}\n".encode()
    assert without_unread_cells(block, ",", '"', {0, 1}) == f'1,{ARRAY},""\n2,null,""\n'.encode()
    assert without_unread_cells(block, ",", '"', {0, 1, 2}) is block


@pytest.mark.parametrize(
    "line", [f"1,x{ARRAY},2", f"1,{ARRAY}x,2", f"1,{ARRAY[:-1]},2", f'1,"{ARRAY}",2', f'1,"a\n{ARRAY[1:]},2']
)
def test_text_with_other_quotes_is_left_to_the_parser(line):
    block = f"1,{ARRAY},2\n{line}\n1,2,3\n".encode()
    assert without_unread_cells(block, ",", '"', {0}) is block


def test_a_file_gives_the_same_rows_with_and_without(tmp_path, monkeypatch):
    path = tmp_path / "xp.csv.gz"
    rows = "".join(f"{i},{ARRAY},{ARRAY}\n" if i % 7 else f"{i},null,{ARRAY}\n" for i in range(1, 4000))
    path.write_bytes(gzip.compress(f"source_id,coefficients,correlations\n{rows}".encode(), 1))

    def stars() -> pa.Table:
        with open_survey_file(path) as file:
            wanted = {"source_id": pa.int64(), "coefficients": pa.list_(pa.float32())}
            return pa.Table.from_batches([batch for _, batch in file.batches(wanted)]).combine_chunks()

    with_them = stars()
    monkeypatch.setattr(unread_cells, "LONG", 10**9)
    assert with_them.num_rows == 3999 and with_them == stars()
