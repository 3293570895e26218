"""Damage of every kind is refused with file, row, column, what was expected and found, and what to do next."""

from __future__ import annotations

import base64
import gzip
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from msacat.catalog.errors import InputRejected
from msacat.catalog.read.checksums import file_checksums
from msacat.catalog.read.read_survey_file import open_survey_file

WANTED = {"source_id": pa.int64(), "ra": pa.float64(), "flag": pa.string(), "good": pa.bool_()}
N_ROWS = 20_000


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory) -> dict[str, Path]:
    """One table in every format that can be told to be complete."""
    folder = tmp_path_factory.mktemp("whole")
    rng = np.random.default_rng(1)
    table = Table(
        {
            "source_id": rng.integers(1, 2**62, N_ROWS),
            "ra": rng.uniform(0, 360, N_ROWS),
            "flag": [f"{i % 1000:03d}" for i in range(N_ROWS)],
            "good": rng.random(N_ROWS) < 0.5,
        }
    )
    text = "source_id,ra,flag,good\n" + "".join(
        f"{a},{b!r},{c},{d}\n"
        for a, b, c, d in zip(*(table[n].tolist() for n in table.colnames), strict=True)
    )
    paths = {
        kind: folder / f"table.{kind}"
        for kind in ("csv.gz", "fits", "parquet", "vot", "binary.vot", "fits.gz")
    }
    paths["csv.gz"].write_bytes(gzip.compress(text.encode(), 1))
    table.write(paths["fits"])
    paths["fits.gz"].write_bytes(gzip.compress(paths["fits"].read_bytes(), 1))
    pq.write_table(
        pa.table({n: table[n].tolist() for n in table.colnames}), paths["parquet"], row_group_size=3000
    )
    table[:3000].write(paths["vot"], format="votable", tabledata_format="tabledata")
    table[:3000].write(paths["binary.vot"], format="votable", tabledata_format="binary2")
    return paths


KINDS = ["csv.gz", "fits", "parquet", "vot", "binary.vot", "fits.gz"]


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(whole_files, read_all, kind):
    assert read_all(whole_files[kind], WANTED).num_rows == (3000 if "vot" in kind else N_ROWS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [*range(10, 100, 10), "8 bytes"])
def test_truncation_is_never_a_silent_success(whole_files, read_all, tmp_path, kind, cut):
    data = whole_files[kind].read_bytes()
    size = len(data) - 8 if cut == "8 bytes" else len(data) * cut // 100
    if kind == "fits" and cut == "8 bytes":
        size = len(data.rstrip(b"\0")) - 8  # the last block of a FITS file is padded
    damaged = tmp_path / "damaged"
    damaged.write_bytes(data[:size])
    with pytest.raises(InputRejected) as refused:
        read_all(damaged, WANTED)
    assert str(damaged) in str(refused.value)
    assert refused.value.next_step


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.9, 1.0])
def test_a_flipped_bit_in_a_gzip_file_is_refused(whole_files, read_all, tmp_path, place):
    data = bytearray(whole_files["csv.gz"].read_bytes())
    data[min(int(len(data) * place), len(data) - 6)] ^= 0x10
    damaged = tmp_path / "damaged.csv.gz"
    damaged.write_bytes(data)
    with pytest.raises(InputRejected):
        read_all(damaged, WANTED)
    with pytest.raises(InputRejected, match="gzip"):
        file_checksums(damaged)


def test_gzip_members_and_padding(whole_files, read_all, tmp_path):
    text = gzip.decompress(whole_files["csv.gz"].read_bytes())
    middle = text.rfind(b"\n", 0, len(text) // 2) + 5  # members may end anywhere
    path = tmp_path / "members.csv.gz"
    members = gzip.compress(text[:middle]) + gzip.compress(b"") + gzip.compress(text[middle:])
    path.write_bytes(members + b"\0" * 512)
    assert read_all(path, WANTED).equals(read_all(whole_files["csv.gz"], WANTED))
    path.write_bytes(members + b"garbage")
    with pytest.raises(InputRejected, match="gzip"):
        read_all(path, WANTED)


def rows_of(n: int) -> list[str]:
    return [f"{10**15 + i},{i}.5,{i:03d},True" for i in range(n)]


def write(path: Path, rows: list[str], header: str = "source_id,ra,flag,good") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


#: what replaces row 1234 -> column named, part of what is found
BAD_ROWS = {
    "short": ("5,1.5,000", None, "3 columns"),
    "long": ("5,1.5,000,True,7", None, "5 columns"),
    "float id": ("5.0,1.5,000,True", "source_id", "5.0"),
    "exponent id": ("1e18,1.5,000,True", "source_id", "1e18"),
    "large id": (f"{2**63},1.5,000,True", "source_id", str(2**63)),
    "text id": ("Gaia DR3 5,1.5,000,True", "source_id", "Gaia DR3 5"),
    "not a number": ("5,12:30:01,000,True", "ra", "12:30:01"),
    "two numbers": ("5,1.5 2.5,000,True", "ra", "1.5 2.5"),
    "not a truth value": ("5,1.5,000,maybe", "good", "maybe"),
    "not UTF-8": (b"5,1.5,\xff\xfe,True", "flag", "xff"),
    "NUL": ("5,1.5,0\x000,True", None, "byte 0"),
    "open quote": ('5,1.5,"000,True', None, ""),
    "carriage return": ("5,1.5,0\r0,True", None, "3 columns"),  # to Arrow it ends a line
}


@pytest.mark.parametrize("bad", BAD_ROWS)
@pytest.mark.parametrize("row", [301, 1234, 5000])
def test_a_bad_row_is_named(read_all, tmp_path, bad, row):
    text, column, found = BAD_ROWS[bad]
    rows: list[str] = rows_of(5000)
    rows[row - 1] = "REPLACED"
    path = tmp_path / "bad.csv"
    data = "\n".join(["source_id,ra,flag,good", *rows, ""]).encode()
    path.write_bytes(data.replace(b"REPLACED", text if isinstance(text, bytes) else text.encode()))
    with pytest.raises(InputRejected) as refused:
        read_all(path, WANTED)
    error = refused.value
    assert (error.file, error.row, error.column) == (str(path), row, column)
    assert found in error.found
    assert error.expected and error.next_step


def test_blank_lines_are_no_rows(read_all, tmp_path):
    rows = rows_of(50)
    path = write(tmp_path / "blank.csv", [*rows[:10], "", *rows[10:], "", ""])
    assert read_all(path, WANTED).num_rows == 50
    rows[20] = "x,1.5,000,True"
    write(path, [*rows[:10], "", *rows[10:]])
    with pytest.raises(InputRejected, match="row 21"):
        read_all(path, WANTED)


def test_as_many_bad_rows_as_allowed_are_skipped_and_counted(tmp_path):
    rows = rows_of(5000)
    for index in (0, 1, 2500, 4999):
        rows[index] = "5,1.5"
    path = write(tmp_path / "ragged.csv", rows)
    with open_survey_file(path, max_bad_rows=4) as file:
        batches = list(file.batches(WANTED, rows=1000))
        assert file.rows_bad == 4
    numbers = list(itertools.chain.from_iterable(range(first, first + b.num_rows) for first, b in batches))
    assert numbers == [i + 1 for i in range(5000) if i not in (0, 1, 2500, 4999)]
    ids = pa.Table.from_batches([b for _, b in batches])["source_id"].to_pylist()
    assert ids == [10**15 + number - 1 for number in numbers]
    with (
        open_survey_file(path, max_bad_rows=3) as file,
        pytest.raises(InputRejected, match="row 5000") as refused,
    ):
        list(file.batches(WANTED))
    assert "3 bad rows were allowed" in str(refused.value)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_malformed_line_may_hold_bytes_that_are_not_utf8(tmp_path):
    """Arrow cannot decode such a line; it is named, and may be skipped, like any other."""
    rows = rows_of(5000)
    rows[4] = "ODD"
    rows[4000] = "5,1.5,\u00e9,True"
    path = write(tmp_path / "odd.csv", rows)
    path.write_bytes(path.read_bytes().replace(b"ODD", b"caf\xe9,1,2"))
    with (
        open_survey_file(path) as file,
        pytest.raises(InputRejected, match="the line is malformed") as refused,
    ):
        list(file.batches(WANTED))
    assert (refused.value.row, refused.value.expected) == (5, "4 columns")
    assert (
        "3 columns" in refused.value.found and "caf" in refused.value.found and "xe9" in refused.value.found
    )
    with open_survey_file(path, max_bad_rows=1) as file:
        table = pa.Table.from_batches([batch for _, batch in file.batches(WANTED)])
        assert file.rows_bad == 1
    assert table["source_id"].to_pylist() == [5 if i == 4000 else 10**15 + i for i in range(5000) if i != 4]
    assert table["flag"][3999].as_py() == "\u00e9"
    path.write_bytes(path.read_bytes() + b'7,1.5,"caf\xe9,True\n8,1.5,000,True\n')
    with (
        open_survey_file(path, max_bad_rows=9) as file,
        pytest.raises(InputRejected, match="inside a quoted"),
    ):
        list(file.batches(WANTED))


def test_an_unreadable_cell_is_no_bad_row(tmp_path):
    """Only lines of the wrong shape may be skipped: a cell that cannot be read means a wrong file or column."""
    rows = rows_of(100)
    rows[5], rows[50] = "5,1.5", "5,abc,000,True"
    file = open_survey_file(write(tmp_path / "cells.csv", rows), max_bad_rows=10)
    with file, pytest.raises(InputRejected, match="row 51, column ra"):
        list(file.batches(WANTED))


def test_an_unclosed_quote_never_swallows_rows(tmp_path):
    rows = rows_of(100)
    rows[10] = '5,1.5,"000,True'
    rows[11] = '6,1.5,000",True'
    file = open_survey_file(write(tmp_path / "quotes.csv", rows), max_bad_rows=50)
    with file, pytest.raises(InputRejected, match="row 11"):
        list(file.batches(WANTED))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (gzip.compress(b""), "empty"),
        (b"# only\n# comments\n", "comments"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"<?xml version='1.0'?><RDF/>", "VOTABLE"),
        (b'{"error": "no such table"}', "JSON"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"BZh91AY", "bzip2"),
        (b"\x7fELF" + bytes(100), "binary"),
        (b"Service temporarily unavailable\n", "Service temporarily"),
        (b"1,2,3\n4,5,6\n", "no header"),
        (b"ra\rdec\r1\r2\r", "no format"),
        (b"SIMPLE  =                    T" + b" " * 50, "FITS"),
        (b"PAR1" + bytes(60) + b"PAR1", "Parquet"),
        (b"|  ra | dec |\n|double\n 1.0  2.0\n", "IPAC"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_survey_file_says_what_was_seen(read_all, tmp_path, content, what):
    path = tmp_path / "download.csv"
    path.write_bytes(content)
    with pytest.raises(InputRejected, match=f"(?s){what}") as refused:
        read_all(path, {"ra": pa.float64()})
    assert refused.value.file == str(path)
    assert refused.value.next_step


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputRejected, match="cannot be read: No such file"):
        open_survey_file(tmp_path / "absent.csv")


def test_repeated_column_names_are_refused(tmp_path):
    names = ["ra", "dec", "ra"]
    text = tmp_path / "twice.csv"
    text.write_text(",".join(names) + "\n1,2,3\n")
    ipac = tmp_path / "twice.tbl"
    ipac.write_text("|ra |dec|ra |\n 1   2   3  \n")
    columns = [fits.Column(name=f"c{i}", format="D", array=[1.0]) for i in range(3)]
    binary = tmp_path / "twice.fits"
    fits.BinTableHDU.from_columns(columns).writeto(binary)
    data = binary.read_bytes()
    for i, name in enumerate(names):
        data = data.replace(f"'c{i}      '".encode(), f"'{name:8}'".encode())
    binary.write_bytes(data)
    parquet = tmp_path / "twice.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1.0])] * 3, names), parquet)
    votable = tmp_path / "twice.vot"
    Table({f"c{i}": [1.0] for i in range(3)}).write(votable, format="votable")
    xml = votable.read_text()
    for i, name in enumerate(names):
        xml = xml.replace(f'name="c{i}"', f'name="{name}"')
    votable.write_text(xml)
    for path in (text, ipac, binary, parquet, votable):
        with pytest.raises(InputRejected, match="stand twice") as refused:
            open_survey_file(path)
        assert refused.value.column == "ra", path


def test_typed_columns_are_not_bent(read_all, tmp_path):
    """Float ids, overflowing integers, text asked of a float: refused in FITS, VOTable and Parquet alike."""
    table = Table(
        {
            "as_float": [1.0, 2.0, 3.0],
            "large": np.array([1, 40_000, 3], np.int64),
            "unsigned": np.array([1, 2**63 + 5, 3], np.uint64),
            "text_id": ["1", "9223372036854775808", "3"],
            "text": ["5", "6", "7"],
        }
    )
    fits_path, parquet, votable = (tmp_path / f"typed.{kind}" for kind in ("fits", "parquet", "vot"))
    table.write(fits_path)
    pq.write_table(
        pa.table(
            {
                n: np.asarray(table[n]) if table[n].dtype.kind != "U" else table[n].tolist()
                for n in table.colnames
            }
        ),
        parquet,
    )
    del table["unsigned"]
    table.write(votable, format="votable", tabledata_format="binary2")
    plain = tmp_path / "plain.vot"
    table.write(plain, format="votable", tabledata_format="tabledata")
    for path in (fits_path, parquet, votable, plain):
        for name, kind, row in (
            ("as_float", pa.int64(), 1),
            ("as_float", pa.int32(), 1),
            ("as_float", pa.string(), 1),
            ("large", pa.int16(), 2),
            ("text_id", pa.int64(), 2),
            *([("unsigned", pa.int64(), 2)] if path in (fits_path, parquet) else []),
        ):
            with pytest.raises(InputRejected) as refused:
                read_all(path, {name: kind})
            assert (refused.value.row, refused.value.column) == (row, name), (path, kind)
        assert read_all(path, {"text": pa.int64()})["text"].to_pylist() == [5, 6, 7]
        assert read_all(path, {"large": pa.float64()})["large"].to_pylist() == [1.0, 40_000.0, 3.0]


def test_fits_descriptors_beyond_the_heap_are_refused(shared_data, read_all, tmp_path):
    source = shared_data / "gaia-dpci__GaiaXPy" / "xp_continuous" / "XP_CONTINUOUS_RAW.fits"
    data = bytearray(source.read_bytes())
    with fits.open(source) as hdus:
        start = hdus[1].fileinfo()["datLoc"]
        at = start + hdus[1].columns.dtype.fields["bp_coefficients"][1]
    data[at + 4 : at + 8] = (2**31 - 5).to_bytes(4, "big")
    path = tmp_path / "heap.fits"
    path.write_bytes(data)
    with pytest.raises(InputRejected, match="truncated or damaged"):
        read_all(path, {"bp_coefficients": pa.list_(pa.float32())})


def test_an_xml_bomb_is_refused(tmp_path):
    path = tmp_path / "bomb.vot"
    path.write_text(
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><VOTABLE><RESOURCE><TABLE>&b;</TABLE></RESOURCE></VOTABLE>'
    )
    with pytest.raises(InputRejected, match="entity"):
        open_survey_file(path)


def votable_with_a_null(path: Path, null: str) -> Path:
    cells = base64.b64encode(np.array([1, 127, 3], ">i2").tobytes()).decode()
    path.write_text(
        f'<VOTABLE><RESOURCE><TABLE><FIELD name="n" datatype="short"><VALUES null="{null}"/></FIELD><DATA><BINARY>'
        f'<STREAM encoding="base64">{cells}</STREAM></BINARY></DATA></TABLE></RESOURCE></VOTABLE>'
    )
    return path


@pytest.mark.parametrize("null", ["127", "0x7f", "0X7F"])
def test_the_null_of_an_integer_field_may_be_hexadecimal(read_all, tmp_path, null):
    path = votable_with_a_null(tmp_path / "nulls.vot", null)
    assert read_all(path, {"n": pa.int64()})["n"].to_pylist() == [1, None, 3]


@pytest.mark.parametrize("null", ["abc", "0xno", "1.5"])
def test_the_null_of_an_integer_field_must_be_an_integer(read_all, tmp_path, null):
    path = votable_with_a_null(tmp_path / "nulls.vot", null)
    with pytest.raises(InputRejected, match="field n") as refused:
        read_all(path, {"n": pa.int64()})
    assert refused.value.file == str(path)
    assert null in refused.value.found


@pytest.mark.parametrize(
    "metadata",
    [
        {b"IVOA.VOTable-Parquet.content": b"<VOTABLE><RESOURCE>"},
        {b"IVOA.VOTable-Parquet.content": b"<VOTABLE>\xff</VOTABLE>"},
        {b"table_meta_yaml": b"\xff\xfe"},
    ],
    ids=["cut short", "VOTable not UTF-8", "YAML not UTF-8"],
)
def test_damaged_metadata_of_a_parquet_file_is_refused(tmp_path, metadata):
    path = tmp_path / "metadata.parquet"
    pq.write_table(pa.table({"ra": [1.0]}).replace_schema_metadata(metadata), path)
    with pytest.raises(InputRejected, match="the Parquet file is damaged") as refused:
        open_survey_file(path)
    assert refused.value.file == str(path)
    assert refused.value.found and refused.value.next_step


def test_asking_for_an_absent_column_names_what_there_is(whole_files):
    with (
        open_survey_file(whole_files["fits"]) as file,
        pytest.raises(InputRejected, match="column dec") as refused,
    ):
        file.batches({"dec": pa.float64()})
    assert refused.value.found == "flag, good, ra, source_id"
