"""A table the archive holds becomes survey.<dataset> without a copy, with the values ingest would have stored."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from msacat.catalog.enrich.enriched_tables import create_run_tables
from msacat.catalog.enrich.publish_enriched import recreate_views
from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.ingest.adopt_table import adopt
from msacat.catalog.ingest.forget_files import forget
from msacat.catalog.ingest.ingest_files import plan_ingest, run_ingest
from msacat.catalog.store.register_survey import find_spec, register_survey, registered_specs
from msacat.catalog.store.star_view import star_features
from msacat.catalog.store.verify_catalog import verify
from msacat.catalog.stream.model_ledger import import_model
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import SurveySpec

READER = "reader_of_a_test"
NUMBERS = {
    "source_id": "bigint", "ra": "double precision", "dec": "double precision", "ref_epoch": "double precision",
    "parallax": "double precision", "parallax_error": "real", "pmra": "real", "phot_g_mean_mag": "real",
    "phot_g_mean_flux": "double precision", "phot_g_mean_flux_error": "double precision", "ra_error": "double precision", "ruwe": "numeric",
    "visibility_periods_used": "integer", "duplicated_source": "boolean", "random_index": "bigint",
}  # fmt: skip


def make_archive(
    conn, rows, index: bool = True, key: bool = True, types=NUMBERS, where="gaia_dr3.gaia_source"
) -> None:
    schema, table = where.split(".")
    conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(t)) for n, t in types.items()
    )
    target = sql.Identifier(schema, table)
    conn.execute(sql.SQL("CREATE TABLE {} ({})").format(target, columns))
    for row in rows:
        conn.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                target,
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join([sql.Placeholder()] * len(row)),
            ),
            list(row.values()),
        )
    if key:
        conn.execute(sql.SQL("CREATE UNIQUE INDEX ON {} (source_id)").format(target))
    if index:
        conn.execute(sql.SQL("CREATE INDEX ON {} (q3c_ang2ipix(ra, dec))").format(target))
    conn.execute(sql.SQL("ANALYZE {}").format(target))
    conn.commit()


def star(number: int, **changes) -> dict:
    return {
        "source_id": 1000 + number, "ra": 10.0 + number, "dec": -5.0, "ref_epoch": 2016.0, "parallax": 1.5,
        "parallax_error": 0.1, "pmra": 2.5, "phot_g_mean_mag": 15.25, "phot_g_mean_flux": 1000.0,
        "phot_g_mean_flux_error": 5.0, "ruwe": 1.01, "visibility_periods_used": 12, "duplicated_source": False,
        "random_index": 4, "ra_error": 0.0,
    } | changes  # fmt: skip


STARS = [
    star(1),
    star(2, parallax=float("nan"), phot_g_mean_mag=float("inf"), ruwe=1.7, duplicated_source=True),
    star(3, parallax=5000.0, phot_g_mean_flux=-1.0, visibility_periods_used=3, pmra=None),
    star(4, phot_g_mean_flux_error=0.0, duplicated_source=None),
    star(8, parallax=1e-50, ra_error=1e-50, phot_g_mean_flux=1e30, phot_g_mean_flux_error=1e-30),
]
REJECTED = [star(5, ra=400.0), star(6, dec=float("nan")), star(7, ra=None), star(-1000), star(2**63 - 1001)]


def stored(conn, dataset="gaia_source") -> list[tuple]:
    names = [c.name for c in find_spec(conn, dataset).columns] + ["quality"]
    return conn.execute(
        sql.SQL("SELECT {} FROM {} ORDER BY 1").format(
            sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier("survey", dataset)
        )
    ).fetchall()


def test_the_view_shows_what_ingest_would_have_stored(conn, server, store, write_csv):
    make_archive(conn, STARS + REJECTED)
    report = adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    assert report.rows_estimated == 10 and "teff_gspphot" in report.absent
    assert report.columns["phot_g_mean_mag_error"] == "phot_g_mean_flux, phot_g_mean_flux_error"
    adopted = stored(conn)
    assert len(adopted) == 5
    forget(conn, "gaia_source")
    path = write_csv("same.csv", STARS + REJECTED)
    [one] = run_ingest(conn, plan_ingest(conn, "gaia_source", [path])).files
    assert (one.rows_read, one.rows_kept) == (10, 5)
    ingested = stored(conn)
    for a, b in zip(adopted, ingested, strict=True):
        assert [x is None for x in a] == [y is None for y in b]
        assert [x for x in a if x is not None] == pytest.approx([y for y in b if y is not None], rel=1e-6)


def labels_with_names() -> SurveySpec:
    """GALAH's labels, were its Gaia ids written out as text."""
    galah = builtin_specs()["galah_dr3"].model_dump()
    how = {"transform": "gaia_id_from_text", "columns": ["dr3_source_id"]}
    galah["columns"] = [
        c | {"published": [], "computed": how, "sentinels": []} if c["name"] == "gaia_source_id" else c
        for c in galah["columns"]
    ]
    return SurveySpec.model_validate(galah | {"name": "named"})


def make_labels(conn, names: list[str | None]) -> None:
    conn.execute("CREATE TABLE public.labels (sobject_id bigint PRIMARY KEY, ra_dr2 double precision, "
                 "dec_dr2 double precision, dr3_source_id text, fe_h real)")  # fmt: skip
    for i, name in enumerate(names):
        conn.execute("INSERT INTO public.labels VALUES (%s, 10, 20, %s, 0.1)", [i + 1, name])
    conn.execute("CREATE INDEX ON public.labels (q3c_ang2ipix(ra_dr2, dec_dr2))")
    conn.commit()


def test_gaia_ids_written_as_text_are_read_whole_as_ingest_reads_them(conn, write_csv):
    names = ["Gaia DR3 6899999999999999999", " 5853498713190525696 ", "gaia_dr3  17", "9223372036854775808",
             "12345678901234567890", "J1234", "1.5", None]  # fmt: skip
    register_survey(conn, labels_with_names())
    conn.commit()
    make_labels(conn, names)
    adopt(conn, "named", "public.labels")
    adopted = stored(conn, "named")
    ids = [row[0] for row in conn.execute("SELECT gaia_source_id FROM survey.named ORDER BY galah_id")]
    assert ids == [6899999999999999999, 5853498713190525696, 17, *[None] * 5]
    forget(conn, "named")
    rows = [
        {"sobject_id": i + 1, "ra_dr2": 10, "dec_dr2": 20, "dr3_source_id": name, "fe_h": 0.1}
        for i, name in enumerate(names)
    ]
    run_ingest(conn, plan_ingest(conn, "named", [write_csv("labels.csv", rows)]))
    assert stored(conn, "named") == adopted


def test_names_of_another_release_refuse_the_table(conn):
    register_survey(conn, labels_with_names())
    conn.commit()
    make_labels(conn, ["Gaia DR3 1", "Gaia DR2 2"])
    with pytest.raises(InputRejected, match="another Gaia release") as error:
        adopt(conn, "named", "public.labels")
    assert (error.value.file, error.value.row, error.value.column, error.value.found) == (
        "public.labels", None, "dr3_source_id", "Gaia DR2 2")  # fmt: skip
    make_archive(conn, [{k: v for k, v in star(1).items() if k != "ref_epoch"}])
    conn.execute(
        "ALTER TABLE gaia_dr3.gaia_source DROP ref_epoch, ADD designation text DEFAULT 'Gaia DR2 1001'"
    )
    conn.commit()
    with pytest.raises(InputRejected, match="another Gaia release"):
        adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    conn.execute("UPDATE gaia_dr3.gaia_source SET designation = 'Gaia DR3 1001'")
    conn.commit()
    assert "designation" not in adopt(conn, "gaia_source", "gaia_dr3.gaia_source").unused


def test_cones_and_ids_use_the_archives_indexes(conn):
    make_archive(conn, [star(i, dec=i / 100 - 5) for i in range(3000) if i < 300])
    adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    conn.execute("SET enable_seqscan = off")
    cone = "SELECT source_id FROM survey.gaia_source WHERE q3c_radial_query(ra, dec, 12, -4.9, 0.5)"
    one = "SELECT ra FROM survey.gaia_source WHERE source_id = 1001"
    for query, index in ((cone, "gaia_source_q3c_ang2ipix_idx"), (one, "gaia_source_source_id_idx")):
        plan = "\n".join(line for (line,) in conn.execute("EXPLAIN " + query))
        assert index in plan, plan


def test_nothing_can_be_written_through_the_view(conn):
    make_archive(conn, STARS)
    adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    for statement in ("UPDATE survey.gaia_source SET ra = 1", "DELETE FROM survey.gaia_source"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState), conn.transaction():
            conn.execute(statement)
    with pytest.raises(UsageError, match="never writes to"):
        plan_ingest(conn, "gaia_source", [__file__])


def test_the_error_holds_the_command_that_makes_the_missing_index(conn):
    make_archive(conn, STARS, index=False, key=False)
    with pytest.raises(InputRejected, match="lacks an index") as error:
        adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    commands = [c for c in error.value.next_step.split(";") if c.strip()]
    assert (
        'CREATE INDEX "gaia_source_q3c" ON "gaia_dr3"."gaia_source" (q3c_ang2ipix("ra", "dec"))'
        in commands[1]
    )
    assert error.value.expected == "a unique index on source_id, an index on the position by Q3C"
    assert conn.execute("SELECT count(*) FROM msacat.surveys").fetchone() == (0,)
    for command in commands:
        conn.execute(command)
    conn.commit()
    adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    assert len(stored(conn)) == len(STARS)


@pytest.mark.parametrize(
    ("change", "column", "found"),
    [
        (
            "ALTER TABLE gaia_dr3.gaia_source ALTER source_id TYPE double precision",
            "source_id",
            "double precision",
        ),
        ("ALTER TABLE gaia_dr3.gaia_source ALTER ra TYPE real", "ra", "real"),
        ("ALTER TABLE gaia_dr3.gaia_source ALTER parallax TYPE text", "parallax", "text"),
        ("COMMENT ON COLUMN gaia_dr3.gaia_source.parallax IS 'parallax unit=Jy ucd=-'", "parallax", "Jy"),
        ("COMMENT ON COLUMN gaia_dr3.gaia_source.ra IS 'position unit=rad ucd=-'", "ra", "rad"),
        ("UPDATE gaia_dr3.gaia_source SET ref_epoch = 2015.5", "ref_epoch", "2015.5"),
        ("ALTER TABLE gaia_dr3.gaia_source RENAME dec TO decl", None, None),
    ],
)
def test_tables_that_do_not_fit_are_refused_and_nothing_stays(conn, change, column, found):
    make_archive(conn, STARS)
    conn.execute(change)
    conn.commit()
    with pytest.raises(InputRejected) as error:
        adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    if column:
        assert (error.value.column, error.value.found) == (column, found)
    else:
        assert "dec (published as dec)" in error.value.expected
    assert conn.execute("SELECT to_regclass('survey.gaia_source')").fetchone() == (None,)


def test_units_in_comments_are_converted_and_other_names_are_given(conn):
    make_archive(conn, STARS)
    conn.execute("ALTER TABLE gaia_dr3.gaia_source RENAME dec TO decl")
    conn.execute("COMMENT ON COLUMN gaia_dr3.gaia_source.parallax IS 'parallax unit=arcsec ucd=-'")
    conn.commit()
    report = adopt(conn, "gaia_source", "gaia_dr3.gaia_source", {"dec": "decl"})
    assert report.converted == {"parallax": 1000.0}
    assert (
        conn.execute("SELECT parallax FROM survey.gaia_source WHERE source_id = 1004").fetchone() is not None
    )


@pytest.mark.parametrize(("unit", "motion"), [(None, 1250.0), ("arcsec/yr", 1250.0), ("mas/yr", 1.25)])
def test_what_is_published_in_another_unit_is_converted_whatever_its_name(conn, unit, motion):
    """CatWISE's pmra is arcsec/yr in its files and mas/yr here, under one name."""
    conn.execute(
        "CREATE TABLE public.catwise (source_id text PRIMARY KEY, ra float8, dec float8, w1mpro real, w1sigmpro real, "
        "w2mpro real, w2sigmpro real, pmra real)"
    )
    conn.execute("CREATE INDEX ON public.catwise (q3c_ang2ipix(ra, dec))")
    conn.execute("INSERT INTO public.catwise VALUES ('a', 1, 2, 12, 0.02, 12, 0.02, 1.25)")
    if unit:
        conn.execute(f"COMMENT ON COLUMN public.catwise.pmra IS 'Motion. unit={unit} ucd=pos.pm'")
    conn.commit()
    report = adopt(conn, "catwise2020", "public.catwise")
    assert conn.execute("SELECT pmra FROM survey.catwise2020").fetchone() == (motion,)
    assert report.converted == ({} if unit == "mas/yr" else {"pmra": 1000.0})


@pytest.mark.parametrize(("unit", "mag"), [(None, 21.4), ("nJy", 21.4), ("uJy", 13.9), ("mag", None)])
def test_fluxes_are_taken_in_the_unit_of_their_comment(conn, unit, mag):
    """Rubin publishes nJy: 10,000 of them are AB 21.4."""
    conn.execute(
        "CREATE TABLE public.objects (objectid bigint PRIMARY KEY, coord_ra float8, coord_dec float8, "
        "r_psfflux float8, r_psffluxerr float8)"
    )
    conn.execute("CREATE INDEX ON public.objects (q3c_ang2ipix(coord_ra, coord_dec))")
    conn.execute("INSERT INTO public.objects VALUES (1, 1, 2, 10000, 100)")
    if unit:
        for column in ("r_psfflux", "r_psffluxerr"):
            conn.execute(f"COMMENT ON COLUMN public.objects.{column} IS 'Flux. unit={unit} ucd=phot.flux'")
    conn.commit()
    if mag is None:
        with pytest.raises(InputRejected, match="does not convert"):
            adopt(conn, "lsst", "public.objects")
        return
    adopt(conn, "lsst", "public.objects")
    row = conn.execute("SELECT r_psfmag, r_psfmagerr FROM survey.lsst").fetchone()
    assert row == pytest.approx((mag, 0.0109), abs=1e-3)


def test_views_missing_tables_and_odd_names(conn):
    make_archive(conn, STARS)
    conn.execute("CREATE VIEW gaia_dr3.bright AS SELECT * FROM gaia_dr3.gaia_source")
    conn.commit()
    with pytest.raises(InputRejected, match="not a table"):
        adopt(conn, "gaia_source", "gaia_dr3.bright")
    with pytest.raises(UsageError, match="no table") as error:
        adopt(conn, "gaia_source", "gaia_dr3.gaia_sourc")
    assert "gaia_dr3.gaia_source" in error.value.expected
    for name in ("gaia_source", "a.b.c", "gaia_dr3."):
        with pytest.raises(UsageError):
            adopt(conn, "gaia_source", name)
    with pytest.raises(UsageError):
        adopt(conn, "gaia_source", 'gaia_dr3.x"; DROP SCHEMA survey CASCADE; --')
    with pytest.raises(UsageError, match="no column nonsense"):
        adopt(conn, "gaia_source", "gaia_dr3.gaia_source", {"nonsense": "ra"})


def test_a_partitioned_table_is_adopted(conn):
    conn.execute("CREATE SCHEMA big")
    conn.execute(
        "CREATE TABLE big.gaia (source_id bigint, ra double precision, dec double precision, phot_g_mean_mag real) "
        "PARTITION BY RANGE (source_id)"
    )
    for i in range(3):
        conn.execute(
            f"CREATE TABLE big.gaia_{i} PARTITION OF big.gaia FOR VALUES FROM ({1000 * i}) TO ({1000 * (i + 1)})"
        )
    conn.execute("CREATE UNIQUE INDEX ON big.gaia (source_id)")
    conn.execute("CREATE INDEX ON big.gaia (q3c_ang2ipix(ra, dec))")
    conn.execute("INSERT INTO big.gaia SELECT i, i / 10.0, 1, 12 FROM generate_series(1, 2999) i")
    conn.execute("ANALYZE big.gaia")
    conn.commit()
    report = adopt(conn, "gaia_source", "big.gaia")
    assert report.rows_estimated == 2999
    assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (2999,)
    assert conn.execute("SELECT min_source_id, max_source_id, format FROM msacat.files").fetchone() == (
        1,
        2999,
        "adopted",
    )


def test_forget_gives_the_dataset_back_and_it_can_be_adopted_again(conn, write_csv):
    make_archive(conn, STARS)
    adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    assert all(r.passed for r in verify(conn))
    with pytest.raises(UsageError, match="adopted already"):
        adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    [report] = forget(conn, "gaia_source")
    assert report.adopted_from == "gaia_dr3.gaia_source"
    assert conn.execute("SELECT count(*) FROM gaia_dr3.gaia_source").fetchone() == (len(STARS),)
    assert conn.execute("SELECT count(*) FROM survey.gaia_source").fetchone() == (0,)
    adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    assert len(stored(conn)) == len(STARS)
    forget(conn, "gaia_source")
    run_ingest(conn, plan_ingest(conn, "gaia_source", [write_csv("a.csv", STARS[:1])]))
    with pytest.raises(UsageError, match="holds ingested files"):
        adopt(conn, "gaia_source", "gaia_dr3.gaia_source")


def test_a_published_run_is_no_obstacle(conn, store):
    """enriched.stars stands on matched.stars, which is made anew: it comes back, grants and all."""
    make_archive(conn, STARS)
    conn.execute(f"DROP ROLE IF EXISTS {READER}")
    conn.execute(f"CREATE ROLE {READER}")
    register_survey(conn, find_spec(conn, "gaia_source"))
    model = import_model(conn, "m", Path("/nowhere"), star_features(conn, registered_specs(conn)), {}, "0")
    run = conn.execute(
        "INSERT INTO msacat.runs (model_id, state, file_ids, request, n_stars, code_version, published) "
        "VALUES (%s, 'published', '{}', '{}', 0, '', now()) RETURNING run_id", [model],
    ).fetchone()[0]  # fmt: skip
    create_run_tables(conn, run, ["magnitudes"])
    assert "stars" in recreate_views(conn)
    conn.execute(f"GRANT SELECT ON enriched.stars TO {READER}")
    conn.commit()
    adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    assert conn.execute("SELECT count(*) FROM enriched.stars").fetchone() == (len(STARS),)
    forget(conn, "gaia_source")
    assert conn.execute("SELECT count(*) FROM enriched.stars").fetchone() == (0,)
    assert conn.execute(
        "SELECT has_table_privilege(%s, 'enriched.stars', 'SELECT')", [READER]
    ).fetchone() == (True,)
    conn.execute(f"DROP OWNED BY {READER}")
    conn.execute(f"DROP ROLE {READER}")


def test_everything_made_anew_is_given_to_the_same_roles(conn):
    make_archive(conn, STARS)
    conn.execute(f"DROP ROLE IF EXISTS {READER}")
    conn.execute(f"CREATE ROLE {READER}")
    register_survey(conn, find_spec(conn, "gaia_source"))
    granted = ("matched.stars", "survey.xp_spectra", "survey.gaia_source_clean", "survey.gaia_source")

    def held() -> list[tuple[bool, bool, bool]]:
        return [
            conn.execute(
                "SELECT has_table_privilege(%(r)s, %(t)s, 'SELECT'), "
                "has_table_privilege(%(r)s, %(t)s, 'UPDATE WITH GRANT OPTION'), "
                "has_column_privilege(%(r)s, %(t)s, 'source_id', 'REFERENCES')",
                {"r": READER, "t": relation},
            ).fetchone()
            for relation in granted
        ]

    for relation in granted:
        conn.execute(f"GRANT SELECT ON {relation} TO {READER}")
        conn.execute(f"GRANT UPDATE ON {relation} TO {READER} WITH GRANT OPTION")
        conn.execute(f"GRANT REFERENCES (source_id) ON {relation} TO {READER}")
    conn.commit()
    adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    assert held() == [(True,) * 3] * len(granted)
    forget(conn, "gaia_source")
    assert held() == [(True,) * 3] * len(granted)
    conn.execute(f"DROP OWNED BY {READER}")
    conn.execute(f"DROP ROLE {READER}")


def test_a_users_view_in_the_way_is_named(conn):
    make_archive(conn, STARS)
    adopt(conn, "gaia_source", "gaia_dr3.gaia_source")
    conn.execute("CREATE VIEW public.mine AS SELECT ra FROM survey.gaia_source")
    conn.commit()
    with pytest.raises(UsageError, match="other views stand on") as error:
        forget(conn, "gaia_source")
    assert "mine" in error.value.found
    assert len(stored(conn)) == len(STARS)


def test_a_photometric_survey_with_text_ids_and_sentinels(conn):
    """2MASS as an archive might hold it, padded designations and NaN included."""
    conn.execute(
        "CREATE TABLE public.psc (designation character varying(17), ra double precision, decl double precision, "
        "jdate double precision, j_m real, j_msigcom real, h_m real, k_m double precision, ph_qual character(3), "
        "cc_flg text, gal_contam integer, mp_flg integer)"
    )
    conn.execute(
        "INSERT INTO public.psc VALUES "
        "('00000000+0000000', 0.0, 0.0, 2451545.0, 12.5, 0.03, 99.99, 'NaN', 'AUX', '000', 0, 0), "
        "('00000001+0000000', 359.9, 1.0, NULL, -9999, NULL, 11, 60, 'AAA', '0c0', 1, 0)"
    )
    conn.execute("CREATE UNIQUE INDEX ON public.psc (designation)")
    conn.execute("CREATE INDEX ON public.psc (q3c_ang2ipix(ra, decl))")
    conn.commit()
    adopt(conn, "twomass_psc", "public.psc")
    rows = conn.execute(
        "SELECT twomass_id, dec, epoch, j_m, h_m, k_m, ph_qual, quality, file_id > 0 FROM survey.twomass_psc ORDER BY 1"
    ).fetchall()
    assert rows[0] == ("00000000+0000000", 0.0, 2000.0, 12.5, None, None, "AUX", 0b110, True)
    assert rows[1] == ("00000001+0000000", 1.0, None, None, 11.0, None, "AAA", 1 << 4 | 1 << 6, True)
    clean = conn.execute("SELECT twomass_id, j_m, h_m FROM survey.twomass_psc_clean").fetchall()
    assert clean == [("00000000+0000000", 12.5, None)]


def test_a_table_that_holds_our_computed_column_already(conn):
    conn.execute("CREATE TABLE public.psc (twomass_id text PRIMARY KEY, ra double precision, dec double precision, "
                 "epoch double precision, j_m real, h_m real, k_m real, ph_qual text)")  # fmt: skip
    conn.execute(
        "INSERT INTO public.psc VALUES ('a', 1, 2, 1999.25, 12, 13, 14, 'AAA'), ('b', 2, 2, 1890, 12, 13, 14, 'AAA')"
    )
    conn.execute("CREATE INDEX ON public.psc (q3c_ang2ipix(ra, dec))")
    conn.commit()
    adopt(conn, "twomass_psc", "public.psc")
    assert conn.execute("SELECT epoch FROM survey.twomass_psc ORDER BY 1").fetchall() == [(1999.25,), (None,)]


def test_spectra_computed_from_samples_cannot_be_adopted(conn):
    conn.execute("CREATE TABLE public.sampled (source_id bigint PRIMARY KEY, flux real[], flux_error real[])")
    conn.commit()
    with pytest.raises(InputRejected, match="which a view cannot do"):
        adopt(conn, "xp_sampled", "public.sampled")


def test_continuous_spectra_with_unusable_elements_are_null(conn):
    conn.execute(
        "CREATE TABLE public.xp (source_id bigint PRIMARY KEY, bp_coefficients double precision[], "
        "bp_coefficient_errors real[], rp_coefficients double precision[], rp_coefficient_errors real[])"
    )
    good = [float(i) for i in range(55)]
    bad = [[*good[:-1], float("nan")], [*good[:-1], None], good[:-1], [*good[:-1], float("inf")]]
    for i, bp in enumerate([good, *bad, None]):
        conn.execute(
            "INSERT INTO public.xp VALUES (%s, %s::float8[], %s::real[], %s::float8[], %s::real[])",
            [i + 1, bp, good, good, good],
        )
    conn.commit()
    adopt(conn, "xp_continuous", "public.xp")
    rows = conn.execute(
        "SELECT source_id, bp_coefficients, bp_coefficient_errors[55], quality & 1 FROM survey.xp_continuous ORDER BY 1"
    ).fetchall()
    assert rows[0] == (1, good, 54.0, 0)
    assert [r[1] for r in rows[1:]] == [None] * 5 and all(r[3] == 1 for r in rows[1:])
