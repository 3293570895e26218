"""Columns with their comment: a sentence, the unit, the UCD."""

from __future__ import annotations

import sqlalchemy as sa


def described(
    name: str, type_: sa.types.TypeEngine, sentence: str, *, unit: str = "", ucd: str = "", **kw
) -> sa.Column:
    """A column whose comment reads `sentence unit=... ucd=...`, '-' where there is none."""
    return sa.Column(name, type_, comment=f"{sentence} unit={unit or '-'} ucd={ucd or '-'}", **kw)
