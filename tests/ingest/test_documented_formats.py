"""Bulk files no one here has: real or simulated values written in the documented formats, ingested with right counts.

The simulated sky writes them as docs of each publisher say (docs/survey_files.md); one corrupt copy of each is refused.
"""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from astropy.table import Table
from psycopg import sql

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.simulated_sky.simulate_sky import simulate
from msacat.catalog.store.verify_catalog import verify
from msacat.catalog.surveys.load_specs import builtin_specs

FORMATS = {
    "gaia_source": "ecsv", "xp_continuous": "ecsv", "sdss_dr13": "csv", "skymapper_dr2": "csv", "panstarrs1": "csv",
    "twomass_psc": "2mass-psc", "catwise2020": "ipac", "apogee_dr17": "fits", "lamost_dr9": "pipe-csv",
    "panstarrs1_best_neighbour": "csv",
}  # fmt: skip


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    out = tmp_path_factory.mktemp("sky") / "clean"
    return out, simulate(out, 600, 1, clean=True)


def test_every_dataset_of_the_simulated_sky_ingests_whole(conn, sky):
    out, made = sky
    for dataset, file_format in FORMATS.items():
        report = run_ingest(conn, plan_ingest(conn, dataset, [out / dataset]))
        assert {f.format for f in report.files} == {file_format}, dataset
        assert report.rows_kept == made.rows[dataset] > 0, dataset
        assert not any(f.rows_rejected for f in report.files), dataset
    assert [r for r in verify(conn, files=True) if not r.passed] == []
    assert conn.execute(
        "SELECT count(*) FROM survey.gaia_source g JOIN survey.xp_continuous x USING (source_id) "
        "WHERE cardinality(x.bp_coefficients) = 55"
    ).fetchone() == (made.rows["xp_continuous"],)


def test_the_dirty_sky_ingests_without_a_refusal(conn, tmp_path):
    """Sentinels, absurd values, missing epochs, repeats: made NULL and counted, never a reason to refuse a file."""
    made = simulate(tmp_path / "dirty", 1500, 2, clean=False)
    nulled: set[str] = set()
    for dataset in FORMATS:
        report = run_ingest(conn, plan_ingest(conn, dataset, [tmp_path / "dirty" / dataset]))
        assert report.rows_kept == made.rows[dataset], dataset
        nulled |= {f"{dataset}.{key}" for f in report.files for key in f.values_nulled}
    assert {
        "panstarrs1.epoch: outside range",
        "sdss_dr13.psfmag_u: sentinel",
        "skymapper_dr2.epoch: sentinel",
    } <= nulled
    assert [r for r in verify(conn, files=True) if not r.passed] == []


@pytest.mark.parametrize("dataset", sorted(FORMATS))
@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_truncated_file_of_any_format_is_refused_whole(conn, sky, tmp_path, dataset, share):
    """Cut inside the stored bytes; a text cut exactly at a line's end would be a whole, shorter file."""
    source = sorted(p for p in (sky[0] / dataset).iterdir() if p.is_file())[0]
    data = source.read_bytes()
    if source.suffix == ".csv":
        data = data.rstrip(b"\n")
        cut = data[: int(len(data) * share)]
        cut = cut[: cut.rindex(b",")] if b"," in cut.splitlines()[-1] else cut
    else:  # FITS pads to blocks of 2880 bytes: less than one block cut off may be no data at all
        cut = data[: min(int(len(data) * share), len(data) - 2880 * (data[:6] == b"SIMPLE"))]
    path = tmp_path / source.name
    path.write_bytes(cut)
    with pytest.raises(InputRejected) as error:
        run_ingest(conn, plan_ingest(conn, dataset, [path]))
    assert error.value.file == str(path)
    assert conn.execute("SELECT count(*) FROM msacat.files").fetchone() == (0,)


def test_a_flipped_byte_inside_gzip_is_refused(conn, sky, tmp_path):
    source = sorted((sky[0] / "gaia_source").glob("*.gz"))[0]
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 0x10
    path = tmp_path / source.name
    path.write_bytes(data)
    with pytest.raises(InputRejected):
        run_ingest(conn, plan_ingest(conn, "gaia_source", [path]))


def test_a_nul_byte_in_a_line_is_refused_with_its_row(conn, write_csv, gaia_rows):
    path = write_csv("nul.csv", gaia_rows(5))
    lines = path.read_bytes().split(b"\n")
    lines[3] = lines[3][:-2] + b"\0" + lines[3][-2:]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputRejected) as error:
        run_ingest(conn, plan_ingest(conn, "gaia_source", [path]))
    assert error.value.file == str(path)


def test_twomass_from_real_stars(conn, shared_data, tmp_path):
    """The one real line we have, and the M67 members' real J H Ks in its shape."""
    import csv

    line = (shared_data / "derived/2mass_psc_aaa_line1.txt").read_text().rstrip("\n").split("|")
    rows, n_j = [line], 1
    with (shared_data / "derived/m67_flat.csv").open() as file:
        for i, star in enumerate(csv.DictReader(file)):
            row = list(line)
            row[0], row[1], row[5] = star["ra"], star["dec"], f"{i:08d}+0000000 "
            for at, band in ((6, "J"), (10, "H"), (14, "Ks")):
                row[at] = star[band] or r"\N"
                row[at + 2] = star[f"e_{band}"] or r"\N"
            n_j += bool(star["J"])
            rows.append(row)
    path = tmp_path / "psc_aaa.gz"
    with gzip.open(path, "wt") as file:
        file.writelines("|".join(row) + "\n" for row in rows)
    [one] = run_ingest(conn, plan_ingest(conn, "twomass_psc", [path])).files
    assert (one.rows_read, one.rows_kept) == (len(rows), len(rows))
    assert conn.execute("SELECT count(j_m) FROM survey.twomass_psc").fetchone() == (n_j,)
    assert conn.execute("SELECT count(*) FROM survey.twomass_psc WHERE k_msigcom > 9").fetchone() == (0,)


@pytest.mark.parametrize(
    ("dataset", "header", "rows"),
    [
        ("panstarrs1_best_neighbour",
         "source_id,clean_panstarrs1_oid,original_ext_source_id,angular_distance,number_of_neighbours,number_of_mates,xm_flag",
         ["34361129088,3425,104370000001234567,0.02,1,0,8", "38655544960,,104370000001234568,0.9,2,1,"]),
        ("sdssdr13_best_neighbour",
         "source_id,clean_sdssdr13_oid,original_ext_source_id,angular_distance,number_of_neighbours,number_of_mates,xm_flag",
         ["34361129088,12,1237645879551066262,0.1,1,0,0"]),
        ("skymapperdr2_best_neighbour",
         "source_id,original_ext_source_id,angular_distance,number_of_neighbours,number_of_mates,xm_flag",
         ["34361129088,300000001,0.1,1,0,0"]),
        ("tmass_psc_xsc_best_neighbour",
         "source_id,original_ext_source_id,angular_distance,xm_flag,clean_tmass_psc_xsc_oid,number_of_neighbours,number_of_mates",
         ["34361129088,00012345+1234567,0.1,0,471,1,0", "38655544960,00012345-1234567,0.1,0,472,1,0"]),
    ],
)  # fmt: skip
def test_best_neighbour_files_in_the_documented_columns(conn, tmp_path, dataset, header, rows):
    """Invented rows: none of the real tables lies within reach."""
    path = tmp_path / f"{dataset}_000.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join([header, *rows]) + "\n")
    [one] = run_ingest(conn, plan_ingest(conn, dataset, [path])).files
    assert (one.rows_kept, one.rows_rejected) == (len(rows), {})
    table = conn.execute(
        sql.SQL("SELECT source_id, {}::text FROM {} ORDER BY 1").format(
            sql.Identifier(builtin_specs()[dataset].matches.id), sql.Identifier("survey", dataset)
        )
    ).fetchall()
    at = header.split(",").index("original_ext_source_id")
    assert table == [(int(r.split(",")[0]), r.split(",")[at]) for r in rows]


@pytest.mark.parametrize("dataset", [name for name in builtin_specs() if name.endswith("_best_neighbour")])
def test_a_best_neighbour_table_of_dr2_is_refused(conn, tmp_path, dataset):
    """The columns of gaiadr2's tables, by the DR2 data model: the same source_id may be another star there."""
    path = tmp_path / "dr2.csv"
    path.write_text(
        "source_id,original_ext_source_id,angular_distance,number_of_neighbours,number_of_mates,"
        "best_neighbour_multiplicity,gaia_astrometric_params\n34361129088,104370000001234567,0.02,1,0,1,5\n"
    )
    with pytest.raises(InputRejected, match="cross-match of Gaia DR2") as error:
        run_ingest(conn, plan_ingest(conn, dataset, [path]))
    assert error.value.column == "best_neighbour_multiplicity" and error.value.next_step


def test_photoobj_fits_of_sdss_is_refused_with_what_to_take_instead(conn, tmp_path):
    """Column names and shapes of the photoObj data model; no real file lies within reach."""
    path = tmp_path / "photoObj-004623-1-0030.fits"
    Table(
        {"OBJID": ["1237645879551066262"], "RA": [1.0], "DEC": [2.0], "PSFMAG": np.full((1, 5), 18.0, "f4"),
         "PSFMAGERR": np.full((1, 5), 0.01, "f4")}
    ).write(path)  # fmt: skip
    with pytest.raises(InputRejected, match="CSV of CasJobs") as error:
        run_ingest(conn, plan_ingest(conn, "sdss_dr13", [path]))
    assert error.value.column == "PSFMAG"


def test_the_join_table_of_2mass(conn, tmp_path):
    path = tmp_path / "TmassPscXscJoin.csv"
    path.write_text(
        "clean_tmass_psc_xsc_oid,original_psc_source_id\n471,00012345+1234567\n472,00012345-1234567\n"
    )
    [one] = run_ingest(conn, plan_ingest(conn, "tmass_psc_xsc_join", [path])).files
    assert (one.rows_kept, one.rows_rejected, one.columns_unused) == (2, {}, [])
