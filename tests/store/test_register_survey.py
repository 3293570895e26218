"""What a survey file turns into in the store."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from msacat.catalog.crossmatch.crossmatch_inputs import read_inputs
from msacat.catalog.enrich.enriched_tables import KINDS, RUN_OF, columns_of
from msacat.catalog.errors import StoreUnavailable, UsageError
from msacat.catalog.store.column_comments import Described
from msacat.catalog.store.register_survey import find_spec, register_survey, registered_specs, update_survey
from msacat.catalog.store.star_view import OF_THE_MODEL, XP_COLUMNS, star_features, view_columns
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import SurveySpec

BUILTIN = sorted(builtin_specs())


def test_every_builtin_survey_registers(conn):
    order = sorted(builtin_specs().values(), key=lambda s: s.role != "reference")
    for spec in order:
        assert register_survey(conn, spec)
        assert not register_survey(conn, spec)  # the same file again is a no-op
    assert registered_specs(conn) == builtin_specs()
    bands = dict(conn.execute("SELECT band, bit FROM msacat.bands").fetchall())
    assert sorted(bands.values()) == list(range(len(bands)))
    assert {b for spec in order for b in (band.name for band in spec.bands)} == set(bands)
    stars = view_columns(conn, "matched", "stars")
    assert {"source_id", "gaia_g", "twomass_ks_err", "bp_coefficients", "apogee_dr17_fe_h", "shared"} <= set(
        stars
    )
    features = star_features(conn, registered_specs(conn))
    assert [bands[name] for name in features.band_names] == sorted(bands.values())
    assert conn.execute("SELECT count(*) FROM matched.stars").fetchone() == (0,)


@pytest.mark.parametrize("name", [n for n in BUILTIN if builtin_specs()[n].position])
def test_positional_tables_have_a_q3c_index(conn, name):
    register_survey(conn, builtin_specs()[name])
    (definition,) = conn.execute(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'survey' AND tablename = %s AND indexname = %s",
        [name, f"{name}_q3c"],
    ).fetchone()
    assert 'q3c_ang2ipix(ra, "dec")' in definition


def test_the_database_itself_refuses_nan_and_out_of_range(conn):
    register_survey(conn, builtin_specs()["twomass_psc"])
    insert = (
        "INSERT INTO survey.twomass_psc (twomass_id, ra, dec, j_mag, file_id) VALUES ('a', {}, {}, {}, 1)"
    )
    columns = view_columns(conn, "survey", "twomass_psc")
    j = next(c for c in columns if c.startswith("j_m"))
    for ra, dec, mag in (("'NaN'", 0, 1), (0, 95, 1), (0, 0, "'NaN'"), (0, 0, "'Infinity'"), ("NULL", 0, 1)):
        with pytest.raises(psycopg.errors.IntegrityError), conn.transaction():
            conn.execute(insert.replace("j_mag", j).format(ra, dec, mag))
    conn.execute(insert.replace("j_mag", j).format(0, 0, "NULL"))


@pytest.mark.parametrize("name", BUILTIN)
def test_no_column_takes_what_is_no_number(conn, name):
    """Each one alone: that the others are NULL excuses none."""
    spec = builtin_specs()[name]
    register_survey(conn, spec)
    least = {spec.id.column: "1", "file_id": "1"} | ({} if spec.id.unique else {"file_row": "1"})
    if spec.position:
        least |= {spec.position.ra: "0", spec.position.dec: "0"}

    def insert(more: dict[str, str]) -> None:
        row = least | more
        conn.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier("survey", name),
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join(sql.Placeholder() * len(row)),
            ),
            list(row.values()),
        )

    for column in spec.columns:
        if column.type in ("real", "double precision"):
            bad = ["NaN", "Infinity", "-Infinity"]
        elif column.type.endswith("]"):
            bad = ["{1,2}", "{" + ",".join(["NULL"] * _length(column.type)) + "}"]
        else:
            continue
        for value in bad:
            with pytest.raises(psycopg.errors.CheckViolation), conn.transaction():
                insert({column.name: value})
    insert({})


def _length(kind: str) -> int:
    return int(kind[kind.index("[") + 1 : -1])


def test_unknown_name_suggests(conn):
    with pytest.raises(UsageError) as error:
        find_spec(conn, "gaia_sorce")
    assert "gaia_source" in (error.value.next_step or "")


def changed(spec: SurveySpec, **more) -> SurveySpec:
    return SurveySpec.model_validate(spec.model_dump() | more)


def test_changes_need_a_version_and_keep_meaning(conn):
    spec = builtin_specs()["twomass_psc"]
    register_survey(conn, spec)
    columns = [c.model_dump() for c in spec.columns]
    extra = {"name": "extra", "type": "real", "published": ["extra"], "description": "A new column."}
    with pytest.raises(UsageError, match="another file"):
        register_survey(conn, changed(spec, columns=[*columns, extra]))
    with pytest.raises(UsageError, match="without a new version"):
        update_survey(conn, changed(spec, columns=[*columns, extra]))
    conn.execute("CREATE VIEW mine AS SELECT * FROM survey.twomass_psc_clean")
    assert update_survey(conn, changed(spec, version=spec.version + 1, columns=[*columns, extra])) == [
        "column extra added"
    ]
    assert view_columns(conn, "survey", "twomass_psc_clean")[-1] == "extra"
    wider = [c | {"range": (-90.0, 90.0)} if c["name"] == spec.bands[0].mag else c for c in columns]
    with pytest.raises(UsageError, match="reinterpret"):
        update_survey(conn, changed(spec, version=spec.version + 2, columns=[*wider, extra]))


def test_an_added_column_refuses_nan_too(conn):
    spec = builtin_specs()["twomass_psc"]
    register_survey(conn, spec)
    columns = [c.model_dump() for c in spec.columns]
    extra = {
        "name": "extra",
        "type": "real",
        "published": ["extra"],
        "range": [0, 5],
        "description": "A new column.",
    }
    update_survey(conn, changed(spec, version=spec.version + 1, columns=[*columns, extra]))
    for value in ("'NaN'", "6"):
        with pytest.raises(psycopg.errors.CheckViolation), conn.transaction():
            conn.execute(
                f"INSERT INTO survey.twomass_psc (twomass_id, ra, dec, extra, file_id) VALUES ('a', 0, 0, {value}, 1)"
            )


def test_a_range_no_real_can_hold_makes_a_table_all_the_same(conn):
    spec = builtin_specs()["twomass_psc"]
    j = spec.bands[0].mag
    columns = [c.model_dump() | ({"range": (1e-60, 1e300)} if c.name == j else {}) for c in spec.columns]
    register_survey(conn, changed(spec, columns=columns))
    insert = f"INSERT INTO survey.twomass_psc (twomass_id, ra, dec, {j}, file_id) VALUES ('a', 0, 0, {{}}, 1)"
    for value in ("'Infinity'", "-1"):
        with pytest.raises(psycopg.errors.CheckViolation), conn.transaction():
            conn.execute(insert.format(value))
    conn.execute(insert.format("12.5"))


@pytest.mark.parametrize(
    ("table", "key", "value", "answer"),
    [
        ("quality", "value", "A", "reinterpret"),
        ("quality", "character", 2, "reinterpret"),
        ("quality", "removes", False, ["quality bit 0 (j_no_detection) removes something else"]),
        ("bands", "system", "AB", "reinterpret"),
        ("bands", "err", "h_msigcom", "reinterpret"),
        ("bands", "typical_err", 0.5, ["band twomass_j: typical_err changed from 0.03 to 0.5"]),
    ],
)
def test_a_bit_and_a_band_keep_their_meaning(conn, table, key, value, answer):
    spec = builtin_specs()["twomass_psc"]
    register_survey(conn, spec)
    items = [x.model_dump() for x in getattr(spec, table)]
    items[0][key] = [value] if isinstance(items[0][key], list) else value
    later = changed(spec, version=spec.version + 1, **{table: items})
    if isinstance(answer, list):
        assert update_survey(conn, later) == answer
    else:
        with pytest.raises(UsageError, match=answer):
            update_survey(conn, later)
    stored = conn.execute("SELECT bit, typical_err FROM msacat.bands WHERE band = 'twomass_j'").fetchone()
    assert stored == (0, 0.5 if key == "typical_err" else spec.bands[0].typical_err)


@pytest.mark.parametrize(
    ("name", "key", "value", "answer"),
    [
        ("lamost_dr9", "labels.0.value", "teff", "label fe_h: value changed"),
        ("lamost_dr9", "labels.0.err", "teff_err", "label fe_h: err changed"),
        ("lamost_dr9", "labels.0.err", None, "label fe_h: err changed"),
        ("lamost_dr9", "labels.0.typical_err", 0.5, ["label fe_h: typical_err changed from 0.1 to 0.5"]),
        ("gaia_source", "scalars", ["parallax", "pmra"], "scalar pmdec is gone"),
        ("gaia_source", "scalars", ["parallax", "pmdec"], "scalar pmra is gone"),
        ("gaia_source", "position.pmra", "pmdec", r"position\.pmra changed"),
        ("gaia_source", "position.epoch_column", None, r"position\.epoch_column changed"),
        ("gaia_source", "position.epoch", 2015.5, r"position\.epoch changed"),
        ("twomass_psc", "position.ra", "dec", r"position\.ra changed"),
        ("twomass_psc", "position.epoch", 1999.0,
         ["position.epoch changed from 1999.5 to 1999.0; the next crossmatch takes it"]),
        ("lamost_dr9", "position.gaia_id", None, r"position\.gaia_id changed"),
        ("lamost_dr9", "id.column", "obsdate", r"id\.column changed"),
        ("lamost_dr9", "id.best_by", "snrr", ["id.best_by changed from 'snrg' to 'snrr'"]),
    ],
)  # fmt: skip
def test_labels_scalars_and_positions_keep_their_meaning(conn, name, key, value, answer):
    spec = builtin_specs()[name]
    register_survey(conn, spec)
    later = spec.model_dump() | {"version": spec.version + 1}
    place, *parts = later, *key.split(".")
    for part in parts[:-1]:
        place = place[int(part) if part.isdigit() else part]
    place[parts[-1]] = value
    if isinstance(answer, list):
        assert update_survey(conn, SurveySpec.model_validate(later)) == answer
    else:
        with pytest.raises(UsageError, match=answer) as error:
            update_survey(conn, SurveySpec.model_validate(later))
        assert f"msacat forget {name}" in error.value.next_step


def test_matches_made_with_another_epoch_are_out_of_date(conn):
    for name in ("gaia_source", "twomass_psc"):
        register_survey(conn, builtin_specs()[name])
    spec, before = builtin_specs()["twomass_psc"], read_inputs(conn, "twomass_psc").fingerprint
    assert spec.position is not None
    position = spec.position.model_dump() | {"epoch": 1999.0}
    update_survey(conn, changed(spec, version=spec.version + 1, position=position))
    assert read_inputs(conn, "twomass_psc").fingerprint != before


def test_a_label_may_come_but_not_go(conn):
    spec = builtin_specs()["lamost_dr9"]
    fewer = changed(spec, labels=[x.model_dump() for x in spec.labels if x.quantity != "teff"])
    register_survey(conn, fewer)
    more = changed(spec, version=spec.version + 1)
    assert update_survey(conn, more) == ["label teff added"]
    with pytest.raises(UsageError, match="label teff is gone"):
        update_survey(conn, changed(fewer, version=spec.version + 2))


def test_every_change_is_listed(conn):
    spec = builtin_specs()["twomass_psc"]
    register_survey(conn, spec)
    assert spec.position is not None
    columns, bits = ([x.model_dump() for x in entries] for entries in (spec.columns, spec.quality))
    columns[0]["description"] = "Other words on it."
    bit = bits[0] | {"bit": 40, "name": "another"}
    wider = spec.position.model_dump() | {"match_radius_arcsec": 3.5}
    later = {"title": "Two", "position": wider, "columns": columns, "quality": [*bits, bit]}
    changes = update_survey(conn, changed(spec, version=spec.version + 1, **later))
    radius = spec.position.match_radius_arcsec
    assert changes[0] == "quality bit 40 added" and len(changes) == 4
    assert f"title changed from {spec.title!r} to 'Two'" in changes
    assert (
        f"position.match_radius_arcsec changed from {radius} to 3.5; the next crossmatch takes it" in changes
    )
    assert changes[-2].startswith(f"column {columns[0]['name']}: description changed") or changes[
        -1
    ].startswith(f"column {columns[0]['name']}: description changed")


def test_band_names_are_taken_once(conn):
    spec = builtin_specs()["twomass_psc"]
    register_survey(conn, spec)
    with pytest.raises(UsageError, match="band names are taken"):
        register_survey(conn, changed(spec, name="copy"))
    register_survey(conn, builtin_specs()["catwise2020"])
    w1 = builtin_specs()["catwise2020"].bands[0]
    thief = spec.bands[0].model_dump() | {"name": w1.name}
    with pytest.raises(UsageError, match=r"catwise_w1 \(by catwise2020\)"):
        update_survey(
            conn,
            changed(spec, version=spec.version + 1, bands=[*(b.model_dump() for b in spec.bands), thief]),
        )


def renamed(spec: SurveySpec, name: str) -> SurveySpec:
    bands = [b.model_dump() | {"name": f"{name}_{b.name}"} for b in spec.bands]
    quality = [q.model_dump() | {"bands": [f"{name}_{b}" for b in q.bands]} for q in spec.quality]
    return changed(spec, name=name, bands=bands, quality=quality)


@pytest.mark.parametrize("suffix", ["_clean", "_q3c"])
@pytest.mark.parametrize("longer_first", [False, True])
def test_a_survey_takes_no_name_of_another_s_views_and_indexes(conn, suffix, longer_first):
    spec = builtin_specs()["twomass_psc"]
    pair = [spec, renamed(spec, f"{spec.name}{suffix}")]
    first, second = reversed(pair) if longer_first else pair
    register_survey(conn, first)
    with pytest.raises(UsageError, match="names are taken") as error:
        register_survey(conn, second)
    assert f"survey.twomass_psc{suffix}" in error.value.found


def test_a_table_of_the_users_is_not_taken_for_a_survey(conn):
    conn.execute("CREATE VIEW survey.twomass_psc_clean AS SELECT 1 AS mine")
    with pytest.raises(UsageError, match="names are taken"):
        register_survey(conn, builtin_specs()["twomass_psc"])


def test_one_survey_s_ids_never_stand_in_another_s_column(conn):
    """matched.stars shows every survey's own id; of two columns of one name the second would hide the first."""
    register_survey(conn, builtin_specs()["gaia_source"])
    spec = builtin_specs()["twomass_psc"]
    register_survey(conn, spec)
    bands = [b.model_dump() | {"name": f"new_{b.name}"} for b in spec.bands]
    quality = [q.model_dump() | {"bands": [f"new_{b}" for b in q.bands]} for q in spec.quality]
    with pytest.raises(UsageError, match=r"names already: twomass_id") as error:
        register_survey(conn, changed(spec, name="copy", bands=bands, quality=quality))
    assert "id column another name" in error.value.next_step


def test_no_input_hides_behind_what_a_model_says(conn):
    """enriched.stars has one column of a name: the user's teff would be shown as the model's."""
    made = {c.name for kind in KINDS for c in [RUN_OF[kind], *columns_of(kind, [])]} - {"source_id"}
    assert made - set(XP_COLUMNS) <= OF_THE_MODEL
    register_survey(conn, builtin_specs()["gaia_source"])
    spec = builtin_specs()["reddening_sfd"]
    columns = [c.model_dump() | {"name": c.name.replace("ebv", "teff")} for c in spec.columns]
    with pytest.raises(UsageError, match=r"a model's columns: teff"):
        register_survey(conn, changed(spec, name="mine", scalars=["teff"], columns=columns))


def test_a_stored_survey_that_is_taken_no_longer_is_named(conn):
    """An older msacat took ids of floating point."""
    register_survey(conn, builtin_specs()["twomass_psc"])
    conn.execute(
        "UPDATE msacat.surveys SET spec = jsonb_set(spec, '{columns,0,type}', '\"real\"') WHERE name = 'twomass_psc'"
    )
    for look in (registered_specs, lambda c: find_spec(c, "twomass_psc")):
        with pytest.raises(StoreUnavailable, match="twomass_psc") as error:
            look(conn)
        assert "must be bigint or integer or text, not real" in error.value.found


def test_a_store_holds_63_bands(conn):
    spec = builtin_specs()["twomass_psc"]
    register_survey(conn, spec)
    for bit in range(3, 63):
        conn.execute(
            "INSERT INTO msacat.bands SELECT 'other_' || %s, %s, survey, mag_column, err_column, system, zero_point_jy, "
            "wavelength_nm, width_nm, typical_err, xp FROM msacat.bands WHERE bit = 0",
            [bit, bit],
        )
    assert update_survey(conn, changed(spec, version=spec.version + 1, title="Two Micron")) == [
        f"title changed from {spec.title!r} to 'Two Micron'"
    ]
    with pytest.raises(UsageError, match="at most 63 bands"):
        register_survey(conn, builtin_specs()["catwise2020"])


def test_one_reference_for_ever(conn):
    register_survey(conn, builtin_specs()["gaia_source"])
    with pytest.raises(UsageError, match="one for ever"):
        register_survey(conn, changed(builtin_specs()["gaia_source"], name="gaia_dr4", release="gaia_dr4"))


words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)


@settings(max_examples=200)
@given(
    words, st.sampled_from(["", "mag", "mas/yr", "log(cm.s**-2)"]), st.sampled_from(["", "phot.mag;em.opt.R"])
)
def test_comments_read_back(sentence, unit, ucd):
    sentence = sentence.strip()
    back = Described.parse(str(Described(sentence, unit, ucd)))
    if "unit=" not in sentence:
        assert back == Described(sentence, unit, ucd)
