"""The methods by name, in the order of the tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from msacat.catalog.errors import UsageError
from msacat.model.evaluate.guess import Method
from msacat.model.evaluate.opponents.colour_locus import ColourLocus
from msacat.model.evaluate.opponents.direct_regression import ResidualMlp, XGBoost
from msacat.model.evaluate.opponents.embedding_probe import EmbeddingProbe
from msacat.model.evaluate.opponents.factor_analysers import Mixture, SharedFit
from msacat.model.evaluate.opponents.gradient_boosting import GradientBoosting
from msacat.model.evaluate.opponents.iterative_ridge import IterativeRidge
from msacat.model.evaluate.opponents.median_colour import MedianColour
from msacat.model.evaluate.opponents.missforest import MissForest
from msacat.model.evaluate.opponents.nearest_neighbours import NearestNeighbours
from msacat.model.evaluate.opponents.oracle import Oracle
from msacat.model.evaluate.opponents.own_model import OwnModel, TrainedHere
from msacat.model.evaluate.opponents.synthetic_photometry import SyntheticPhotometry

OWN = "msacat"
PROBE = "msacat:probe"
MAX_DROPS = 3
#: packages of the optional extra "evaluate"
NEEDS = {"iterative_ridge": "sklearn", "missforest": "sklearn", "lightgbm": "lightgbm", "xgboost": "xgboost"}
_TABLES = ("median_colour", "colour_locus", "knn", "iterative_ridge", "missforest", "lightgbm", "em_gaussian", "mfa",
           "mfa-robust")  # fmt: skip
#: dataset -> its methods
METHODS = {
    "sky": (OWN, *_TABLES, "mfa-background", "mfa-robust-background", "gaiaxpy", "oracle"),
    "apogee": (
        OWN,
        PROBE,
        "median_colour",
        "colour_locus",
        "lightgbm",
        "xgboost",
        "mlp",
        "mfa",
        "mfa-robust",
    ),
    "m67": (OWN, *_TABLES),
}


def make_methods(
    names: list[str], own: OwnModel | TrainedHere | None = None, oracle: Oracle | None = None
) -> list[Method]:
    """Unfitted methods, `own` as the product's, `oracle` if there is one; UsageError for an unknown name, or where a package is not installed."""
    mfa, told = Mixture("mfa", (), 0), Mixture("mfa-background", (), 0, background=True)
    makers: dict[str, Callable[[], Method]] = {
        "median_colour": MedianColour,
        "colour_locus": ColourLocus,
        "knn": NearestNeighbours,
        "iterative_ridge": IterativeRidge,
        "missforest": MissForest,
        "lightgbm": GradientBoosting,
        "xgboost": XGBoost,
        "mlp": ResidualMlp,
        "em_gaussian": lambda: Mixture("em_gaussian", ((1, 30),), 0),
        "mfa": lambda: mfa,
        "mfa-robust": lambda: SharedFit("mfa-robust", mfa, MAX_DROPS),
        "mfa-background": lambda: told,
        "mfa-robust-background": lambda: SharedFit("mfa-robust-background", told, MAX_DROPS),
        "gaiaxpy": SyntheticPhotometry,
    }
    if own is not None:
        makers |= {OWN: lambda: own, PROBE: lambda: EmbeddingProbe(own)}
    if oracle is not None:
        makers["oracle"] = lambda: oracle
    for name in names:
        if name not in makers:
            raise UsageError(f"no method called '{name}'", expected=", ".join(makers))
        if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            raise UsageError(f"method '{name}' needs the package {NEEDS[name]}",
                             next_step="pip install 'msacat[evaluate]', or leave it out of --methods")  # fmt: skip
    return [makers[name]() for name in names]
