"""Is the store ready to train on? What is missing is said before hours are spent."""

from __future__ import annotations

from psycopg import Connection, sql

from msacat.catalog.crossmatch.crossmatch_stars import crossmatch_state
from msacat.catalog.errors import InputRejected
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.catalog.surveys.survey_spec import MATCHED_ROLES, SurveySpec

FEWEST_STARS = 500


def check_ready(conn: Connection, specs: dict[str, SurveySpec]) -> list[str]:
    """Words on what will be skipped (no XP, no labels, a survey without rows).

    Raises InputRejected without stars, with too few, or where surveys were ingested but never cross-matched.
    """
    reference = next((s for s in specs.values() if s.role == "reference"), None)
    n_stars = _rows(conn, reference.name) if reference else 0
    if reference is None or n_stars == 0:
        raise InputRejected("the store holds no stars", next_step="msacat ingest gaia_source FILE…")
    if n_stars < FEWEST_STARS:
        raise InputRejected(
            "too few stars to train on", expected=f"at least {FEWEST_STARS}", found=str(n_stars),
            next_step=f"msacat ingest {reference.name} more files, or use a model trained elsewhere: msacat models import",
        )  # fmt: skip
    notes, waiting, empty = [], [], []
    for name, spec in specs.items():
        if spec.role not in MATCHED_ROLES:
            continue
        if _rows(conn, name) == 0:
            empty.append(name)
        elif (state := crossmatch_state(conn, name)) == "missing":
            waiting.append(name)
        elif state == "out of date":
            notes.append(_out_of_date(name))
    if waiting:
        raise InputRejected(
            f"no matches: {', '.join(waiting)} never cross-matched",
            next_step=f"msacat crossmatch {' '.join(waiting)}",
        )
    has_xp = any(s.spectra and _rows(conn, s.name) for s in specs.values())
    notes += _notes_on_empty([specs[name] for name in empty], has_xp)
    if not has_xp:
        notes.append("no XP spectra: the model will not predict coefficients")
    if not any(s.labels and _rows(conn, s.name) for s in specs.values()):
        notes.append("no spectroscopic labels: the model will not predict metallicities")
    return notes


def notes_on_matches(conn: Connection, specs: dict[str, SurveySpec]) -> list[str]:
    """Words on surveys with rows whose cross-match is missing or out of date: what of theirs is left out."""
    notes = []
    for name, spec in specs.items():
        if spec.role not in MATCHED_ROLES or _rows(conn, name) == 0:
            continue
        state = crossmatch_state(conn, name)
        if state == "missing":
            notes.append(
                f"{name} was never cross-matched: none of its measurements is used before `msacat crossmatch {name}`"
            )
        elif state == "out of date":
            notes.append(_out_of_date(name))
    return notes


def _out_of_date(name: str) -> str:
    return f"the cross-match of {name} is out of date: `msacat crossmatch {name}` would add its new files"


def _notes_on_empty(surveys: list[SurveySpec], has_xp: bool) -> list[str]:
    """What becomes of surveys without rows: bands with a synthetic counterpart are learned where there are spectra."""
    notes, skipped = [], []
    for spec in surveys:
        learned = [band.name for band in spec.bands if band.xp and has_xp]
        if learned:
            notes.append(
                f"{spec.name} has no rows: learned through the XP spectra alone: {', '.join(learned)}"
            )
            skipped += [band.name for band in spec.bands if band.name not in learned]
        else:
            skipped.append(spec.name)
    if skipped:
        notes.append(f"without rows, so skipped: {', '.join(skipped)}")
    return notes


def without_empty_surveys(
    conn: Connection, specs: dict[str, SurveySpec], features: StarFeatures
) -> StarFeatures:
    """`features` without labels, XP and further inputs of surveys that hold no rows; bands stay (they may get rows)."""
    full = {name for name in specs if _rows(conn, name)}
    absent = {
        scalar for s in specs.values() if s.role == "inputs" and s.name not in full for scalar in s.scalars
    }
    return StarFeatures(
        reference_band=features.reference_band,
        bands=features.bands,
        scalars=tuple(scalar for scalar in features.scalars if scalar.name not in absent),
        labels=tuple(label for label in features.labels if label.survey in full),
        xp=any(spec.spectra and name in full for name, spec in specs.items()),
        extra=features.extra,
    )


def _rows(conn: Connection, survey: str) -> int:
    """Whether and how many rows; counted only as far as the question needs."""
    row = conn.execute(
        sql.SQL("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {}) x").format(
            sql.Identifier("survey", survey), FEWEST_STARS
        )
    ).fetchone()
    assert row is not None
    return row[0]
