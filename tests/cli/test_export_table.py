"""Files made of query results: ids exact, NULL still NULL, arrays whole, units and UCDs beside the values."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.units import Unit, UnitsWarning

QUERY = """
SELECT source_id, ra, gaia_g, gaia_g_err, logg, pmra, twomass_id, has_input, observed, bp_coefficients, embedding,
  9223372036854775807::bigint AS largest, 999999::integer AS six_nines,
  CASE WHEN source_id % 2 = 0 THEN 999999 END AS some_integer,
  CASE WHEN source_id % 2 = 0 THEN -5::smallint END AS some_small,
  CASE WHEN source_id % 2 = 0 THEN true END AS some_boolean,
  CASE WHEN source_id % 2 = 0 THEN ra END AS some_double,
  CASE WHEN source_id % 2 = 0 THEN 'Ångström' END AS some_text,
  NULL::real AS never, NULL::text AS never_text,
  CASE WHEN source_id % 2 = 0 THEN ARRAY[1, 2] END AS some_array,
  1.25::numeric AS a_number, timestamptz '2016-01-01 12:00Z' AS a_time, '{"a": [1]}'::jsonb AS a_document
FROM enriched.stars ORDER BY source_id LIMIT 40
"""


@pytest.fixture(scope="module")
def expected(trained_once) -> dict[str, list]:
    with psycopg.connect(trained_once) as conn:
        cursor = conn.execute(QUERY)
        names = [c.name for c in cursor.description]
        return {
            name: list(values)
            for name, values in zip(names, zip(*cursor.fetchall(), strict=True), strict=True)
        }


@pytest.fixture
def exported(trained_once, msacat_at, tmp_path):
    def export(suffix: str, query: str = QUERY) -> Path:
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        path = folder / f"stars{suffix}"
        path.write_text("an older file, to be replaced")
        if suffix == ".fits":
            query = query.replace("Ångström", "Angstrom")  # FITS holds ASCII
        code, out, err = msacat_at(trained_once, "query", query, "--out", path)
        assert (code, out) == (0, "") and str(path) in err, err
        assert [p.name for p in folder.iterdir()] == [path.name]
        return path

    return export


def test_parquet(exported, expected):
    table = pq.read_table(exported(".parquet"))
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert kinds["source_id"] == "int64" and kinds["ra"] == "double" and kinds["gaia_g"] == "float"
    assert kinds["some_small"] == "int16" and kinds["never"] == "float" and kinds["never_text"] == "string"
    assert kinds["some_boolean"] == "bool" and kinds["a_time"] == "timestamp[us, tz=UTC]"
    assert (
        kinds["bp_coefficients"] == "list<element: float>" and kinds["some_array"] == "list<element: int32>"
    )
    for name in ("source_id", "largest", "some_integer", "some_boolean", "some_text", "some_double", "never",
                 "never_text", "some_array", "observed", "twomass_id", "a_time"):  # fmt: skip
        assert table[name].to_pylist() == expected[name], name
    np.testing.assert_array_equal(table["gaia_g"].to_numpy(), np.float32(expected["gaia_g"]))
    np.testing.assert_array_equal(table["embedding"].to_pylist(), np.float32(expected["embedding"]))
    assert json.loads(table["a_document"][0].as_py()) == {"a": [1]}
    about = {key.decode(): value.decode() for key, value in table.schema.field("pmra").metadata.items()}
    assert (
        about["unit"] == "mas/yr"
        and about["ucd"] == "pos.pm;pos.eq.ra"
        and about["description"].startswith("Proper")
    )


@pytest.mark.parametrize("suffix", [".fits", ".vot", ".ecsv"])
def test_formats_of_astronomers(exported, expected, suffix, recwarn):
    path = exported(suffix)
    assert [w for w in recwarn if "astropy" in str(w.filename)] == [], (
        "nothing that a user would wonder about"
    )
    table = Table.read(path)
    assert len(table) == 40 and table.colnames == list(expected)
    for name in ("source_id", "largest", "observed", "six_nines"):
        assert table[name].dtype.kind == "i" and table[name].tolist() == expected[name], name
    assert table["source_id"].dtype.itemsize == table["largest"].dtype.itemsize == 8
    for name in ("some_integer", "some_small", "some_boolean", "some_double", "never"):
        missing = [value is None for value in expected[name]]
        column = table[name]
        found = column.mask | (np.isnan(column.filled(np.nan)) if column.dtype.kind == "f" else False)
        assert found.tolist() == missing, name
        values = [value for value in expected[name] if value is not None]
        np.testing.assert_array_equal(column[~np.array(missing)].astype(float), np.array(values, dtype=float))
    text = [("" if np.ma.is_masked(value) else str(value)) for value in table["some_text"]]
    written = "Angstrom" if suffix == ".fits" else "Ångström"
    assert text == [written if value else "" for value in expected["some_text"]]
    assert table["gaia_g"].dtype.itemsize == 4
    np.testing.assert_array_equal(np.array(table["gaia_g"]), np.float32(expected["gaia_g"]))
    np.testing.assert_array_equal(np.array(table["ra"]), expected["ra"])
    np.testing.assert_allclose(
        np.array(table["bp_coefficients"], float), np.float32(expected["bp_coefficients"]), rtol=1e-6
    )
    assert table["some_array"].shape == (40, 2)
    assert str(table["pmra"].unit) in ("mas / yr", "mas/yr")
    if suffix == ".fits":
        header = fits.getheader(path, 1)
        for key in [key for key in header if key.startswith("TUNIT")]:
            Unit(header[key], format="fits")  # raises for what FITS has no word for
        place = next(key[5:] for key in header if key.startswith("TTYPE") and header[key] == "logg")
        assert table["logg"].unit is None and header["TCOMM" + place].endswith("(unit: log(cm.s**-2))")
        assert [w for w in recwarn if issubclass(w.category, UnitsWarning)] == []
    else:
        assert str(table["logg"].unit) == "log(cm.s**-2)"


def test_ucds_and_sentences_stand_where_readers_look(exported):
    table = Table.read(exported(".vot"))
    assert table["pmra"].meta["ucd"] == "pos.pm;pos.eq.ra" and table["pmra"].description.startswith(
        "Proper motion"
    )
    table = Table.read(exported(".ecsv"))
    assert table["gaia_g"].meta["ucd"].endswith("meta.modelled") and "measured" in table["gaia_g"].description
    header = fits.getheader(exported(".fits"), 1)
    place = next(key[5:] for key in header if key.startswith("TTYPE") and header[key] == "pmra")
    assert header["TUNIT" + place] == "mas/yr" and header["TUCD" + place] == "pos.pm;pos.eq.ra"
    assert header["TCOMM" + place].startswith("Proper motion")


def test_csv(exported, expected):
    path = exported(".csv", "SELECT source_id, ra, gaia_g, CASE WHEN source_id % 2 = 0 THEN 'a, b' END AS words "
                    "FROM enriched.stars ORDER BY source_id LIMIT 40")  # fmt: skip
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["source_id"]) for row in rows] == expected["source_id"]
    assert [float(row["ra"]) for row in rows] == expected["ra"]
    assert [np.float32(row["gaia_g"]) for row in rows] == [np.float32(g) for g in expected["gaia_g"]]
    assert [row["words"] for row in rows] == ["a, b" if s % 2 == 0 else "" for s in expected["source_id"]]


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".vot", ".ecsv", ".csv"])
def test_no_rows_are_a_table_all_the_same(exported, suffix):
    path = exported(suffix, "SELECT source_id, gaia_g, twomass_id, has_input FROM enriched.stars WHERE false")
    table = pq.read_table(path) if suffix == ".parquet" else Table.read(path)
    names = table.column_names if suffix == ".parquet" else table.colnames
    assert len(table) == 0 and names == ["source_id", "gaia_g", "twomass_id", "has_input"]


def test_arrays_of_several_lengths_only_fit_parquet(trained_once, msacat_at, tmp_path):
    query = "SELECT array_agg(source_id) AS ids FROM enriched.stars GROUP BY source_id % 7"
    code, _, err = msacat_at(trained_once, "query", query, "--out", tmp_path / "x.fits")
    assert code == 2 and "column ids" in err and ".parquet" in err and list(tmp_path.iterdir()) == []
    assert msacat_at(trained_once, "query", query, "--out", tmp_path / "x.parquet").code == 0
    assert sum(map(len, pq.read_table(tmp_path / "x.parquet")["ids"].to_pylist())) == 2500


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".vot", ".ecsv"])
def test_numbers_of_a_given_precision_are_numbers(trained_once, msacat_at, tmp_path, suffix):
    query = "SELECT 1.5::numeric(10,2) AS a, ARRAY[1.25, 2.5]::numeric(5,2)[] AS b"
    ended = msacat_at(trained_once, "query", query, "--out", tmp_path / f"x{suffix}")
    assert ended.code == 0, ended.err
    path = tmp_path / f"x{suffix}"
    row = pq.read_table(path).to_pylist()[0] if suffix == ".parquet" else Table.read(path)[0]
    assert row["a"] == 1.5 and list(row["b"]) == [1.25, 2.5]


def test_fits_headers_hold_one_line_of_ascii(trained, msacat_at, tmp_path):
    with psycopg.connect(trained) as conn:
        conn.execute("CREATE TABLE public.mine AS SELECT 5772.0 AS t")
        conn.execute(
            "COMMENT ON COLUMN public.mine.t IS 'Température\nof the Sun. [unit=K; ucd=phys.temperature]'"
        )
    out = tmp_path / "x.fits"
    ended = msacat_at(trained, "query", "SELECT t FROM public.mine", "--out", out)
    assert ended.code == 0, ended.err
    assert fits.getheader(out, 1)["TCOMM1"].startswith("Temp?rature of the Sun.")
    ended = msacat_at(trained, "query", "SELECT t AS étoile FROM public.mine", "--out", tmp_path / "y.fits")
    assert ended.code == 2 and "ASCII" in ended.err and "étoile" in ended.err


def test_fits_holds_ascii_only(trained_once, msacat_at, tmp_path):
    query = "SELECT 'Ångström' AS unit"
    code, _, err = msacat_at(trained_once, "query", query, "--out", tmp_path / "x.fits")
    assert code == 2 and "column unit" in err and "Ångström" in err and list(tmp_path.iterdir()) == []
    assert msacat_at(trained_once, "query", query, "--out", tmp_path / "x.vot").code == 0
