"""Matches that need no search: a Gaia id the survey gives, or the archive's own best neighbour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from psycopg import sql

from msacat.catalog.crossmatch.crossmatch_inputs import CrossmatchInputs
from msacat.catalog.crossmatch.match_positions import MatchRows, as_objects, as_stars, choose_rows
from msacat.catalog.crossmatch.position_queries import (
    has_position,
    is_plain_table,
    object_columns,
    objects_from,
    on_sky,
    position_columns,
)
from msacat.catalog.crossmatch.read_packed import PackedQuery
from msacat.catalog.crossmatch.sky_pairs import grains_apart
from msacat.catalog.crossmatch.snapshot_readers import SnapshotReaders


def match_by_gaia_id(readers: SnapshotReaders, inputs: CrossmatchInputs) -> tuple[MatchRows, np.ndarray]:
    """(rows by source_id, their source_ids): stars that objects name by a source_id the store holds.

    Of several objects naming one star the best by the survey's best_by matches, else the nearest (unflagged first;
    ties to the smaller id), and n_candidates counts them. Distance does not matter otherwise: the survey knew which
    star it meant.
    """
    spec, gaia_id = inputs.spec, inputs.position.gaia_id
    if gaia_id is None:
        return choose_rows([], [], as_objects(inputs, [])), np.zeros(0, np.int64)
    columns, text_id = object_columns(inputs)
    star = {f"star_{name}": column for name, column in position_columns(inputs.reference, "s").items()}
    query = PackedQuery(
        columns | star | {"source_id": ("i8", sql.Identifier("s", "source_id"))},
        sql.SQL("{} JOIN {} s ON s.source_id = o.{}").format(
            objects_from(spec), sql.Identifier("survey", inputs.reference.name), sql.Identifier(gaia_id)
        ),
        sql.SQL("{} AND {}").format(
            has_position(inputs.position, "o"), has_position(inputs.reference_position, "s")
        ),
        text_id=text_id,
        table=("survey", spec.name, "o")
        if spec.id.unique and is_plain_table(readers.conn, spec.name)
        else None,
    )
    parts = readers.each(query.parts(readers.conn), lambda c, part: list(query.read(c, part)))
    arrays = [chunk for part in parts for chunk in part]
    if not arrays:
        return choose_rows([], [], as_objects(inputs, [])), np.zeros(0, np.int64)
    objects = as_objects(inputs, arrays)
    joined = {name: np.concatenate([a[name] for a in arrays]) for name in (*star, "source_id")}
    joined = on_sky(joined, inputs.reference_position, "star_")
    stars = as_stars({name.removeprefix("star_"): column for name, column in joined.items()})
    grains = grains_apart(stars, objects)
    flagged = np.zeros(len(objects), bool) if objects.flagged is None else objects.flagged
    order = np.lexsort((objects.id, grains, objects.rank(), flagged, stars.source_id))
    source_id = stars.source_id[order]
    first = np.flatnonzero(np.r_[True, source_id[1:] != source_id[:-1]])
    best = order[first]
    rows = MatchRows(
        source_id[first],
        objects.id[best],
        np.ones(len(first), bool),
        flagged[best],
        grains[best],
        np.diff(np.r_[first, len(order)]),
    )
    return rows, rows.source_id


def match_by_archive(
    inputs: CrossmatchInputs, new_files: dict[str, list[int]] | None = None
) -> Iterator[sql.Composed]:
    """SELECTs of the match table's columns: the archive's pairs of which the store holds both sides.

    One a best-neighbour survey; a star that an object names by Gaia id is left out, as is an object that names a star
    of the store, and a star that an earlier survey of this dataset matched. `new_files` (by survey) restricts them to
    pairs with a star or object of these.
    """
    for number, archive in enumerate(inputs.archives):
        matches = archive.matches
        assert matches is not None

        def column(name: str | None) -> sql.Composable:
            return sql.SQL("NULL") if name is None else sql.Identifier("a", name)

        others: list[sql.Composable] = [sql.SQL("true")]
        if inputs.position.gaia_id:
            others.append(
                sql.SQL("NOT EXISTS (SELECT FROM {} x WHERE x.{} = a.source_id)").format(
                    sql.Identifier("survey", inputs.spec.name), sql.Identifier(inputs.position.gaia_id)
                )
            )
            others.append(
                sql.SQL("NOT EXISTS (SELECT FROM {} g WHERE g.source_id = o.{})").format(
                    sql.Identifier("survey", inputs.reference.name), sql.Identifier(inputs.position.gaia_id)
                )
            )
        for earlier in inputs.archives[:number]:
            others.append(
                sql.SQL("NOT EXISTS (SELECT FROM {} e WHERE e.source_id = a.source_id)").format(
                    sql.Identifier("survey", earlier.name)
                )
            )
        select = sql.SQL(
            "SELECT a.source_id, o.{id}, {separation}::real, greatest(coalesce({neighbours}, 1), 1)::integer, "
            "coalesce({mates}, 0)::integer, 'best_neighbour' FROM {archive} a JOIN {objects} ON o.{id} = a.{key} "
            "JOIN {stars} s ON s.source_id = a.source_id WHERE {others}"
        ).format(
            id=sql.Identifier(inputs.spec.id.column),
            separation=column(matches.separation),
            neighbours=column(matches.n_neighbours),
            mates=column(matches.n_mates),
            archive=sql.Identifier("survey", archive.name),
            objects=objects_from(inputs.spec),
            key=sql.Identifier(matches.id),
            stars=sql.Identifier("survey", inputs.reference.name),
            others=sql.SQL(" AND ").join(others),
        )
        if new_files is None:
            yield select
        else:  # two index lookups rather than one join of everything
            yield sql.SQL(
                "{0} AND s.file_id = ANY({1}::integer[]) UNION {0} AND o.file_id = ANY({2}::integer[])"
            ).format(
                select,
                sql.Literal(new_files[inputs.reference.name]),
                sql.Literal(new_files[inputs.spec.name]),
            )
