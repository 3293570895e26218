"""msacat models: a model is a folder; list, move and drop them"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msacat.cli.options import AsJson, Dsn
from msacat.cli.output import print_json, print_line, print_table
from msacat.cli.scores_table import print_offsets, print_scores

app = typer.Typer(no_args_is_help=True, help="List, show, export, import and drop models.")
Name = Annotated[str, typer.Argument(help="Name of the model.")]


def register(parent: typer.Typer) -> None:
    parent.add_typer(app, name="models")


@app.command("list")
def list_(dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show the models of this store."""
    from msacat.catalog.server.connect import connect, require_store

    with connect(dsn) as conn:
        require_store(conn)
        cursor = conn.execute(
            "SELECT name, state, stale_reason, n_train, where_sql AS where, started::timestamp(0), "
            "finished::timestamp(0), folder FROM learned.models ORDER BY model_id"
        )
        columns, rows = [c.name for c in cursor.description or []], cursor.fetchall()
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif rows:
        print_table(columns, rows)
    else:
        print_line("no model yet; next: msacat train --name NAME")


@app.command()
def show(name: Name, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show a model's held-out scores and fitted offsets."""
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.stream.model_ledger import find_model

    with connect(dsn) as conn:
        require_store(conn)
        model = find_model(conn, name)
        cursor = conn.execute(
            "SELECT regime, quantity, n, bias, nmad, rmse, unit, coverage68, coverage95 FROM learned.scores "
            "WHERE model_id = %s ORDER BY quantity, regime",
            [model.model_id],
        )
        names = [c.name for c in cursor.description or []]
        scores = [dict(zip(names, row, strict=True)) for row in cursor]
        offsets = conn.execute(
            "SELECT quantity, offset_value, unit FROM learned.offsets WHERE model_id = %s ORDER BY 1",
            [model.model_id],
        ).fetchall()
    if as_json:
        fitted = [{"quantity": q, "value": v, "unit": u} for q, v, u in offsets]
        print_json({"model": model, "scores": scores, "offsets": fitted})
        return
    why = f" ({model.stale_reason})" if model.stale_reason else ""
    print_line(f"{model.name}: {model.state}{why}, {len(model.features.bands)} bands, in {model.folder}")
    print_scores(scores)
    print_offsets(offsets)


@app.command()
def export(
    name: Name, folder: Annotated[Path, typer.Argument(help="Folder to make.")], dsn: Dsn = None
) -> None:
    """Copy a model's folder out, every byte checked."""
    from msacat.catalog.errors import UsageError
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.stream.model_ledger import find_model
    from msacat.model.sealed_folder import copy_sealed

    if folder.exists():
        raise UsageError("the folder exists", file=str(folder), next_step="name one that does not")
    with connect(dsn) as conn:
        require_store(conn)
        model = find_model(conn, name)
    copy_sealed(model.folder, folder)
    print_line(f"model {name} is in {folder}; next, elsewhere: msacat models import {folder.name}")


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="An exported model's folder.", exists=True, file_okay=False)],
    name: Annotated[
        str | None, typer.Option("--name", help="Name in this store; the folder's if left out.")
    ] = None,
    dsn: Dsn = None,
) -> None:
    """Take in a model trained elsewhere.

    Its bands are found by name; those this store lacks are unobserved, those it does not know are never imputed.
    """
    from msacat.catalog.errors import UsageError
    from msacat.catalog.server.connect import connect, models_folder, require_store
    from msacat.catalog.stream.model_ledger import import_model
    from msacat.cli.train import NAME
    from msacat.model.predict_stars import StarModel
    from msacat.model.sealed_folder import copy_sealed, manifest_sha256

    name = name or folder.resolve().name
    if not NAME.fullmatch(name):
        raise UsageError(
            "not a usable model name", found=name, next_step="give a --name of a-z, 0-9, _ and -"
        )
    model = StarModel.load(folder, "cpu")  # refuses what is not a whole model
    target = models_folder() / name
    if target.exists():
        raise UsageError(f"a model folder '{name}' exists", file=str(target), next_step="give another --name")
    with connect(dsn) as conn:
        require_store(conn)
        import_model(conn, name, target, model.features, {}, manifest_sha256(folder))
        copy_sealed(folder, target)
    print_line(
        f"model {name} imported with {len(model.features.bands)} bands; next: msacat enrich --model {name}"
    )


@app.command()
def drop(name: Name, dsn: Dsn = None) -> None:
    """Delete a model; refused while runs built on it are kept.

    Its folder goes with it.
    """
    import shutil

    from msacat.catalog.errors import UsageError
    from msacat.catalog.server.connect import advisory_lock, connect, require_store
    from msacat.catalog.stream.model_ledger import find_model
    from msacat.catalog.stream.stream_stars import drop_blocks

    with connect(dsn) as conn:
        require_store(conn)
        with advisory_lock(conn, f"train {name}"):
            model = find_model(conn, name)
            runs = conn.execute(
                "SELECT run_id FROM msacat.runs WHERE model_id = %s AND state <> 'dropped' ORDER BY 1",
                [model.model_id],
            ).fetchall()
            if runs:
                raise UsageError(
                    f"runs were made by model '{name}': {', '.join(str(run) for (run,) in runs)}",
                    next_step=" && ".join(f"msacat runs drop {run}" for (run,) in runs),
                )
            conn.execute("DELETE FROM msacat.runs WHERE model_id = %s", [model.model_id])
            conn.execute("DELETE FROM learned.models WHERE model_id = %s", [model.model_id])
            drop_blocks(conn, model.model_id)
            conn.commit()
    shutil.rmtree(model.folder, ignore_errors=True)
    print_line(f"model {name} is gone")
