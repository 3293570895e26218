"""The methods by name, in the order of the tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from msacat.catalog.errors import UsageError
from msacat.model.evaluate.guess import Method
from msacat.model.evaluate.opponents.colour_locus import ColourLocus
from msacat.model.evaluate.opponents.factor_analysers import Mixture, SharedFit
from msacat.model.evaluate.opponents.gradient_boosting import GradientBoosting
from msacat.model.evaluate.opponents.iterative_ridge import IterativeRidge
from msacat.model.evaluate.opponents.median_colour import MedianColour
from msacat.model.evaluate.opponents.nearest_neighbours import NearestNeighbours
from msacat.model.evaluate.opponents.synthetic_photometry import SyntheticPhotometry

OWN = "msacat"
MAX_DROPS = 3
NEEDS = {"iterative_ridge": "sklearn", "lightgbm": "lightgbm"}  # of the optional extra "evaluate"
OPPONENTS = (
    "median_colour", "colour_locus", "knn", "iterative_ridge", "lightgbm", "em_gaussian", "mfa", "mfa-robust", "gaiaxpy",
)  # fmt: skip


def make_opponents(names: list[str]) -> list[Method]:
    """Unfitted opponents; UsageError for a name that is none, or whose package is not installed."""
    mfa = Mixture("mfa", (), 0, conventional=False)
    makers: dict[str, Callable[[], Method]] = {
        "median_colour": MedianColour,
        "colour_locus": ColourLocus,
        "knn": NearestNeighbours,
        "iterative_ridge": IterativeRidge,
        "lightgbm": GradientBoosting,
        "em_gaussian": lambda: Mixture("em_gaussian", ((1, 30),), 0, conventional=True),
        "mfa": lambda: mfa,
        "mfa-robust": lambda: SharedFit("mfa-robust", mfa, MAX_DROPS),
        "gaiaxpy": SyntheticPhotometry,
    }
    for name in names:
        if name not in makers:
            raise UsageError(f"no method called '{name}'", expected=", ".join((OWN, *OPPONENTS)))
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            raise UsageError(f"method '{name}' needs the package {NEEDS[name]}",
                             next_step="pip install 'msacat[evaluate]', or leave it out of --methods")  # fmt: skip
    return [makers[name]() for name in names]
