"""The numpy form and the SQL form of the quality cuts agree on every value."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from msacat.catalog.ingest.quality_bits import quality_of, quality_sql
from msacat.catalog.server.copy_batches import copy_batches
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import QualityCut

ARROW = {
    "bigint": pa.int64(), "integer": pa.int32(), "smallint": pa.int16(), "real": pa.float32(),
    "double precision": pa.float64(), "text": pa.string(), "boolean": pa.bool_(),
}  # fmt: skip
LONG = st.sampled_from([2**53 + 1, 2**62 - 1, 2**62, 2**62 + 1, 2**63 - 2, 2**63 - 1])
KINDS = {
    "bigint": (st.integers(-(2**60), 2**60) | st.integers(0, 63) | LONG, st.integers(0, 63) | LONG),
    "smallint": (st.integers(-50, 50), st.integers(0, 63)),
    "real": (st.floats(-5, 5, width=32) | st.just(0.2), st.floats(-5, 5) | st.just(0.2)),
    "double precision": (st.floats(-5, 5) | st.just(0.2), st.floats(-5, 5) | st.just(0.2)),
    "text": (st.text("AB0", max_size=3), st.text("AB0", min_size=1, max_size=2)),
    "boolean": (st.booleans(), st.booleans()),
}


@st.composite
def cuts_with_values(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    values, limits = KINDS[kind]
    comparisons = ["==", "!=", "is_null"] + ["in", "not in"] * (kind != "boolean")
    if kind not in ("text", "boolean"):
        comparisons += ["<", "<=", ">", ">="]
    if kind in ("bigint", "smallint"):
        comparisons += ["any_bit", "no_bit"]
    bad_if = draw(st.sampled_from(comparisons))
    if bad_if == "is_null":
        value = None
    elif bad_if in ("in", "not in"):
        value = draw(st.lists(limits, min_size=1, max_size=3))
    else:
        value = draw(limits)
    character = draw(st.sampled_from([None, 0, 1, 2])) if kind == "text" else None
    cut = QualityCut(
        bit=draw(st.integers(0, 62)), name="cut", description="made up", column="c", bad_if=bad_if, value=value, character=character,
    )  # fmt: skip
    return kind, cut, draw(st.lists(st.none() | values, min_size=1, max_size=12))


class OneCut:
    """As much of a SurveySpec as quality bits look at."""

    def __init__(self, kind: str, cut: QualityCut) -> None:
        self.quality = [cut]
        self._column = type("Column", (), {"type": kind})

    def column(self, name: str):
        return self._column


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts_with_values())
@example(
    (
        "real",
        QualityCut(bit=1, name="cut", description="made up", column="c", bad_if="in", value=[4e-113, 1e300]),
        [0.0, 0.2],
    )
)
def test_numpy_and_sql_agree(conn, case):
    kind, cut, values = case
    spec = OneCut(kind, cut)
    column = pa.array(values, ARROW[kind])
    here = quality_of(spec, {"c": column}, len(values)).tolist()
    with conn.transaction(force_rollback=True):
        conn.execute(
            sql.SQL("CREATE TEMPORARY TABLE t (n integer, c {}) ON COMMIT DROP").format(sql.SQL(kind))
        )
        batch = pa.record_batch({"n": pa.array(range(len(values)), pa.int32()), "c": column})
        copy_batches(conn, sql.Identifier("t"), ["n", "c"], [batch])
        there = conn.execute(
            sql.SQL("SELECT {} FROM t ORDER BY n").format(quality_sql(spec, {"c": sql.SQL("c")}))
        ).fetchall()
    assert here == [q for (q,) in there]


@pytest.mark.parametrize(
    ("bad_if", "value", "bits"),
    [
        ("==", 2**62 + 1, [0, 0, 1, 0]),
        ("==", 2**62, [0, 1, 0, 0]),
        ("<", 2**62 + 1, [1, 1, 0, 0]),
        (">=", 2**63 - 1, [0, 0, 0, 1]),
        ("in", [2**62 + 1, 2**62 - 1], [1, 0, 1, 0]),
        ("in", [2**62, 0.5], [0, 1, 0, 0]),
        ("not in", [2**63 - 1], [1, 1, 1, 0]),
        ("any_bit", 2**62 + 1, [1, 1, 1, 1]),
        ("any_bit", 1, [1, 0, 1, 1]),
    ],
)
def test_long_integers_are_compared_with_every_digit(conn, bad_if: str, value, bits: list[int]):
    """2^62 and its neighbours are one number in floating point."""
    cut = QualityCut(bit=0, name="cut", description="made up", column="c", bad_if=bad_if, value=value)
    spec, values = OneCut("bigint", cut), [2**62 - 1, 2**62, 2**62 + 1, 2**63 - 1]
    assert quality_of(spec, {"c": pa.array(values)}, 4).tolist() == bits
    rows = conn.execute(
        sql.SQL("SELECT {} FROM unnest(%s::bigint[]) WITH ORDINALITY t (c, n) ORDER BY n").format(
            quality_sql(spec, {"c": sql.SQL("c")})
        ),
        [values],
    ).fetchall()
    assert [q for (q,) in rows] == bits


def test_an_absent_column_is_null_throughout():
    cuts = [
        QualityCut(bit=1, name="missing", description="made up", column="c", bad_if="is_null"),
        QualityCut(bit=2, name="large", description="made up", column="c", bad_if=">", value=1.0),
    ]
    spec = OneCut("real", cuts[0])
    spec.quality = cuts
    assert quality_of(spec, {}, 2).tolist() == [2, 2]


@pytest.mark.parametrize("name", sorted(builtin_specs()))
def test_every_builtin_cut_is_valid_sql(conn, name):
    spec = builtin_specs()[name]
    columns = sql.SQL(", ").join(
        sql.SQL("NULL::{} AS {}").format(
            sql.SQL(c.type.split("[")[0] + "[]" * ("[" in c.type)), sql.Identifier(c.name)
        )
        for c in spec.columns
    )
    expressions = {c.name: sql.Identifier(c.name) for c in spec.columns}
    row = conn.execute(
        sql.SQL("SELECT {} FROM (SELECT {}) t").format(quality_sql(spec, expressions), columns)
    ).fetchone()
    assert row == (sum(1 << cut.bit for cut in spec.quality if cut.bad_if == "is_null"),)
