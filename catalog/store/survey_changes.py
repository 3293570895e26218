"""What a newer version of a survey file changes, and which changes a store with rows can take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msacat.catalog.errors import UsageError
from msacat.catalog.surveys.survey_column import Column, Computed
from msacat.catalog.surveys.survey_spec import OF_THE_REFERENCE, SurveySpec

#: lists of entries with a name of their own: key -> what one entry is called, and what names it
ENTRIES = {"columns": ("column", "name"), "bands": ("band", "name"), "labels": ("label", "quantity"),
           "quality": ("quality bit", "bit")}  # fmt: skip
LONGEST_VALUE = 60  # a description is not printed
#: keys of [position] that name no column: only the next crossmatch reads them
OF_THE_CROSSMATCH = ("epoch", "match_radius_arcsec")


def allowed_changes(old: SurveySpec, new: SurveySpec) -> list[str]:
    """Every change from `old` to `new`, in words; UsageError if one would reinterpret stored values."""
    changes: list[str] = []
    refused: list[str] = []
    fixed = ("role", "release", "matches", "spectra")
    refused += [f"{key} changed" for key in fixed if getattr(old, key) != getattr(new, key)]
    refused += _of_id(old, new) + _of_position(old, new)
    for column in old.columns:
        try:
            now = new.column(column.name)
        except KeyError:
            refused.append(f"column {column.name} is gone")
            continue
        for key in ("type", "unit", "published_unit", "computed", "sentinels", "range"):
            if _meaning(column, key) != _meaning(now, key):
                refused.append(f"column {column.name}: {key} changed")
    old_names = {c.name for c in old.columns}
    changes += [f"column {c.name} added" for c in new.columns if c.name not in old_names]
    new_bits = {q.bit: q for q in new.quality}
    for cut in old.quality:
        kept = new_bits.get(cut.bit)
        if kept is None or kept.name != cut.name:
            refused.append(f"quality bit {cut.bit} ({cut.name}) is gone or renamed; bits are append-only")
            continue
        refused += [
            f"quality bit {cut.bit} ({cut.name}): {key} changed; stored rows were judged by the old one"
            for key in ("column", "bad_if", "value", "character")
            if getattr(cut, key) != getattr(kept, key)
        ]
    changes += _other_removals(old, new)
    changes += [f"quality bit {b} added" for b in new_bits if b not in {q.bit for q in old.quality}]
    refused += _gone_or_changed_bands(old, new)
    changes += [f"band {b} added" for b in sorted({b.name for b in new.bands} - {b.name for b in old.bands})]
    old_labels, new_labels = ({x.quantity: x for x in s.labels} for s in (old, new))
    refused += _gone_or_changed("label", old_labels, new_labels, ("value", "err"))
    refused += [f"scalar {name} is gone" for name in old.scalars if name not in new.scalars]
    if refused:
        raise UsageError(
            f"survey '{old.name}': version {new.version} would reinterpret stored values:\n  "
            + "\n  ".join(refused),
            next_step=f"`msacat forget {old.name}`, update, and ingest its files again; or give the survey a new name",
        )
    return changes + _other_changes(old, new)


def _gone_or_changed(
    what: str, old: Mapping[Any, Any], new: Mapping[Any, Any], keys: tuple[str, ...]
) -> list[str]:
    """Of entries by name: those that `new` lacks, and those it reads from other columns or in another system."""
    refused = []
    for name, entry in old.items():
        if name not in new:
            refused.append(f"{what} {name} is gone")
            continue
        refused += [
            f"{what} {name}: {key} changed" for key in keys if getattr(entry, key) != getattr(new[name], key)
        ]
    return refused


def _gone_or_changed_bands(old: SurveySpec, new: SurveySpec) -> list[str]:
    before, after = ({band.name: band for band in spec.bands} for spec in (old, new))
    return _gone_or_changed("band", before, after, ("mag", "err", "system"))


def _of_id(old: SurveySpec, new: SurveySpec) -> list[str]:
    """What of [id] changed, but for `best_by`, which only chooses among rows that stay."""
    return [
        f"id.{key} changed" for key in ("column", "unique") if getattr(old.id, key) != getattr(new.id, key)
    ]


def _of_position(old: SurveySpec, new: SurveySpec) -> list[str]:
    """What of [position] reinterprets stored positions; the epoch of the reference is that of its release."""
    free = OF_THE_CROSSMATCH if old.role != "reference" else ("match_radius_arcsec",)
    was, now = (s.position.model_dump() if s.position else {} for s in (old, new))
    keys = [key for key in {**was, **now} if key not in free]
    return [f"position.{key} changed" for key in keys if was.get(key) != now.get(key)]


def changes_without_rows(old: SurveySpec, new: SurveySpec) -> list[str]:
    """Every change to a survey that holds no rows, in words; UsageError for what outlives the rows.

    Bands do, in the runs that imputed them; so do the role and the id, in matched.stars and in match tables.
    """
    fixed = ("role", "release") if old.role in OF_THE_REFERENCE else ("role",)
    refused = [f"{key} changed" for key in fixed if getattr(old, key) != getattr(new, key)] + _of_id(old, new)
    refused += _gone_or_changed_bands(old, new)
    if refused:
        raise UsageError(
            f"survey '{old.name}': version {new.version} changes what a survey keeps for ever:\n  "
            + "\n  ".join(refused),
            next_step="give the survey, its id column and its bands new names, and `msacat survey add` it",
        )
    changes = _other_removals(old, new)
    for key, (what, named_by) in ENTRIES.items():
        before, after = ([getattr(entry, named_by) for entry in getattr(spec, key)] for spec in (old, new))
        if key != "labels":  # said with the other changes
            changes += [f"{what} {name} added" for name in after if name not in before]
            changes += [f"{what} {name} is gone" for name in before if name not in after]
    return changes + _other_changes(old, new)


def _other_removals(old: SurveySpec, new: SurveySpec) -> list[str]:
    kept = {cut.bit: cut for cut in new.quality}
    return [
        f"quality bit {cut.bit} ({cut.name}) removes something else"
        for cut in old.quality
        if (now := kept.get(cut.bit))
        and (cut.removes, cut.bands, cut.labels) != (now.removes, now.bands, now.labels)
    ]


def _meaning(column: Column, key: str) -> object:
    """What `key` says of stored values: further names for an input say nothing of them."""
    value = getattr(column, key)
    if isinstance(value, Computed):
        return value.model_copy(update={"columns": [names[0] for names in value.inputs]})
    return value


def _other_changes(old: SurveySpec, new: SurveySpec) -> list[str]:
    """The changes that reinterpret nothing: words, radii, typical errors, further names."""
    was, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    changes = []
    for key in was:
        if key in ENTRIES:
            changes += _changes_of_entries(key, was[key], now[key])
        elif isinstance(was[key], dict) and isinstance(now[key], dict):
            changes += _changed_values(f"{key}.", was[key], now[key])
        elif key != "version":
            changes += _changed_values("", {key: was[key]}, {key: now[key]})
    return changes


def _changes_of_entries(key: str, was: list[dict], now: list[dict]) -> list[str]:
    what, named_by = ENTRIES[key]
    before = {entry[named_by]: entry for entry in was}
    after = {entry[named_by]: entry for entry in now}
    changes = []
    for name, entry in after.items():
        if name in before:
            # what a bit removes is said in other words
            said = ("removes", "bands", "labels") if key == "quality" else ()
            changes += _changed_values(f"{what} {name}: ", before[name], entry, said)
        elif key == "labels":
            changes.append(f"label {name} added")
    return changes


def _changed_values(
    lead: str, was: dict[str, Any], now: dict[str, Any], said: tuple[str, ...] = ()
) -> list[str]:
    changes = []
    for key in {**was, **now}:
        before, after = was.get(key), now.get(key)
        if before == after or key in said:
            continue
        short = max(len(str(before)), len(str(after))) <= LONGEST_VALUE
        effect = "; the next crossmatch takes it" if key in OF_THE_CROSSMATCH else ""
        changes.append(f"{lead}{key} changed" + (f" from {before!r} to {after!r}" if short else "") + effect)
    return changes
