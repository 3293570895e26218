"""A survey file's integers of 64 bits keep every digit, in the store too; all other numbers are floats, as they always were."""

from __future__ import annotations

import tomllib

import pytest

from msacat.catalog.store.register_survey import find_spec, register_survey
from msacat.catalog.surveys.load_specs import FOLDER, builtin_specs
from msacat.catalog.surveys.survey_column import Column
from msacat.catalog.surveys.survey_spec import QualityCut, SurveySpec

LONG = [2**53 + 1, 2**62 + 1, 2**63 - 1, -(2**62) - 1]
FLOATS = [0, -1, -9999, 8388608, 2**53, 2**62, -(2**63)]


def _column(*sentinels: object) -> Column:
    return Column(name="c", type="bigint", description="Made up.", published=["c"], sentinels=list(sentinels))


def _cut(value: object) -> QualityCut:
    return QualityCut(bit=0, name="cut", description="made up", column="c", bad_if="==", value=value)


@pytest.mark.parametrize("number", LONG)
def test_an_integer_that_a_float_would_round_stays_one(number: int):
    for kept in (_column(number).sentinels[0], _cut(number).value):
        assert type(kept) is int and kept == number


@pytest.mark.parametrize("number", FLOATS)
def test_every_other_number_is_a_float(number: int):
    for kept in (_column(number).sentinels[0], _cut(number).value, _column(float(number)).sentinels[0]):
        assert type(kept) is float and kept == number
    assert _cut(True).value is True and _column("-1").sentinels == ["-1"]


def test_a_fingerprint_taken_when_all_numbers_were_floats_still_holds():
    data = tomllib.loads((FOLDER / "twomass_psc.toml").read_text(encoding="utf-8"))
    floats = SurveySpec.model_validate(_with_numbers(data, [float(n) for n in FLOATS]))
    whole = SurveySpec.model_validate(_with_numbers(data, FLOATS))
    long = SurveySpec.model_validate(_with_numbers(data, [*FLOATS, 2**62 + 1]))
    assert floats.fingerprint == whole.fingerprint != long.fingerprint
    for spec in builtin_specs().values():
        numbers = [s for c in spec.columns for s in c.sentinels]
        numbers += [v for q in spec.quality for v in (q.value if isinstance(q.value, list) else [q.value])]
        assert not [n for n in numbers if type(n) is int], spec.name


def _with_numbers(data: dict, numbers: list) -> dict:
    columns = [{**data["columns"][0], "sentinels": numbers}, *data["columns"][1:]]
    cuts = [{**data["quality"][0], "bad_if": "in", "value": numbers}, *data["quality"][1:]]
    return {**data, "columns": columns, "quality": cuts}


def test_the_store_gives_back_the_file_that_was_registered(conn):
    data = tomllib.loads((FOLDER / "twomass_psc.toml").read_text(encoding="utf-8"))
    spec = SurveySpec.model_validate(_with_numbers(data, [*FLOATS, *LONG]))
    register_survey(conn, spec)
    stored = find_spec(conn, spec.name)
    assert stored == spec and stored.fingerprint == spec.fingerprint
    assert stored.columns[0].sentinels == [*FLOATS, *LONG]
