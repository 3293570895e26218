"""docs/conventions.md says what the survey files say."""

from __future__ import annotations

import re
from pathlib import Path

from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import Band

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conventions.md"
TABLE = re.compile(r"(<!-- bands:.*?-->\n(?:\|[^\n]*\n){2})(.*?)(<!-- end of bands -->)", re.DOTALL)
ORDER = ["gaia", "sdss", "skymapper", "ps1", "twomass", "catwise", "delve", "lsst", "euclid"]


def row(band: Band) -> str:
    xp = f"`{band.xp}`" if band.xp else "–"
    xp += f" ×{band.xp_weight:g}" if band.xp_weight < 1 else ""
    xp += " +c" if band.xp_offset else ""
    return (
        f"| `{band.name}` | {band.system} | {band.zero_point_jy:g} | {band.wavelength_nm:g} | {band.width_nm:g} "
        f"| {band.typical_err:g} | {xp} |\n"
    )


def table() -> str:
    bands = [b for s in builtin_specs().values() for b in s.bands]
    return "".join(row(b) for survey in ORDER for b in bands if b.name.split("_")[0] == survey)


def test_the_table_of_bands_is_that_of_the_survey_files():
    found = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert found and found[2] == table(), f"the table should read:\n{table()}"


def test_the_page_names_every_survey_whose_id_is_text():
    page = PAGE.read_text(encoding="utf-8")
    for spec in builtin_specs().values():
        if spec.role in ("photometry", "labels") and spec.column(spec.id.column).type == "text":
            assert f"`{spec.id.column}`" in page or spec.role == "labels", spec.id.column


def test_the_zero_point_errors_are_gaia_s():
    page = PAGE.read_text(encoding="utf-8")
    spec = builtin_specs()["gaia_source"]
    for band, name in (("g", "G"), ("bp", "BP"), ("rp", "RP")):
        computed = spec.column(f"phot_{band}_mean_mag_error").computed
        assert computed is not None and f"{name} {computed.floor_mag:.4f}" in page
