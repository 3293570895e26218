"""Sentinels of integer columns: every digit of a long one counts, and one with a fraction is no integer; ingested and adopted alike."""

from __future__ import annotations

import pytest

from msacat.catalog.ingest.adopt_table import adopt
from msacat.catalog.ingest.forget_files import forget
from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.store.register_survey import register_survey
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import SurveySpec

NUMBERS = [2**62 - 1, 2**62, 2**62 + 1, 2**63 - 1, -(2**63), -99]
STORED = [2**62 - 1, 2**62, None, None, -(2**63), -99]


def _survey(columns: list[dict]) -> SurveySpec:
    twomass = builtin_specs()["twomass_psc"].model_dump()
    columns = [{"published": [c["name"]], "description": "Made up.", **c} for c in columns]
    return SurveySpec.model_validate(
        twomass | {"name": "whole", "file_columns": [], "columns": [*twomass["columns"], *columns]}
    )


def _both_ways(conn, write_csv, kind: str, column: str, numbers: list[int]) -> tuple[list, list]:
    """What ingest stores of one column of survey `whole`, and what its view shows."""
    rows = [
        {
            "designation": f"{i}",
            "ra": 10.0,
            "decl": 5.0,
            "j_m": 12,
            "h_m": 12,
            "k_m": 12,
            "ph_qual": "AAA",
            column: number,
        }
        for i, number in enumerate(numbers)
    ]
    query = f"SELECT {column} FROM survey.whole ORDER BY twomass_id"
    run_ingest(conn, plan_ingest(conn, "whole", [write_csv("whole.csv", rows)]))
    ingested = [value for (value,) in conn.execute(query)]
    forget(conn, "whole")
    conn.execute("CREATE TABLE public.held (designation text PRIMARY KEY, ra double precision, "
                 f"decl double precision, j_m real, h_m real, k_m real, ph_qual text, {column} {kind})")  # fmt: skip
    for row in rows:
        conn.execute("INSERT INTO public.held VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", list(row.values()))
    conn.execute("CREATE INDEX ON public.held (q3c_ang2ipix(ra, decl))")
    conn.commit()
    adopt(conn, "whole", "public.held")
    return ingested, [value for (value,) in conn.execute(query)]


def test_only_the_very_number_is_the_sentinel(conn, write_csv):
    column = {"name": "long", "type": "bigint", "sentinels": [2**62 + 1, 2**63 - 1]}
    register_survey(conn, _survey([column]))
    assert _both_ways(conn, write_csv, "bigint", "long", NUMBERS) == (STORED, STORED)


def test_a_sentinel_larger_than_the_type_is_never_met(conn, write_csv):
    column = {"name": "long", "type": "bigint", "sentinels": [2.0**63, -99.0]}
    register_survey(conn, _survey([column]))
    expected = [*NUMBERS[:-1], None]
    assert _both_ways(conn, write_csv, "bigint", "long", NUMBERS) == (expected, expected)


@pytest.mark.parametrize("kind", ["bigint", "integer", "smallint"])
def test_a_sentinel_with_a_fraction_is_no_integer(conn, write_csv, kind: str):
    register_survey(conn, _survey([{"name": "code", "type": kind, "sentinels": [-99.99, -1.0]}]))
    expected = [-99, -100, None, 3]
    assert _both_ways(conn, write_csv, kind, "code", [-99, -100, -1, 3]) == (expected, expected)
