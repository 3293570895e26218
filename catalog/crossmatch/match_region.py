"""A crossmatch brought up to date where new files lie, reading only that part of the sky through the Q3C index.

A new object can change the match of the stars that reach it; a new star its own, and that of the stars with which it
shares an object. No change goes further: an object's nearest star depends on stars alone, a star's nearest object on
objects alone. With m the longest reach of any star, the stars to match again lie within 2 m of a new row; what
decides their matches are the objects within m of them and the stars within m of those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from psycopg import Connection, sql

from msacat.catalog.crossmatch.crossmatch_inputs import CrossmatchInputs
from msacat.catalog.crossmatch.match_positions import (
    OBJECTS_AT_ONCE,
    Counted,
    MatchRows,
    as_objects,
    choose_rows,
    count_silenced,
    fastest_pm,
    near_an_object,
    select_stars,
)
from msacat.catalog.crossmatch.position_queries import (
    has_position,
    object_query,
    position_columns,
    reach_deg,
    star_query,
)
from msacat.catalog.crossmatch.read_packed import PackedQuery
from msacat.catalog.crossmatch.sky_pairs import SkySearch
from msacat.catalog.healpix import cell_size_deg, nested_centre_deg, nested_pixel, separation_deg
from msacat.catalog.server.q3c import cone
from msacat.catalog.surveys.survey_spec import SurveySpec

FINEST_LEVEL, COARSEST_LEVEL = 8, 4  # HEALPix: 14 arcmin, 3.7 deg
CONES_AT_MOST = 300
#: a cone's two queries cost about as much as reading so many rows in sequence
ROWS_A_CONE_COSTS = 20_000
SKY_DEG2 = 41252.96


@dataclass(frozen=True)
class Region:
    """Cones (ra, dec, one radius, deg) that hold every row of the new files, and the reach of the fastest star."""

    ra: np.ndarray
    dec: np.ndarray
    radius_deg: float
    reach_deg: float
    max_pm: float
    new_files: dict[str, list[int]]


def changed_region(
    conn: Connection,
    inputs: CrossmatchInputs,
    old_fingerprint: str | None,
    old_files: list[int],
    old_max_pm: float,
) -> Region | None:
    """Where the sky changed since an earlier crossmatch; None if matching everything is the only or cheaper way.

    Only added files of stars and objects leave the rest of the sky alone; a removed or archive file, another
    spec, a survey with Gaia ids or with repeated ids does not.
    """
    old = set(old_files)
    if (
        old_fingerprint is None
        or not old_fingerprint.startswith(inputs.settings + "-")
        or not old <= set(inputs.all_file_ids)
        or inputs.position.gaia_id is not None
        or not inputs.spec.id.unique
    ):
        return None
    new = {name: [i for i in ids if i not in old] for name, ids in inputs.file_ids.items()}
    if any(new[archive.name] for archive in inputs.archives):
        return None
    cells, max_pm = np.zeros(0, np.int64), old_max_pm
    for spec in (inputs.reference, inputs.spec):
        for arrays in _new_rows(spec, new[spec.name]).read(conn, None):
            cells = np.union1d(cells, nested_pixel(FINEST_LEVEL, arrays["ra"], arrays["dec"]))
            if spec.role == "reference":
                max_pm = max(max_pm, fastest_pm(arrays))
    level = FINEST_LEVEL
    while len(cells) > CONES_AT_MOST and level > COARSEST_LEVEL:
        cells, level = np.unique(cells >> 2), level - 1
    reach, radius = reach_deg(inputs, max_pm), cell_radius_deg(level)
    n_rows = _rows_kept(conn, inputs)
    share = len(cells) * (cell_size_deg(level) + 8 * reach) ** 2 / SKY_DEG2
    if (
        len(cells) > CONES_AT_MOST
        or len(cells) * ROWS_A_CONE_COSTS > n_rows
        or share * n_rows > 2 * OBJECTS_AT_ONCE
        or radius + 4 * reach > 90
    ):
        return None
    ra, dec = nested_centre_deg(level, cells)
    return Region(ra, dec, radius, reach, max_pm, new)


def match_inside(
    conn: Connection,
    inputs: CrossmatchInputs,
    region: Region,
    on_progress: Callable[[float, float | None, str], Any],
) -> tuple[MatchRows, np.ndarray, Counted]:
    """(new rows, source_ids whose rows they replace, what was looked at)."""
    n = len(region.ra)
    star_parts, object_parts, core_parts = [], [], []
    for i in range(n):
        centre = (float(region.ra[i]), float(region.dec[i]))

        def around(
            alias: str, spec: SurveySpec, times: int, centre: tuple[float, float] = centre
        ) -> sql.Composed:
            assert spec.position is not None
            ra, dec = (sql.Identifier(alias, c) for c in (spec.position.ra, spec.position.dec))
            return cone(ra, dec, *centre, region.radius_deg + times * region.reach_deg)

        for arrays in star_query(conn, inputs, where=around("s", inputs.reference, 4)).read(conn, None):
            distance = separation_deg(*centre, arrays["ra"], arrays["dec"])
            star_parts.append(arrays)
            core_parts.append(distance <= region.radius_deg + 2 * region.reach_deg)
        for arrays in object_query(conn, inputs, where=around("o", inputs.spec, 3)).read(conn, None):
            object_parts.append(arrays)
        on_progress((i + 1) / n, 1, "reading where files are new")
    if not star_parts:
        empty = choose_rows([], [], as_objects(inputs, []))
        return empty, np.zeros(0, np.int64), Counted(max_pm=region.max_pm)
    core = np.concatenate(core_parts)
    stars = {name: np.concatenate([p[name] for p in star_parts]) for name in star_parts[0]} | {"core": core}
    # Cones overlap: one copy of each star, a core one if any is.
    order = np.lexsort((~core, stars["source_id"]))
    stars = {name: a[order] for name, a in stars.items()}
    once = np.r_[True, stars["source_id"][1:] != stars["source_id"][:-1]]
    stars = {name: a[once] for name, a in stars.items()}
    core_ids = stars["source_id"][stars["core"] & ~inputs.is_covered(stars["source_id"])]
    objects = as_objects(inputs, _once_by_id(object_parts))
    chosen, spoken_for = select_stars(stars, inputs, np.zeros(0, np.int64))
    search = SkySearch(objects, inputs.radius_arcsec)
    pairs = search.near(chosen)
    rows = choose_rows([pairs], [chosen.source_id], objects)
    rows = rows.take(np.isin(rows.source_id, core_ids))
    silenced = np.intersect1d(near_an_object(search, spoken_for), stars["source_id"][stars["core"]])
    n_silenced = count_silenced(conn, inputs, silenced)
    return rows, core_ids, Counted(len(core_ids), len(objects), region.max_pm, n_silenced)


def cell_radius_deg(level: int) -> float:
    """No point of a HEALPix cell of `level` is further from its centre (Gorski et al. 2005; healpix max_pixrad)."""
    nside = 1 << level
    low, high = 2 / 3, 1 - (1 - 1 / nside) ** 2 / 3
    phi = np.pi / (4 * nside)
    cosine = np.sqrt((1 - low**2) * (1 - high**2)) * np.cos(phi) + low * high
    return float(np.degrees(np.arccos(cosine)))


def _new_rows(spec: SurveySpec, file_ids: list[int]) -> PackedQuery:
    assert spec.position is not None
    return PackedQuery(
        position_columns(spec, "t"),
        sql.SQL("{} t").format(sql.Identifier("survey", spec.name)),
        sql.SQL("{} AND t.file_id = ANY({})").format(
            has_position(spec.position, "t"), sql.SQL("{}::integer[]").format(sql.Literal(file_ids))
        ),
    )


def _once_by_id(parts: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    if not parts:
        return []
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    _, first = np.unique(joined["id"], return_index=True)
    return [{name: a[first] for name, a in joined.items()}]


def _rows_kept(conn: Connection, inputs: CrossmatchInputs) -> int:
    row = conn.execute(
        "SELECT coalesce(sum(rows_kept), 0)::bigint FROM msacat.files WHERE survey = ANY(%s)",
        [[inputs.spec.name, inputs.reference.name]],
    ).fetchone()
    assert row is not None
    return int(row[0])
