"""Mutual nearest pairs between the reference and a survey, both read from SQL piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from psycopg import Connection, sql

from msacat.catalog.crossmatch.crossmatch_inputs import CrossmatchInputs
from msacat.catalog.crossmatch.match_sky import choose_mutual, preference
from msacat.catalog.crossmatch.position_queries import (
    WHOLE_SKY,
    has_position,
    largest_pm,
    object_query,
    on_sky,
    reach_deg,
    star_query,
)
from msacat.catalog.crossmatch.read_packed import PackedQuery
from msacat.catalog.crossmatch.sky_pairs import GRAIN_ARCSEC, ObjectPositions, Pairs, SkySearch, StarPositions
from msacat.catalog.crossmatch.snapshot_readers import SnapshotReaders

#: objects held in memory at once, some 100 bytes each; a larger survey is matched stripe by stripe of declination
OBJECTS_AT_ONCE = 10_000_000


@dataclass
class MatchRows:
    """Stars with objects within the radius: arrays (N,).

    id            its preferred object
    matched       that object prefers this star too: they match
    flagged       a quality cut removes that object
    grains        int64, their separation / GRAIN_ARCSEC
    n_candidates  objects within the radius
    """

    source_id: np.ndarray
    id: np.ndarray
    matched: np.ndarray
    flagged: np.ndarray
    grains: np.ndarray
    n_candidates: np.ndarray

    def __len__(self) -> int:
        return len(self.source_id)

    @property
    def separation_arcsec(self) -> np.ndarray:
        return self.grains * GRAIN_ARCSEC

    def take(self, index: np.ndarray | slice) -> MatchRows:
        return MatchRows(*(getattr(self, f.name)[index] for f in fields(self)))

    @staticmethod
    def concatenate(parts: list[MatchRows]) -> MatchRows:
        return MatchRows(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(MatchRows)))


@dataclass
class Counted:
    """What was looked at: stars and objects that took part, the fastest star (mas/yr).

    n_silenced   stars with an object within the radius that positions may not give them: where they lie an archive
                 speaks, and it names nobody for them
    """

    n_stars: int = 0
    n_objects: int = 0
    max_pm: float = 0.0
    n_silenced: int = 0


@dataclass
class _Found:
    """Pairs of some stars with the objects in memory; pairs.star indexes source_id."""

    pairs: Pairs
    source_id: np.ndarray
    edge_ids: np.ndarray  # source_ids of stars that may have objects in another stripe too
    n_stars: int
    max_pm: float
    n_silenced: int


def match_whole_sky(
    readers: SnapshotReaders,
    inputs: CrossmatchInputs,
    taken: np.ndarray,
    counted: Counted,
    on_progress: Callable[[float, float | None, str], Any],
) -> Iterator[MatchRows]:
    """Match every star outside the covered cells that is not in `taken` (sorted source_ids), stripe by stripe."""
    conn = readers.conn
    stripes, reach = _stripes(conn, inputs)
    edges = []
    for number, stripe in enumerate(stripes, 1):
        where = f", stripe {number} of {len(stripes)}" if len(stripes) > 1 else ""
        on_progress(number - 1, len(stripes), "reading objects" + where)
        objects = read_objects(readers, inputs, object_query(conn, inputs, stripe))
        query = star_query(conn, inputs, (stripe[0] - reach, stripe[1] + reach))
        search = SkySearch(objects, inputs.radius_arcsec)
        parts, found = query.parts(conn), []
        for one in readers.each(parts, partial(_search_part, query, search, inputs, taken, stripe, reach)):
            found.append(one)
            on_progress(number - 1 + len(found) / len(parts), len(stripes), "searching stars" + where)
        counted.n_objects += len(objects)
        counted.n_stars += sum(f.n_stars for f in found)
        counted.n_silenced += sum(f.n_silenced for f in found)
        counted.max_pm = max([counted.max_pm, *(f.max_pm for f in found)])
        rows = choose_rows([f.pairs for f in found], [f.source_id for f in found], objects)
        at_edge = np.isin(
            rows.source_id, np.concatenate([np.zeros(0, np.int64), *(f.edge_ids for f in found)])
        )
        edges.append(rows.take(at_edge))
        yield rows.take(~at_edge)
    yield _join_edges(MatchRows.concatenate(edges))


def read_objects(readers: SnapshotReaders, inputs: CrossmatchInputs, query: PackedQuery) -> ObjectPositions:
    """Every object of a query, in memory."""
    parts = readers.each(query.parts(readers.conn), lambda c, part: list(query.read(c, part)))
    return as_objects(inputs, [arrays for part in parts for arrays in part])


def as_objects(inputs: CrossmatchInputs, parts: list[dict[str, np.ndarray]]) -> ObjectPositions:
    if not parts:
        kind = "S1" if inputs.spec.column(inputs.spec.id.column).type == "text" else np.int64
        none = np.zeros(0)
        return ObjectPositions(np.zeros(0, kind), none, none, none)
    joined = on_sky({name: np.concatenate([p[name] for p in parts]) for name in parts[0]}, inputs.position)
    return ObjectPositions(
        joined["id"],
        joined["ra"],
        joined["dec"],
        joined["epoch"],
        joined.get("flagged"),
        joined.get("best_by"),
    )


def as_stars(arrays: dict[str, np.ndarray]) -> StarPositions:
    return StarPositions(*(arrays[n] for n in ("source_id", "ra", "dec", "pmra", "pmdec", "epoch")))


def select_stars(
    arrays: dict[str, np.ndarray], inputs: CrossmatchInputs, taken: np.ndarray
) -> tuple[StarPositions, StarPositions]:
    """(stars that positions decide, stars where an archive speaks), without those in `taken` (sorted source_ids)."""
    arrays = on_sky(arrays, inputs.reference_position)
    covered = inputs.is_covered(arrays["source_id"])
    free = ~covered
    if len(taken):
        place = np.minimum(np.searchsorted(taken, arrays["source_id"]), len(taken) - 1)
        known = taken[place] == arrays["source_id"]
        free, covered = free & ~known, covered & ~known

    def those(chosen: np.ndarray) -> StarPositions:
        return as_stars(arrays if chosen.all() else {name: a[chosen] for name, a in arrays.items()})

    return those(free), those(covered)


def near_an_object(search: SkySearch, stars: StarPositions) -> np.ndarray:
    """source_ids of the stars with an object within the radius."""
    return stars.source_id[np.unique(search.near(stars).star)]


def count_silenced(conn: Connection, inputs: CrossmatchInputs, source_ids: np.ndarray) -> int:
    """How many of these stars, each of which could have an object, no archive names."""
    if not len(source_ids):
        return 0
    named = [
        sql.SQL("EXISTS (SELECT FROM {} a WHERE a.source_id = s.source_id)").format(
            sql.Identifier("survey", archive.name)
        )
        for archive in inputs.archives
    ]
    row = conn.execute(
        sql.SQL("SELECT count(*) FROM unnest(%s::bigint[]) s(source_id) WHERE NOT ({})").format(
            sql.SQL(" OR ").join(named)
        ),
        [source_ids.tolist()],
    ).fetchone()
    assert row is not None
    return int(row[0])


def fastest_pm(arrays: dict[str, np.ndarray]) -> float:
    """Largest proper motion, mas/yr; 0 where none is measured."""
    return float(np.nan_to_num(np.hypot(arrays["pmra"], arrays["pmdec"])).max(initial=0.0))


def _search_part(
    query: PackedQuery,
    search: SkySearch,
    inputs: CrossmatchInputs,
    taken: np.ndarray,
    stripe: tuple[float, float],
    reach: float,
    conn: Connection,
    part: tuple[int, int] | None,
) -> _Found:
    pairs, source_ids, edge_ids, silenced = [], [none := np.zeros(0, np.int64)], [none], [none]
    n_stars = offset = 0
    max_pm = 0.0
    for arrays in query.read(conn, part):
        stars, spoken_for = select_stars(arrays, inputs, taken)
        silenced.append(near_an_object(search, spoken_for))
        n_stars += int(((stars.dec >= stripe[0]) & (stars.dec < stripe[1])).sum())
        max_pm = max(max_pm, fastest_pm(arrays))
        near = search.near(stars)
        begins = np.diff(near.star, prepend=-1) != 0  # a star's pairs stand together
        used = near.star[begins]
        pairs.append(Pairs(np.cumsum(begins) - 1 + offset, near.obj, near.grains))
        offset += len(used)
        source_id, dec = stars.source_id[used], stars.dec[used]
        source_ids.append(source_id)
        edge_ids.append(source_id[(dec < stripe[0] + reach) | (dec >= stripe[1] - reach)])
    return _Found(
        Pairs.concatenate(pairs), np.concatenate(source_ids), np.concatenate(edge_ids), n_stars, max_pm,
        count_silenced(conn, inputs, np.concatenate(silenced)),
    )  # fmt: skip


def choose_rows(pairs: list[Pairs], source_ids: list[np.ndarray], objects: ObjectPositions) -> MatchRows:
    """Rows by source_id; pairs[i].star indexes source_ids[i], and no star is in two parts."""
    starts = np.cumsum([0] + [len(ids) for ids in source_ids])
    joined = Pairs.concatenate(
        [Pairs(p.star + start, p.obj, p.grains) for p, start in zip(pairs, starts, strict=False)]
    )
    source_id = np.concatenate([np.zeros(0, np.int64), *source_ids])
    chosen = choose_mutual(joined, source_id, objects)
    flagged = np.zeros(len(chosen), bool) if objects.flagged is None else objects.flagged[chosen.obj]
    rows = MatchRows(
        source_id[chosen.star], objects.id[chosen.obj], chosen.mutual, flagged, chosen.grains, chosen.n_candidates
    )  # fmt: skip
    return rows.take(np.argsort(rows.source_id))


def _join_edges(rows: MatchRows) -> MatchRows:
    """Stars that met objects in two stripes: the better object wins, the counts add up."""
    if not len(rows):
        return rows
    rows = rows.take(
        np.lexsort((rows.id, rows.flagged, preference(rows.grains, rows.flagged), rows.source_id))
    )
    first = np.flatnonzero(np.r_[True, rows.source_id[1:] != rows.source_id[:-1]])
    total = np.add.reduceat(rows.n_candidates, first)
    rows = rows.take(first)
    rows.n_candidates = total
    return rows


def _stripes(conn: Connection, inputs: CrossmatchInputs) -> tuple[list[tuple[float, float]], float]:
    """Ranges of declination with at most about OBJECTS_AT_ONCE objects, and how far a pair can reach across, deg."""
    if fits_in_memory(conn, inputs):
        return [WHOLE_SKY], 0.0
    rows = conn.execute(
        sql.SQL("SELECT floor(o.{0} * 20)::int, count(*) FROM {1} o WHERE {2} GROUP BY 1 ORDER BY 1").format(
            sql.Identifier(inputs.position.dec), sql.Identifier("survey", inputs.spec.name),
            has_position(inputs.position, "o"),
        )
    ).fetchall()  # fmt: skip
    bounds, held = [WHOLE_SKY[0]], 0
    for twentieth, n in rows:
        if held and held + n > OBJECTS_AT_ONCE:
            bounds.append(twentieth / 20)
            held = 0
        held += n
    bounds.append(WHOLE_SKY[1])
    return list(pairwise(bounds)), reach_deg(inputs, largest_pm(conn, inputs.reference))


def fits_in_memory(conn: Connection, inputs: CrossmatchInputs) -> bool:
    """Whether the survey is matched in one go."""
    return _rough_count(conn, inputs.spec.name) <= OBJECTS_AT_ONCE


def _rough_count(conn: Connection, dataset: str) -> int:
    """Rows of survey.<dataset>: the planner's estimate where there is one, else counted."""
    table = sql.Identifier("survey", dataset)
    row = conn.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass AND relkind = 'r'",
                       [table.as_string(conn)]).fetchone()  # fmt: skip
    if row is None or row[0] <= 0:
        row = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    assert row is not None
    return int(row[0])
