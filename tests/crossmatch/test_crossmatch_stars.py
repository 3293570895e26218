"""matched.<dataset> in a real store: equal to the brute-force oracle, whatever the order of files and matches.

Rows go straight into the survey tables with their ledger rows, as an ingest leaves them; the formats have tests of
their own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest
from psycopg import sql

from msacat.catalog.crossmatch import crossmatch_inputs, crossmatch_stars, match_positions, match_region
from msacat.catalog.crossmatch.crossmatch_stars import crossmatch_state, datasets_to_match
from msacat.catalog.crossmatch.sky_pairs import ObjectPositions, StarPositions
from msacat.catalog.errors import InputRejected, StoreLocked, UsageError
from msacat.catalog.ingest.adopt_table import adopt
from msacat.catalog.ingest.ingest_ledger import LedgerEntry, remove_files, reopen_entry
from msacat.catalog.server.advisory_lock import advisory_lock
from msacat.catalog.server.connect import connect
from msacat.catalog.server.fault_points import CROSSMATCH_POINTS
from msacat.catalog.store.register_survey import find_spec, register_survey
from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.surveys.survey_spec import SurveySpec

PLACES = [(0.0, 90.0), (0.00001, 30.0), (180.0, -89.9995), (12.0, 45.0)]


def crossmatch(dsn_or_conn, dataset: str, **options):
    """A crossmatch whose report says what the table holds."""
    report = crossmatch_stars.crossmatch(dsn_or_conn, dataset, **options)
    if not isinstance(dsn_or_conn, str):
        counts = Counter(row[-1] for row in matches(dsn_or_conn, dataset).values())
        assert report.n_unmatched == counts.pop(None, 0)
        assert report.by_method == counts
    return report


def add_file(conn, dataset: str, rows: list[dict]) -> int:
    """Store rows as one ingested file of `dataset`; returns its file_id."""
    spec = find_spec(conn, dataset)
    register_survey(conn, spec)
    ids = [row["source_id"] for row in rows if "source_id" in row] or [None]
    file_id = conn.execute(
        "INSERT INTO msacat.files (survey, release, path, content_sha256, rows_read, rows_kept, min_source_id, "
        "max_source_id, spec_version, spec_fingerprint, code_version) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 1, 'x', 'x') RETURNING file_id",
        [dataset, spec.release, f"/data/{uuid.uuid4()}", uuid.uuid4().hex, len(rows), len(rows),
         min(ids), max(ids)],
    ).fetchone()[0]  # fmt: skip
    rows = [
        {"quality": 0} | row | {"file_id": file_id} | ({} if spec.id.unique else {"file_row": number})
        for number, row in enumerate(rows, 1)
    ]
    columns = sorted({name for row in rows for name in row})
    if rows:
        conn.cursor().executemany(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier("survey", dataset),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join(sql.Placeholder() * len(columns)),
            ),
            [[row.get(name) for name in columns] for row in rows],
        )
    conn.commit()
    return file_id


def matches(conn, dataset: str) -> dict:
    """{source_id: (id, separation, n_candidates, n_mates, method)}."""
    found = conn.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("matched", dataset))).fetchall()
    conn.commit()
    return {row[0]: tuple(row[1:]) for row in found}


class World:
    """Stars and objects of a made-up sky, and what the match of any part of them must be."""

    def __init__(self, seed: int, sky_oracle, text_ids: bool):
        rng = np.random.default_rng(seed)
        self.tools = sky_oracle
        self.text_ids = text_ids
        n = 60
        self.stars, self.objects = [], []
        for place, (ra, dec) in enumerate(PLACES):
            ras, decs = sky_oracle.offset(ra, dec, *rng.uniform(-6, 6, (2, n)))
            for i in range(n):
                speed = rng.choice([0, 10, 10_000])
                pm = [None, None] if rng.random() < 0.2 else [float(x) for x in speed * rng.uniform(-1, 1, 2)]
                self.stars.append(
                    {"source_id": int((place * 3 + 1) * 2**59 + rng.integers(2**40)), "ra": float(ras[i]),
                     "dec": float(decs[i]), "pmra": pm[0], "pmdec": pm[1], "ref_epoch": 2016.0}
                )  # fmt: skip
        for number, i in enumerate(rng.permutation(len(self.stars))):
            epoch = float(rng.uniform(1997.1, 2001)) if text_ids else float(rng.uniform(2009.5, 2014.5))
            one = self.positions([self.stars[i]])
            known = rng.random() < 0.9
            a, d = (np.degrees(float(x[0])) for x in sky_oracle.moved(one, epoch if known else self.fallback))
            a, d = sky_oracle.offset(a, d, *rng.normal(0, 0.5, 2))
            self.objects.append(
                {"id": f"J{rng.integers(10**9):d}" if text_ids else int(rng.integers(10**18)), "ra": float(a), "dec": float(d),
                 "epoch": epoch if known else None, "star": self.stars[i]["source_id"], "number": number}
            )  # fmt: skip

    @property
    def fallback(self) -> float:
        return 1999.5 if self.text_ids else 2012.5

    @staticmethod
    def positions(stars: list[dict]) -> StarPositions:
        def column(name):
            return np.array([np.nan if s[name] is None else s[name] for s in stars], float)

        return StarPositions(
            np.array([s["source_id"] for s in stars], np.int64),
            *(column(c) for c in ("ra", "dec", "pmra", "pmdec", "ref_epoch")),
        )

    def by_position(self, stars: list[dict], objects: list[dict], radius: float) -> dict:
        if not stars or not objects:
            return {}
        s = self.positions(stars)
        ids = np.array([o["id"].encode() if self.text_ids else o["id"] for o in objects])
        ra, dec = (np.array([o[c] for o in objects]) for c in ("ra", "dec"))
        epoch = np.array([o["epoch"] or self.fallback for o in objects])
        o = ObjectPositions(ids, ra, dec, epoch)
        found = self.tools.oracle(s, o, radius, self.tools.great_circle_grains(s, o))
        return {
            source_id: (None if match is None else match.decode() if self.text_ids else int(match), sep, n, 0,
                        None if match is None else "position")
            for source_id, (match, sep, n) in found.items()
        }  # fmt: skip


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for source_id, row in expected.items():
        assert found[source_id][0] == row[0], (source_id, found[source_id], row)
        assert found[source_id][1] == pytest.approx(row[1], abs=2e-7)
        assert found[source_id][2:] == row[2:]


def object_row(dataset: str, o: dict) -> dict:
    key = {"twomass_psc": "twomass_id", "panstarrs1": "ps1_id"}[dataset]
    return {key: o["id"], "ra": o["ra"], "dec": o["dec"], "epoch": o["epoch"]}


@pytest.mark.parametrize(("dataset", "radius"), [("twomass_psc", 1.5), ("panstarrs1", 1.0)])
def test_equals_the_oracle(conn, sky_oracle, dataset, radius, monkeypatch):
    world = World(1, sky_oracle, dataset == "twomass_psc")
    add_file(conn, "gaia_source", world.stars)
    add_file(conn, dataset, [object_row(dataset, o) for o in world.objects])
    expected = world.by_position(world.stars, world.objects, radius)
    assert sum(row[0] is not None for row in expected.values()) > 100
    report = crossmatch(conn, dataset)
    assert_same(matches(conn, dataset), expected)
    assert report.by_method == {"position": report.n_matched}
    assert report.n_matched == sum(row[0] is not None for row in expected.values())
    assert report.n_unmatched == sum(row[0] is None for row in expected.values())
    assert (report.n_stars, report.n_objects) == (len(world.stars), len(world.objects))
    assert crossmatch_state(conn, dataset) == "fresh"

    # The same in two threads, and in stripes of declination cut through the crowded places.
    monkeypatch.setattr(match_positions, "OBJECTS_AT_ONCE", 7)
    for emptied in (False, True):
        if emptied:
            conn.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("matched", dataset)))
        again = crossmatch(conn, dataset, workers=2, restart=True)
        assert_same(matches(conn, dataset), expected)
        assert (again.n_stars, again.by_method) == (report.n_stars, report.by_method)
        assert crossmatch(conn, dataset).how == "nothing had changed"


HOW: list[str] = []


def archive_rows(world: World, part: int, rng) -> list[dict]:
    """A best-neighbour file over one place: mostly right, some objects shared by two stars, some stars without."""
    stars = [s for s in world.stars if s["source_id"] // 2**59 == part]
    objects = [o for o in world.objects if o["star"] // 2**59 == part]
    rows = []
    for s in stars:
        if rng.random() < 0.8:
            o = objects[rng.integers(len(objects))]
            rows.append({"source_id": s["source_id"], "original_ext_source_id": o["id"],
                         "angular_distance": float(rng.uniform(0, 1)), "number_of_neighbours": 1})  # fmt: skip
    for row in rows:
        row["number_of_mates"] = (
            sum(r["original_ext_source_id"] == row["original_ext_source_id"] for r in rows) - 1
        )
    return rows


def expected_matches(world: World, stars, objects, archives: list[list[dict]], radius: float) -> dict:
    """What the rule says of any part of the world."""
    archive = [row for file in archives for row in file]
    covered = {r["source_id"] // 2**43 for r in archive}
    have_stars, have_objects = {s["source_id"] for s in stars}, {o["id"] for o in objects}
    expected = {
        r["source_id"]: (r["original_ext_source_id"], r["angular_distance"], r["number_of_neighbours"],
                         r["number_of_mates"], "best_neighbour")
        for r in archive if r["source_id"] in have_stars and r["original_ext_source_id"] in have_objects
    }  # fmt: skip
    claimed = {r["original_ext_source_id"] for r in archive}
    free = [s for s in stars if s["source_id"] // 2**43 not in covered]
    return expected | world.by_position(free, [o for o in objects if o["id"] not in claimed], radius)


@pytest.mark.parametrize("by_region", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_files_and_matches_gives_the_same(conn, sky_oracle, seed, by_region, monkeypatch):
    """After every crossmatch on the way the table is what matching everything at once gives."""
    HOW.clear()
    if by_region:
        monkeypatch.setattr(match_region, "ROWS_A_CONE_COSTS", 0)
    rng = np.random.default_rng(seed)
    world = World(seed, sky_oracle, True)
    dataset, archive, radius = "twomass_psc", "tmass_psc_xsc_best_neighbour", 1.5
    for name in ("gaia_source", dataset, archive):
        register_survey(conn, find_spec(conn, name))
    conn.commit()
    files = []
    for rows, name in ((world.stars, "gaia_source"), (world.objects, dataset)):
        # Some files are a place each, as published ones are; others mix the whole sky.
        by_place = rng.random() < 0.5
        cut = rng.integers(4, size=len(rows))
        for part in range(4):
            if by_place:
                some = [r for r in rows if r.get("star", r.get("source_id")) // 2**59 == 3 * part + 1]
            else:
                some = [r for r, c in zip(rows, cut, strict=True) if c == part]
            files.append((name, some))
    files += [(archive, archive_rows(world, 3 * int(part) + 1, rng)) for part in rng.permutation(4)[:2]]
    inside: dict[int, tuple[str, list[dict]]] = {}
    matched = 0
    for number in rng.permutation(len(files)):
        name, rows = files[number]
        stored = [object_row(dataset, r) for r in rows] if name == dataset else rows
        inside[add_file(conn, name, stored)] = files[number]
        if len(inside) > 3 and rng.random() < 0.2:  # a file is forgotten, and comes back at the end
            file_id = int(rng.choice(list(inside)))
            files.append(inside.pop(file_id))
            remove_files(conn, files[-1][0], [file_id], "test")
            conn.commit()
        if rng.random() < 0.6:
            matched += _matches_as_expected(conn, world, dataset, archive, radius, inside)
    for name, rows in files[10:]:
        stored = [object_row(dataset, r) for r in rows] if name == dataset else rows
        inside[add_file(conn, name, stored)] = (name, rows)
        matched += _matches_as_expected(conn, world, dataset, archive, radius, inside)
    assert _matches_as_expected(conn, world, dataset, archive, radius, inside)
    assert len(inside) == 10 and matched > 3
    assert ("what changed" in HOW) == by_region


def _matches_as_expected(conn, world, dataset, archive, radius, inside) -> bool:
    have = {
        name: [rows for n, rows in inside.values() if n == name] for name in ("gaia_source", dataset, archive)
    }
    stars, objects = ([r for rows in have[name] for r in rows] for name in ("gaia_source", dataset))
    if not matches(conn, dataset) and not (stars and objects):
        with pytest.raises(InputRejected):
            crossmatch(conn, dataset)
        return False
    HOW.append(crossmatch(conn, dataset).how)
    assert_same(matches(conn, dataset), expected_matches(world, stars, objects, have[archive], radius))
    return True


def still(source_id: int, ra: float, dec: float) -> dict:
    return {"source_id": source_id, "ra": ra, "dec": dec, "pmra": 0.0, "pmdec": 0.0, "ref_epoch": 2016.0}


def spectrum(apogee_id: str, ra: float, dec: float, gaia_id: int | None, snr: float = 100.0, **more) -> dict:
    return {"apogee_id": apogee_id, "ra": ra, "dec": dec, "gaia_source_id": gaia_id, "snr": snr} | more


def test_a_gaia_id_comes_before_positions(conn):
    arcsec = 1 / 3600
    add_file(conn, "gaia_source", [still(i * 10, 50.0 + i, 0.0) for i in range(1, 7)])
    add_file(
        conn, "apogee_dr17",
        [
            spectrum("named", 51.0, 5 * arcsec, 10),  # far, yet it says which star it is
            spectrum("at_10", 51.0, 0.0, None),  # at that star's place: the star is taken
            spectrum("twice", 52.0, 0.0, 20, snr=50), spectrum("twice", 53.0, 0.0, 30, snr=90),  # the better row counts
            spectrum("near_40", 54.0, 0.2 * arcsec, 40), spectrum("nearer_40", 54.0, 0.1 * arcsec, 40),
            spectrum("stranger", 55.0, 0.3 * arcsec, 999),  # its star is not in the store: its position speaks
            spectrum("flagged_60", 56.0, 0.0, 60, quality=1), spectrum("good_60", 56.0, 0.4 * arcsec, 60),
        ],
    )  # fmt: skip
    report = crossmatch(conn, "apogee_dr17")
    found = matches(conn, "apogee_dr17")
    assert {k: (v[0], round(v[1], 3), *v[2:]) for k, v in found.items()} == {
        10: ("named", 5.0, 1, 0, "gaia_id"),
        30: ("twice", 0.0, 1, 0, "gaia_id"),
        40: ("nearer_40", 0.1, 2, 0, "gaia_id"),
        50: ("stranger", 0.3, 1, 0, "position"),
        60: ("good_60", 0.4, 2, 0, "gaia_id"),
    }
    assert report.by_method == {"gaia_id": 4, "position": 1}
    # The star the stranger named arrives.
    add_file(conn, "gaia_source", [still(999, 200.0, 10.0)])
    crossmatch(conn, "apogee_dr17")
    assert {k: v[0] for k, v in matches(conn, "apogee_dr17").items() if k in (50, 999)} == {999: "stranger"}


def test_of_repeated_observations_the_best_counts(conn):
    def spectrum(obsid: int, ra: float, gaia_id: int | None, snr: float | None) -> dict:
        return {"lamost_id": obsid, "ra": ra, "dec": 0.0, "gaia_source_id": gaia_id, "snrg": snr}

    add_file(conn, "gaia_source", [still(10, 51.0, 0.0), still(20, 52.0, 0.0)])
    add_file(
        conn, "lamost_dr9",
        [
            spectrum(1, 51.0, 10, 30.0), spectrum(2, 51.0, 10, 90.0), spectrum(3, 51.0, 10, None),
            spectrum(4, 52.0, None, 30.0), spectrum(5, 52.0, None, None), spectrum(6, 52.0, None, 60.0),
        ],
    )  # fmt: skip
    crossmatch(conn, "lamost_dr9")
    assert {k: (v[0], v[2], v[4]) for k, v in matches(conn, "lamost_dr9").items()} == {
        10: (2, 3, "gaia_id"), 20: (6, 3, "position"),
    }  # fmt: skip


@pytest.mark.parametrize("longest", [0, 10**9])
def test_an_archive_s_file_speaks_for_the_cells_it_has_pairs_in(conn, monkeypatch, longest):
    """A file of a cone may hold the first and the last source_id of half the sky."""
    monkeypatch.setattr(crossmatch_inputs, "LONGEST_READ_WHOLE", longest)
    cell = 2**43
    ids = {"paired": 0, "beside": cell - 1, "between": 3 * cell, "last": 2**63 - 1}
    add_file(
        conn, "gaia_source", [still(source_id, 50.0 + i, 0.0) for i, source_id in enumerate(ids.values())]
    )
    add_file(
        conn, "twomass_psc", [{"twomass_id": name, "ra": 50.0 + i, "dec": 0.0} for i, name in enumerate(ids)]
    )
    best = [{"source_id": ids[name], "original_ext_source_id": name} for name in ("paired", "last")]
    add_file(conn, "tmass_psc_xsc_best_neighbour", best)
    crossmatch(conn, "twomass_psc")
    found = {row[0]: row[-1] for row in matches(conn, "twomass_psc").values()}
    assert found == {"paired": "best_neighbour", "between": "position", "last": "best_neighbour"}


@pytest.mark.parametrize("by_region", [False, True])
def test_stars_that_a_table_for_a_selection_silences_are_counted(
    store, conn, monkeypatch, msacat_at, by_region
):
    """One pair makes the archive speak for its whole cell: the other stars there get none of the objects beside them."""
    monkeypatch.setattr(match_region, "ROWS_A_CONE_COSTS", 0)
    ids = {"selected": 0, "left out": 1, "in another cell": 2**43}
    objects = [{"twomass_id": name, "ra": 50.0 + i / 100, "dec": 0.0} for i, name in enumerate(ids)]
    lonely = still(2, 50.1, 0.0)  # in the cell too, without an object
    add_file(
        conn, "gaia_source", [still(i, 50.0 + n / 100, 0.0) for n, i in enumerate(ids.values())] + [lonely]
    )
    add_file(conn, "twomass_psc", objects[:1])
    add_file(conn, "tmass_psc_xsc_best_neighbour", [{"source_id": 0, "original_ext_source_id": "selected"}])
    if by_region:
        assert crossmatch(conn, "twomass_psc").n_silenced == 0
    near_the_selected = {"twomass_id": "second of a pair", "ra": 50.0, "dec": 0.5 / 3600}
    add_file(conn, "twomass_psc", [*objects[1:], near_the_selected])
    conn.commit()
    ended = msacat_at(store, "crossmatch", "twomass_psc")
    assert ended.code == 0 and ("what changed" in ended.out) == by_region
    assert "twomass_psc: 1 stars with an object" in ended.err and "for whole patches of sky" in ended.err
    assert crossmatch(conn, "twomass_psc", restart=True).by_method == {"best_neighbour": 1, "position": 1}


def test_an_object_that_names_its_star_is_no_other_star_s_best_neighbour(conn):
    """A survey with both: its own word comes first, and its object is given to one star only."""
    twomass = builtin_specs()["twomass_psc"].model_dump()
    named = {"name": "gaia_id", "type": "bigint", "published": ["gaia_id"], "description": "Made up."}
    with_ids = {
        "columns": [*twomass["columns"], named],
        "position": twomass["position"] | {"gaia_id": "gaia_id"},
    }
    register_survey(conn, SurveySpec.model_validate(twomass | with_ids))
    add_file(conn, "gaia_source", [still(i, 50.0 + i, 0.0) for i in (1, 2, 3)])
    objects = [("named", 1), ("silent", None), ("stranger", 999)]
    rows = [
        {"twomass_id": name, "ra": 51.0 + i, "dec": 0.0, "gaia_id": gaia_id}
        for i, (name, gaia_id) in enumerate(objects)
    ]
    add_file(conn, "twomass_psc", rows)
    pairs = [(2, "named"), (3, "stranger")]
    best = [{"source_id": star, "original_ext_source_id": name} for star, name in pairs]
    add_file(conn, "tmass_psc_xsc_best_neighbour", best)
    crossmatch(conn, "twomass_psc")
    found = {star: (row[0], row[-1]) for star, row in matches(conn, "twomass_psc").items()}
    assert found == {1: ("named", "gaia_id"), 3: ("stranger", "best_neighbour")}


@pytest.mark.parametrize("epoch", [None, 0.0, 51544.5, float("nan")])
def test_an_epoch_that_is_missing_or_impossible_is_the_survey_s(conn, epoch):
    """10 arcsec/yr: five years too many would be 50 arcsec. A survey file without a range lets any number in."""
    add_file(conn, "gaia_source", [still(1, 10.0, 0.0) | {"pmdec": 10_000.0}])
    register_survey(conn, find_spec(conn, "twomass_psc"))
    conn.execute("ALTER TABLE survey.twomass_psc DROP CONSTRAINT twomass_psc_values")
    add_file(conn, "twomass_psc", [{"twomass_id": "a", "ra": 10.0, "dec": -165.0 / 3600, "epoch": epoch}])
    crossmatch(conn, "twomass_psc")
    assert matches(conn, "twomass_psc")[1][0] == "a"


def test_what_cannot_be_matched_says_what_to_do(conn):
    with pytest.raises(UsageError, match="no survey called 'twomas_psc'"):
        crossmatch(conn, "twomas_psc")
    with pytest.raises(UsageError, match="role is reference"):
        crossmatch(conn, "gaia_source")
    with pytest.raises(InputRejected, match="msacat ingest gaia_source"):
        crossmatch(conn, "twomass_psc")
    add_file(conn, "gaia_source", [])
    with pytest.raises(InputRejected, match="msacat ingest twomass_psc"):
        crossmatch(conn, "twomass_psc")
    add_file(conn, "twomass_psc", [{"twomass_id": "a", "ra": 10.0, "dec": 0.0}])
    with pytest.raises(InputRejected, match="msacat ingest gaia_source"):
        crossmatch(conn, "twomass_psc")
    add_file(conn, "gaia_source", [still(1, 10.0, 0.0)])
    assert crossmatch_state(conn, "twomass_psc") == "missing"
    assert datasets_to_match(conn) == ["twomass_psc"]
    conn.execute("DROP INDEX survey.twomass_psc_q3c")
    with pytest.raises(InputRejected) as refused:
        crossmatch(conn, "twomass_psc")
    conn.rollback()
    conn.execute(refused.value.next_step.removeprefix("in psql: "))
    assert crossmatch(conn, "twomass_psc").n_matched == 1
    conn.execute("ALTER TABLE survey.twomass_psc ALTER ra DROP NOT NULL")
    conn.execute("UPDATE survey.twomass_psc SET ra = NULL")
    conn.execute("TRUNCATE matched.twomass_psc")
    with pytest.raises(InputRejected, match="no row of survey"):
        crossmatch(conn, "twomass_psc", restart=True)


def test_an_emptied_survey_loses_its_matches(conn):
    add_file(conn, "gaia_source", [still(1, 10.0, 0.0)])
    file_id = add_file(conn, "twomass_psc", [{"twomass_id": "a", "ra": 10.0, "dec": 0.0}])
    assert crossmatch(conn, "twomass_psc").n_matched == 1
    remove_files(conn, "twomass_psc", [file_id], "test")
    conn.commit()
    assert crossmatch_state(conn, "twomass_psc") == "out of date"
    assert crossmatch(conn, "twomass_psc").n_matched == 0
    assert matches(conn, "twomass_psc") == {}


def test_emptied_and_vacuumed_stars_lose_their_matches(store, conn):
    """A table without a page gives no part to read."""
    file_id = add_file(conn, "gaia_source", [still(1, 10.0, 0.0)])
    add_file(conn, "twomass_psc", [{"twomass_id": "a", "ra": 10.0, "dec": 0.0}])
    assert crossmatch(conn, "twomass_psc").n_matched == 1
    remove_files(conn, "gaia_source", [file_id], "test")
    conn.commit()
    with connect(store, autocommit=True) as other:
        other.execute("VACUUM survey.gaia_source")
    assert conn.execute("SELECT pg_relation_size('survey.gaia_source')").fetchone() == (0,)
    conn.commit()
    assert crossmatch(conn, "twomass_psc").n_matched == 0
    assert matches(conn, "twomass_psc") == {}


def test_one_crossmatch_of_a_survey_at_a_time(store, conn):
    add_file(conn, "gaia_source", [still(1, 10.0, 0.0)])
    add_file(conn, "twomass_psc", [{"twomass_id": "a", "ra": 10.0, "dec": 0.0}])
    with (
        connect(store) as other,
        advisory_lock(other, "crossmatch twomass_psc"),
        pytest.raises(StoreLocked),
    ):
        crossmatch(store, "twomass_psc")
    assert crossmatch(store, "twomass_psc").n_matched == 1


def test_readers_see_the_old_table_or_the_new_one(store, conn):
    """While matches are rewritten over and over, a reader only ever sees whole tables."""
    add_file(conn, "gaia_source", [still(i, 10.0 + i / 10, 0.0) for i in range(1, 200)])
    half = [{"twomass_id": f"a{i}", "ra": 10.0 + i / 10, "dec": 0.0} for i in range(1, 100)]
    add_file(conn, "twomass_psc", half)
    crossmatch(conn, "twomass_psc")
    seen, done, looked = set(), threading.Event(), threading.Condition()
    latest = 0

    def look() -> None:
        nonlocal latest
        with connect(store, autocommit=True) as reader:
            while not done.is_set():
                found = reader.execute("SELECT count(*) FROM matched.twomass_psc").fetchone()[0]
                with looked:
                    seen.add(found)
                    latest = found
                    looked.notify_all()

    def match_and_wait_until_seen(n: int) -> None:
        crossmatch(conn, "twomass_psc")
        with looked:
            assert looked.wait_for(lambda: latest == n, 60)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(5):
            more = add_file(
                conn,
                "twomass_psc",
                [h | {"twomass_id": h["twomass_id"] + "b", "ra": h["ra"] + 10} for h in half],
            )
            match_and_wait_until_seen(198)
            remove_files(conn, "twomass_psc", [more], "test")
            conn.commit()
            match_and_wait_until_seen(99)
    finally:
        done.set()
        thread.join()
    assert seen == {99, 198}


def test_a_file_forgotten_meanwhile_does_not_leave_old_matches_called_fresh(store, conn, monkeypatch):
    """The ledger row that `forget` marks is the one the crossmatch writes: the server refuses one, which starts again."""
    add_file(conn, "gaia_source", [still(1, 10.0, 0.0), still(2, 11.0, 0.0)])
    add_file(conn, "twomass_psc", [{"twomass_id": "a", "ra": 10.0, "dec": 0.0}])
    crossmatch(conn, "twomass_psc")
    doomed = add_file(conn, "twomass_psc", [{"twomass_id": "b", "ra": 11.0, "dec": 0.0}])
    forgotten = []

    def forget_once(done, total, words) -> None:
        if not forgotten:
            with connect(store) as other:
                remove_files(other, "twomass_psc", [doomed], "test")
            forgotten.append(doomed)

    crossmatch(conn, "twomass_psc", on_progress=forget_once)
    assert forgotten and set(matches(conn, "twomass_psc")) == {1}
    assert crossmatch_state(conn, "twomass_psc") == "fresh"


def test_a_file_completed_meanwhile_leaves_the_matches_out_of_date(store, conn, monkeypatch):
    """Its number stays, so that the list of files does not tell; it waits for the ledger row that is being written."""
    add_file(conn, "gaia_source", [still(1, 10.0, 0.0), still(2, 11.0, 0.0)])
    lacking = add_file(conn, "twomass_psc", [{"twomass_id": "a", "ra": 10.0, "dec": 0.0}])
    crossmatch(conn, "twomass_psc")
    completing: list[threading.Thread] = []

    def complete() -> None:
        with connect(store, application="completing") as other:
            spec = find_spec(other, "twomass_psc")
            entry = LedgerEntry(lacking, spec.name, "", "", 1, datetime.now(UTC), True)
            assert reopen_entry(other, spec, entry) == lacking
            other.execute(
                "INSERT INTO survey.twomass_psc (twomass_id, ra, dec, quality, file_id) "
                "VALUES ('a', 10, 0, 0, %(f)s), ('b', 11, 0, 0, %(f)s)",
                {"f": lacking},
            )

    def meanwhile(point: str) -> None:
        if point == "crossmatch.before_commit":
            completing.append(threading.Thread(target=complete))
            completing[0].start()
            until_waiting = time.monotonic() + 20
            with psycopg.connect(store, autocommit=True) as observer:
                while (
                    time.monotonic() < until_waiting
                    and not observer.execute(
                        "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'completing%' AND wait_event_type = 'Lock'"
                    ).fetchone()
                ):
                    time.sleep(0.02)

    monkeypatch.setattr(crossmatch_stars, "fault_point", meanwhile)
    crossmatch(conn, "twomass_psc", restart=True)
    monkeypatch.undo()
    completing[0].join()
    assert crossmatch_state(conn, "twomass_psc") == "out of date"
    crossmatch(conn, "twomass_psc")
    assert set(matches(conn, "twomass_psc")) == {1, 2}


def test_a_change_is_matched_again_as_far_as_it_reaches(conn, sky_oracle, monkeypatch):
    """A field so dense that matches hang together in chains; cones smaller than the match radius."""
    monkeypatch.setattr(match_region, "ROWS_A_CONE_COSTS", 0)
    monkeypatch.setattr(match_region, "FINEST_LEVEL", 18)  # 0.8 arcsec
    rng = np.random.default_rng(5)

    def field(n: int) -> list[tuple[float, float]]:
        return [
            tuple(map(float, xy))
            for xy in zip(*sky_oracle.offset(0.001, 60.0, *rng.uniform(-20, 20, (2, n))), strict=True)
        ]

    def stars(n: int) -> list[dict]:
        return [still(int(i), *xy) for i, xy in zip(rng.choice(2**60, n), field(n), strict=True)]

    def objects(n: int) -> list[dict]:
        return [
            {"twomass_id": f"n{i}", "ra": xy[0], "dec": xy[1]}
            for i, xy in zip(rng.choice(2**60, n), field(n), strict=True)
        ]

    add_file(conn, "gaia_source", stars(500))
    add_file(conn, "twomass_psc", objects(500))
    crossmatch(conn, "twomass_psc")
    for _ in range(12):
        if rng.random() < 0.7:
            add_file(conn, "gaia_source", stars(2))
        if rng.random() < 0.7:
            add_file(conn, "twomass_psc", objects(2))
        report = crossmatch(conn, "twomass_psc")
        assert report.how != "everything" and report.n_stars < 400
        by_region = matches(conn, "twomass_psc")
        assert crossmatch(conn, "twomass_psc", restart=True).how == "everything"
        assert by_region == matches(conn, "twomass_psc")


def indexes(conn, dataset: str) -> list:
    found = conn.execute(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'matched' AND tablename = %s ORDER BY 1",
        [dataset],
    ).fetchall()
    conn.commit()
    return found


@pytest.mark.parametrize("a_reader_is_busy", [False, True])
def test_the_first_fill_keeps_the_indexes(store, conn, a_reader_is_busy):
    """They are made again after the rows; while somebody reads the empty table they stay, and nobody waits."""
    add_file(conn, "gaia_source", [still(1, 10.0, 0.0)])
    add_file(conn, "twomass_psc", [{"twomass_id": "a", "ra": 10.0, "dec": 0.0}])
    before = indexes(conn, "twomass_psc")
    assert len(before) == 2
    with connect(store) as reader:
        if a_reader_is_busy:
            reader.execute("SELECT count(*) FROM matched.stars")
        assert crossmatch(conn, "twomass_psc").n_matched == 1
        reader.rollback()
    assert indexes(conn, "twomass_psc") == before


@pytest.mark.parametrize(("dataset", "column"), [("twomass_psc", "twomass_id"), ("apogee_dr17", "apogee_id")])
def test_the_first_search_keeps_no_reader_waiting(store, conn, dataset, column):
    """Only while the rows are written may the new table be closed."""
    add_file(conn, "gaia_source", [still(i << 45, 10.0 + i, 0.0) for i in (1, 2, 3)])
    add_file(conn, "twomass_psc", [{"twomass_id": f"a{i}", "ra": 10.0 + i, "dec": 0.0} for i in (1, 2)])
    best = [{"source_id": 3 << 45, "original_ext_source_id": "a2"}]
    add_file(conn, "tmass_psc_xsc_best_neighbour", best)
    add_file(conn, "apogee_dr17", [spectrum("named", 11.0, 0.0, 1 << 45), spectrum("found", 12.0, 0.0, None)])
    seen = []

    def read(done: float, total: float | None, words: str) -> None:
        if words.startswith("writing"):
            return
        with connect(store) as reader:
            reader.execute("SET statement_timeout = '2s'")
            seen.append(reader.execute(f"SELECT count({column}) FROM matched.stars").fetchone())

    assert crossmatch(conn, dataset, on_progress=read).n_matched > 1
    assert len(seen) > 1 and set(seen) == {(0,)}


@pytest.mark.crash
@pytest.mark.parametrize("point", CROSSMATCH_POINTS)
def test_a_killed_crossmatch_leaves_the_old_matches(store, conn, point):
    add_file(conn, "gaia_source", [still(1, 10.0, 0.0), still(2, 11.0, 0.0)])
    add_file(conn, "twomass_psc", [{"twomass_id": "a", "ra": 10.0, "dec": 0.0}])
    crossmatch(conn, "twomass_psc")
    before = matches(conn, "twomass_psc")
    add_file(conn, "twomass_psc", [{"twomass_id": "b", "ra": 11.0, "dec": 0.0}])
    code = "import sys; from msacat.catalog.crossmatch.crossmatch_stars import crossmatch; crossmatch(sys.argv[1], 'twomass_psc')"
    killed = subprocess.run(
        [sys.executable, "-c", code, store], env=os.environ | {"MSACAT_FAULT": point}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert matches(conn, "twomass_psc") == before
    assert crossmatch_state(conn, "twomass_psc") == "out of date"
    # The server frees the dead job's lock as soon as it notices.
    for _ in range(100):
        try:
            report = crossmatch(conn, "twomass_psc")
            break
        except StoreLocked:
            time.sleep(0.1)
    assert report.n_matched == 2


def test_adopted_tables_are_matched_through_their_views(conn):
    conn.execute("CREATE SCHEMA archive")
    conn.execute(
        "CREATE TABLE archive.gaia (source_id bigint PRIMARY KEY, ra float8, dec float8, pmra float8, pmdec float8, "
        "ref_epoch float8, designation text, phot_g_mean_mag real)"
    )
    conn.execute(
        "INSERT INTO archive.gaia SELECT i, 10.0 + i, 5.0, 'NaN', NULL, 2016.0, 'Gaia DR3 ' || i FROM generate_series(1, 5) i"
    )
    conn.execute("CREATE INDEX ON archive.gaia (q3c_ang2ipix(ra, dec))")
    conn.commit()
    adopt(conn, "gaia_source", "archive.gaia")
    add_file(conn, "twomass_psc", [{"twomass_id": f"t{i}", "ra": 10.0 + i, "dec": 5.0} for i in (2, 4)])
    report = crossmatch(conn, "twomass_psc", workers=2)
    assert (report.n_stars, report.n_objects) == (5, 2)
    assert {k: v[0] for k, v in matches(conn, "twomass_psc").items()} == {2: "t2", 4: "t4"}
    # The archive's own changes leave no trace in the ledger: asked for, everything is matched again.
    conn.execute("DELETE FROM archive.gaia WHERE source_id = 2")
    conn.commit()
    assert crossmatch(conn, "twomass_psc").how == "nothing had changed"
    assert crossmatch(conn, "twomass_psc", restart=True).n_matched == 1
