"""What a crossmatch starts from: specs, files, sky already covered by the archive; and whether any of it is missing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

import numpy as np
from psycopg import Connection, sql

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.server.q3c import has_q3c_index, q3c_index_sql
from msacat.catalog.store.register_survey import find_spec, registered_specs
from msacat.catalog.store.survey_table import removing_mask
from msacat.catalog.surveys.source_id import cell_shift
from msacat.catalog.surveys.survey_spec import MATCHED_ROLES, Position, SurveySpec

#: raise it when the same inputs would now give other matches: every crossmatch is then out of date
METHOD = 3
#: a source_id shifted right by so many bits is its nested HEALPix cell of level 8, some 14 arcmin wide
CELL_SHIFT = cell_shift(8)
#: a longer table of an archive is not read whole for its cells, but looked up cell by cell; there are 786,432
LONGEST_READ_WHOLE = 50_000_000
_ALL_CELLS = "SELECT DISTINCT source_id >> {shift} FROM {pairs}"
#: one look-up in the key a cell; beyond the last cell no bigint lies
_NEXT_CELL = (
    "WITH RECURSIVE cells AS ("
    "(SELECT source_id >> {shift} AS cell FROM {pairs} ORDER BY source_id LIMIT 1) UNION ALL "
    "SELECT (SELECT a.source_id >> {shift} FROM {pairs} a WHERE a.source_id >= (c.cell + 1) << {shift} "
    "ORDER BY a.source_id LIMIT 1) FROM cells c WHERE c.cell < {last}"
    ") SELECT cell FROM cells WHERE cell IS NOT NULL"
)


@dataclass(frozen=True)
class CrossmatchInputs:
    """Everything that decides a crossmatch, in one snapshot.

    archives    best-neighbour surveys of this dataset, in order of name
    file_ids    of the dataset, the reference, the archives; ascending
    settings    hash of what is not a file: specs, method
    covered     bool (2**20,), by cell of level 8: an archive's pairs name a star there. Empty until read_covered
    """

    spec: SurveySpec
    reference: SurveySpec
    archives: tuple[SurveySpec, ...]
    file_ids: dict[str, list[int]]
    settings: str
    covered: np.ndarray

    @property
    def all_file_ids(self) -> list[int]:
        return sorted({i for ids in self.file_ids.values() for i in ids})

    @property
    def fingerprint(self) -> str:
        files = hashlib.sha256(json.dumps(self.all_file_ids).encode()).hexdigest()
        return f"{self.settings}-{files[:24]}"

    @property
    def position(self) -> Position:
        assert self.spec.position is not None
        return self.spec.position

    @property
    def reference_position(self) -> Position:
        assert self.reference.position is not None
        return self.reference.position

    @property
    def radius_arcsec(self) -> float:
        radius = self.position.match_radius_arcsec
        assert radius is not None
        return radius

    def is_covered(self, source_id: np.ndarray) -> np.ndarray:
        """Whether each star lies where an archive's match speaks."""
        if not len(self.covered):
            return np.zeros(len(source_id), bool)
        return self.covered[source_id >> CELL_SHIFT]


def read_inputs(conn: Connection, dataset: str) -> CrossmatchInputs:
    """Inputs of the crossmatch of `dataset`.

    Raises UsageError for a dataset that is never matched, InputRejected where a table is missing.
    """
    registered = registered_specs(conn)
    spec = registered.get(dataset) or find_spec(conn, dataset)
    if spec.role not in MATCHED_ROLES:
        raise UsageError(
            f"{dataset} is not matched to stars: its role is {spec.role}",
            expected=", ".join(s.name for s in registered.values() if s.role in MATCHED_ROLES) or None,
        )
    references = [s for s in registered.values() if s.role == "reference"]
    if not references:
        raise InputRejected("the store holds no reference stars", next_step="msacat ingest gaia_source FILE…")
    if spec.name not in registered:
        raise InputRejected(f"the store holds no {dataset}", next_step=f"msacat ingest {dataset} FILE…")
    archives = tuple(s for s in registered.values() if s.matches and s.matches.survey == dataset)
    for each in (spec, references[0]):
        _require_index(conn, each)
    names = [spec.name, references[0].name, *(a.name for a in archives)]
    rows = conn.execute(
        "SELECT survey, file_id FROM msacat.files WHERE survey = ANY(%s) ORDER BY file_id", [names]
    ).fetchall()
    return CrossmatchInputs(
        spec,
        references[0],
        archives,
        {name: [row[1] for row in rows if row[0] == name] for name in names},
        _settings(spec, references[0], archives),
        np.zeros(0, bool),
    )


def read_covered(conn: Connection, inputs: CrossmatchInputs) -> CrossmatchInputs:
    """`inputs` with the cells in which an archive speaks.

    Cells, not the range of a file's source_ids: that of a cone spans a large part of the sky.
    """
    if not inputs.archives:
        return inputs
    covered = np.zeros(1 << (63 - CELL_SHIFT), bool)
    for archive in inputs.archives:
        row = conn.execute(
            "SELECT sum(rows_kept) > %s FROM msacat.files WHERE survey = %s",
            [LONGEST_READ_WHOLE, archive.name],
        ).fetchone()
        query = _NEXT_CELL if row and row[0] else _ALL_CELLS
        cells = conn.execute(
            sql.SQL(query).format(
                shift=CELL_SHIFT, last=len(covered) - 1, pairs=sql.Identifier("survey", archive.name)
            )
        ).fetchall()
        covered[[cell for (cell,) in cells]] = True
    return replace(inputs, covered=covered)


def _settings(spec: SurveySpec, reference: SurveySpec, archives: tuple[SurveySpec, ...]) -> str:
    """Hash of the parts of the survey files that decide matches; a new description does not undo one."""
    text = json.dumps(
        [
            METHOD, spec.name, spec.id.model_dump(), spec.position and spec.position.model_dump(), removing_mask(spec),
            reference.name, reference.position and reference.position.model_dump(),
            [(a.name, a.matches and a.matches.model_dump()) for a in archives],
        ]
    )  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _require_index(conn: Connection, spec: SurveySpec) -> None:
    row = conn.execute(
        "SELECT to_regclass(%s)", [sql.Identifier("survey", spec.name).as_string(conn)]
    ).fetchone()
    if row is None or row[0] is None:
        raise InputRejected(
            f"the table survey.{spec.name} is gone", next_step=f"msacat forget {spec.name}, then ingest again"
        )
    position = spec.position
    assert position is not None
    if not has_q3c_index(conn, "survey", spec.name, position.ra, position.dec):
        adopted = conn.execute(
            "SELECT adopted_from FROM msacat.surveys WHERE name = %s", [spec.name]
        ).fetchone()
        schema, table = adopted[0].split(".") if adopted and adopted[0] else ("survey", spec.name)
        index = q3c_index_sql(schema, table, position.ra, position.dec).as_string(conn)
        raise InputRejected(
            f"{schema}.{table} has no Q3C index on its position, without which the sky cannot be searched",
            expected=f"an index on q3c_ang2ipix({position.ra}, {position.dec})",
            next_step=f"in psql: {index};",
        )
