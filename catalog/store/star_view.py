"""matched.stars: one row a Gaia star with all that was measured of it, and the features a model reads.

The view only grows at its end (CREATE OR REPLACE VIEW), so that users' own views on it stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection, sql

from msacat.catalog.errors import UsageError
from msacat.catalog.store.column_comments import Described, comment_on_column
from msacat.catalog.store.survey_table import band_mask, removing_mask
from msacat.catalog.surveys.star_features import BandFeature, LabelFeature, ScalarFeature, StarFeatures
from msacat.catalog.surveys.survey_spec import MATCHED_ROLES, SurveySpec

#: columns of enriched.stars that hold what a model says: a survey's own of that name would be hidden by it
OF_THE_MODEL = frozenset(
    [
        "run_id",
        "xp_run_id",
        "metallicity_run_id",
        "embedding_run_id",
        "observed",
        "suspect",
        "no_support",
        "through_xp",
        "has_input",
        "bp_observed",
        "rp_observed",
        "embedding",
        "fe_h",
        "fe_h_lo",
        "fe_h_hi",
        "teff",
        "teff_err",
        "logg",
        "logg_err",
        "metallicity_suspect",
    ]
)
XP_COLUMNS = ("bp_coefficients", "bp_coefficient_errors", "rp_coefficients", "rp_coefficient_errors")


@dataclass(frozen=True)
class _Output:
    expression: sql.Composable
    described: Described


def refresh_star_view(conn: Connection, specs: dict[str, SurveySpec]) -> None:
    """Recreate survey.xp_spectra and matched.stars for the registered surveys; nothing without a reference."""
    reference = next((s for s in specs.values() if s.role == "reference"), None)
    if reference is None:
        return
    spectra = sorted((s for s in specs.values() if s.spectra), key=_preference)
    _create_xp_view(conn, spectra)
    inputs = _of_inputs(specs)
    matched = [s for s in specs.values() if s.role in MATCHED_ROLES]
    bits: dict[str, int] = dict(conn.execute("SELECT band, bit FROM msacat.bands").fetchall())
    outputs = _reference_outputs(reference) | _xp_outputs(spectra)
    outputs["shared"] = _Output(
        _shared_mask(matched, bits),
        Described("Bits of the bands whose survey object is shared with other Gaia stars.", "", "meta.code"),
    )
    for spec in sorted(matched, key=lambda s: min([bits[b.name] for b in s.bands], default=99)):
        _add(outputs, spec, _survey_outputs(spec), "its id column")
    for spec in inputs:
        _add(outputs, spec, _input_outputs(spec), "its scalars")
    _create_or_replace(conn, "matched", "stars", outputs, _from(reference, [*spectra, *inputs], matched))


def _add(outputs: dict[str, _Output], spec: SurveySpec, mine: dict[str, _Output], what: str) -> None:
    """Into `outputs`, of which none may be replaced: one survey's ids are not another's."""
    if hidden := sorted(mine.keys() & OF_THE_MODEL):
        raise UsageError(
            f"survey '{spec.name}': in enriched.stars these are a model's columns: {', '.join(hidden)}",
            next_step=f"give {what} another name",
        )
    if taken := sorted(mine.keys() & outputs.keys()):
        raise UsageError(
            f"survey '{spec.name}': matched.stars has columns of these names already: {', '.join(taken)}",
            next_step=f"give {what} another name",
        )
    outputs |= mine


def view_columns(conn: Connection, schema: str, relation: str) -> list[str]:
    """Column names of a relation, in order; empty if there is none."""
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) "
        "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [schema, relation],
    ).fetchall()
    return [name for (name,) in rows]


def star_features(conn: Connection, specs: dict[str, SurveySpec]) -> StarFeatures:
    """The store's features in the order of the bands' bits."""
    bits: dict[str, int] = dict(conn.execute("SELECT band, bit FROM msacat.bands").fetchall())
    reference = next(s for s in specs.values() if s.role == "reference")
    bands = [
        BandFeature(
            b.name,
            s.name,
            b.wavelength_nm,
            b.typical_err,
            b.floor_err,
            b.xp,
            b.xp_weight,
            b.xp_offset,
            b.xp_shift,
        )
        for s in specs.values()
        for b in s.bands
    ]
    return StarFeatures(
        reference_band=reference.bands[0].name,
        bands=tuple(sorted(bands, key=lambda b: bits[b.name])),
        scalars=tuple(
            ScalarFeature(name, s.column(name).unit)
            for s in (reference, *_of_inputs(specs))
            for name in s.scalars
        ),
        labels=tuple(
            LabelFeature(f"{s.name}.{x.quantity}", s.name, x.quantity, x.typical_err, x.scale)
            for s in sorted(specs.values(), key=lambda s: s.name)
            for x in s.labels
        ),
        xp=any(s.spectra for s in specs.values()),
        extra={"reference_release": reference.release},
    )


def label_column(label: LabelFeature) -> str:
    """Column of matched.stars that holds the label."""
    return f"{label.survey}_{label.quantity}"


def _preference(spec: SurveySpec) -> tuple[int, str]:
    assert spec.spectra is not None
    return spec.spectra.preference, spec.name


def _create_xp_view(conn: Connection, spectra: list[SurveySpec]) -> None:
    """survey.xp_spectra: each star's coefficients from the preferred survey that holds it."""
    parts: list[sql.Composable] = []
    for i, spec in enumerate(spectra):
        assert spec.spectra is not None
        s = spec.spectra
        earlier = [
            sql.SQL(" AND NOT EXISTS (SELECT 1 FROM {} p WHERE p.source_id = x.source_id)").format(
                sql.Identifier("survey", f"{other.name}_clean")
            )
            for other in spectra[:i]
        ]
        parts.append(
            sql.SQL("SELECT source_id, {}, {}, {}, {}, {}::text AS xp_origin FROM {} x WHERE true{}").format(
                *(sql.SQL("{} AS {}").format(sql.Identifier(have), sql.Identifier(want))
                  for have, want in zip((s.bp, s.bp_err, s.rp, s.rp_err), XP_COLUMNS, strict=True)),
                sql.Literal(s.origin), sql.Identifier("survey", f"{spec.name}_clean"), sql.SQL("").join(earlier),
            )
        )  # fmt: skip
    if not parts:
        nothing = ", ".join(f"NULL::real[] AS {c}" for c in XP_COLUMNS)
        parts = [sql.SQL(f"SELECT NULL::bigint AS source_id, {nothing}, NULL::text AS xp_origin WHERE false")]
    conn.execute(sql.SQL("CREATE OR REPLACE VIEW survey.xp_spectra AS ") + sql.SQL(" UNION ALL ").join(parts))
    conn.execute(
        "COMMENT ON VIEW survey.xp_spectra IS 'XP coefficients of each star, from the preferred survey that holds it.'"
    )
    described = {name: output.described for name, output in _xp_outputs([]).items()}
    described["source_id"] = Described("Gaia source identifier.", "", "meta.id;meta.main")
    for name, text in described.items():
        conn.execute(comment_on_column("survey", "xp_spectra", name, text))


def _reference_outputs(reference: SurveySpec) -> dict[str, _Output]:
    position = reference.position
    assert position is not None
    wanted = {"source_id": "source_id", "ra": position.ra, "dec": position.dec}
    for scalar in reference.scalars:
        wanted |= {scalar: scalar, f"{scalar}_error": f"{scalar}_error"}
    outputs = {}
    for name, column in wanted.items():
        c = reference.column(column)
        outputs[name] = _Output(
            sql.SQL("r.{}").format(sql.Identifier(column)), Described(c.description, c.unit, c.ucd)
        )
    outputs["quality"] = _Output(
        sql.SQL("r.quality"), Described(f"Quality bits of {reference.name}.", "", "meta.code.qual")
    )
    # Reference stars are never dropped for quality: only their bad bands become NULL.
    for band in reference.bands:
        for suffix, column in (("", band.mag), ("_err", band.err)):
            mask = band_mask(reference, column)
            expression: sql.Composable = sql.SQL("r.{}").format(sql.Identifier(column))
            if mask:
                expression = sql.SQL("CASE WHEN r.quality & {} = 0 THEN {} END").format(mask, expression)
            c = reference.column(column)
            outputs[band.name + suffix] = _Output(expression, Described(c.description, c.unit, c.ucd))
    return outputs


def _xp_outputs(spectra: list[SurveySpec]) -> dict[str, _Output]:
    """Coefficients from the first (preferred) of `spectra` that holds the star, all four from the same one."""
    flux = "electron/s"
    texts = {
        "bp_coefficients": ("BP coefficients in Gaia's basis.", flux, "phot.flux;em.opt.B"),
        "bp_coefficient_errors": ("Errors of the BP coefficients.", flux, "stat.error;phot.flux;em.opt.B"),
        "rp_coefficients": ("RP coefficients in Gaia's basis.", flux, "phot.flux;em.opt.R"),
        "rp_coefficient_errors": ("Errors of the RP coefficients.", flux, "stat.error;phot.flux;em.opt.R"),
        "xp_origin": ("Survey form the coefficients come from: continuous or sampled.", "", "meta.code"),
    }
    outputs = {}
    for name, text in texts.items():
        cases = []
        for spec in spectra:
            assert spec.spectra is not None
            s, alias = spec.spectra, sql.Identifier(f"s_{spec.name}")
            column = dict(zip(XP_COLUMNS, (s.bp, s.bp_err, s.rp, s.rp_err), strict=True)).get(name)
            value: sql.Composable = (
                sql.Literal(s.origin)
                if column is None
                else sql.SQL("{}.{}").format(alias, sql.Identifier(column))
            )
            cases.append(sql.SQL("WHEN {}.source_id IS NOT NULL THEN {}").format(alias, value))
        kind = sql.SQL("text" if name == "xp_origin" else "real[]")
        if cases:
            expression = sql.SQL("(CASE {} END)::{}").format(sql.SQL(" ").join(cases), kind)
        else:
            expression = sql.SQL("NULL::{}").format(kind)
        outputs[name] = _Output(expression, Described(*text))
    return outputs


def _survey_outputs(spec: SurveySpec) -> dict[str, _Output]:
    alias = sql.Identifier(f"s_{spec.name}")
    outputs = {}

    def add(name: str, column: str) -> None:
        c = spec.column(column)
        value: sql.Composable = sql.SQL("{}.{}").format(alias, sql.Identifier(column))
        mask = band_mask(spec, column)
        if mask and not spec.id.unique:  # joined from the table itself, not through its _clean view
            value = sql.SQL("CASE WHEN {}.quality & {} = 0 THEN {} END").format(alias, mask, value)
        outputs[name] = _Output(value, Described(c.description, c.unit, c.ucd))

    add(spec.id.column, spec.id.column)
    for band in spec.bands:
        add(band.name, band.mag)
        add(f"{band.name}_err", band.err)
    for label in spec.labels:
        add(f"{spec.name}_{label.quantity}", label.value)
        if label.err:
            add(f"{spec.name}_{label.quantity}_err", label.err)
    return outputs


def _of_inputs(specs: dict[str, SurveySpec]) -> list[SurveySpec]:
    return sorted((s for s in specs.values() if s.role == "inputs"), key=lambda s: s.name)


def _input_outputs(spec: SurveySpec) -> dict[str, _Output]:
    alias, outputs = f"s_{spec.name}", {}
    for name in (n for scalar in spec.scalars for n in (scalar, f"{scalar}_error")):
        c = spec.column(name)
        outputs[name] = _Output(sql.Identifier(alias, name), Described(c.description, c.unit, c.ucd))
    return outputs


def _shared_mask(matched: list[SurveySpec], bits: dict[str, int]) -> sql.Composable:
    terms = [
        sql.SQL("CASE WHEN {}.n_mates > 0 THEN {}::bigint ELSE 0 END").format(
            sql.Identifier(f"m_{spec.name}"), sum(1 << bits[b.name] for b in spec.bands)
        )
        for spec in matched
        if spec.bands
    ]
    return sql.SQL(" | ").join(terms) if terms else sql.SQL("0::bigint")


def _from(reference: SurveySpec, by_id: list[SurveySpec], matched: list[SurveySpec]) -> sql.Composed:
    """The joins; `by_id` hold source_id themselves. Every one can be an index lookup, so that one star by its id stays a matter of microseconds."""
    joins = [sql.SQL("{} r").format(sql.Identifier("survey", reference.name))]
    for spec in by_id:
        s = sql.Identifier(f"s_{spec.name}")
        joins.append(
            sql.SQL(" LEFT JOIN {} {} ON {}.source_id = r.source_id").format(
                sql.Identifier("survey", f"{spec.name}_clean"), s, s
            )
        )
    for spec in matched:
        m, s = sql.Identifier(f"m_{spec.name}"), sql.Identifier(f"s_{spec.name}")
        joins.append(
            sql.SQL(" LEFT JOIN {} {} ON {}.source_id = r.source_id").format(
                sql.Identifier("matched", spec.name), m, m
            )
        )
        same = sql.SQL("{}.{}").format(m, sql.Identifier(spec.id.column))
        if spec.id.unique:
            join = sql.SQL(" LEFT JOIN {table} {s} ON {s}.{id} = {same}")
            table = sql.Identifier("survey", f"{spec.name}_clean")
        else:  # as the _clean view does, but by index for one id; the view itself would be sorted whole
            join = sql.SQL(
                " LEFT JOIN LATERAL (SELECT * FROM {table} b WHERE b.{id} = {same} AND b.quality & {mask} = 0"
                " ORDER BY b.{best} DESC NULLS LAST, b.file_id, b.file_row LIMIT 1) {s} ON true"
            )
            table = sql.Identifier("survey", spec.name)
        joins.append(
            join.format(
                table=table, s=s, id=sql.Identifier(spec.id.column), same=same,
                mask=removing_mask(spec), best=sql.Identifier(spec.id.best_by or ""),
            )
        )  # fmt: skip
    return sql.SQL("").join(joins)


def _create_or_replace(
    conn: Connection, schema: str, relation: str, outputs: dict[str, _Output], from_: sql.Composable
) -> None:
    existing = view_columns(conn, schema, relation)
    if set(existing) <= set(outputs):
        order = existing + [name for name in outputs if name not in existing]
    else:  # made by an older msacat with columns that are no longer shown, which REPLACE cannot take away
        conn.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(schema, relation)))
        order = list(outputs)
    columns = sql.SQL(", ").join(
        sql.SQL("{} AS {}").format(outputs[name].expression, sql.Identifier(name)) for name in order
    )
    conn.execute(
        sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} FROM {}").format(
            sql.Identifier(schema, relation), columns, from_
        )
    )
    conn.execute(
        sql.SQL("COMMENT ON VIEW {} IS {}").format(
            sql.Identifier(schema, relation),
            sql.Literal(
                "Every Gaia star with all that was measured of it, as the surveys' _clean views show it."
            ),
        )
    )
    for name in order:
        conn.execute(comment_on_column(schema, relation, name, outputs[name].described))
