"""Registers a survey file in the store: its table, views, bands and match table appear in one transaction."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

from psycopg import Connection, sql

from msacat.catalog.errors import UsageError
from msacat.catalog.store.hold_views import between_readers, hold_publishing, hold_views
from msacat.catalog.store.star_view import refresh_star_view, view_columns
from msacat.catalog.store.survey_changes import allowed_changes
from msacat.catalog.store.survey_table import (
    column_definition,
    comments,
    create_clean_view,
    create_match_table,
    create_table,
    quality_statistics,
)
from msacat.catalog.surveys.load_specs import builtin_specs, stored_spec
from msacat.catalog.surveys.survey_spec import MATCHED_ROLES, SurveySpec

# One registration at a time: bits of bands are handed out in order.
REGISTRATION_LOCK = 0x6D736163_0002


def registered_specs(conn: Connection) -> dict[str, SurveySpec]:
    """Every survey of this store, by dataset keyword, as it was registered."""
    rows = conn.execute("SELECT name, spec FROM msacat.surveys ORDER BY name").fetchall()
    return {name: stored_spec(spec) for name, spec in rows}


def reference_spec(conn: Connection) -> SurveySpec | None:
    """The reference survey (Gaia), if one is registered."""
    row = conn.execute("SELECT spec FROM msacat.surveys WHERE role = 'reference'").fetchone()
    return stored_spec(row[0]) if row else None


def find_spec(conn: Connection, name: str) -> SurveySpec:
    """The registered survey `name`, else the built-in one; UsageError with near names otherwise."""
    row = conn.execute("SELECT spec FROM msacat.surveys WHERE name = %s", [name]).fetchone()
    if row:
        return stored_spec(row[0])
    builtin = builtin_specs()
    if name in builtin:
        return builtin[name]
    known = sorted({*builtin, *registered_specs(conn)})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise UsageError(
        f"no survey called '{name}'",
        expected="one of " + ", ".join(known),
        next_step=(f"did you mean {' or '.join(near)}? " if near else "")
        + "`msacat survey list` shows them; `msacat survey add FILE` adds your own",
    )


def register_survey(conn: Connection, spec: SurveySpec, show: bool = True) -> bool:
    """Create what the survey needs; False if this very file is registered already.

    Without `show`, matched.stars stays as it is: whoever reads it would wait for the caller's commit. It is then
    refreshed by the caller.

    Raises UsageError when the name or a band is taken, or when another version is registered.
    The caller commits.
    """
    # Looked at before the lock, which lasts until the caller commits: files must not wait for one another.
    row = conn.execute("SELECT fingerprint FROM msacat.surveys WHERE name = %s", [spec.name]).fetchone()
    if row is not None and row[0] == spec.fingerprint:
        return False
    conn.execute("SELECT pg_advisory_xact_lock(%s)", [REGISTRATION_LOCK])
    if not _is_new(conn, spec):
        return False
    _record(conn, spec)
    for statement in create_table(spec) + create_clean_view(spec):
        conn.execute(statement)
    if spec.role in MATCHED_ROLES:
        for statement in create_match_table(spec):
            conn.execute(statement)
    if show:
        between_readers(conn, lambda: refresh_star_view(conn, registered_specs(conn)))
    return True


def register_adopted(conn: Connection, spec: SurveySpec, source: str, view: sql.Composed) -> None:
    """Like register_survey, but survey.<name> is `view` over the archive's own table `source`."""
    conn.execute("SELECT pg_advisory_xact_lock(%s)", [REGISTRATION_LOCK])
    if not _is_new(conn, spec):
        raise UsageError(
            f"survey '{spec.name}' is registered already",
            next_step=f"`msacat forget {spec.name}` first, or ingest into it",
        )
    _record(conn, spec, adopted_from=source)
    conn.execute(view)
    for statement in comments(spec, spec.name) + create_clean_view(spec):
        conn.execute(statement)
    if spec.role in MATCHED_ROLES:
        for statement in create_match_table(spec):
            conn.execute(statement)
    between_readers(conn, lambda: refresh_star_view(conn, registered_specs(conn)))


def update_survey(conn: Connection, spec: SurveySpec) -> list[str]:
    """Migrate a registered survey to a newer version of its file; returns what changed.

    Allowed: new columns (NULL for rows already stored), new quality bits (set by the next ingest), new bands, labels
    and scalars, what a bit removes from the _clean view, changed words, radii and epochs of matching, typical errors.
    Anything that would reinterpret stored values, or take away what matched.stars shows, is refused.
    """
    old = newer_version(conn, spec)
    if old is None:
        return []
    changes = allowed_changes(old, spec)
    _hold_star_views(conn, [spec])
    for column in spec.columns:
        if column.name not in {c.name for c in old.columns}:
            conn.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(
                    sql.Identifier("survey", spec.name), column_definition(spec, column)
                )
            )
    record_version(conn, spec)
    order = view_columns(conn, "survey", f"{spec.name}_clean")
    for statement in quality_statistics(spec) + comments(spec, spec.name) + create_clean_view(spec, order):
        conn.execute(statement)
    refresh_star_view(conn, registered_specs(conn))
    return changes or [only_the_version(old, spec)]


def only_the_version(old: SurveySpec, spec: SurveySpec) -> str:
    return f"version {old.version} became {spec.version}; nothing else differs"


def newer_version(conn: Connection, spec: SurveySpec) -> SurveySpec | None:
    """The registered survey file that `spec` is a newer version of; None if it is `spec` itself.

    Until the caller commits, nobody else registers or updates a survey. Raises UsageError where no update is possible.
    """
    conn.execute("SELECT pg_advisory_xact_lock(%s)", [REGISTRATION_LOCK])
    row = conn.execute(
        "SELECT spec, adopted_from FROM msacat.surveys WHERE name = %s", [spec.name]
    ).fetchone()
    if row is None:
        raise UsageError(f"survey '{spec.name}' is not registered", next_step="`msacat survey add FILE`")
    old = stored_spec(row[0])
    if old.fingerprint == spec.fingerprint:
        return None
    if row[1] is not None:
        raise UsageError(
            f"survey '{spec.name}' is adopted", next_step=f"`msacat forget {spec.name}`, then adopt again"
        )
    if spec.version <= old.version:
        raise UsageError(
            f"survey '{spec.name}' changed without a new version",
            expected=f"version > {old.version}", found=f"version = {spec.version}",
        )  # fmt: skip
    return old


def record_version(conn: Connection, spec: SurveySpec) -> None:
    """Write the newer survey file in the place of the registered one; new bands get their bits."""
    conn.execute(
        "UPDATE msacat.surveys SET version = %s, release = %s, title = %s, spec = %s, fingerprint = %s WHERE name = %s",
        [spec.version, spec.release, spec.title, _json(spec), spec.fingerprint, spec.name],
    )
    _add_bands(conn, spec)


def refresh_views(conn: Connection) -> None:
    """Make every survey's _clean view and matched.stars anew: views follow a renamed table by its oid, not its name."""
    specs = registered_specs(conn)
    hold_publishing(conn)
    hold_views(conn, ("enriched", "stars"))  # made anew by the caller afterwards
    _hold_star_views(conn, specs.values())
    for spec in specs.values():
        order = view_columns(conn, "survey", f"{spec.name}_clean")
        for statement in create_clean_view(spec, order):
            conn.execute(statement)
    refresh_star_view(conn, specs)


def _hold_star_views(conn: Connection, changed: Iterable[SurveySpec]) -> None:
    cleaned = [("survey", f"{spec.name}_clean") for spec in changed]
    hold_views(conn, ("matched", "stars"), ("survey", "xp_spectra"), *cleaned)


def _is_new(conn: Connection, spec: SurveySpec) -> bool:
    row = conn.execute(
        "SELECT version, fingerprint FROM msacat.surveys WHERE name = %s", [spec.name]
    ).fetchone()
    if row is not None:
        if row[1] == spec.fingerprint:
            return False
        raise UsageError(
            f"survey '{spec.name}' is registered from another file",
            expected=f"the file of version {row[0]}", found=f"version {spec.version}, with other contents",
            next_step="`msacat survey update` with that file migrates it"
            + ("" if spec.version > row[0] else ", once its version is raised"),
        )  # fmt: skip
    if spec.role == "reference" and (other := reference_spec(conn)):
        raise UsageError(f"this store's reference is '{other.name}'; it has one for ever")
    _require_free_names(conn, spec)
    return True


def _require_free_names(conn: Connection, spec: SurveySpec) -> None:
    """Of another survey's views and indexes too, such as a survey called <other>_clean."""
    wanted = [f"{spec.name}{suffix}" for suffix in ("", "_clean", "_q3c", "_file_id")]
    taken = conn.execute(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE (n.nspname = 'survey' AND c.relname = ANY(%s)) OR (n.nspname = 'matched' AND c.relname = %s) ORDER BY 1",
        [wanted, spec.name],
    ).fetchall()
    if taken:
        raise UsageError(
            f"survey '{spec.name}' cannot have its tables: these names are taken",
            found=", ".join(name for (name,) in taken),
            next_step="give the survey another name, or rename what is there if it is yours",
        )


def _record(conn: Connection, spec: SurveySpec, adopted_from: str | None = None) -> None:
    conn.execute(
        "INSERT INTO msacat.surveys (name, version, release, role, title, spec, fingerprint, adopted_from) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        [
            spec.name,
            spec.version,
            spec.release,
            spec.role,
            spec.title,
            _json(spec),
            spec.fingerprint,
            adopted_from,
        ],
    )
    if spec.role == "reference":
        assert spec.position is not None
        conn.execute(
            "INSERT INTO msacat.releases (release, epoch, is_reference) VALUES (%s, %s, true)",
            [spec.release, spec.position.epoch],
        )
    _add_bands(conn, spec)


def _add_bands(conn: Connection, spec: SurveySpec) -> None:
    """Give each new band the next bit; one the survey has already keeps its own, and takes the file's numbers."""
    taken = conn.execute(
        "SELECT band, survey FROM msacat.bands WHERE band = ANY(%s) AND survey <> %s",
        [[b.name for b in spec.bands], spec.name],
    ).fetchall()
    if taken:
        raise UsageError(
            "band names are taken: " + ", ".join(f"{band} (by {survey})" for band, survey in taken),
            next_step="name the bands <survey>_<band>",
        )
    for band in spec.bands:
        numbers = [band.zero_point_jy, band.wavelength_nm, band.width_nm, band.typical_err, band.xp]
        known = conn.execute(
            "UPDATE msacat.bands SET zero_point_jy = %s, wavelength_nm = %s, width_nm = %s, typical_err = %s, xp = %s "
            "WHERE band = %s",
            [*numbers, band.name],
        ).rowcount
        if known:
            continue
        row = conn.execute("SELECT coalesce(max(bit), -1) + 1 FROM msacat.bands").fetchone()
        assert row is not None
        if row[0] > 62:
            raise UsageError("a store holds at most 63 bands", found=f"{band.name} would be the 64th")
        conn.execute(
            "INSERT INTO msacat.bands (band, bit, survey, mag_column, err_column, system, zero_point_jy, "
            "wavelength_nm, width_nm, typical_err, xp) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [band.name, row[0], spec.name, band.mag, band.err, band.system, *numbers],
        )


def _json(spec: SurveySpec) -> str:
    return json.dumps(spec.model_dump(mode="json"))
