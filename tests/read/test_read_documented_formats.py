"""Formats of which no real file is at hand: real values rewritten as the publishers document them.

Sources of the layouts: the Gaia DR3 data model and bulk-download pages, the 2MASS PSC format page, IRSA's IPAC table
definition and CatWISE2020 column list, LAMOST DR9's LRS stellar catalogue, SkyServer's CSV output. The values come
from real files (named in each test), the files themselves are made here.
"""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import ascii as astropy_ascii
from astropy.table import MaskedColumn, Table

from msacat.catalog.read.fixed_width import Span, fixed_width_parser, select_columns
from msacat.catalog.read.read_survey_file import open_survey_file

LIST = pa.list_(pa.float32())


@pytest.fixture(scope="module")
def gaia_rows(shared_data) -> Table:
    """1,000 real gaia_source rows, 152 columns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Table.read(shared_data / "adrn__pyia" / "gdr3_sm.fits")


def bulk_ecsv(table: Table) -> str:
    """As ESA's bulk files are: about 1,000 `#` lines, quoted text and booleans, unquoted `null`."""
    datatypes = {
        "b": "bool",
        "S": "string",
        "U": "string",
        "i2": "int16",
        "i8": "int64",
        "f4": "float32",
        "f8": "float64",
    }
    lines = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
    cells = []
    for column in table.itercols():
        kind = column.dtype.kind + (str(column.dtype.itemsize) if column.dtype.kind in "if" else "")
        lines += ["# -", f"#   name: {column.name}", f"#   datatype: {datatypes[kind]}"]
        if column.unit is not None:
            unit = str(column.unit).replace(" ", ".").replace("'", "''")
            lines.append(f"#   unit: '{unit}'")
        lines += [
            "#   description: 'from the data model: one sentence'",
            "#   meta:",
            "#     ucd: meta.number",
        ]
        missing = np.ma.getmaskarray(column)
        values = np.asarray(column).tolist() if kind != "f4" else [str(x) for x in np.asarray(column)]
        quoted = kind in ("b", "S", "U")
        cells.append(
            [
                "null"
                if absent or value in ("nan", b"") or value != value
                else f'"{value.decode().strip() if isinstance(value, bytes) else value}"'
                if quoted
                else str(value)
                for value, absent in zip(values, missing, strict=True)
            ]
        )
    rows = [",".join(row) for row in zip(*cells, strict=True)]
    return "\n".join([*lines, ",".join(table.colnames), *rows]) + "\n"


def test_gaia_source_bulk_file_equals_the_fits_it_was_made_from(shared_data, gaia_rows, read_all, tmp_path):
    """Made from adrn/pyia's real rows."""
    path = tmp_path / "GaiaSource_000000-003111.csv.gz"
    text = bulk_ecsv(gaia_rows)
    assert sum(line.startswith("#") for line in text.splitlines()) > 900
    path.write_bytes(gzip.compress(text.encode(), 1))
    wanted = {
        "source_id": pa.int64(),
        "designation": pa.string(),
        "ra": pa.float64(),
        "parallax": pa.float64(),
        "phot_bp_mean_mag": pa.float32(),
        "mh_gspphot": pa.float32(),
        "phot_bp_n_obs": pa.int16(),
        "duplicated_source": pa.bool_(),
        "has_xp_continuous": pa.bool_(),
        "libname_gspphot": pa.string(),
        "phot_variable_flag": pa.string(),
    }
    bulk = read_all(path, wanted)
    fits = read_all(shared_data / "adrn__pyia" / "gdr3_sm.fits", wanted)
    assert bulk.equals(fits)
    assert bulk.num_rows == 1000
    assert sum(bulk["has_xp_continuous"].to_pylist()) == 153
    assert bulk["mh_gspphot"].null_count == 1000 - 323
    assert bulk["phot_bp_mean_mag"].null_count == 77
    assert "NOT_AVAILABLE" in bulk["phot_variable_flag"].to_pylist()
    with open_survey_file(path) as file:
        assert file.format == "ecsv"
        assert {c.name: c.unit for c in file.columns}["parallax"] == "mas"


def test_xp_bulk_file(shared_data, read_all, tmp_path):
    """Sixty real DataLink rows (opcruz/gaiaDR3ML) and one without BP, rewritten with `[...]` and `null`."""
    paths = sorted((shared_data / "opcruz__gaiaDR3ML" / "Sy").glob("*.csv"))
    missing = (
        shared_data / "gaia-dpci__GaiaXPy" / "xp_continuous" / "XP_CONTINUOUS_RAW_missing_BP_dr3int6.csv"
    )
    lines, header = [], ""
    for path in [*paths, missing]:
        header, row = path.read_text().splitlines()
        row = row.replace("(", "[").replace(")", "]").replace(", ", ",")
        while ",," in row:
            row = row.replace(",,", ",null,")
        lines.append(row)
    names = header.split(",")
    top = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
    top += [f"# - {{name: {name}, datatype: string, subtype: 'float64[null]'}}" for name in names]
    bulk = tmp_path / "XpContinuousMeanSpectrum_017659-018028.csv.gz"
    bulk.write_bytes(gzip.compress("\n".join([*top, header, *lines, ""]).encode(), 1))
    wanted = {"source_id": pa.int64(), "bp_n_relevant_bases": pa.int16()}
    wanted |= {f"{b}_{p}": LIST for b in ("bp", "rp") for p in ("coefficients", "coefficient_errors")}
    expected = pa.concat_tables([read_all(path, wanted) for path in [*paths, missing]]).combine_chunks()
    got = read_all(bulk, wanted, rows=17)
    assert got.equals(expected)
    assert got["bp_coefficients"].null_count == 1
    assert got["rp_coefficients"].null_count == 0


def test_best_neighbour_table(shared_data, read_all, tmp_path):
    """The documented columns of panstarrs1_best_neighbour; real id pairs from derived/syst_joint.csv."""
    joint = read_all(
        shared_data / "derived" / "syst_joint.csv",
        {"source_id": pa.int64(), "ps1_objid": pa.int64(), "ps1_sep_arcsec": pa.float64()},
    )
    lines = [
        "source_id,clean_panstarrs1_oid,original_ext_source_id,angular_distance,number_of_neighbours,number_of_mates,xm_flag"
    ]
    for i, (star, objid, separation) in enumerate(
        zip(*(c.to_pylist() for c in joint.itercolumns()), strict=True)
    ):
        lines.append(f"{star},{i + 1},{objid},{separation},1,{'' if i == 3 else 0},8")
    path = tmp_path / "Panstarrs1BestNeighbour-01.csv.gz"
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    wanted = {"source_id": pa.int64(), "original_ext_source_id": pa.int64(), "number_of_mates": pa.int16()}
    table = read_all(path, wanted)
    assert table["source_id"].equals(joint["source_id"])
    assert table["original_ext_source_id"].equals(joint["ps1_objid"])
    assert table["number_of_mates"].null_count == 1


def test_twomass_psc_file(shared_data, read_all, tmp_path):
    """The one real line and copies of it with other designations, as psc_*.gz."""
    from_manifest = (shared_data / "derived" / "2mass_psc_aaa_line1.txt").read_text().rstrip("\n")
    lines = [from_manifest.replace("00042876-8955069", f"{i:08d}-8955069") for i in range(3000)]
    lines[7] = "|".join("\\N" if i in (6, 7, 8) else cell for i, cell in enumerate(lines[7].split("|")))
    path = tmp_path / "psc_aaa.gz"
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    columns = [f"column{i}" for i in range(60)]
    columns[5], columns[6], columns[21] = "designation", "j_m", "cc_flg"
    wanted = {"designation": pa.string(), "j_m": pa.float32(), "cc_flg": pa.string()}
    table = read_all(path, wanted, rows=1000, file_columns=columns)
    assert table["designation"].to_pylist() == [f"{i:08d}-8955069" for i in range(3000)]
    assert [i for i, value in enumerate(table["j_m"].to_pylist()) if value is None] == [7]
    assert set(table["cc_flg"].to_pylist()) == {"000"}


@pytest.fixture(scope="module")
def catwise(shared_data, tmp_path_factory) -> tuple[Path, Table]:
    """CatWISE's documented columns with real positions and W1, W2 of M67 (derived/m67_flat.csv)."""
    flat = Table.read(shared_data / "derived" / "m67_flat.csv", format="ascii.csv")[:700]
    table = Table()
    table["source_name"] = [f"J{int(x):07d}.{i:03d}+121234.5" for i, x in enumerate(flat["ra"] * 1e4)]
    table["source_id"] = [f"1327p121_b0-{i:06d}" for i in range(len(flat))]
    table["ra"], table["dec"] = flat["ra"], flat["dec"]
    for band in ("1", "2"):
        table[f"w{band}mpro"] = MaskedColumn(flat[f"W{band}_allwise"])
        table[f"w{band}sigmpro"] = MaskedColumn(flat[f"e_W{band}_allwise"])
    table["nb"] = np.arange(len(flat), dtype=np.int64) % 3
    table["cc_flags"] = ["0000"] * len(flat)
    table["ab_flags"] = ["00", "01"] * (len(flat) // 2)
    table["MeanObsMJD"] = 57170.0 + np.arange(len(flat)) / 7
    table["note"] = ["two words" if i % 2 else "null" for i in range(len(flat))]
    for name, unit in (("ra", "deg"), ("dec", "deg"), ("w1mpro", "mag"), ("w1sigmpro", "mag")):
        table[name].unit = unit
    path = tmp_path_factory.mktemp("catwise") / "1327p121_opt1_20191208_213403_ab_v5_cat_b0.tbl"
    table.meta["keywords"] = {"NumSrcs": {"value": len(table)}, "RunID": {"value": "v5"}}
    astropy_ascii.write(table, path, format="ipac")
    packed = path.with_suffix(".tbl.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed, table


CATWISE_WANTED = {
    "source_name": pa.string(),
    "source_id": pa.string(),
    "ra": pa.float64(),
    "dec": pa.float64(),
    "w1mpro": pa.float64(),
    "w2sigmpro": pa.float64(),
    "nb": pa.int16(),
    "cc_flags": pa.string(),
    "ab_flags": pa.string(),
    "MeanObsMJD": pa.float64(),
    "note": pa.string(),
}


def test_catwise_ipac_table(catwise, read_all):
    path, table = catwise
    with open_survey_file(path) as file:
        assert file.format == "ipac"
        units = {c.name: c.unit for c in file.columns}
        assert (units["ra"], units["w1mpro"], units["nb"]) == ("deg", "mag", None)
    got = read_all(path, CATWISE_WANTED, rows=100)
    for name in CATWISE_WANTED:
        expected = [None if np.ma.is_masked(x) or x == "null" else x for x in table[name].tolist()]
        assert got[name].to_pylist() == expected, name
    assert got["w1mpro"].null_count == np.ma.count_masked(table["w1mpro"]) > 0


def test_padded_cells_need_no_second_look(tmp_path):
    """Blank-padded numbers and nulls are what Arrow is told to expect, so that wide tables stay fast."""
    wanted = {"a": pa.float64(), "b": pa.int64(), "c": pa.string()}
    parser = fixed_width_parser(tmp_path, wanted, iter([8, 6, 8]), 0)
    rows = [b"    1.25   7  two w.  ", b"    null   -99        "]
    grid = np.frombuffer(b"".join(rows), np.uint8).reshape(2, 22)
    block = select_columns(grid, [Span(0, 8), Span(8, 14, "-99"), Span(14, 22)])
    assert parser.parse(block, 1).table.to_pydict() == {
        "a": [1.25, None],
        "b": [7, None],
        "c": ["two w.", None],
    }
    assert parser.as_text == {"c"}


def test_ipac_lines_of_any_length_and_line_end(catwise, read_all, tmp_path):
    """Trailing blanks and carriage returns do not matter; both paths through the reader agree."""
    path, _ = catwise
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    path_b = tmp_path / "crlf.tbl"
    path_b.write_text(
        "\r\n".join(line + " " * (i % 3) * (line[:1] == " ") for i, line in enumerate(lines)), newline=""
    )
    assert read_all(path_b, CATWISE_WANTED).equals(read_all(path, CATWISE_WANTED))


def test_lamost_pipe_csv(shared_data, read_all, tmp_path):
    """grd349/LearningLAMOST's real rows as DR9 writes them: `|`, header line, -9999 left as it is."""
    source = shared_data / "grd349__LearningLAMOST" / "my_data3.csv"
    names = [
        "obsid",
        "designation",
        "ra",
        "dec",
        "snrg",
        "class",
        "subclass",
        "teff",
        "teff_err",
        "feh",
        "feh_err",
    ]
    rows = read_all(source, {name: pa.string() for name in names}).to_pylist()
    text = "|".join(names) + "\n" + "".join("|".join(row[n] or "" for n in names) + "\n" for row in rows)
    path = tmp_path / "dr9_v2.0_LRS_stellar.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    wanted = {
        "obsid": pa.int64(),
        "ra": pa.float64(),
        "snrg": pa.float64(),
        "feh": pa.float32(),
        "class": pa.string(),
    }
    with open_survey_file(path) as file:
        assert file.format == "pipe-csv"
    got = read_all(path, wanted)
    assert got.equals(read_all(source, wanted))
    assert got.num_rows == 3165
    assert got["snrg"].to_pylist().count(-9999.0) > 0

    table = Table.read(source, format="ascii.csv")[[*names, "fibertype"]]
    fits = tmp_path / "dr9_v2.0_LRS_stellar.fits"
    table.write(fits)
    packed = tmp_path / "dr9_v2.0_LRS_stellar.fits.gz"
    packed.write_bytes(gzip.compress(fits.read_bytes()))
    assert read_all(packed, wanted).equals(got)


def test_sdss_photometry_csv_and_fits(read_all, tmp_path):
    """SkyServer's CSV and its FITS of one query; ids near 2^63 as SDSS has them, two made-up magnitudes."""
    ids = [1237648720693755918, 1237680117417115666, 9223372036854775807]
    text = "#Table1\nobjID,ra,dec,type,psfMag_u,flags\n"
    text += "".join(
        f"{i},{10.5 + k},-0.25,6,{'-9999' if k else 19.5},{2**40 + k}\n" for k, i in enumerate(ids)
    )
    path = tmp_path / "sdss.csv"
    path.write_text(text)
    wanted = {
        "objID": pa.int64(),
        "ra": pa.float64(),
        "type": pa.int16(),
        "psfMag_u": pa.float32(),
        "flags": pa.int64(),
    }
    with open_survey_file(path) as file:
        assert file.format == "skyserver-csv"
    table = read_all(path, wanted)
    assert table["objID"].to_pylist() == ids
    assert table["psfMag_u"].to_pylist() == [19.5, -9999.0, -9999.0]
    fits = tmp_path / "sdss.fits"
    Table({n: table[n].to_numpy() for n in table.column_names}).write(fits)
    assert read_all(fits, wanted).equals(table)


def test_parquet_of_every_origin(shared_data, gaia_rows, read_all, tmp_path):
    """Written by astropy (units in its YAML), by pyarrow (units at the fields), and with dictionaries and float32."""
    table = gaia_rows[["source_id", "ra", "parallax", "phot_bp_mean_mag", "has_xp_continuous", "designation"]]
    table["designation"] = [x.strip() for x in table["designation"].tolist()]
    wanted = {
        "source_id": pa.int64(),
        "ra": pa.float64(),
        "parallax": pa.float64(),
        "phot_bp_mean_mag": pa.float32(),
        "has_xp_continuous": pa.bool_(),
        "designation": pa.string(),
    }
    expected = read_all(shared_data / "adrn__pyia" / "gdr3_sm.fits", wanted)
    by_astropy = tmp_path / "astropy.parquet"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table.write(by_astropy)
    assert read_all(by_astropy, wanted, rows=300).equals(expected)
    with open_survey_file(by_astropy) as file:
        assert {c.name: c.unit for c in file.columns}["parallax"] == "mas"

    arrow = expected.set_column(5, "designation", expected["designation"].dictionary_encode())
    fields = [
        pa.field("parallax", pa.float64(), metadata={"unit": "mas"}) if f.name == "parallax" else f
        for f in arrow.schema
    ]
    by_arrow = tmp_path / "arrow.parquet"
    pq.write_table(arrow.cast(pa.schema(fields)), by_arrow, row_group_size=128)
    assert read_all(by_arrow, wanted, rows=300).equals(expected)
    with open_survey_file(by_arrow) as file:
        assert {c.name: c.unit for c in file.columns}["parallax"] == "mas"
    packed = tmp_path / "arrow.parquet.gz"
    packed.write_bytes(gzip.compress(by_arrow.read_bytes()))
    assert read_all(packed, wanted).equals(expected)


def test_parquet_lists_and_dotted_names(shared_data, read_all, tmp_path):
    wanted = {"source_id": pa.int64(), "bp_coefficients": LIST, "rp_coefficients": LIST}
    source = shared_data / "gaia-dpci__GaiaXPy" / "xp_continuous" / "XP_CONTINUOUS_RAW_with_missing_BP.fits"
    expected = read_all(source, wanted)
    values = expected["rp_coefficients"].combine_chunks().flatten().cast(pa.float64())
    fixed = pa.FixedSizeListArray.from_arrays(values, 55)
    path = tmp_path / "xp.parquet"
    pq.write_table(
        expected.set_column(2, "rp_coefficients", fixed).append_column("a.b", expected["source_id"]), path
    )
    assert read_all(path, wanted).equals(expected)
    assert read_all(path, {"a.b": pa.int64()})["a.b"].equals(expected["source_id"])
