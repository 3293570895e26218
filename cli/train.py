"""msacat train: opens the stream, hands it to the trainer, records what came out"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from msacat.cli.options import AsJson, Device, Dsn, Quiet, Where
from msacat.cli.output import be_quiet, print_json, print_line, print_table, progress_bar, say
from msacat.cli.stop_signal import StopSignal

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,50}")
SECONDS_BETWEEN_RECORDS = 2.0


def register(app: typer.Typer) -> None:
    app.command("train")(train)


def train(
    name: Annotated[str, typer.Option("--name", help="Name of the model: a-z, 0-9, _ and -.")],
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Wall time to train for [default: 30].", show_default=False)
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0.001, help="Passes over the stars instead of minutes; reproducible.")
    ] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Seed of split, shuffle and weights.")] = 0,
    where: Where = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", help="Your own split: a file with columns source_id, part.", exists=True),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training of this name.")
    ] = False,
    dsn: Dsn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a Masked Stellar Autoencoder on this store.

    A snapshot of matched.stars is packed into shuffled blocks and streamed; 70 % of the sky trains, 10 %
    calibrates the intervals, 20 % is held out and scored at the end. Stars with and without XP take part.
    Ctrl-C or a crash loses at most the last minute: the same command with --resume continues.
    """
    from msacat.catalog.connect import connect, models_folder, require_store
    from msacat.catalog.errors import Interrupted, MsacatError, UsageError
    from msacat.catalog.model_ledger import fail_model, record_steps, start_model
    from msacat.catalog.register_survey import reference_spec, registered_specs
    from msacat.catalog.split_sky import load_split, make_split
    from msacat.catalog.star_view import star_features
    from msacat.catalog.stream_stars import StarStream, pack_blocks
    from msacat.catalog.training_ready import check_ready, without_empty_surveys
    from msacat.model.train_autoencoder import train as train_model
    from msacat.model.train_config import TrainConfig

    be_quiet(quiet)
    if not NAME.fullmatch(name):
        raise UsageError(
            "not a usable model name", found=name, expected="a-z, 0-9, _ and -, at most 51 characters"
        )
    if minutes is not None and epochs is not None:
        raise UsageError("give --minutes or --epochs, not both")
    folder = models_folder() / name
    with connect(dsn) as conn:
        require_store(conn)
        specs = registered_specs(conn)
        notes = check_ready(conn, specs)
        for note in notes:
            say(note)
        if resume:
            model_id, features, config = _interrupted(conn, name)
        else:
            config = TrainConfig(seed=seed, device=device, minutes=30.0 if minutes is None and epochs is None else minutes,
                                 epochs=epochs)  # fmt: skip
            features = without_empty_surveys(conn, specs, star_features(conn, specs))
            reference = reference_spec(conn)
            assert reference is not None
            split_id = load_split(conn, split) if split else make_split(conn, reference.name, seed)
            model_id = start_model(conn, name, folder, features, config.to_json(), split_id, where)
    try:
        if not resume:
            with progress_bar("pack stars") as update:
                counts = pack_blocks(dsn, model_id, features, split_id, seed, where, on_progress=update)
            say("packed " + ", ".join(f"{n} stars to {part}" for part, n in counts.items()))
        stream = StarStream(dsn, model_id, features)
        with (
            StopSignal("stopping after this step; --resume continues") as stop,
            connect(dsn) as ledger,
            progress_bar("train", total=1.0) as update,
        ):
            last = [-SECONDS_BETWEEN_RECORDS]

            def on_step(step: Any) -> None:
                update(step.progress, note=f"loss {step.loss:.3f}, {step.stars_per_second:.0f} stars/s")
                if step.seconds - last[0] >= SECONDS_BETWEEN_RECORDS or step.progress >= 1:
                    last[0] = step.seconds
                    values = {"loss": step.loss, "gradient_norm": step.gradient_norm,
                              "learning_rate": step.learning_rate, **{f"loss_{k}": v for k, v in step.losses.items()}}  # fmt: skip
                    record_steps(ledger, model_id, step.step, step.seconds, values)

            report = train_model(
                stream, folder, config, on_step=on_step, resume=resume, should_stop=stop.asked
            )
        result = _finish(dsn, model_id, stream, folder, config, report)
    except Interrupted:
        raise
    except MsacatError as error:
        with connect(dsn) as conn:
            fail_model(conn, model_id, error.message)
        raise
    result["notes"] = [*notes, *report.notes]
    for note in report.notes:
        say(note)
    if as_json:
        print_json(result)
        return
    print_line(
        f"model {name}: {report.steps} steps, {report.epochs:.1f} epochs, {report.seconds:.0f} s, in {folder}"
    )
    print_table(
        ["hidden", "quantity", "n", "bias", "NMAD", "unit", "68 % covers", "95 % covers"],
        [(s["regime"], s["quantity"], s["n"], f"{s['bias']:+.4f}", f"{s['nmad']:.4f}", s["unit"],
          f"{s['coverage68']:.3f}", f"{s['coverage95']:.3f}") for s in result["scores"]],
        title="On stars of sky cells never trained on, against their observed values:",
    )  # fmt: skip
    print_line("next: msacat enrich" + ("" if name == "default" else f" --model {name}"))


def _interrupted(conn, name: str) -> tuple:
    from msacat.catalog.errors import UsageError
    from msacat.catalog.model_ledger import find_model
    from msacat.catalog.star_view import view_columns
    from msacat.model.train_config import TrainConfig

    row = find_model(conn, name)
    if row.state != "training" or not view_columns(conn, "learned", f"blocks_{row.model_id}"):
        raise UsageError(f"model '{name}' is {row.state}; there is no interrupted training of that name",
                         next_step="train without --resume, under a new --name")  # fmt: skip
    return row.model_id, row.features, TrainConfig.from_json(row.config)


def _finish(dsn: str | None, model_id: int, stream, folder: Path, config, report) -> dict[str, Any]:
    """Score on the held-out part, write the card, close the ledger, drop the packed blocks."""
    from msacat.catalog.connect import connect
    from msacat.catalog.model_ledger import finish_model
    from msacat.catalog.stream_stars import drop_blocks
    from msacat.model.model_card import write_model_card
    from msacat.model.predict_stars import StarModel
    from msacat.model.score_model import score
    from msacat.model.sealed_folder import manifest_sha256

    model = StarModel.load(folder, config.device)
    with progress_bar("score held-out stars"):
        scores = [{"part": "test", **asdict(s)} for s in score(model, stream, part="test")]
    write_model_card(folder, model, report, scores)
    units = {
        label.name: {"fe_h": "dex", "teff": "K", "logg": "dex"}[label.quantity]
        for label in stream.features.labels
    }
    offsets = {quantity: (value, units.get(quantity, "mag")) for quantity, value in report.offsets.items()}
    with connect(dsn) as conn:
        finish_model(conn, model_id, manifest_sha256(folder), report.stars["train"], asdict(report) | {
            "folder": str(report.folder)}, scores, offsets)  # fmt: skip
        drop_blocks(conn, model_id)
    return {"model_id": model_id, "folder": str(folder), "steps": report.steps, "epochs": report.epochs,
            "seconds": report.seconds, "stars": report.stars, "offsets": report.offsets, "scores": scores}  # fmt: skip
