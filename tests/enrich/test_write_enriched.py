"""Runs: written exactly once, invisible until published, one row a star, measurements untouched."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import psycopg
import pytest
from psycopg import sql

from msacat.catalog.enrich.publish_enriched import drop_run, publish_run, stars_view_aside, verify_run
from msacat.catalog.enrich.write_enriched import RunRequest, features_of_run, start_run, write_chunks
from msacat.catalog.errors import InputRejected, Interrupted, UsageError
from msacat.catalog.server.connect import connect
from msacat.catalog.server.fault_points import ENRICH_POINTS, PUBLISH_POINTS
from msacat.catalog.store.column_comments import Described
from msacat.catalog.store.register_survey import register_survey, registered_specs
from msacat.catalog.store.star_view import star_features, view_columns
from msacat.catalog.store.verify_catalog import verify
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.survey_spec import SurveySpec
from msacat.catalog.surveys.units_and_ucds import check_ucd, check_unit

KINDS = ["magnitudes", "xp_coefficients", "embeddings", "metallicities"]


def colour_predictor(block: StarBlock) -> SimpleNamespace:
    """A real, if poor, imputation: every band is G + 1; what is observed passes through."""
    n, m = block.mag_BM.shape
    observed = np.isfinite(block.mag_BM)
    g = block.mag_BM[:, :1]
    has_input = np.isfinite(g[:, 0])
    no_support = np.zeros((n, m), bool)
    no_support[:, 2] = ~observed[:, 2]  # phot_z: pretend it was never seen in training
    mag = np.where(observed, block.mag_BM, np.where(no_support, np.nan, g + 1))
    suspect = np.zeros((n, m), bool)
    suspect[:, 0] = g[:, 0] > 19
    fe_h = np.where(has_input, g[:, 0] / 100, np.nan)
    bp = np.isfinite(block.xp_BK[:, 0])
    return SimpleNamespace(
        mag_BM=mag, err68_BM=np.where(np.isfinite(mag), 0.1, np.nan), err95_BM=np.where(np.isfinite(mag), 0.2, np.nan),
        observed_BM=observed, suspect_BM=suspect, no_support_BM=no_support, through_xp_BM=no_support & False,
        xp_BK=np.where(bp[:, None], block.xp_BK, np.where(has_input[:, None], 7.0, np.nan)),
        xp_err_BK=np.where(has_input[:, None], np.full_like(block.xp_BK, 0.5), np.nan),
        bp_observed_B=bp, rp_observed_B=bp, embedding_BE=np.repeat(g, 64, axis=1), has_input_B=has_input,
        fe_h_B=fe_h, fe_h_lo_B=fe_h - 0.1, fe_h_hi_B=fe_h + 0.1, teff_B=fe_h, teff_err_B=fe_h, logg_B=fe_h,
        logg_err_B=fe_h, label_suspect_B=~has_input,
    )  # fmt: skip


def a_model(dsn: str) -> int:
    with connect(dsn) as conn:
        return conn.execute(
            "INSERT INTO learned.models (name, state, folder, code_version) VALUES (%s, 'finished', '-', '-') "
            "RETURNING model_id",
            [os.urandom(4).hex()],
        ).fetchone()[0]


def enrich(
    dsn: str,
    request: RunRequest | None = None,
    publish: bool = True,
    kinds=KINDS,
    predict=colour_predictor,
) -> int:
    request = request or RunRequest()
    with connect(dsn) as conn:
        run_id = start_run(conn, a_model(dsn), request, kinds)
    write(dsn, run_id, request, kinds, predict)
    with connect(dsn) as conn:
        verify_run(conn, run_id)
        if publish:
            publish_run(conn, run_id)
    return run_id


def write(
    dsn: str, run_id: int, request: RunRequest | None = None, kinds=KINDS, predict=colour_predictor, **more
) -> int:
    with connect(dsn) as conn:
        features = features_of_run(conn, run_id, star_features(conn, registered_specs(conn)))
    return write_chunks(dsn, run_id, request or RunRequest(), features, predict, kinds, **more)


def rows(dsn: str, query: str, *values) -> list[tuple]:
    with connect(dsn) as conn:
        return conn.execute(query, values or None).fetchall()


def test_one_row_a_star_measured_unchanged(made_up):
    before = rows(
        made_up.dsn, "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM survey.phot_made_up x"
    )
    run_id = enrich(made_up.dsn)
    found = rows(made_up.dsn, "SELECT source_id, run_id, gaia_g, phot_u, phot_u_err, phot_z, observed, suspect, "
                              "no_support, has_input FROM enriched.magnitudes ORDER BY 1")  # fmt: skip
    assert [row[0] for row in found] == made_up.source_id.tolist()
    assert {row[1] for row in found} == {run_id}
    for i, row in enumerate(found):
        seen = np.isfinite(made_up.u[i])
        assert row[6] & 2 == 2 * seen
        if seen:
            assert np.float32(row[3]) == made_up.u[i]
        elif i == 7:
            assert row[2:6] == (None, None, None, None) and row[9] is False
        else:
            assert np.float32(row[3]) == np.float32(made_up.g[i] + 1) and row[4] == pytest.approx(0.1)
        if not row[6] & 4:  # an unsupported band is NULL, never a number
            assert row[5] is None and row[8] == 4
    assert {row[7] for row in found} == {0, 1}
    assert before == rows(
        made_up.dsn, "SELECT count(*), sum(hashtextextended(x::text, 0)) FROM survey.phot_made_up x"
    )
    xp = rows(made_up.dsn, "SELECT bp_observed, bp_coefficients[1], cardinality(rp_coefficients) "
                           "FROM enriched.xp_coefficients ORDER BY source_id")  # fmt: skip
    assert [row[0] for row in xp] == [i % 4 == 0 for i in range(len(xp))]
    assert all(row[1] == 7.0 and row[2] == 55 for i, row in enumerate(xp) if i % 4 and i != 7)
    stars = rows(made_up.dsn, "SELECT source_id, phot_u, fe_h, embedding IS NOT NULL, labels_made_up_fe_h, observed "
                              "FROM enriched.stars ORDER BY 1")  # fmt: skip
    assert len(stars) == len(found)
    assert [s[5] for s in stars] == [f[6] for f in found]


def test_a_shared_object_is_shown_but_no_model_is_given_it(made_up):
    shared = made_up.source_id[[0, 3]].tolist()  # both measured in phot_u
    enrich(made_up.dsn)
    with connect(made_up.dsn) as conn:
        conn.execute("UPDATE matched.phot_made_up SET n_mates = 1 WHERE source_id = ANY (%s)", [shared])
    seen = {}

    def predictor(block: StarBlock) -> SimpleNamespace:
        seen.update(zip(block.source_id_B.tolist(), block.mag_BM, strict=True))
        return colour_predictor(block)

    run_id = enrich(made_up.dsn, RunRequest(new=True), predict=predictor)
    assert sorted(seen) == shared  # that they share is a change
    assert np.isfinite([mag[0] for mag in seen.values()]).all()
    assert np.isnan([mag[1:] for mag in seen.values()]).all()
    found = rows(made_up.dsn, "SELECT phot_u, phot_u_err, phot_u_err95, observed, suspect & 6, no_support, run_id "
                              "FROM enriched.magnitudes WHERE source_id = ANY (%s) ORDER BY source_id", shared)  # fmt: skip
    for i, row in zip((0, 3), found, strict=True):
        assert np.float32(row[0]) == made_up.u[i]
        assert row[2] == pytest.approx(1.959964 * row[1])
        assert row[3] & 3 == 3 and row[4:] == (row[3] & 6, 4 & ~row[3], run_id)
    with pytest.raises(InputRejected, match="no star to enrich"), connect(made_up.dsn) as conn:
        start_run(conn, a_model(made_up.dsn), RunRequest(new=True), KINDS)


def test_every_enriched_column_says_what_it_is(made_up):
    enrich(made_up.dsn)
    with connect(made_up.dsn) as conn:  # a run in progress has its list of stars too
        start_run(conn, a_model(made_up.dsn), RunRequest(ids=made_up.source_id[:3].tolist()), KINDS)
    comments = rows(made_up.dsn, "SELECT c.relname || '.' || a.attname, col_description(a.attrelid, a.attnum) "
        "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname IN ('enriched', 'matched', 'survey', 'learned', 'msacat') AND a.attnum > 0 "
        "AND c.relkind IN ('r', 'v') AND NOT attisdropped")  # fmt: skip
    silent = [
        name for name, comment in comments if not comment or " unit=" not in comment or " ucd=" not in comment
    ]
    assert silent == []
    for described in map(Described.parse, dict(comments).values()):
        assert (check_ucd(described.ucd), check_unit(described.unit)) == (described.ucd, described.unit)
    modelled = dict(comments)
    for name in ("magnitudes.phot_u", "magnitudes.phot_u_err95", "xp_coefficients.bp_coefficients",
                 "metallicities.fe_h", "embeddings.embedding", "stars.phot_u"):  # fmt: skip
        assert "meta.modelled" in modelled[name], name


def test_two_workers_write_each_star_once(made_up, monkeypatch):
    monkeypatch.setattr("msacat.catalog.enrich.write_enriched.STARS_A_CHUNK", 20)
    with connect(made_up.dsn) as conn:
        run_id = start_run(conn, a_model(made_up.dsn), RunRequest(), KINDS)
    written: list[int] = []
    workers = [threading.Thread(target=lambda: written.append(write(made_up.dsn, run_id))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(written) == len(made_up.source_id)
    with connect(made_up.dsn) as conn:
        assert verify_run(conn, run_id)["magnitudes"] == len(made_up.source_id)


@pytest.mark.crash
@pytest.mark.parametrize("point", ENRICH_POINTS)
def test_killed_writer_leaves_whole_chunks_and_resumes(made_up, point, monkeypatch):
    monkeypatch.setattr("msacat.catalog.enrich.write_enriched.STARS_A_CHUNK", 100)
    with connect(made_up.dsn) as conn:
        run_id = start_run(conn, a_model(made_up.dsn), RunRequest(), KINDS)
    write_some = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_write_enriched import write\n"
        "write(sys.argv[2], int(sys.argv[3]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", write_some, os.path.dirname(__file__), made_up.dsn, str(run_id)],
        env=os.environ | {"MSACAT_FAULT": point},
    )
    assert done.returncode == -9
    with connect(made_up.dsn) as conn, pytest.raises(InputRejected, match="lacks"):
        verify_run(conn, run_id)
    with pytest.raises(psycopg.errors.UndefinedTable):
        rows(made_up.dsn, "SELECT * FROM enriched.magnitudes")
    write(made_up.dsn, run_id)
    with connect(made_up.dsn) as conn:
        verify_run(conn, run_id)
        publish_run(conn, run_id)
    ids = [i for (i,) in rows(made_up.dsn, "SELECT source_id FROM enriched.magnitudes ORDER BY 1")]
    assert ids == made_up.source_id.tolist()


@pytest.mark.crash
@pytest.mark.parametrize("point", PUBLISH_POINTS)
def test_killed_publisher_leaves_the_old_views(made_up, point):
    """The newer run lacks two kinds: its views have other columns, so that they are dropped on the way."""
    first, second = enrich(made_up.dsn), enrich(made_up.dsn, publish=False, kinds=KINDS[:2])
    publish = (
        "import sys\n"
        "from msacat.catalog.enrich.publish_enriched import publish_run\n"
        "from msacat.catalog.server.connect import connect\n"
        "with connect(sys.argv[1]) as conn:\n"
        "    publish_run(conn, int(sys.argv[2]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", publish, made_up.dsn, str(second)], env=os.environ | {"MSACAT_FAULT": point}
    )
    assert done.returncode == -9
    states = "SELECT run_id, state FROM msacat.runs"
    assert dict(rows(made_up.dsn, states)) == {first: "published", second: "verified"}
    shown = "SELECT run_id, metallicity_run_id, count(*) FROM enriched.stars GROUP BY 1, 2"
    assert rows(made_up.dsn, shown) == [(first, first, len(made_up.source_id))]
    with connect(made_up.dsn) as conn:
        assert publish_run(conn, second) == ["magnitudes", "xp_coefficients", "stars"]
    assert dict(rows(made_up.dsn, states)) == {first: "superseded", second: "published"}
    assert rows(made_up.dsn, "SELECT DISTINCT run_id FROM enriched.stars") == [(second,)]


def test_stop_between_chunks(made_up, monkeypatch):
    monkeypatch.setattr("msacat.catalog.enrich.write_enriched.STARS_A_CHUNK", 100)
    with connect(made_up.dsn) as conn:
        run_id = start_run(conn, a_model(made_up.dsn), RunRequest(), KINDS)
    answers = iter([False, False, True])
    with pytest.raises(Interrupted):
        write(made_up.dsn, run_id, should_stop=lambda: next(answers))
    assert rows(made_up.dsn, "SELECT count(*) FROM msacat.run_chunks WHERE done") == [(2,)]
    assert write(made_up.dsn, run_id) == len(made_up.source_id) - 200


def test_a_survey_added_meanwhile_does_not_touch_a_run(made_up, monkeypatch):
    """Its bands are in no table of the run: neither of one that is at work, nor of one that is resumed."""
    monkeypatch.setattr("msacat.catalog.enrich.write_enriched.STARS_A_CHUNK", 100)
    with connect(made_up.dsn) as conn:
        features = star_features(conn, registered_specs(conn))

    def add_survey(name: str) -> None:
        with connect(made_up.dsn) as conn:
            like = registered_specs(conn)["phot_made_up"].model_dump()
            columns = [like["columns"][0] | {"name": f"{name}_id"}, *like["columns"][1:]]
            bands = [band | {"name": f"{name}_{band['mag']}"} for band in like["bands"]]
            its_own = {
                "name": name,
                "columns": columns,
                "id": {"column": f"{name}_id"},
                "bands": bands,
                "quality": [],
            }
            register_survey(conn, SurveySpec.model_validate(like | its_own))

    add_survey("before_the_run")
    with connect(made_up.dsn) as conn:
        run_id = start_run(conn, a_model(made_up.dsn), RunRequest(), KINDS, features.band_names)
    add_survey("before_the_lanes")
    answers = iter([False, False, True])
    with pytest.raises(Interrupted):
        write_chunks(made_up.dsn, run_id, RunRequest(), features, colour_predictor, KINDS,
                     should_stop=lambda: next(answers), lanes=1)  # fmt: skip
    add_survey("before_the_rest")
    assert write(made_up.dsn, run_id) == len(made_up.source_id) - 200
    with connect(made_up.dsn) as conn:
        verify_run(conn, run_id)
        publish_run(conn, run_id)
        assert "before_the_run_u" not in view_columns(conn, "enriched", f"r{run_id}_magnitudes")
    [(n, n_unknown)] = rows(
        made_up.dsn,
        "SELECT count(*), count(*) FILTER (WHERE (no_support >> b.bit) & 1 = 1) FROM enriched.magnitudes, msacat.bands b "
        "WHERE b.band = 'before_the_rest_z'",
    )
    assert n == n_unknown == len(made_up.source_id)


def test_a_dropped_run_is_written_no_further(made_up, monkeypatch):
    monkeypatch.setattr("msacat.catalog.enrich.write_enriched.STARS_A_CHUNK", 100)
    with connect(made_up.dsn) as conn:
        run_id = start_run(conn, a_model(made_up.dsn), RunRequest(), KINDS)
    to_drop, one_at_a_time = [run_id], threading.Lock()

    def drop_it() -> bool:
        with one_at_a_time:  # both lanes ask
            if to_drop and rows(made_up.dsn, "SELECT 1 FROM msacat.run_chunks WHERE done"):
                with connect(made_up.dsn) as conn:
                    drop_run(conn, to_drop.pop())
        return False

    with pytest.raises(InputRejected, match="dropped"):
        write(made_up.dsn, run_id, should_stop=drop_it)


def test_grants_outlive_the_views(made_up):
    """Of roles whose names need quotes, of single columns, and the right to pass them on."""
    role = "astro-Reader.of@tests"
    first = enrich(made_up.dsn)
    with connect(made_up.dsn) as conn:
        conn.execute(sql.SQL("DROP ROLE IF EXISTS {0}; CREATE ROLE {0}").format(sql.Identifier(role)))
        for what in (
            "SELECT ON enriched.stars TO {} WITH GRANT OPTION",
            "SELECT (source_id) ON enriched.magnitudes TO {}",
        ):
            conn.execute(sql.SQL("GRANT " + what).format(sql.Identifier(role)))
    try:
        enrich(made_up.dsn, RunRequest(where="gaia_g < 15"))
        with connect(made_up.dsn) as conn:
            with stars_view_aside(conn):
                pass
            rights = conn.execute(
                "SELECT has_table_privilege(%(r)s, 'enriched.stars', 'SELECT WITH GRANT OPTION'), "
                "has_column_privilege(%(r)s, 'enriched.magnitudes', 'source_id', 'SELECT'), "
                "has_table_privilege(%(r)s, 'enriched.magnitudes', 'SELECT')", {"r": role},
            ).fetchone()  # fmt: skip
            assert rights == (True, True, False)
            drop_run(conn, first)
    finally:
        with connect(made_up.dsn) as conn:
            conn.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def test_a_condition_that_fails_for_a_star_starts_no_run(made_up):
    with pytest.raises(UsageError, match="division by zero"):
        enrich(made_up.dsn, RunRequest(where="1 / (gaia_g - gaia_g) > 0"))
    assert rows(made_up.dsn, "SELECT count(*) FROM msacat.runs") == [(0,)]
    # of a star that came in after the run was begun
    request = RunRequest(where="1 / (parallax_error - 3) < 0")
    with connect(made_up.dsn) as conn:
        run_id = start_run(conn, a_model(made_up.dsn), request, KINDS)
    with connect(made_up.dsn) as conn:
        conn.execute("UPDATE survey.gaia_made_up SET parallax_error = 3")
    with pytest.raises(UsageError, match="division by zero"):
        write(made_up.dsn, run_id, request)


def test_partial_runs_stack_and_full_runs_supersede(made_up):
    first = enrich(made_up.dsn)
    part = enrich(made_up.dsn, RunRequest(where="gaia_g < 15"))
    counts = dict(rows(made_up.dsn, "SELECT run_id, count(*) FROM enriched.magnitudes GROUP BY 1"))
    bright = int((made_up.g[np.arange(len(made_up.g)) != 7] < 15).sum())
    assert counts == {first: len(made_up.g) - bright, part: bright}
    assert rows(made_up.dsn, "SELECT count(*), count(DISTINCT source_id) FROM enriched.stars") == [(600, 600)]
    last = enrich(made_up.dsn)
    assert rows(made_up.dsn, "SELECT DISTINCT run_id FROM enriched.embeddings") == [(last,)]
    states = dict(rows(made_up.dsn, "SELECT run_id, state FROM msacat.runs"))
    assert states == {first: "superseded", part: "superseded", last: "published"}
    with connect(made_up.dsn) as conn:
        drop_run(conn, last)
        publish_run(conn, first)
    assert rows(made_up.dsn, "SELECT DISTINCT run_id FROM enriched.magnitudes") == [(first,)]


def test_stars_name_the_run_of_each_kind(made_up):
    every_kind = enrich(made_up.dsn)
    part = enrich(made_up.dsn, RunRequest(ids=[int(made_up.source_id[0])]), kinds=KINDS[:1])
    query = "SELECT run_id, xp_run_id, metallicity_run_id, embedding_run_id FROM enriched.stars WHERE source_id = %s"
    assert rows(made_up.dsn, query, int(made_up.source_id[0])) == [(part, *[every_kind] * 3)]
    assert rows(made_up.dsn, query, int(made_up.source_id[1])) == [(every_kind,) * 4]
    enrich(made_up.dsn, kinds=KINDS[:2])
    with connect(made_up.dsn) as conn:
        shown = view_columns(conn, "enriched", "stars")
    assert [name for name in shown if name.endswith("run_id")] == ["run_id", "xp_run_id"]


def test_new_covers_added_and_changed_stars_only(made_up):
    enrich(made_up.dsn)
    with connect(made_up.dsn) as conn, pytest.raises(InputRejected, match="no star"):
        start_run(conn, a_model(made_up.dsn), RunRequest(new=True), KINDS)
    with connect(made_up.dsn) as conn:
        conn.execute(
            "INSERT INTO survey.gaia_made_up (source_id, ra, dec, g, file_id) VALUES (5, 1, 1, 15, 1)"
        )
        lost = conn.execute(
            "DELETE FROM matched.phot_made_up WHERE phot_id = 'p3' RETURNING source_id"
        ).fetchone()[0]
        reborn = int(made_up.source_id[1])
        conn.execute("INSERT INTO msacat.files (survey, release, path, content_sha256, rows_read, rows_kept, "
                     "spec_version, spec_fingerprint, code_version) VALUES ('gaia_made_up', '', '', '2nd', 0, 0, 1, '', '')")  # fmt: skip
        conn.execute("UPDATE survey.gaia_made_up SET file_id = 5 WHERE source_id = %s", [reborn])
    run_id = enrich(made_up.dsn, RunRequest(new=True))
    ids = rows(made_up.dsn, "SELECT source_id FROM enriched.magnitudes WHERE run_id = %s ORDER BY 1", run_id)
    assert [i for (i,) in ids] == sorted([5, lost, reborn])


def test_a_measurement_gone_since_the_run_is_not_shown_as_imputed(made_up):
    enrich(made_up.dsn)
    lost, kept = int(made_up.source_id[0]), int(made_up.source_id[12])  # both have u, z and a spectrum
    with connect(made_up.dsn) as conn:
        conn.execute("DELETE FROM matched.phot_made_up WHERE source_id = %s", [lost])
        conn.execute("DELETE FROM survey.xp_made_up WHERE source_id = %s", [lost])
        conn.execute("UPDATE survey.xp_made_up SET bp_coefficient_errors = NULL WHERE source_id = %s", [kept])
    [gone, held] = rows(
        made_up.dsn,
        "SELECT phot_u, phot_u_err, phot_u_err95, bp_coefficients, bp_coefficient_errors, rp_coefficients, "
        "rp_coefficient_errors, observed & 2, bp_observed OR rp_observed FROM enriched.stars "
        "WHERE source_id IN (%s, %s) ORDER BY source_id",
        lost,
        kept,
    )
    assert gone == (*[None] * 7, 0, False)
    assert (
        held[0] == made_up.u[12] and held[3] and held[4] is None and held[6]
    )  # no error of another spectrum
    imputed = "SELECT phot_u, phot_u_err95, bp_coefficients[1] FROM enriched.stars WHERE source_id = %s"
    [others] = rows(made_up.dsn, imputed, int(made_up.source_id[1]))
    assert others == (np.float32(made_up.g[1] + 1), np.float32(0.2), 7.0)


def test_new_covers_stars_whose_spectrum_is_gone(made_up):
    enrich(made_up.dsn)
    lost, half = (int(made_up.source_id[i]) for i in (4, 8))
    with connect(made_up.dsn) as conn:
        conn.execute("DELETE FROM survey.xp_made_up WHERE source_id = %s", [lost])
        conn.execute("UPDATE survey.xp_made_up SET rp_coefficients = NULL WHERE source_id = %s", [half])
    run_id = enrich(made_up.dsn, RunRequest(new=True), kinds=KINDS[:1])
    ids = rows(made_up.dsn, "SELECT source_id FROM enriched.magnitudes WHERE run_id = %s ORDER BY 1", run_id)
    assert [i for (i,) in ids] == [lost, half]
    with connect(made_up.dsn) as conn, pytest.raises(InputRejected, match="no star"):
        start_run(conn, a_model(made_up.dsn), RunRequest(new=True), KINDS)


def test_ids_not_in_the_store_are_refused(made_up):
    with connect(made_up.dsn) as conn:
        with pytest.raises(InputRejected, match="not in the store") as error:
            start_run(conn, a_model(made_up.dsn), RunRequest(ids=[int(made_up.source_id[0]), 99]), KINDS)
        assert "99" in (error.value.found or "")
        conn.rollback()
    run_id = enrich(made_up.dsn, RunRequest(ids=made_up.source_id[:3].tolist()))
    assert rows(made_up.dsn, "SELECT count(*) FROM enriched.magnitudes WHERE run_id = %s", run_id) == [(3,)]


def test_no_labels_no_metallicity_view(made_up):
    enrich(made_up.dsn, kinds=KINDS[:3])
    with pytest.raises(psycopg.errors.UndefinedTable):
        rows(made_up.dsn, "SELECT * FROM enriched.metallicities")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        rows(made_up.dsn, "SELECT fe_h FROM enriched.stars")


def test_users_view_in_the_way_is_named(made_up):
    enrich(made_up.dsn)
    with connect(made_up.dsn) as conn:
        conn.execute("CREATE VIEW public.mine AS SELECT fe_h FROM enriched.metallicities")
        conn.execute("CREATE ROLE astronomer")
        conn.execute("GRANT SELECT ON enriched.stars TO astronomer")
    enrich(made_up.dsn)  # same columns: replaced beneath it
    assert rows(made_up.dsn, "SELECT count(*) FROM mine") == [(600,)]
    with pytest.raises(InputRejected) as error:
        enrich(made_up.dsn, kinds=KINDS[:3])  # no metallicities any more
    assert "mine" in str(error.value)
    assert rows(made_up.dsn, "SELECT count(*) FROM mine") == [(600,)]
    with connect(made_up.dsn) as conn:
        conn.execute("DROP VIEW mine")
    enrich(made_up.dsn, kinds=KINDS[:3])
    granted = rows(made_up.dsn, "SELECT has_table_privilege('astronomer', 'enriched.stars', 'SELECT')")
    with connect(made_up.dsn) as conn:
        conn.execute("DROP OWNED BY astronomer")
        conn.execute("DROP ROLE astronomer")
    assert granted == [(True,)]


def test_a_foreign_relation_of_our_name_is_not_overwritten(made_up):
    with connect(made_up.dsn) as conn:
        conn.execute("CREATE TABLE enriched.magnitudes (mine text)")
    with pytest.raises(InputRejected, match="not msacat's"):
        enrich(made_up.dsn)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("assignment", ["magnitudes SET phot_u = '{}'", "embeddings SET embedding[5] = '{}'"])
def test_non_finite_values_never_get_published(made_up, assignment, value):
    with connect(made_up.dsn) as conn:
        run_id = start_run(conn, a_model(made_up.dsn), RunRequest(), KINDS)
    write(made_up.dsn, run_id)
    with connect(made_up.dsn) as conn:
        conn.execute(f"UPDATE enriched.r{run_id}_{assignment.format(value)} WHERE source_id = %s",
                     [int(made_up.source_id[9])])  # fmt: skip
    with connect(made_up.dsn) as conn, pytest.raises(InputRejected, match="not finite") as error:
        verify_run(conn, run_id)
    assert str(made_up.source_id[9]) in (error.value.found or "")


def test_verify_counts_the_runs_again(made_up):
    run_id = enrich(made_up.dsn)
    with connect(made_up.dsn) as conn:
        (result,) = [r for r in verify(conn) if r.test == "runs"]
        assert result.passed and result.target == f"run {run_id}", result
        conn.execute(
            f"DELETE FROM enriched.r{run_id}_magnitudes WHERE source_id = %s", [int(made_up.source_id[0])]
        )
        (result,) = [r for r in verify(conn) if r.test == "runs"]
        assert not result.passed and f"enriched.r{run_id}_magnitudes holds" in result.description


def test_publish_needs_a_verified_run(made_up):
    with connect(made_up.dsn) as conn:
        run_id = start_run(conn, a_model(made_up.dsn), RunRequest(), KINDS)
        conn.commit()
        with pytest.raises(UsageError, match="running"):
            publish_run(conn, run_id)
        with pytest.raises(UsageError, match="no run 99"):
            publish_run(conn, 99)


def test_embedding_distance(made_up):
    enrich(made_up.dsn)
    nearest = rows(made_up.dsn, "SELECT b.source_id, enriched.embedding_distance(a.embedding, b.embedding) d "
        "FROM enriched.embeddings a, enriched.embeddings b WHERE a.source_id = %s ORDER BY d NULLS LAST LIMIT 2",
        int(made_up.source_id[0]))  # fmt: skip
    assert nearest[0] == (int(made_up.source_id[0]), 0.0)
    assert nearest[1][1] == pytest.approx(
        8 * np.sort(np.abs(np.delete(made_up.g, [0, 7]) - made_up.g[0]))[0], rel=1e-4
    )
