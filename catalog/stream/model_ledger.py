"""Models in the store's ledger: what they were trained on, how it went, how good they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import Connection, Cursor

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.server.package_version import code_version
from msacat.catalog.stream.stream_stars import drop_blocks
from msacat.catalog.surveys.star_features import StarFeatures


@dataclass(frozen=True)
class ModelRow:
    """One row of learned.models."""

    model_id: int
    name: str
    state: str
    stale_reason: str | None
    folder: Path
    features: StarFeatures
    config: dict[str, Any]
    split_id: int | None
    where: str | None


def start_model(
    conn: Connection,
    name: str,
    folder: Path,
    features: StarFeatures,
    config: dict,
    split_id: int,
    where: str | None,
) -> int:
    """Record that `name` is in training; returns model_id. UsageError if the name is taken. The caller commits."""
    if row := conn.execute("SELECT state FROM learned.models WHERE name = %s", [name]).fetchone():
        raise UsageError(
            f"a model called '{name}' exists ({row[0]})",
            next_step=f"`msacat train --name {name} --resume` continues it" if row[0] == "training"
            else f"choose another --name, or `msacat models drop {name}` first",
        )  # fmt: skip
    file_ids = [file_id for (file_id,) in conn.execute("SELECT file_id FROM msacat.files ORDER BY 1")]
    row = conn.execute(
        "INSERT INTO learned.models (name, state, folder, features, config, split_id, file_ids, where_sql, code_version) "
        "VALUES (%s, 'training', %s, %s, %s, %s, %s, %s, %s) RETURNING model_id",
        [
            name,
            str(folder),
            json.dumps(features.to_json()),
            json.dumps(config),
            split_id,
            file_ids,
            where,
            code_version(),
        ],
    ).fetchone()
    assert row is not None
    return row[0]


def record_steps(
    conn: Connection, model_id: int, step: int, seconds: float, values: Mapping[str, float]
) -> None:
    """Append what was measured at one step of training."""
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO learned.train_steps VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [(model_id, step, seconds, name, float(value)) for name, value in values.items()],
        )
    conn.commit()


def forget_steps_from(conn: Connection, model_id: int, step: int) -> None:
    """Training goes on with `step`: what was recorded of it and later did not happen."""
    conn.execute("DELETE FROM learned.train_steps WHERE model_id = %s AND step >= %s", [model_id, step])
    conn.commit()


def finish_model(
    conn: Connection,
    model_id: int,
    sha256: str,
    n_train: int,
    report: dict,
    scores: Iterable[Mapping[str, Any]],
    offsets: Mapping[str, tuple[float, str]],
) -> None:
    """Record the finished model with its held-out scores and fitted offsets. The caller commits.

    A model whose files were forgotten while it trained stays stale.
    """
    conn.execute(
        "UPDATE learned.models SET state = CASE state WHEN 'stale' THEN state ELSE 'finished' END, sha256 = %s, n_train = %s, report = %s, finished = now() "
        "WHERE model_id = %s",
        [sha256, n_train, json.dumps(report), model_id],
    )
    conn.execute("DELETE FROM learned.scores WHERE model_id = %s", [model_id])
    conn.execute("DELETE FROM learned.offsets WHERE model_id = %s", [model_id])
    columns = ("part", "regime", "quantity", "n", "unit", "bias", "nmad", "rmse", "coverage68", "coverage95")
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO learned.scores VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [(model_id, *(score[c] for c in columns)) for score in scores],
        )
        cursor.executemany(
            "INSERT INTO learned.offsets VALUES (%s, %s, %s, %s)",
            [(model_id, quantity, value, unit) for quantity, (value, unit) in offsets.items()],
        )


def clear_failed(conn: Connection, name: str) -> bool:
    """Take a failed training out of the ledger, so that its name is free; False if there is none. The caller commits."""
    row = conn.execute(
        "DELETE FROM learned.models WHERE name = %s AND state = 'failed' RETURNING model_id", [name]
    ).fetchone()
    if row:
        drop_blocks(conn, row[0])
    return row is not None


def fail_model(conn: Connection, model_id: int, reason: str) -> None:
    """Training ended without a model. The caller commits."""
    conn.execute(
        "UPDATE learned.models SET state = 'failed', stale_reason = %s, finished = now() WHERE model_id = %s",
        [reason, model_id],
    )


def import_model(
    conn: Connection, name: str, folder: Path, features: StarFeatures, config: dict, sha256: str
) -> int:
    """Record a model trained elsewhere; its folder is copied in already. The caller commits."""
    if conn.execute("SELECT 1 FROM learned.models WHERE name = %s", [name]).fetchone():
        raise UsageError(f"a model called '{name}' exists", next_step="import it under another --name")
    row = conn.execute(
        "INSERT INTO learned.models (name, state, folder, features, config, sha256, code_version, finished) "
        "VALUES (%s, 'imported', %s, %s, %s, %s, %s, now()) RETURNING model_id",
        [name, str(folder), json.dumps(features.to_json()), json.dumps(config), sha256, code_version()],
    ).fetchone()
    assert row is not None
    return row[0]


def list_models(conn: Connection) -> list[dict[str, Any]]:
    """Every model of the store, in the order in which they were begun."""
    return _dicts(
        conn.execute(
            "SELECT name, state, stale_reason, n_train, where_sql AS where, started::timestamp(0), "
            "finished::timestamp(0), folder FROM learned.models ORDER BY model_id"
        )
    )


def held_out_scores(conn: Connection, model_id: int) -> list[dict[str, Any]]:
    """What finish_model recorded, by quantity and regime."""
    return _dicts(
        conn.execute(
            "SELECT regime, quantity, n, bias, nmad, rmse, unit, coverage68, coverage95 FROM learned.scores "
            "WHERE model_id = %s ORDER BY quantity, regime",
            [model_id],
        )
    )


def offsets_of(conn: Connection, model_id: int) -> list[tuple[Any, ...]]:
    """(quantity, value, unit) of each fitted offset."""
    return conn.execute(
        "SELECT quantity, offset_value, unit FROM learned.offsets WHERE model_id = %s ORDER BY 1", [model_id]
    ).fetchall()


def delete_model(conn: Connection, model: ModelRow) -> None:
    """Take a model out of the ledger; its folder stays. The caller commits.

    Raises UsageError naming the runs that it made and that are kept.
    """
    runs = conn.execute(
        "SELECT run_id FROM msacat.runs WHERE model_id = %s AND state <> 'dropped' ORDER BY 1",
        [model.model_id],
    ).fetchall()
    if runs:
        raise UsageError(
            f"runs were made by model '{model.name}': {', '.join(str(run) for (run,) in runs)}",
            next_step=" && ".join(f"msacat runs drop {run}" for (run,) in runs),
        )
    conn.execute("DELETE FROM msacat.runs WHERE model_id = %s", [model.model_id])
    conn.execute("DELETE FROM learned.models WHERE model_id = %s", [model.model_id])
    drop_blocks(conn, model.model_id)


def _dicts(cursor: Cursor) -> list[dict[str, Any]]:
    names = [column.name for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def require_usable(model: ModelRow) -> None:
    """InputRejected for a model in training, failed, built on files that were forgotten since, or without its folder."""
    if model.state not in ("finished", "imported"):
        steps = {"training": f"msacat train --name {model.name} --resume"}
        raise InputRejected(
            f"model '{model.name}' is {model.state}", expected="a finished model", found=model.stale_reason,
            next_step=steps.get(model.state, "train a new one: msacat train --name NAME"),
        )  # fmt: skip
    if not model.folder.is_dir():
        # The store came here without it: a dump, another account's, a home that was moved.
        raise InputRejected(
            f"the folder of model '{model.name}' is not here", found=str(model.folder),
            next_step="bring it back; if it lies elsewhere now, docs/server.md has the UPDATE that tells the store; "
            "a copy that was exported: msacat models import FOLDER",
        )  # fmt: skip


def find_model(conn: Connection, name: str | None = None) -> ModelRow:
    """The model called `name`, else the newest finished one.

    Raises InputRejected if the store has no finished model, UsageError for an unknown name.
    """
    query = "SELECT model_id, name, state, stale_reason, folder, features, config, split_id, where_sql FROM learned.models "
    if name is not None:
        row = conn.execute(query + "WHERE name = %s", [name]).fetchone()
        if row is None:
            known = [n for (n,) in conn.execute("SELECT name FROM learned.models ORDER BY 1")]
            raise UsageError(f"no model called '{name}'", expected=", ".join(known) or "none is there yet",
                             next_step="msacat train --name NAME")  # fmt: skip
    else:
        row = conn.execute(
            query + "WHERE state IN ('finished', 'imported') ORDER BY finished DESC, model_id DESC LIMIT 1"
        ).fetchone()
        if row is None:
            others = conn.execute(
                "SELECT name, state, stale_reason FROM learned.models ORDER BY model_id DESC LIMIT 3"
            ).fetchall()
            raise InputRejected(
                "there is no finished model in this store",
                found="; ".join(f"{n} is {state}" + (f" ({why})" if why else "") for n, state, why in others)
                or None,
                next_step="msacat train --name NAME",
            )
    return ModelRow(
        row[0], row[1], row[2], row[3], Path(row[4]), StarFeatures.from_json(row[5]), row[6], row[7], row[8]
    )
