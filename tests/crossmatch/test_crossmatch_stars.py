"""matched.<dataset> in a real store: equal to the brute-force oracle, whatever the order of files and matches.

Rows go straight into the survey tables with their ledger rows, as an ingest leaves them; the formats have tests of
their own.
"""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from psycopg import sql

from msacat.catalog import match_positions
from msacat.catalog.crossmatch_stars import crossmatch, crossmatch_state
from msacat.catalog.register_survey import find_spec, register_survey
from msacat.catalog.sky_pairs import ObjectPositions, StarPositions

PLACES = [(0.0, 90.0), (0.00001, 30.0), (180.0, -89.9995), (12.0, 45.0)]


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
    for number, row in enumerate(rows, 1):
        row = {"quality": 0} | row | {"file_id": file_id} | ({} if spec.id.unique else {"file_row": number})
        conn.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier("survey", dataset),
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join(sql.Placeholder() * len(row)),
            ),
            list(row.values()),
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
    again = crossmatch(conn, dataset, workers=2, restart=True)
    assert_same(matches(conn, dataset), expected)
    assert (again.n_stars, again.by_method) == (report.n_stars, report.by_method)
    assert crossmatch(conn, dataset).how == "nothing had changed"
