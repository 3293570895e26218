"""msacat evaluate: every method on the same hidden cells, against the truth of a simulated sky, or on real stars"""

from __future__ import annotations

import contextlib
import datetime
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from msacat.cli.options import AsJson, Device, Quiet
from msacat.cli.output import be_quiet, print_json, print_line, print_table, say
from msacat.cli.stop_signal import StopSignal


def register(app: typer.Typer) -> None:
    app.command("evaluate")(evaluate)


def evaluate(
    sky: Annotated[
        Path | None,
        typer.Option(
            "--sky", help="A simulated sky, as `msacat simulate` writes it.", exists=True, file_okay=False
        ),
    ] = None,
    apogee: Annotated[
        Path | None,
        typer.Option(
            "--apogee",
            help="Real APOGEE stars with XP spectra: the demo's folder, or one to make.",
            file_okay=False,
        ),
    ] = None,
    m67: Annotated[
        Path | None,
        typer.Option("--m67", help="Real stars of the cluster M67: m67_flat.csv.", dir_okay=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Name or folder of a trained model; one is trained if left out."),
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm", help="NAME=FOLDER: another trained model, judged as msacat:NAME; may be repeated."
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="Wall time of each such training.")] = 30.0,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Comma-separated: msacat and opponents [default: all].")
    ] = None,
    regimes: Annotated[
        str | None, typer.Option("--regimes", help="Comma-separated [default: all of the dataset's].")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Of split, cells and fits [default: the model's, or 0]."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Name in the records [default: sky, or sky-dirty].")
    ] = None,
    test_stars: Annotated[
        int | None,
        typer.Option(
            "--test-stars", min=100, help="Judge on so many test stars, drawn at random [default: all]."
        ),
    ] = None,
    oracle: Annotated[
        Path | None,
        typer.Option(
            "--oracle",
            help="Another, clean sky of many stars: adds the method oracle, the floor.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", help="JSON file the records go to; what is in it is not done again."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            help="Folder that keeps stars, models and answers: another run asks only what is new.",
            file_okay=False,
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", help="Write the tables of all records there, as Markdown.")
    ] = None,
    dsn: Annotated[
        str | None,
        typer.Option(
            "--dsn", help="A store of its own, to be kept, instead of a temporary one.", show_default=False
        ),
    ] = None,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Judge the model against every alternative, on stars that none was fitted to.

    Ingests the files into a store of its own, splits it by sky cells, hides measured values of the test cells in
    several ways, and compares what each method puts there with the truth (real stars: with what was measured).
    MSACAT_DSN is not used: your store is never touched. Interrupted? The same command goes on after the last
    finished method.
    """
    from msacat.catalog.errors import Interrupted
    from msacat.model.evaluate.accuracy_page import accuracy_page
    from msacat.model.evaluate.all_methods import METHODS, OWN, PROBE, make_methods
    from msacat.model.evaluate.answer_files import AnswerFiles
    from msacat.model.evaluate.compare_methods import compare_methods
    from msacat.model.evaluate.opponents.own_model import TrainedHere
    from msacat.model.evaluate.record_file import RecordFile

    be_quiet(quiet)
    kind = _only_one(sky, apogee, m67)
    arms = _arms(arm or [], device)
    known = [name for name in METHODS[kind] if name != "oracle" or oracle is not None]
    wanted = _chosen(methods, [*known[:1], *arms, *known[1:]], "method")
    ways = _chosen(regimes, _regimes_of(kind), "regime")
    stored = _load(model, device) if model is not None and {OWN, PROBE} & set(wanted) else None
    for loaded in (stored, *arms.values()):
        seed = _seed_of(seed, loaded)
    seed = seed or 0
    file = RecordFile(record)
    stars = _stars(sky, apogee, m67, dsn, seed, dataset, cache)
    with (
        StopSignal("stopping after this method") as stop,
        tempfile.TemporaryDirectory() as scratch,
        stars as opened,
    ):
        folds, table = opened
        folds = [fold.fewer(test_stars) for fold in folds] if test_stars else folds
        stamp = {"seed": seed, "commit": _commit(), "stars": max(fold.n_stars for fold in folds),
                 "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")}  # fmt: skip
        file.adopt(table.records)
        own = stored or TrainedHere(minutes, device, (cache or Path(scratch)) / "models")
        floor = _oracle(oracle, folds[0].features) if oracle else None
        opponents = make_methods([name for name in wanted if name not in arms], own, floor)
        players = [*opponents, *(arms[name] for name in wanted if name in arms)]
        answers = AnswerFiles(cache / "answers") if cache else None
        for records in compare_methods(folds, players, ways, file.has, say, answers):
            file.add([r | stamp for r in records])
            table.add([r | stamp for r in records])
            if stop.asked():
                raise Interrupted(
                    "stopped; what is finished is kept", next_step="repeat the command to go on"
                )
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(accuracy_page(file.records), "utf-8")
    if as_json:
        print_json(file.records)
    else:
        _print(file.records)


def _only_one(sky: Path | None, apogee: Path | None, m67: Path | None) -> str:
    from msacat.catalog.errors import UsageError

    given = [name for name, value in (("sky", sky), ("apogee", apogee), ("m67", m67)) if value is not None]
    if len(given) != 1:
        raise UsageError("give one set of stars", expected="one of --sky, --apogee, --m67",
                         found=", ".join(f"--{name}" for name in given) or "none")  # fmt: skip
    return given[0]


@contextlib.contextmanager
def _stars(
    sky, apogee, m67, dsn, seed: int, dataset: str | None, cache: Path | None
) -> Iterator[tuple[list, Any]]:
    """(folds, where their records are kept beside the --record file)"""
    from msacat.cli.evaluation_stars import apogee_stars, sky_stars
    from msacat.model.evaluate.read_m67 import m67_folds
    from msacat.model.evaluate.record_file import Records

    if m67:
        yield m67_folds(m67, seed), Records([])
        return
    with (
        sky_stars(sky, dsn, seed, dataset, cache) if sky else apogee_stars(apogee, dsn, seed, cache) as found
    ):
        yield [found[0]], found[1]


def _regimes_of(kind: str) -> tuple[str, ...]:
    from msacat.model.evaluate.regimes import APOGEE_REGIMES, M67_REGIMES, SKY_REGIMES

    return {"sky": SKY_REGIMES, "apogee": APOGEE_REGIMES, "m67": M67_REGIMES}[kind]


def _chosen(given: str | None, known: Sequence[str], what: str) -> list[str]:
    from msacat.catalog.errors import UsageError

    names = list(dict.fromkeys(given.split(","))) if given else list(known)
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"no {what} called '{unknown[0]}'", expected=", ".join(known))
    return names


def _load(model: str, device: str, name: str = "msacat") -> Any:
    """A method with a model given by name or folder."""
    from msacat.catalog.server.connect import models_folder
    from msacat.model.evaluate.opponents.own_model import OwnModel
    from msacat.model.predict_stars import StarModel
    from msacat.model.sealed_folder import manifest_sha256

    folder = models_folder() / model
    folder = folder if folder.is_dir() else Path(model)
    return OwnModel(StarModel.load(folder, device), manifest_sha256(folder), name)


def _arms(given: list[str], device: str) -> dict[str, Any]:
    """Methods by name, msacat:<arm>."""
    from msacat.catalog.errors import UsageError

    found = {}
    for text in given:
        arm, equals, folder = text.partition("=")
        if not (arm and equals and folder):
            raise UsageError("not an arm", expected="NAME=FOLDER", found=text)
        found[f"msacat:{arm}"] = _load(folder, device, f"msacat:{arm}")
    return found


def _seed_of(seed: int | None, loaded: Any) -> int | None:
    """The split's seed. Raises UsageError for another than the model's: it was trained on the test cells then."""
    from msacat.catalog.errors import UsageError

    if loaded is None:
        return seed
    own = loaded.model.network.config.seed
    if (split := loaded.model.stored.provenance.get("split", f"seed {own}")) != f"seed {own}":
        raise UsageError("the model was trained on a split of its own: it may know the test stars",
                         expected=f"seed {own}", found=split, next_step="train one without --split")  # fmt: skip
    if seed is not None and seed != own:
        raise UsageError("the model was trained on another split: it may know the test stars",
                         expected=f"--seed {own}", found=str(seed))  # fmt: skip
    return own


def _oracle(sky: Path, features: Any) -> Any:
    from msacat.model.evaluate.opponents.oracle import Oracle
    from msacat.model.evaluate.read_truth import fingerprint, noise_free_stars

    return Oracle(noise_free_stars(sky, features), fingerprint(sky))


def _commit() -> str:
    """The checkout's commit, marked where files differ from it; the package's version outside a checkout."""
    from msacat.catalog.server.package_version import code_version

    folder = Path(__file__).resolve().parent
    found = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() if found.returncode == 0 else code_version()


def _print(records: list[dict]) -> None:
    from msacat.model.evaluate.accuracy_tables import FEWEST_IN_MEAN, ratio_words, summarise

    rows = [
        (s.dataset, s.regime, s.method, s.bands, f"{s.nmad:.4f}", ratio_words(s.over_conventional),
         ratio_words(s.over_mfa), *s.interval_words()[:2])
        for s in summarise(records)
    ]  # fmt: skip
    if not rows:
        print_line(
            f"No band has {FEWEST_IN_MEAN} test stars, the fewest for a mean: every number is in the --record file."
        )
        return
    print_line(
        "NMAD of imputed − truth, geometric mean over bands (xp_hidden: in units of scatter); shares inside intervals"
    )
    print_table(
        ["dataset", "regime", "method", "bands", "NMAD", "÷ conventional", "÷ MFA", "68 %", "95 %"], rows
    )
