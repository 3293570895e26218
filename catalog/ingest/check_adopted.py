"""Looks at some rows of a table about to be adopted: the view can read them, and they are of the right release."""

from __future__ import annotations

import psycopg
import pyarrow as pa
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected
from msacat.catalog.ingest.compute_columns import gaia_ids
from msacat.catalog.surveys.survey_spec import SurveySpec

#: rows looked at
SAMPLE = 1000


def check_sample(conn: Connection, spec: SurveySpec, where: str) -> None:
    """Nothing in the table may make the view fail, and a reference's epoch must be its release's."""
    try:
        with conn.transaction():
            conn.execute(
                sql.SQL("SELECT count(v) FROM (SELECT * FROM {} LIMIT %s) v").format(
                    sql.Identifier("survey", spec.name)
                ),
                [SAMPLE],
            )
    except psycopg.DataError as error:
        raise InputRejected(
            "the table's values cannot be read", file=where, found=str(error).strip()
        ) from None
    if spec.role != "reference" or spec.position is None or spec.position.epoch_column is None:
        return
    column = sql.Identifier(spec.position.epoch_column)
    row = conn.execute(
        sql.SQL("SELECT {c} FROM (SELECT {c} FROM {t} LIMIT %s) v WHERE abs({c} - %s) > 1e-3 LIMIT 1").format(
            c=column, t=sql.Identifier("survey", spec.name)
        ),
        [SAMPLE, spec.position.epoch],
    ).fetchone()
    if row:
        raise InputRejected(
            "the table is of another release", file=where, column=spec.position.epoch_column,
            expected=f"epoch {spec.position.epoch} ({spec.release})", found=str(row[0]),
        )  # fmt: skip


def check_names(conn: Connection, schema: str, table: str, columns: list[str], release: str | None) -> None:
    """Texts such as "Gaia DR2 123" in `columns` must name this store's release, as in ingest."""
    for name in columns:
        texts = conn.execute(
            sql.SQL("SELECT {}::text FROM {} LIMIT %s").format(
                sql.Identifier(name), sql.Identifier(schema, table)
            ),
            [SAMPLE],
        ).fetchall()
        try:
            gaia_ids(
                pa.array([text for (text,) in texts], pa.string()), release, f"{schema}.{table}", name, 1
            )
        except InputRejected as error:
            error.row = None  # a table has no order
            raise
