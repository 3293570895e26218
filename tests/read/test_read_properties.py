"""Properties that hold for any table: order and case of columns, exact integers, batch sizes, null tokens."""

from __future__ import annotations

import gzip
import string

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from msacat.catalog.errors import InputRejected
from msacat.catalog.read import text_blocks
from msacat.catalog.read.read_survey_file import open_survey_file

quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
near = st.integers(-20, 20)
int64s = st.one_of(
    near.map(lambda d: 2**53 + d),
    near.filter(lambda d: d < 0).map(lambda d: 2**63 + d),
    near.filter(lambda d: d >= 0).map(lambda d: -(2**63) + d),
    st.integers(-(2**63), 2**63 - 1),
)
floats = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(string.ascii_letters + string.digits + "+-. _'", max_size=12)
ROWS = st.lists(
    st.tuples(int64s, st.none() | floats, st.none() | texts, st.none() | st.booleans()),
    min_size=1,
    max_size=40,
)
NAMES = ["source_id", "ra", "designation", "duplicated_source"]
TYPES = [pa.int64(), pa.float64(), pa.string(), pa.bool_()]
#: texts that say nothing, in every format
NOTHING = ("", "null", "NULL", "nan", "NaN", "--")


def expected(rows) -> dict[str, list]:
    stripped = [None if t is None or t.strip() in NOTHING else t.strip() for _, _, t, _ in rows]
    return dict(
        zip(NAMES, [[r[0] for r in rows], [r[1] for r in rows], stripped, [r[3] for r in rows]], strict=True)
    )


@quick
@given(
    rows=ROWS,
    order=st.permutations(range(6)),
    upper=st.booleans(),
    separator=st.sampled_from(",|\t"),
    null=st.sampled_from(["", "null", "NULL", "NaN", "nan", "\\N", "--", '""', " null "]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    packed=st.booleans(),
)
def test_text_in_any_order_and_case(
    tmp_path, read_all, rows, order, upper, separator, null, line_end, last, packed
):
    if separator == "|" and null == '""':
        null = ""  # `|` files know no quotes
    cells = [
        [
            str(i),
            null if x is None else repr(x),
            null if t is None else t,
            null if b is None else str(b),
            "7",
            "extra",
        ]
        for i, x, t, b in rows
    ]
    header = [n.upper() if upper else n for n in [*NAMES, "spare", "other"]]
    lines = [separator.join(row[k] for k in order) for row in [header, *cells]]
    data = (line_end.join(lines) + line_end * last).encode()
    path = tmp_path / "any.txt"
    path.write_bytes(gzip.compress(data) if packed else data)
    wanted = dict(zip(header, TYPES, strict=False))
    assert list(read_all(path, wanted).to_pydict().values()) == list(expected(rows).values())


@settings(quick, max_examples=10)
@given(rows=ROWS, order=st.permutations(range(4)))
@example(rows=[(i, None, text, None) for i, text in enumerate(NOTHING)], order=[0, 1, 2, 3])
def test_binary_formats_in_any_order(tmp_path, read_all, rows, order):
    columns = {**expected(rows), "designation": [r[2].strip() if r[2] else "" for r in rows]}
    columns["duplicated_source"] = [bool(b) for b in columns["duplicated_source"]]
    want = {
        **columns,
        "designation": [t if t not in NOTHING else None for t in columns["designation"]],
    }
    kinds = dict(zip(NAMES, TYPES, strict=True))
    table = Table({NAMES[k]: [np.nan if v is None else v for v in columns[NAMES[k]]] for k in order})
    paths = [tmp_path / f"any.{kind}" for kind in ("fits", "parquet", "vot", "plain.vot")]
    table.write(paths[0], overwrite=True)
    pq.write_table(pa.table({NAMES[k]: pa.array(columns[NAMES[k]], TYPES[k]) for k in order}), paths[1])
    table.write(paths[2], format="votable", tabledata_format="binary2", overwrite=True)
    table.write(paths[3], format="votable", tabledata_format="tabledata", overwrite=True)
    for path in paths:
        assert read_all(path, kinds).to_pydict() == want, path


@quick
@given(
    value=st.one_of(
        near.map(lambda d: 2**63 + d), st.integers(2**63, 2**70), st.integers(-(2**70), -(2**63) - 1)
    )
)
def test_integers_beyond_int64_are_refused(tmp_path, read_all, value):
    path = tmp_path / "large.csv"
    path.write_text(f"source_id,ra\n5,1.0\n{value},2.0\n")
    if value < 2**63 and value >= -(2**63):
        assert read_all(path, {"source_id": pa.int64()})["source_id"].to_pylist() == [5, value]
        return
    with pytest.raises(InputRejected, match="row 2, column source_id"):
        read_all(path, {"source_id": pa.int64()})


@quick
@given(
    lengths=st.lists(st.sampled_from([None, 0, 1, 3, 55]), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    style=st.sampled_from(["(a, b)", "[a,b]", "[a, b]", "( a ,b )"]),
    holes=st.booleans(),
)
def test_arrays_of_any_length_and_style(tmp_path, read_all, lengths, seed, style, holes):
    rng = np.random.default_rng(seed)
    arrays = [None if n is None else rng.normal(size=n) * 10.0 ** rng.integers(-20, 20) for n in lengths]
    cells = []
    for array in arrays:
        parts = [] if array is None else [repr(x) for x in array.tolist()]
        if holes and parts:
            parts[0] = "nan"
            array[0] = np.nan
        text = style[0] + style[2:-1].replace("a", "", 1).replace("b", "").join(parts) + style[-1]
        cells.append("" if array is None else f'"{text}"')
    path = tmp_path / "arrays.csv"
    path.write_text("source_id,values\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
    got = read_all(path, {"source_id": pa.int64(), "values": pa.list_(pa.float32())})["values"].to_pylist()
    for array, value in zip(arrays, got, strict=True):
        if array is None or array.size == 0:
            assert value is None
        else:
            np.testing.assert_array_equal(np.array(value, np.float32), np.float32(array))


@pytest.mark.parametrize("kind", ["csv", "fits", "parquet", "vot", "tbl"])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_batches_of_any_size_give_the_same_table(tmp_path, read_all, monkeypatch, kind, rows):
    monkeypatch.setattr(text_blocks, "PARSE_UNIT", 300)
    monkeypatch.setattr(text_blocks.line_blocks, "__defaults__", (400,))
    table = Table(
        {
            "source_id": np.arange(60) + 2**60,
            "ra": np.linspace(0, 359, 60),
            "name": [f"star {i}" for i in range(60)],
        }
    )
    path = tmp_path / f"table.{kind}"
    table.write(
        path,
        **{"csv": {"format": "ascii.csv"}, "vot": {"format": "votable"}, "tbl": {"format": "ascii.ipac"}}.get(
            kind, {}
        ),
    )
    wanted = {"ra": pa.float64(), "source_id": pa.int64(), "name": pa.string()}
    got = read_all(path, wanted, rows=rows).to_pydict()
    assert got == {name: table[name].tolist() for name in wanted}


def test_a_file_may_be_read_again(tmp_path):
    path = tmp_path / "again.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    with open_survey_file(path) as file:
        first = [b.to_pydict() for _, b in file.batches({"a": pa.int64()})]
        begun = file.batches({"a": pa.int64()})
        next(begun)
        begun.close()  # a reading given up leaves nothing behind
        assert [b.to_pydict() for _, b in file.batches({"a": pa.int64()})] == first == [{"a": [1, 3]}]


def test_fits_scaling_unsigned_and_null_numbers(tmp_path, read_all):
    from astropy.io import fits

    columns = [
        fits.Column("null16", "I", null=-32768, array=np.array([1, -32768, 3], np.int16)),
        fits.Column("u64", "K", bzero=2**63, array=np.array([1, 2**63 - 1, 2**53 + 1], np.uint64)),
        fits.Column("u16", "I", bzero=2**15, array=np.array([1, 40000, 65535], np.uint16)),
        fits.Column("scaled", "J", array=np.array([0, 1, 10], np.int32)),
        fits.Column("mags", "5E", array=np.arange(15, dtype=np.float32).reshape(3, 5)),
        fits.Column("flag", "L", array=np.array([True, False, True])),
        fits.Column("text", "8A", array=np.array(["a b", "", "000"])),
        fits.Column("nan", "D", array=np.array([1.0, np.nan, np.inf])),
    ]
    path = tmp_path / "numbers.fits"
    fits.BinTableHDU.from_columns(columns).writeto(path)
    fits.setval(path, "TSCAL4", value=0.25, ext=1)
    fits.setval(path, "TZERO4", value=10.0, ext=1)
    got = read_all(
        path,
        {
            "null16": pa.int16(),
            "u64": pa.int64(),
            "u16": pa.int32(),
            "scaled": pa.float64(),
            "mags": pa.list_(pa.float32()),
            "flag": pa.bool_(),
            "text": pa.string(),
            "nan": pa.float64(),
        },
    ).to_pydict()
    assert got == {
        "null16": [1, None, 3],
        "u64": [1, 2**63 - 1, 2**53 + 1],
        "u16": [1, 40000, 65535],
        "scaled": [10.0, 10.25, 12.5],
        "mags": np.arange(15.0).reshape(3, 5).tolist(),
        "flag": [True, False, True],
        "text": ["a b", None, "000"],
        "nan": [1.0, None, np.inf],
    }


def test_booleans_in_every_spelling(tmp_path, read_all):
    path = tmp_path / "flags.csv"
    spelled = ["True", "true", '"True"', "TRUE", "T", "1", "False", "false", '"False"', "F", "0", "", "null"]
    path.write_text("id,flag\n" + "".join(f"{i},{flag}\n" for i, flag in enumerate(spelled)))
    assert read_all(path, {"flag": pa.bool_()})["flag"].to_pylist() == [True] * 6 + [False] * 5 + [None] * 2


def test_a_byte_order_mark_and_spaces_around_names(tmp_path, read_all):
    path = tmp_path / "excel.csv"
    path.write_bytes(b"\xef\xbb\xbfsource_id, ra ,dec\r\n5, 1.5 ,\r\n")
    wanted = {"source_id": pa.int64(), "ra": pa.float64(), "dec": pa.float64()}
    assert read_all(path, wanted).to_pylist() == [{"source_id": 5, "ra": 1.5, "dec": None}]


def test_an_ipac_header_spread_over_gzip_members(tmp_path, read_all):
    lines = ["\\fixlen = T", "|   ra|name|", "|   r |  c |", " 1.250 abc  ", "  null null "]
    path = tmp_path / "members.tbl.gz"
    path.write_bytes(b"".join(gzip.compress(line.encode() + b"\n") for line in lines))
    got = read_all(path, {"ra": pa.float64(), "name": pa.string()})
    assert got.to_pydict() == {"ra": [1.25, None], "name": ["abc", None]}
