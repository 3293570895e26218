"""Missing is NULL and nothing else is; every change is counted; columns are bound by name."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest.bind_columns import bind_columns
from msacat.catalog.ingest.clean_values import Cleaner
from msacat.catalog.read.survey_file import FileColumn
from msacat.catalog.surveys.survey_spec import SurveySpec

SENTINELS = [-9999.0, -999.99, 99.0]
SPEC = SurveySpec.model_validate(
    {
        "name": "tiny", "title": "Tiny survey", "version": 1, "release": "tiny_dr1", "role": "photometry",
        "description": "made up", "reference": "none", "attribution": "none",
        "id": {"column": "tiny_id"},
        "position": {"epoch": 2000.0, "match_radius_arcsec": 1.0, "epoch_column": "epoch"},
        "columns": [
            {"name": "tiny_id", "type": "bigint", "published": ["objID"], "description": "identifier"},
            {"name": "ra", "type": "double precision", "published": ["raMean"], "unit": "deg", "description": "right ascension"},
            {"name": "dec", "type": "double precision", "published": ["decMean"], "unit": "deg", "description": "declination"},
            {"name": "epoch", "type": "double precision", "unit": "yr", "range": [1990, 2020], "sentinels": [0.0],
             "computed": {"transform": "mjd_to_jyear", "columns": ["mjd"]}, "description": "epoch of the row"},
            {"name": "mag", "type": "real", "published": ["gMag", "g"], "unit": "mag", "sentinels": SENTINELS,
             "range": [-5.0, 40.0], "description": "magnitude"},
            {"name": "err", "type": "real", "published": ["gErr"], "unit": "mag", "sentinels": [0.0], "description": "its error"},
            {"name": "pm", "type": "real", "published": ["pm"], "unit": "mas/yr", "published_unit": "arcsec/yr",
             "description": "proper motion"},
            {"name": "flags", "type": "integer", "published": ["flags"], "sentinels": [-1.0], "description": "flag bits"},
            {"name": "kind", "type": "text", "published": ["kind"], "sentinels": [-999.0, "N/A"], "description": "kind of object"},
            {"name": "flux_mag", "type": "real", "unit": "mag", "description": "magnitude from flux",
             "computed": {"transform": "mag_from_flux", "columns": ["flux"], "zero_point": 22.5}},
            {"name": "flux_mag_error", "type": "real", "unit": "mag", "description": "its error",
             "computed": {"transform": "mag_error_from_flux", "columns": ["flux", "flux_error"], "floor_mag": 0.01}},
        ],
        "bands": [{"name": "tiny_g", "mag": "mag", "err": "err", "system": "AB", "zero_point_jy": 3631, "wavelength_nm": 480,
                   "width_nm": 100, "reference": "none", "typical_err": 0.02}],
        "quality": [
            {"bit": 0, "name": "flagged", "description": "a flag is set", "column": "flags", "bad_if": "any_bit", "value": [2, 4]},
            {"bit": 5, "name": "noisy", "description": "large error", "column": "err", "bad_if": ">", "value": 0.2, "bands": ["tiny_g"]},
            {"bit": 62, "name": "no_mag", "description": "no magnitude", "column": "mag", "bad_if": "is_null"},
            {"bit": 7, "name": "galaxy", "description": "not a star", "column": "kind", "bad_if": "not in", "value": ["S", "s"], "character": 0},
        ],
    }
)  # fmt: skip
PUBLISHED = {
    "objID": pa.int64(), "raMean": pa.float64(), "decMean": pa.float64(), "mjd": pa.float64(), "gMag": pa.float64(),
    "gErr": pa.float64(), "pm": pa.float64(), "flags": pa.int32(), "kind": pa.string(), "flux": pa.float64(), "flux_error": pa.float64(),
}  # fmt: skip


def published(n: int = 3, **columns) -> dict[str, list]:
    """A batch of `n` good rows under the published names, with some columns replaced."""
    good = {
        "objID": list(range(1, n + 1)), "raMean": [10.0] * n, "decMean": [-20.0] * n, "mjd": [51544.5] * n,
        "gMag": [15.5] * n, "gErr": [0.01] * n, "pm": [0.5] * n, "flags": [0] * n, "kind": ["S"] * n,
        "flux": [100.0] * n, "flux_error": [1.0] * n,
    }  # fmt: skip
    return good | columns


def clean(columns: dict[str, list], units: dict[str, str] | None = None, first_row: int = 1):
    binding = bind_columns(SPEC, [FileColumn(n, (units or {}).get(n)) for n in columns], "file", "fits")
    cleaner = Cleaner(binding, "file")
    lower = {name.lower(): kind for name, kind in PUBLISHED.items()}
    batch = pa.record_batch(
        {
            name: pa.array(columns[name], binding.wanted.get(name, lower.get(name.lower())))
            for name in binding.wanted
        }
    )
    return cleaner.clean(first_row, batch, 7), cleaner.counts


def test_good_values_pass_unchanged():
    batch, counts = clean(published())
    assert counts.rejected == {} and counts.nulled == {}
    row = batch.to_pylist()[1]
    assert row["tiny_id"] == 2 and (row["ra"], row["dec"]) == (10.0, -20.0)
    assert row["epoch"] == 2000.0 and row["mag"] == 15.5
    assert row["err"] == np.float32(0.01) and row["pm"] == 500.0  # arcsec/yr -> mas/yr
    assert row["flux_mag"] == 17.5
    assert row["flux_mag_error"] == pytest.approx(math.hypot(1.0857362 * 0.01, 0.01), rel=1e-6)
    assert (row["quality"], row["file_id"], row["file_row"]) == (0, 7, 2)
    assert [str(batch.schema.field(n).type) for n in ("tiny_id", "ra", "mag", "flags", "quality", "file_id")] == [
        "int64", "double", "float", "int32", "int64", "int32"]  # fmt: skip


numbers = st.one_of(
    st.floats(width=64, allow_nan=True, allow_infinity=True),
    st.floats(-10, 50),
    st.sampled_from([*SENTINELS, float(np.float32(-999.99)), -999.0, 0.0, -5.0, 40.0, 1e-320, 3.5e38]),
    st.none(),
)


def single(value: float) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float64(value).astype(np.float32)


@given(st.lists(numbers, min_size=1, max_size=40))
def test_a_magnitude_is_a_number_in_range_or_null_and_counted(values):
    batch, counts = clean(published(len(values), gMag=values))
    stored = batch.column("mag").to_pylist()
    expected = {"sentinel": 0, "NaN": 0, "infinite": 0, "outside range": 0}
    for found, value in zip(stored, values, strict=True):
        if value is None:
            assert found is None
        elif value in SENTINELS or value == float(np.float32(-999.99)):
            assert found is None
            expected["sentinel"] += 1
        elif math.isnan(value):
            assert found is None
            expected["NaN"] += 1
        elif math.isinf(value):
            assert found is None
            expected["infinite"] += 1
        elif not -5.0 <= single(value) <= 40.0:
            assert found is None
            expected["outside range"] += 1
        else:
            assert found == single(value)
    assert {k.removeprefix("mag: "): n for k, n in counts.nulled.items() if k.startswith("mag: ")} == {
        reason: n for reason, n in expected.items() if n
    }
    no_mag = [bool(q >> 62 & 1) for q in batch.column("quality").to_pylist()]
    assert no_mag == [found is None for found in stored]


def test_a_value_equal_to_another_columns_sentinel_survives():
    batch, counts = clean(published(2, flags=[0, 99], gErr=[99.0, 0.0], gMag=[0.0, 15.0]))
    assert batch.column("flags").to_pylist() == [0, 99]
    assert batch.column("err").to_pylist() == [99.0, None]
    assert batch.column("mag").to_pylist() == [0.0, 15.0]
    assert counts.nulled == {"err: sentinel": 1}


@given(st.permutations(list(PUBLISHED)), st.lists(st.booleans(), min_size=11, max_size=11), st.integers(0, 3))
def test_order_and_case_of_columns_do_not_matter(order, upper, n_extra):
    reference, _ = clean(published())
    values = published()
    renamed = {(n.upper() if u else n.lower()): values[n] for n, u in zip(order, upper, strict=True)}
    extra = {f"extra_{i}": [0, 0, 0] for i in range(n_extra)}
    batch, _ = clean(extra | renamed)
    assert batch.equals(reference)


def test_the_first_published_name_present_is_used():
    columns = published()
    columns["g"] = [20.0] * 3
    assert clean(columns)[0].column("mag").to_pylist() == [15.5] * 3
    del columns["gMag"]
    assert clean(columns)[0].column("mag").to_pylist() == [20.0] * 3


def test_rows_without_id_or_position_are_rejected_by_reason():
    columns = published(
        8,
        objID=[1, None, 3, 4, 5, 6, 7, 8],
        raMean=[0.0, 1.0, 360.0, -0.1, None, 359.9999, 1.0, math.nan],
        decMean=[90.0, 0.0, 0.0, 0.0, 0.0, -90.0, 90.1, 0.0],
    )
    batch, counts = clean(columns, first_row=101)
    assert batch.column("tiny_id").to_pylist() == [1, 6]
    assert batch.column("file_row").to_pylist() == [101, 106]
    assert counts.rejected == {
        "tiny_id missing": 1, "ra outside [0, 360)": 2, "ra missing": 2, "dec outside [-90, 90]": 1,
    }  # fmt: skip
    assert counts.rows_read == counts.rows_kept + sum(counts.rejected.values())


def test_text_is_trimmed_and_its_sentinels_are_null():
    kinds = [" S ", "", "null", "-999", "-999.0", "N/A", None, "gal", "s"]
    batch, counts = clean(published(9, kind=kinds))
    assert batch.column("kind").to_pylist() == ["S", None, None, None, None, None, None, "gal", "s"]
    assert counts.nulled == {"kind: sentinel": 3}
    assert [q >> 7 & 1 for q in batch.column("quality").to_pylist()] == [0, 0, 0, 0, 0, 0, 0, 1, 0]


def test_quality_bits_come_from_stored_values():
    batch, _ = clean(published(4, flags=[1, 2, 6, -1], gErr=[0.2, 0.25, None, math.nan]))
    assert batch.column("quality").to_pylist() == [0, 1 | 1 << 5, 1, 0]


def test_fluxes_that_no_magnitude_expresses_are_null_and_counted():
    batch, counts = clean(published(4, flux=[-1.0, 0.0, math.nan, 100.0], flux_error=[1.0, 1.0, 1.0, 0.0]))
    assert batch.column("flux_mag").to_pylist() == [None, None, None, 17.5]
    assert batch.column("flux_mag_error").to_pylist() == [None] * 4
    assert counts.nulled["flux_mag: flux or its error not positive"] == 2
    assert counts.nulled["flux_mag_error: flux or its error not positive"] == 3


@pytest.mark.parametrize(
    ("name", "unit", "stored", "factor"),
    [("raMean", "rad", "ra", 180 / math.pi), ("raMean", "arcmin", "ra", 1 / 60), ("decMean", "deg", "dec", 1),
     ("gMag", "mmag", "mag", 0.001), ("pm", "mas/yr", "pm", 1), ("pm", "mas.yr**-1", "pm", 1), ("gMag", "mag(AB)", "mag", 1),
     ("gMag", "AB mag", "mag", 1), ("mjd", "d", "epoch", None)],
)  # fmt: skip
def test_declared_units_are_converted(name, unit, stored, factor):
    columns = published()
    if name in ("raMean", "decMean", "gMag", "pm"):
        columns[name] = [2.5] * 3
    batch, _ = clean(columns, {name: unit})
    expected = 2000.0 if factor is None else 2.5 * factor
    assert batch.column(stored).to_pylist() == pytest.approx([expected] * 3, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("gMag", "nJy"),
        ("gMag", "Vega mag"),
        ("raMean", "mag"),
        ("pm", "mas"),
        ("gMag", "dex"),
        ("raMean", "furlongs"),
    ],
)
def test_units_that_do_not_convert_refuse_the_file(name, unit):
    with pytest.raises(InputRejected) as error:
        clean(published(), {name: unit})
    assert (error.value.column, error.value.found) == (name, unit)
    assert error.value.expected


def test_missing_and_repeated_columns_are_refused_with_both_lists():
    columns = published()
    del columns["raMean"], columns["objID"]
    with pytest.raises(InputRejected, match="missing: objID, raMean") as error:
        clean(columns)
    assert "decMean" in error.value.expected and "gMag" in error.value.found
    with pytest.raises(InputRejected, match="given 2 times") as error:
        clean(published() | {"RAMEAN": [1.0] * 3})
    assert error.value.found == "raMean, RAMEAN"


def test_a_columns_absence_is_reported_and_unknown_ones_are_named():
    columns = published()
    del columns["gErr"], columns["flux_error"]
    binding = bind_columns(SPEC, [FileColumn(n) for n in [*columns, "seeing", "moon"]], "file", "csv")
    assert binding.absent == ("err", "flux_mag_error")
    assert binding.unused == ("seeing", "moon")
    assert binding.wanted["objID"] == pa.string()  # text formats: one unreadable id costs its row only
    batch, _ = clean(columns)
    assert "err" not in batch.schema.names
