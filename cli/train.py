"""msacat train: opens the stream, hands it to the trainer, records what came out"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from msacat.cli.options import AsJson, Device, Dsn, Quiet, Where
from msacat.cli.output import be_quiet, print_json, print_line, progress_bar, say
from msacat.cli.resumable import resumable
from msacat.cli.scores_table import print_offsets, print_scores
from msacat.cli.step_events import require_tensorboard, step_events
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
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of split, shuffle and weights [default: 0].", show_default=False),
    ] = None,
    where: Where = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", help="Your own split: a file with columns source_id, part.", exists=True),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training of this name.")
    ] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            "--tensorboard", help="Also write the steps there, as TensorBoard reads them.", file_okay=False
        ),
    ] = None,
    dsn: Dsn = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a Masked Stellar Autoencoder on this store.

    A snapshot of matched.stars is packed into shuffled blocks and streamed; 70 % of the sky trains, 10 %
    calibrates the intervals, 20 % is held out and scored at the end. Stars with and without XP take part.
    Ctrl-C or a crash loses at most the last minute: the same command with --resume continues.
    """
    from msacat.catalog.errors import Interrupted, MsacatError, StoreUnavailable, UsageError
    from msacat.catalog.server.connect import advisory_lock, connect, require_store
    from msacat.catalog.store.register_survey import registered_specs
    from msacat.catalog.stream.model_ledger import fail_model
    from msacat.catalog.stream.stream_stars import StarStream, pack_blocks
    from msacat.catalog.stream.training_ready import check_ready
    from msacat.model.devices import choose_device

    be_quiet(quiet)
    if not NAME.fullmatch(name):
        raise UsageError(
            "not a usable model name", found=name, expected="a-z, 0-9, _ and -, at most 51 characters"
        )
    require_tensorboard(tensorboard)
    if minutes is not None and epochs is not None:
        raise UsageError("give --minutes or --epochs, not both")
    if resume and not (epochs is None and where is None and split is None and seed is None):
        raise UsageError("an interrupted training keeps its own --epochs, --where, --split and --seed",
                         next_step="repeat them not; --minutes and --device may change")  # fmt: skip
    with connect(dsn) as conn:
        require_store(conn)
        with advisory_lock(conn, f"train {name}"):
            notes = check_ready(conn, registered_specs(conn))
            for note in notes:
                say(note)
            if resume:
                job = _interrupted(conn, name, device, minutes)
                choose_device(job.config.device)
            else:
                choose_device(device)  # refused before stars are packed and a model is entered
                config = {"seed": seed or 0, "device": device, "epochs": epochs,
                          "minutes": 30.0 if minutes is None and epochs is None else minutes}  # fmt: skip
                job = _new_job(conn, name, config, where, split)
            conn.commit()  # the lock stays; no transaction is kept open for hours
            try:
                with resumable(lambda: f"msacat train --name {name} --resume", job.folder):
                    if job.to_pack:
                        with progress_bar("pack stars") as update:
                            counts = pack_blocks(dsn, job.model_id, job.features, job.split_id, job.config.seed,
                                                 job.where, on_progress=update)  # fmt: skip
                        say("packed " + ", ".join(f"{n} stars to {part}" for part, n in counts.items()))
                    stream = StarStream(dsn, job.model_id, job.features)
                    report = _learn(dsn, stream, job, resume, tensorboard)
                    result = _finish(dsn, stream, job, report)
            except (Interrupted, StoreUnavailable):
                raise
            except MsacatError as error:
                with connect(dsn) as ledger:
                    fail_model(ledger, job.model_id, error.message)
                raise
    result["notes"] = [*notes, *report.notes]
    if as_json:
        print_json(result)
        return
    for note in report.notes:
        say(note)
    print_line(
        f"model {name}: {report.steps} steps, {report.epochs:.1f} epochs, {report.seconds:.0f} s, in {job.folder}"
    )
    print_scores(result["scores"])
    print_offsets([(quantity, *found) for quantity, found in _offsets(report, job.features).items()])
    print_line(f"next: msacat enrich --model {name}")


@dataclass(frozen=True)
class _Job:
    """A training as the ledger knows it."""

    model_id: int
    name: str
    folder: Path
    features: Any
    config: Any
    split_id: int
    split: str  # in words
    where: str | None
    to_pack: bool  # the snapshot is not there yet


def _new_job(conn: Any, name: str, config: dict[str, Any], where: str | None, split: Path | None) -> _Job:
    """Enter the training in the ledger; the next one of its name can only continue it."""
    from msacat.catalog.errors import UsageError
    from msacat.catalog.server.connect import models_folder
    from msacat.catalog.store.register_survey import reference_spec, registered_specs
    from msacat.catalog.store.star_view import star_features
    from msacat.catalog.stream.model_ledger import clear_failed, start_model
    from msacat.catalog.stream.split_sky import describe_split, load_split, make_split
    from msacat.catalog.stream.star_rows import condition
    from msacat.catalog.stream.training_ready import without_empty_surveys
    from msacat.model.train_config import TrainConfig

    condition(conn, where)  # refused before anything is written
    folder = models_folder() / name
    if clear_failed(conn, name):
        shutil.rmtree(folder, ignore_errors=True)
    chosen = TrainConfig(**config)
    specs, reference = registered_specs(conn), reference_spec(conn)
    assert reference is not None
    features = without_empty_surveys(conn, specs, star_features(conn, specs))
    split_id = load_split(conn, split) if split else make_split(conn, reference.name, chosen.seed)
    model_id = start_model(conn, name, folder, features, chosen.to_json(), split_id, where)
    if folder.exists():
        raise UsageError(
            "a model of that name is there that this store does not know", file=str(folder),
            next_step="give another --name; or take it in with `msacat models import`; or remove the folder",
        )  # fmt: skip
    words = describe_split(conn, split_id)
    return _Job(model_id, name, folder, features, chosen, split_id, words, where, to_pack=True)


def _interrupted(conn: Any, name: str, device: str, minutes: float | None) -> _Job:
    """The training of this name that did not come to its end."""
    from msacat.catalog.errors import UsageError
    from msacat.catalog.store.star_view import view_columns
    from msacat.catalog.stream.model_ledger import find_model
    from msacat.catalog.stream.split_sky import describe_split
    from msacat.model.train_config import TrainConfig

    row = find_model(conn, name)
    if row.state != "training" or row.split_id is None:
        raise UsageError(f"model '{name}' is {row.state}; there is no interrupted training of that name",
                         found=row.stale_reason, next_step="train without --resume, under a new --name")  # fmt: skip
    config = TrainConfig.from_json(row.config)
    if device != "auto":
        config = replace(config, device=device)
    if minutes is not None:
        if config.minutes is None:
            raise UsageError("this training counts epochs, not minutes", found=f"{config.epochs:g} epochs")
        config = replace(config, minutes=minutes)
    packed = bool(view_columns(conn, "learned", f"blocks_{row.model_id}"))
    words = describe_split(conn, row.split_id)
    return _Job(
        row.model_id, name, row.folder, row.features, config, row.split_id, words, row.where, not packed
    )


def _learn(dsn: str | None, stream: Any, job: _Job, resume: bool, events: Path | None) -> Any:
    """Run the trainer, writing its steps to the ledger (and to `events`) every two seconds."""
    from msacat.catalog.server.connect import connect
    from msacat.catalog.stream.model_ledger import forget_steps_from, record_steps
    from msacat.model.train_autoencoder import train as train_model

    with (
        StopSignal("stopping after this step; --resume continues") as stop,
        connect(dsn) as ledger,
        step_events(events) as write_event,
        progress_bar("train", total=1.0) as update,
    ):
        recorded: list[float] = []
        if not resume:
            update(0, note="fitting the mixture model first")

        def on_step(step: Any) -> None:
            update(step.progress, note=f"loss {step.loss:.3f}, {step.stars_per_second:.0f} stars/s")
            if not recorded:  # what an interrupted run did after its last checkpoint is done again
                forget_steps_from(ledger, job.model_id, step.step)
            elif step.seconds - recorded[-1] < SECONDS_BETWEEN_RECORDS and step.progress < 1:
                return
            recorded[:] = [step.seconds]
            values = {"loss": step.loss, "gradient_norm": step.gradient_norm,
                      "learning_rate": step.learning_rate, **{f"loss_{k}": v for k, v in step.losses.items()}}  # fmt: skip
            record_steps(ledger, job.model_id, step.step, step.seconds, values)
            write_event(step.step, values)

        made_from = {"stars": "all" if job.where is None else job.where, "split": job.split}
        return train_model(stream, job.folder, job.config, on_step=on_step, resume=resume,
                           should_stop=stop.asked, provenance=made_from)  # fmt: skip


def _finish(dsn: str | None, stream: Any, job: _Job, report: Any) -> dict[str, Any]:
    """Score on the held-out part, write the card, close the ledger; only then is nothing left to resume."""
    from msacat.catalog.server.connect import connect
    from msacat.catalog.stream.model_ledger import finish_model
    from msacat.catalog.stream.stream_stars import drop_blocks
    from msacat.model.checkpoint import remove_checkpoints
    from msacat.model.model_card import write_model_card
    from msacat.model.predict_stars import StarModel
    from msacat.model.score_model import score
    from msacat.model.sealed_folder import manifest_sha256

    model = StarModel.load(job.folder, job.config.device)
    with progress_bar("score held-out stars"):
        scores = [{"part": "test", **asdict(s)} for s in score(model, stream, part="test")]
    write_model_card(job.folder, model, report, scores)
    with connect(dsn) as conn:
        finish_model(conn, job.model_id, manifest_sha256(job.folder), report.stars["train"], asdict(report) | {
            "folder": str(report.folder)}, scores, _offsets(report, stream.features))  # fmt: skip
        drop_blocks(conn, job.model_id)
    remove_checkpoints(job.folder)
    return {"model_id": job.model_id, "folder": str(job.folder), "steps": report.steps, "epochs": report.epochs,
            "seconds": report.seconds, "stars": report.stars, "offsets": report.offsets, "scores": scores}  # fmt: skip


def _offsets(report: Any, features: Any) -> dict[str, tuple[float, str]]:
    """Fitted offsets with their units: of labels, else of a band's magnitudes."""
    units = {
        label.name: {"fe_h": "dex", "teff": "K", "logg": "dex"}[label.quantity] for label in features.labels
    }
    return {quantity: (value, units.get(quantity, "mag")) for quantity, value in report.offsets.items()}
