"""The whole way on a simulated sky: what users are promised of the enriched tables, read as they read them."""

from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import psycopg
import pytest

XP_LIMIT = 17.65  # of G: fainter stars have no published spectrum


def values(dsn: str, query: str) -> list[tuple]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(query).fetchall()


def columns(dsn: str, query: str) -> dict[str, np.ndarray]:
    """Result by column; NULL is NaN."""
    with psycopg.connect(dsn) as conn:
        cursor = conn.execute(query)
        rows = cursor.fetchall()
        names = [c.name for c in cursor.description]
    return {
        name: np.array([np.nan if row[i] is None else row[i] for row in rows]) for i, name in enumerate(names)
    }


def bands_of(dsn: str) -> dict[str, int]:
    return dict(values(dsn, "SELECT band, bit FROM msacat.bands ORDER BY bit"))


def test_each_gaia_star_has_exactly_one_row(trained_once, sky):
    ids = sorted(sky.truth()["source_id"].to_pylist())
    for view in ("magnitudes", "xp_coefficients", "embeddings", "metallicities", "stars"):
        found = values(trained_once, f"SELECT source_id FROM enriched.{view} ORDER BY 1")
        assert [source_id for (source_id,) in found] == ids, view
    assert values(trained_once, "SELECT count(*), count(*) FILTER (WHERE done) FROM msacat.run_chunks") == [
        (1, 1)
    ]


def test_measured_values_are_the_published_ones(trained_once, sky):
    published = {}
    for path in (sky.folder / "gaia_source").iterdir():
        with gzip.open(path, "rt") as lines:
            rows = csv.DictReader(line for line in lines if not line.startswith("#"))
            published |= {int(row["source_id"]): row["phot_g_mean_mag"] for row in rows}
    found = dict(values(trained_once, "SELECT source_id, gaia_g FROM enriched.stars"))
    with_g = {source_id: g for source_id, g in published.items() if g not in ("", "null")}
    assert len(with_g) > 2400
    assert {s: np.float32(found[s]) for s in with_g} == {s: np.float32(g) for s, g in with_g.items()}


def test_measurements_pass_through_both_views_unchanged(trained_once):
    for band, bit in bands_of(trained_once).items():
        counts = values(
            trained_once,
            f"""SELECT count(s.{band}),
                count(*) FILTER (WHERE s.{band} IS NOT NULL AND m.observed & {1 << bit} = 0),
                count(*) FILTER (WHERE s.{band} IS NULL AND m.observed & {1 << bit} <> 0),
                count(*) FILTER (WHERE m.{band} IS DISTINCT FROM s.{band}::real AND s.{band} IS NOT NULL),
                count(*) FILTER (WHERE e.{band} IS DISTINCT FROM m.{band}),
                count(*) FILTER (WHERE e.{band}_err IS DISTINCT FROM s.{band}_err::real AND s.{band} IS NOT NULL)
                FROM matched.stars s JOIN enriched.magnitudes m USING (source_id)
                JOIN enriched.stars e USING (source_id)""",
        )[0]
        assert counts[0] > 200 and counts[1:] == (0, 0, 0, 0, 0), band


def test_every_star_gets_every_band_with_ordered_intervals(trained_once):
    bands = bands_of(trained_once)
    assert {"catwise_w1", "catwise_w2", "gaia_g", "sdss_u", "skymapper_v", "ps1_y", "twomass_ks"} <= set(
        bands
    )
    imputed = 0
    for band in bands:
        n, n_mag, n_err, n_95 = values(
            trained_once,
            f"SELECT count(*), count({band}), count({band}_err), count(*) FILTER (WHERE {band}_err95 >= {band}_err) "
            f"FROM enriched.magnitudes WHERE has_input AND observed & {1 << bands[band]} = 0",
        )[0]
        assert n == n_mag == n_err == n_95, band
        imputed += n
    assert imputed > 20_000


def test_faint_stars_have_a_predicted_spectrum(trained_once):
    published, predicted, whole = values(
        trained_once,
        f"SELECT count(*) FILTER (WHERE bp_observed), count(*) FILTER (WHERE NOT bp_observed), "
        "count(*) FILTER (WHERE cardinality(bp_coefficients) = 55 AND cardinality(rp_coefficients) = 55 "
        "AND cardinality(bp_coefficient_errors) = 55 AND cardinality(rp_coefficient_errors) = 55) "
        f"FROM enriched.stars WHERE gaia_g > {XP_LIMIT} AND has_input",
    )[0]
    assert published == 0 and predicted > 500 and whole == predicted
    changed = values(
        trained_once,
        "SELECT count(*) FROM enriched.xp_coefficients e JOIN survey.xp_spectra x USING (source_id) "
        "WHERE e.bp_coefficients <> x.bp_coefficients OR e.rp_coefficients <> x.rp_coefficients",
    )
    assert changed == [(0,)]


def test_imputed_magnitudes_and_their_intervals_fit_the_truth(trained_once, sky):
    """Loosely, after some seconds of training: ordinary stars, bands that were not measured."""
    truth = sky.truth()
    ordinary = np.array(truth["class"].to_pylist()) == "star"
    order = np.argsort(truth["source_id"].to_numpy())
    found = columns(trained_once, "SELECT * FROM enriched.magnitudes ORDER BY source_id")
    deviations, inside68, inside95 = {}, [], []
    for band, bit in bands_of(trained_once).items():
        true = truth[band].to_numpy()[order]
        chosen = ordinary[order] & (found["observed"].astype(np.int64) >> bit & 1 == 0) & np.isfinite(true)
        chosen &= np.isfinite(found[band]) & (found["suspect"].astype(np.int64) >> bit & 1 == 0)
        deviation = found[band][chosen] - true[chosen]
        if not len(deviation):
            continue  # G is measured of every star
        deviations[band] = 1.4826 * np.median(np.abs(deviation))
        inside68.append(np.abs(deviation) < found[f"{band}_err"][chosen])
        inside95.append(np.abs(deviation) < found[f"{band}_err95"][chosen])
    assert deviations["ps1_i"] < 0.1 and deviations["twomass_j"] < 0.2 and deviations["catwise_w1"] < 0.25
    assert 0.5 < np.concatenate(inside68).mean() < 0.9
    assert 0.85 < np.concatenate(inside95).mean() <= 1


def test_metallicities_are_ordered_and_bear_on_the_truth(trained_once, sky):
    found = columns(trained_once, "SELECT * FROM enriched.metallicities ORDER BY source_id")
    known = np.isfinite(found["fe_h"])
    assert known.sum() > 2000
    assert (found["fe_h_lo"][known] < found["fe_h"][known]).all()
    assert (found["fe_h"][known] < found["fe_h_hi"][known]).all()
    truth = sky.truth()
    order = np.argsort(truth["source_id"].to_numpy())
    chosen = known & (np.array(truth["class"].to_pylist()) == "star")[order]
    teff = truth["teff"].to_numpy()[order]
    assert np.corrcoef(found["teff"][chosen], teff[chosen])[0, 1] > 0.5


def test_every_enriched_column_is_described(trained_once):
    missing = values(
        trained_once,
        "SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid "
        "JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('enriched', 'matched', 'survey') "
        "AND relkind IN ('r', 'v') AND attnum > 0 AND NOT attisdropped "
        "AND coalesce(col_description(attrelid, attnum), '') !~ ' unit=\\S.* ucd=\\S'",
    )
    assert missing == []
    imputed = values(
        trained_once,
        "SELECT attname FROM pg_attribute WHERE attrelid = 'enriched.magnitudes'::regclass AND attnum > 0 "
        "AND attname NOT IN ('source_id', 'observed', 'no_support', 'through_xp', 'has_input') "
        "AND col_description(attrelid, attnum) !~ 'meta.modelled'",
    )
    assert imputed == []


def test_survey_tables_are_never_touched_by_enrichment(msacat_at, trained):
    def everything() -> list[tuple]:
        tables = values(trained, "SELECT name FROM msacat.surveys ORDER BY 1")
        return [
            values(trained, f"SELECT '{name}', count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) "
                   f"FROM survey.{name} t")[0]
            for (name,) in tables
        ]  # fmt: skip

    before = everything()
    assert msacat_at(trained, "enrich", "--quiet").code == 0
    assert everything() == before


@pytest.mark.slow
def test_without_labels_and_spectra_nothing_pretends_to_know_them(store, sky, msacat_at):
    dsn = store
    gaia = sorted((sky.folder / "gaia_source").iterdir())[:2]
    assert msacat_at(dsn, "ingest", "gaia_source", *gaia).code == 0
    assert msacat_at(dsn, "ingest", "twomass_psc", sky.folder / "twomass_psc").code == 0
    assert msacat_at(dsn, "crossmatch").code == 0
    said = {"train": msacat_at(dsn, "train", "--name", "unlabelled", "--epochs", 2, "--json")}
    said["enrich"] = msacat_at(dsn, "enrich", "--model", "unlabelled")
    assert {verb: ended.code for verb, ended in said.items()} == {"train": 0, "enrich": 0}
    assert "no XP spectra" in said["train"].err and "no spectroscopic labels" in said["train"].err
    assert any("no metallicities" in note for note in json.loads(said["train"].out)["notes"])
    assert "gives no metallicities" in said["enrich"].err
    views = values(
        dsn, "SELECT relname FROM pg_class WHERE relnamespace = 'enriched'::regnamespace AND relkind = 'v'"
    )
    assert {view for (view,) in views} == {"magnitudes", "embeddings", "stars"}
    code, _, err = msacat_at(dsn, "query", "SELECT * FROM enriched.metallicities")
    assert code == 2 and "does not exist" in err
    assert values(dsn, "SELECT count(*), count(twomass_j) FROM enriched.stars")[0][0] > 1000
