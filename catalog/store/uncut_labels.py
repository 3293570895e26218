"""Labels of matched stars as they are stored, whatever the survey file's quality cuts say of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from psycopg import Connection, sql

from msacat.catalog.surveys.survey_spec import SurveySpec


def uncut_labels(conn: Connection, spec: SurveySpec, quantities: Sequence[str]) -> dict[int, np.ndarray]:
    """By source_id float32[quantities, 2]: value and error, NaN where NULL. Of an id's rows any one."""
    labels = {str(label.quantity): label for label in spec.labels}
    columns: list[sql.Composable] = []
    for label in (labels[quantity] for quantity in quantities):
        columns.append(sql.Identifier("s", label.value))
        columns.append(sql.Identifier("s", label.err) if label.err else sql.SQL("NULL"))
    rows = conn.execute(
        sql.SQL("SELECT m.source_id, {} FROM {} m JOIN {} s USING ({})").format(
            sql.SQL(", ").join(columns), sql.Identifier("matched", spec.name),
            sql.Identifier("survey", spec.name), sql.Identifier(spec.id.column),
        )
    )  # fmt: skip
    return {row[0]: np.array(row[1:], np.float32).reshape(-1, 2) for row in rows}
