"""A wrong survey file is refused with the file, the key and the line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from msacat.catalog.errors import UsageError
from msacat.catalog.surveys import survey_column, survey_spec
from msacat.catalog.surveys.load_specs import FOLDER, load_spec
from msacat.catalog.surveys.survey_spec import SurveySpec

PAGE = Path(__file__).resolve().parents[2] / "docs" / "survey_files.md"
TWOMASS = (FOLDER / "twomass_psc.toml").read_text(encoding="utf-8")
MAG = 'type = "real"\npublished = ["j_m"]'
#: (what stands in the file, what to put there, which key the message names, words it holds)
FAULTS = {
    "unknown unit": ('unit = "mag"', 'unit = "magg"', "columns.6.unit", "unknown unit 'magg'"),
    "unknown UCD": ('"meta.id;meta.main"', '"meta.idd"', "columns.0.ucd", "Unknown word 'meta.idd'"),
    "UCD word in a wrong place": ('"meta.code.qual"', '"em.IR;meta.code"', "columns.15.ucd", "not valid as a primary"),
    "unknown key": ("required = true", "require = true", "columns.0.require", "no such key"),
    "unknown table": ("[[labels]]", "[[lables]]", "lables", "no such key"),
    "unknown role": ('"photometry"', '"photo"', "role", "not 'photo'"),
    "unknown type": ('type = "text"', 'type = "varchar"', "columns.0.type", "not 'varchar'"),
    "unknown transform": ('"jd_to_jyear"', '"jd_to_year"', "columns.3.computed.transform", "not 'jd_to_year'"),
    "column twice": ('name = "err_min"', 'name = "err_maj"', "columns.5.name", "err_maj is given twice"),
    "published name twice": ('["err_min"]', '["ERR_MAJ"]', "columns.5.published", "feeds err_maj already"),
    "bit twice": ("bit = 3\n", "bit = 2\n", "quality.3.bit", "quality bit 2 is given twice"),
    "band twice": ('name = "twomass_h"', 'name = "twomass_j"', "bands.1.name", "twomass_j is given twice"),
    "name of ours": ('name = "err_min"', 'name = "file_id"', "columns.5.name", "msacat's own"),
    "view of ours": ('name = "twomass_psc"', 'name = "stars"', "name", "stars is msacat's own"),
    "other view of ours": ('name = "twomass_psc"', 'name = "xp_spectra"', "name", "xp_spectra is msacat's own"),
    "Gaia's id": ('name = "twomass_id"', 'name = "source_id"', "id.column", "'twomass_id'"),
    "no such column": ('mag = "j_m"', 'mag = "jmag"', "bands.0.mag", "'jmag'"),
    "no such band": ('["twomass_h"]', '["twomass_hh"]', "quality.1.bands", "twomass_hh"),
    "value missing": ('value = ["A", "B", "C", "D"]\n', "", "quality.0", "needs a value"),
    "empty range": ("range = [-5.0, 25.0]", "range = [25.0, -5.0]", "columns.6", "is empty"),
    "text for a number": ("epoch = 1999.5", 'epoch = "y2k"', "position.epoch", "not 'y2k'"),
    "key missing": ("epoch = 1999.5\n", "", "position.epoch", "this key is missing"),
    "XP beyond XP": ("typical_err = 0.03", 'typical_err = 0.03\nxp = "LSST:y"', "bands.0", "330-1050 nm"),
    "rounded ids": ('type = "text"', 'type = "double precision"', "columns.0.type", "twomass_id, used as id.column"),
    "single-precision position": ('type = "double precision"', 'type = "real"', "columns.1.type", "not real"),
    "magnitude as text": (MAG, MAG.replace("real", "text"), "columns.6.type", "j_m, used as bands.mag"),
    "no radius": ("match_radius_arcsec = 1.5\n", "", "position", "match_radius_arcsec"),
}  # fmt: skip


TYPES = [
    (("id", "column"), "twomass_id", "real", "smallint"),
    (("position", "ra"), "ra", "real", "text", "bigint"),
    (("position", "dec"), "dec", "real"),
    (("position", "epoch_column"), "epoch", "text", "boolean"),
    (("position", "gaia_id"), "err_maj", "integer", "double precision", "text"),
    (("position", "pmra"), "err_maj", "text"),
    (("bands", 0, "mag"), "j_m", "real[55]", "boolean"),
    (("bands", 0, "err"), "j_msigcom", "text"),
    (("labels", 0, "value"), "err_maj", "text"),
    (("labels", 0, "err"), "err_min", "boolean"),
    (("id", "best_by"), "err_maj", "text"),
    (("spectra", "bp"), "err_maj", "real", "real[343]"),
]


@pytest.mark.parametrize("use", TYPES, ids=lambda use: ".".join(map(str, use[0])))
def test_a_column_of_a_type_that_its_use_does_not_allow_is_refused(use: tuple):
    keys, name, *types = use
    for kind in types:
        data = tomllib.loads(TWOMASS)
        arrays = {key: name for key in ("bp", "bp_err", "rp", "rp_err")}
        data["labels"] = [{"quantity": "teff", "value": "err_maj", "err": "err_min", "typical_err": 100.0}]
        if keys[0] == "spectra":
            data["spectra"] = {**arrays, "origin": "sampled", "preference": 1}
        place = data
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = name
        next(c for c in data["columns"] if c["name"] == name)["type"] = kind
        with pytest.raises(ValidationError, match=f"{name}, used as .* must be .*, not {re.escape(kind)}"):
            SurveySpec.model_validate(data)


def test_a_column_called_source_id_is_bigint():
    data = tomllib.loads(TWOMASS)
    data["columns"][4] |= {"name": "source_id", "type": "double precision", "range": None}
    with pytest.raises(ValidationError, match="source_id, used as Gaia's id, must be bigint"):
        SurveySpec.model_validate(data)


def _refused(folder: Path, text: str) -> str:
    path = folder / "survey.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_spec(path)
    assert caught.value.file == str(path) and caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_key_and_line(tmp_path: Path, fault: str):
    old, new, key, words = FAULTS[fault]
    if fault == "unknown table":
        text = TWOMASS + '\n[[lables]]\nquantity = "fe_h"\n'
        line = TWOMASS.count("\n") + 2
    else:
        text = TWOMASS.replace(old, new, 1)
        line = TWOMASS[: TWOMASS.index(old)].count("\n") + 1
    message = _refused(tmp_path, text)
    found = re.search(rf"^  {re.escape(key)}, line (\d+): (.*)$", message, re.MULTILINE)
    assert found, message
    assert words in found[2], message
    whole_entry = key.count(".") + key.count("[") < 2 or key[-1].isdigit()  # the message points at the table
    if not (fault in ("key missing", "no radius", "Gaia's id") or whole_entry):
        assert int(found[1]) == line
    else:
        head = text.splitlines()[int(found[1]) - 1].strip()
        assert head.startswith("[") or head.startswith(key.split(".")[-1]), head


def test_a_syntax_error_is_named_with_its_line(tmp_path: Path):
    text = TWOMASS.replace('unit = "mag"', 'unit = "mag', 1)
    line = TWOMASS[: TWOMASS.index('unit = "mag"')].count("\n") + 1
    message = _refused(tmp_path, text)
    assert "not valid TOML" in message and f"line {line}" in message


def test_several_faults_are_told_at_once(tmp_path: Path):
    text = TWOMASS.replace('unit = "mag"', 'unit = "magg"', 1).replace('"photometry"', '"photo"', 1)
    message = _refused(tmp_path, text)
    assert "columns.6.unit" in message and "role, line" in message


@pytest.mark.parametrize("content", [b"\xff\xfe not text", None])
def test_an_unreadable_file_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "survey.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot read the survey file"):
        load_spec(path)


@given(st.integers(min_value=0, max_value=TWOMASS.count("[[columns]]") - 1))
def test_the_line_is_right_for_any_column(tmp_path_factory, index: int):
    """A bad description, put into any column's table, is found on its own line."""
    parts = TWOMASS.split("[[columns]]")
    parts[index + 1] = re.sub(r"description = .*", "description = 7", parts[index + 1], count=1)
    text = "[[columns]]".join(parts)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if row == "description = 7")
    message = _refused(tmp_path_factory.mktemp("spec"), text)
    assert f"columns.{index}.description, line {line}:" in message


def test_the_short_form_of_columns_has_lines_too(tmp_path: Path):
    example = _example()
    old = 'unit = "mag", ucd = "stat.error'
    message = _refused(tmp_path, example.replace(old, 'unit = "magg", ucd = "stat.error'))
    line = example[: example.index(old)].count("\n") + 1
    assert f"columns.4.unit, line {line}:" in message


def _example() -> str:
    found = re.search(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def test_the_example_of_the_page_is_a_survey_in_30_lines(tmp_path: Path):
    example = _example()
    assert len(example.splitlines()) <= 30
    path = tmp_path / "vista_like.toml"
    path.write_text(example, encoding="utf-8")
    assert [b.name for b in load_spec(path).bands] == ["vista_j"]


def test_the_page_explains_every_key():
    page = PAGE.read_text(encoding="utf-8")
    models = (
        survey_spec.SurveySpec, survey_spec.Identifier, survey_spec.Position, survey_column.Column,
        survey_column.Computed, survey_spec.Band, survey_spec.Label, survey_spec.QualityCut, survey_spec.Matches,
        survey_spec.Spectra,
    )  # fmt: skip
    for model in models:
        for key in model.model_fields:
            assert re.search(rf"[`\[]{key}\b", page) or f"{key} = " in page, f"{model.__name__}.{key}"
    for transform in survey_column.Transform.__args__:
        assert f"`{transform}`" in page
