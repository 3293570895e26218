"""The SQL that reads positions for a crossmatch: stars as alias s, objects as alias o."""

from __future__ import annotations

import numpy as np
from psycopg import Connection, sql

from msacat.catalog.crossmatch.crossmatch_inputs import CrossmatchInputs
from msacat.catalog.crossmatch.read_packed import PackedQuery
from msacat.catalog.store.survey_table import removing_mask
from msacat.catalog.surveys.survey_spec import Position, SurveySpec

EARLIEST, LATEST = 1900.0, 2100.0  # Julian years a position may have
WHOLE_SKY = (-91.0, 91.0)  # declinations, deg: all of them


def position_columns(spec: SurveySpec, alias: str) -> dict[str, tuple[str, sql.Composable]]:
    """ra, dec (and pmra, pmdec of a reference), epoch as packed columns, raw: `on_sky` mends them."""
    position = spec.position
    assert position is not None

    def column(name: str | None) -> tuple[str, sql.Composable]:
        return "f8", sql.SQL("NULL::double precision") if name is None else sql.Identifier(alias, name)

    columns = {"ra": column(position.ra), "dec": column(position.dec)}
    if spec.role == "reference":
        columns |= {"pmra": column(position.pmra), "pmdec": column(position.pmdec)}
    return columns | {"epoch": column(position.epoch_column)}


def on_sky(arrays: dict[str, np.ndarray], position: Position, prefix: str = "") -> dict[str, np.ndarray]:
    """Rows with a position; an epoch that is missing or impossible becomes the spec's.

    Done here, not by the server, which would need as long for these comparisons as for sending the rows.
    """
    ra, dec = arrays[prefix + "ra"], arrays[prefix + "dec"]
    valid = (dec >= -90) & (dec <= 90) & (ra >= 0) & (ra <= 360)  # false for NaN
    if not valid.all():
        arrays = {name: a[valid] for name, a in arrays.items()}
    epoch = arrays[prefix + "epoch"]
    possible = (epoch >= EARLIEST) & (epoch <= LATEST)
    return arrays | {prefix + "epoch": np.where(possible, epoch, position.epoch)}


def has_position(position: Position, alias: str) -> sql.Composed:
    """The condition of `on_sky` in SQL."""
    return sql.SQL("{} BETWEEN -90 AND 90 AND {} BETWEEN 0 AND 360").format(
        sql.Identifier(alias, position.dec), sql.Identifier(alias, position.ra)
    )


def star_query(
    conn: Connection,
    inputs: CrossmatchInputs,
    dec_deg: tuple[float, float] = WHOLE_SKY,
    where: sql.Composable | None = None,
) -> PackedQuery:
    """Reference stars (alias s) in a range of declination, or under a condition the index answers."""
    position = inputs.reference_position
    name = inputs.reference.name
    conditions: list[sql.Composable] = [sql.SQL("true")]
    if dec_deg[0] > -90 or dec_deg[1] < 90:
        conditions.append(_between(sql.Identifier("s", position.dec), dec_deg))
    plain = is_plain_table(conn, name) and where is None
    if where is not None:
        conditions.append(where)
    return PackedQuery(
        {"source_id": ("i8", sql.Identifier("s", "source_id"))} | position_columns(inputs.reference, "s"),
        sql.SQL("{} s").format(sql.Identifier("survey", name)),
        sql.SQL(" AND ").join(conditions),
        table=("survey", name, "s") if plain else None,
        usual={} if position.epoch_column is None else {"epoch": position.epoch},
    )


def object_query(
    conn: Connection,
    inputs: CrossmatchInputs,
    dec_deg: tuple[float, float] = WHOLE_SKY,
    where: sql.Composable | None = None,
) -> PackedQuery:
    """Objects (alias o) that no archive and no Gaia id has assigned, in a range of declination or a condition."""
    spec, position = inputs.spec, inputs.position
    conditions: list[sql.Composable] = [unclaimed(inputs)]
    if dec_deg[0] > -90 or dec_deg[1] < 90:
        conditions.append(_between(sql.Identifier("o", position.dec), dec_deg))
    if where is not None:
        conditions.append(where)
    columns, text_id = object_columns(inputs)
    plain = spec.id.unique and where is None and is_plain_table(conn, spec.name)
    return PackedQuery(
        columns,
        objects_from(spec),
        sql.SQL(" AND ").join(conditions),
        text_id=text_id,
        table=("survey", spec.name, "o") if plain else None,
    )


def object_columns(
    inputs: CrossmatchInputs,
) -> tuple[dict[str, tuple[str, sql.Composable]], sql.Composable | None]:
    """Packed columns of an object (alias o), and its id if that is text."""
    spec = inputs.spec
    columns = position_columns(spec, "o")
    if mask := removing_mask(spec):
        columns["flagged"] = ("b", sql.SQL("o.quality & {}::bigint <> 0").format(sql.Literal(str(mask))))
    if spec.id.best_by:
        columns["best_by"] = (
            "f8",
            sql.SQL("{}::double precision").format(sql.Identifier("o", spec.id.best_by)),
        )
    identifier = sql.Identifier("o", spec.id.column)
    if spec.column(spec.id.column).type == "text":
        return columns, identifier
    return {"id": ("i8", sql.SQL("{}::bigint").format(identifier))} | columns, None


def objects_from(spec: SurveySpec) -> sql.Composed:
    """The survey's objects as alias o: one row an id, the one its _clean view would show if it shows any."""
    table = sql.Identifier("survey", spec.name)
    if spec.id.unique:
        return sql.SQL("{} o").format(table)
    assert spec.id.best_by is not None and spec.position is not None
    # The last keys only make the choice independent of the order in which files came.
    return sql.SQL(
        "(SELECT DISTINCT ON ({id}) * FROM {table} ORDER BY {id}, (quality & {mask}::bigint <> 0), "
        "{best} DESC NULLS LAST, {dec}, {ra}, {gaia}) o"
    ).format(
        id=sql.Identifier(spec.id.column),
        table=table,
        mask=sql.Literal(str(removing_mask(spec))),
        best=sql.Identifier(spec.id.best_by),
        dec=sql.Identifier(spec.position.dec),
        ra=sql.Identifier(spec.position.ra),
        gaia=sql.Identifier(spec.position.gaia_id or spec.id.column),
    )


def unclaimed(inputs: CrossmatchInputs) -> sql.Composed:
    """Condition on o: neither an archive's best neighbour nor the bearer of a Gaia id the store has."""
    conditions: list[sql.Composable] = [sql.SQL("true")]
    for archive in inputs.archives:
        assert archive.matches is not None
        conditions.append(
            sql.SQL("NOT EXISTS (SELECT FROM {} a WHERE a.{} = o.{})").format(
                sql.Identifier("survey", archive.name),
                sql.Identifier(archive.matches.id),
                sql.Identifier(inputs.spec.id.column),
            )
        )
    if inputs.position.gaia_id:
        conditions.append(
            sql.SQL("NOT EXISTS (SELECT FROM {} g WHERE g.source_id = o.{})").format(
                sql.Identifier("survey", inputs.reference.name), sql.Identifier(inputs.position.gaia_id)
            )
        )
    return sql.SQL(" AND ").join(conditions)


def reach_deg(inputs: CrossmatchInputs, max_pm: float) -> float:
    """How far from its catalogue position a star no faster than `max_pm` mas/yr can have an object, deg."""
    years = max(abs(a - b) for a in _epoch_range(inputs.spec) for b in _epoch_range(inputs.reference))
    return (inputs.radius_arcsec + max_pm / 1000 * years) * (1 + 1e-6) / 3600 + 1e-6


def _epoch_range(spec: SurveySpec) -> tuple[float, float]:
    position = spec.position
    assert position is not None
    if position.epoch_column is None:
        return position.epoch, position.epoch
    low, high = spec.column(position.epoch_column).range or (EARLIEST, LATEST)
    return min(max(low, EARLIEST), position.epoch), max(min(high, LATEST), position.epoch)


def largest_pm(conn: Connection, reference: SurveySpec) -> float:
    """Largest proper motion of the reference, mas/yr."""
    position = reference.position
    assert position is not None
    if position.pmra is None or position.pmdec is None:
        return 0.0
    row = conn.execute(
        sql.SQL("SELECT sqrt(coalesce(max({0} * {0} + {1} * {1}), 0)) FROM {2} WHERE {0} <> 'NaN' AND {1} <> 'NaN'").format(
            sql.Identifier(position.pmra), sql.Identifier(position.pmdec), sql.Identifier("survey", reference.name)
        )
    ).fetchone()  # fmt: skip
    assert row is not None
    return float(row[0])


def is_plain_table(conn: Connection, dataset: str) -> bool:
    row = conn.execute(
        "SELECT relkind = 'r' FROM pg_class WHERE oid = %s::regclass",
        [sql.Identifier("survey", dataset).as_string(conn)],
    ).fetchone()
    return bool(row and row[0])


def _between(column: sql.Composable, bounds: tuple[float, float]) -> sql.Composed:
    return sql.SQL("{0} >= {1}::double precision AND {0} < {2}::double precision").format(
        column, sql.Literal(str(bounds[0])), sql.Literal(str(bounds[1]))
    )
