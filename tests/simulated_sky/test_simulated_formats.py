"""The files are what their publishers write: read back with astropy and pyarrow, not with msacat's readers."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from msacat.catalog.healpix import nested_pixel
from msacat.catalog.surveys.load_specs import builtin_specs


def header_of(sky, dataset: str) -> list[str]:
    """The published names in a dataset's first file."""
    path = sky.files(dataset)[0]
    if dataset == "twomass_psc":
        return builtin_specs()[dataset].file_columns
    if path.suffix == ".fits":
        return list(fits.getdata(path, 1).names)
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    if dataset == "catwise2020":
        line = next(x for x in text.splitlines() if x.startswith("|"))
        return [cell.strip() for cell in line.strip("|").split("|")]
    line = next(x for x in text.splitlines() if not x.startswith("#"))
    return line.split("|" if dataset == "lamost_dr9" else ",")


@pytest.mark.parametrize("dataset", ["gaia_source", "xp_continuous", "sdss_dr13", "skymapper_dr2", "panstarrs1",
                                     "twomass_psc", "catwise2020", "apogee_dr17", "lamost_dr9",
                                     "panstarrs1_best_neighbour"])  # fmt: skip
def test_published_names_are_those_of_the_survey_file(dirty_sky, dataset: str) -> None:
    spec = builtin_specs()[dataset]
    found = {name.lower() for name in header_of(dirty_sky, dataset)}
    for column in spec.columns:
        inputs = column.computed.inputs if column.computed else [column.published]
        wanted = [{name.lower() for name in names} for names in inputs]
        has = all(names & found for names in wanted)
        optional = column.name.endswith("_gspphot") or column.name == "position_approximate"
        assert has or optional, f"{dataset} lacks {column.name}: {wanted}"
    assert not {n.lower() for n in spec.refuse_columns} & found


def test_gaia_source_is_ecsv_in_source_id_order_with_its_cell(dirty_sky) -> None:
    parts = [
        Table.read(path, format="ascii.ecsv", fill_values=[("null", "0")])
        for path in dirty_sky.files("gaia_source")
    ]
    ids = np.concatenate([np.asarray(t["source_id"]) for t in parts])
    assert ids.dtype == np.int64 and np.all(np.diff(ids) > 0)
    assert parts[0]["has_xp_continuous"].dtype == bool and parts[0]["designation"][0] == f"Gaia DR3 {ids[0]}"
    ra, dec = (np.concatenate([np.asarray(t[c]) for t in parts]) for c in ("ra", "dec"))
    assert np.mean(nested_pixel(12, ra, dec) == ids >> 35) > 0.999  # measured positions wander by mas
    assert len(np.unique(ids >> 49)) >= 60
    assert sorted(ids) == sorted(dirty_sky.array("source_id"))
    for path, part in zip(dirty_sky.files("gaia_source"), parts, strict=True):
        low, high = (int(x) for x in path.name.removeprefix("GaiaSource_").removesuffix(".csv.gz").split("-"))
        cells = np.asarray(part["source_id"]) >> 43
        assert cells.min() >= low and cells.max() <= high


def test_xp_has_the_archive_s_columns_and_arrays(dirty_sky) -> None:
    table = dirty_sky.csv("xp_continuous", "null")
    assert table.column_names[:3] == ["source_id", "solution_id", "bp_basis_function_id"]
    assert table.num_columns == 26
    lengths = {
        len(json.loads(text))
        for half in ("bp", "rp")
        for name in ("coefficients", "coefficient_errors")
        for text in table.column(f"{half}_{name}").to_pylist()
        if text is not None
    }
    assert lengths == {55}
    assert table.column("rp_coefficients").null_count == 0
    gaia = dirty_sky.csv("gaia_source", "null")
    published = set(gaia.filter(gaia["has_xp_continuous"])["source_id"].to_pylist())
    assert set(table["source_id"].to_pylist()) == published
    assert (
        max(
            g
            for g, has in zip(
                gaia["phot_g_mean_mag"].to_pylist(), gaia["has_xp_continuous"].to_pylist(), strict=True
            )
            if has
        )
        < 17.65
    )


def test_sentinels_are_the_publishers_own(dirty_sky) -> None:
    sdss = dirty_sky.csv("sdss_dr13", "none")
    assert -9999 in sdss["psfMag_u"].to_pylist() and None not in sdss["psfMag_u"].to_pylist()
    ps1 = dirty_sky.csv("panstarrs1", "none")
    assert -999 in ps1["yMeanPSFMag"].to_pylist() and -999 in ps1["gMeanPSFMagErr"].to_pylist()
    assert min(ps1["epochMean"].to_pylist()) < 54000  # impossible epochs, as in real files
    skymapper = dirty_sky.csv("skymapper_dr2", "")
    assert skymapper["u_psf"].null_count > 0 and 0.0 in skymapper["mean_epoch"].to_pylist()
    lamost = dirty_sky.csv("lamost_dr9", "none", "|")
    assert -9999 in lamost["feh"].to_pylist()


def test_ids_are_unique_and_exact(dirty_sky) -> None:
    for dataset, column, null in (
        ("sdss_dr13", "objID", "-9999"), ("skymapper_dr2", "object_id", ""), ("panstarrs1", "objID", "-999"),
        ("lamost_dr9", "obsid", "-9999"),
    ):  # fmt: skip
        table = dirty_sky.csv(dataset, null, "|" if dataset == "lamost_dr9" else ",")
        ids = table[column].to_numpy()
        assert ids.dtype == np.int64 and len(np.unique(ids)) == len(ids) == dirty_sky.made.rows[dataset]
    assert dirty_sky.csv("sdss_dr13", "-9999")["objID"].to_numpy().max() > 2**53


def test_twomass_has_sixty_fields_and_padded_designations(dirty_sky) -> None:
    rows = [
        line.split("|")
        for path in dirty_sky.files("twomass_psc")
        for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]
    assert {len(row) for row in rows} == {60} and len(rows) == dirty_sky.made.rows["twomass_psc"]
    # Two sources in one place get letters, as in the catalogue itself; the others end in a space.
    assert all(re.fullmatch(r"\d{8}[+-]\d{7}[ A-Z]", row[5]) for row in rows)
    assert sum(row[5].endswith(" ") for row in rows) > 0.9 * len(rows)
    upper = [row for row in rows if row[18][2] == "U"]
    assert upper and all(row[16] == "\\N" and row[14] != "\\N" for row in upper)
    assert {row[21] for row in rows} == {"000"}


def test_catwise_is_an_ipac_table(dirty_sky) -> None:
    parts = [Table.read(path, format="ascii.ipac") for path in dirty_sky.files("catwise2020")]
    assert sum(map(len, parts)) == dirty_sky.made.rows["catwise2020"]
    assert str(parts[0]["ra"].unit) == "deg" and str(parts[0]["w1mpro"].unit) == "mag"
    assert len({x for part in parts for x in part["source_id"]}) == dirty_sky.made.rows["catwise2020"]
    assert sum(np.ma.count_masked(part["MeanObsMJD"]) for part in parts) > 0


def test_apogee_is_fits_with_dr17_names(dirty_sky) -> None:
    with fits.open(dirty_sky.files("apogee_dr17")[0]) as hdus:
        data = hdus[1].data
        assert len(data) == dirty_sky.made.rows["apogee_dr17"]
        assert set(data["GAIAEDR3_SOURCE_ID"]) <= set(dirty_sky.array("source_id"))
        assert np.isnan(data["FE_H"]).any() and (data["EXTRATARG"] & 16).any()
        assert data["APOGEE_ID"][0].startswith("2M")


def test_gaia_lacks_what_the_archive_lacks(clean_sky, dirty_sky) -> None:
    """The dirty sky has sources without colours and without motions; the clean one has none."""
    for name in ("phot_bp_mean_mag", "pmra", "parallax_error"):
        assert clean_sky.csv("gaia_source", "null")[name].null_count == 0
        assert 0.002 < dirty_sky.csv("gaia_source", "null")[name].null_count / 4000 < 0.06, name
