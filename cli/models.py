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
    from msacat.catalog.stream.model_ledger import list_models

    with connect(dsn) as conn:
        require_store(conn)
        models = list_models(conn)
    if as_json:
        print_json(models)
    elif models:
        print_table(list(models[0]), [tuple(model.values()) for model in models])
    else:
        print_line("no model yet; next: msacat train --name NAME")


@app.command()
def show(name: Name, dsn: Dsn = None, as_json: AsJson = False) -> None:
    """Show a model's held-out scores and fitted offsets."""
    from msacat.catalog.server.connect import connect, require_store
    from msacat.catalog.stream.model_ledger import find_model, held_out_scores, offsets_of

    with connect(dsn) as conn:
        require_store(conn)
        model = find_model(conn, name)
        scores, offsets = held_out_scores(conn, model.model_id), offsets_of(conn, model.model_id)
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
    from msacat.catalog.server.connect import advisory_lock, connect, models_folder, require_store
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
    with connect(dsn) as conn:
        require_store(conn)
        with advisory_lock(conn, f"train {name}"):
            if target.exists():
                raise UsageError(
                    f"a model folder '{name}' exists", file=str(target), next_step="give another --name"
                )
            import_model(conn, name, target, model.features, {}, manifest_sha256(folder))
            copy_sealed(folder, target)
            conn.commit()
    print_line(
        f"model {name} imported with {len(model.features.bands)} bands; next: msacat enrich --model {name}"
    )


@app.command()
def drop(name: Name, dsn: Dsn = None) -> None:
    """Delete a model; refused while runs built on it are kept.

    Its folder goes with it.
    """
    from msacat.catalog.errors import MsacatError
    from msacat.catalog.server.connect import advisory_lock, connect, require_store
    from msacat.catalog.stream.model_ledger import delete_model, find_model
    from msacat.model.sealed_folder import remove_folder

    with connect(dsn) as conn:
        require_store(conn)
        with advisory_lock(conn, f"train {name}"):
            model = find_model(conn, name)
            delete_model(conn, model)
            conn.commit()
    try:
        remove_folder(model.folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise MsacatError(
            f"model '{name}' is out of the store, but its folder cannot be removed: {error.strerror or error}",
            file=str(model.folder),
            next_step="remove the folder: no model of that name can be made or imported while it is there",
        ) from error
    print_line(f"model {name} is gone")
