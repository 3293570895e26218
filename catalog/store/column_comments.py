"""The comment every column carries: one sentence, then unit and UCD in a form programs can read back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

#: how the comment of a view of ours begins, in a schema where users may have views too
MADE_BY = "Made by msacat:"
_TAIL = re.compile(r"^(?P<sentence>.*?)\s*unit=(?P<unit>\S.*?|-) ucd=(?P<ucd>\S+)$", re.DOTALL)


@dataclass(frozen=True)
class Described:
    """What a column's comment says."""

    sentence: str
    unit: str = ""
    ucd: str = ""

    def __str__(self) -> str:
        return f"{self.sentence} unit={self.unit or '-'} ucd={self.ucd or '-'}"

    @staticmethod
    def parse(comment: str | None) -> Described:
        """Read a comment back; one that is not ours becomes the sentence."""
        match = _TAIL.match(comment or "")
        if match is None:
            return Described(comment or "")
        blank = {"-": ""}
        unit, ucd = match["unit"], match["ucd"]
        return Described(match["sentence"], blank.get(unit, unit), blank.get(ucd, ucd))


def comment_on_column(schema: str, relation: str, column: str, described: Described) -> sql.Composed:
    """COMMENT ON COLUMN schema.relation.column."""
    return sql.SQL("COMMENT ON COLUMN {} IS {}").format(
        sql.Identifier(schema, relation, column), sql.Literal(str(described))
    )
