"""In fixed-width text each column has its own null, wherever in the cell it stands; in other columns it is a value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

WANTED = {"a": pa.float64(), "b": pa.float64(), "c": pa.int64(), "t": pa.string()}


def _ipac(path: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    header = [
        ("a", "b", "c", "t"),
        ("double", "double", "int", "char"),
        ("", "", "", ""),
        ("-9", "", "-77", "-"),
    ]
    lines = ["|" + "".join(f"{cell:^7}|" for cell in cells) for cells in header]
    lines += [" " + " ".join(f"{cell:7}" for cell in cells) for cells in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_an_ipac_null_is_its_columns_own(read_all, tmp_path):
    rows = [
        ("-9", "-9", "-9", "-9"),
        ("     -9", "     -9", "    -77", "    -77"),
        ("   -9 ", "   -9 ", "  -77 ", "   -  "),
        ("-9.0", " 1.5", "  5", "two -"),
    ]
    assert read_all(_ipac(tmp_path / "x.tbl", rows), WANTED).to_pydict() == {
        "a": [None, None, None, -9.0],
        "b": [-9.0, -9.0, -9.0, 1.5],
        "c": [-9, None, None, 5],
        "t": ["-9", "-77", None, "two -"],
    }


@pytest.mark.parametrize("wanted", [["b"], ["c", "a"], ["t", "b", "a", "c"]])
def test_an_ipac_null_does_not_depend_on_what_else_is_wanted(read_all, tmp_path, wanted: list[str]):
    path = _ipac(tmp_path / "x.tbl", [("  -9", "-9", "-77", " -"), ("1", "2", "3", "x")])
    expected = {"a": [None, 1.0], "b": [-9.0, 2.0], "c": [None, 3], "t": [None, "x"]}
    got = read_all(path, {name: WANTED[name] for name in wanted})
    assert got.to_pydict() == {name: expected[name] for name in wanted}


def test_a_null_of_a_fits_text_table_is_its_columns_own(read_all, tmp_path):
    columns = [
        fits.Column("a", "I6", ascii=True, null="-9", array=np.array([-9, 4, -9])),
        fits.Column("b", "I6", ascii=True, array=np.array([-9, -9, 7])),
        fits.Column("c", "I6", ascii=True, null="-77", array=np.array([-9, -77, 9])),
    ]
    path = tmp_path / "x.fits"
    fits.TableHDU.from_columns(columns).writeto(path)
    content = path.read_bytes()
    assert content.count(b"    -9    -9    -9") == 1
    path.write_bytes(content.replace(b"    -9    -9    -9", b"  -9    -9    -9  "))  # not flush right
    got = read_all(path, dict.fromkeys("abc", pa.int64()))
    assert got.to_pydict() == {"a": [None, 4, None], "b": [-9, -9, 7], "c": [-9, None, 9]}
