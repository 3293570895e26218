"""How large the errors of predictions are once the noise of what they are compared with is taken out.

A held-out value differs from its prediction by the prediction's error and by its own noise. Where the noise is the larger,
intervals that cover the observations exactly can be wrong by any factor about the star. So u = error / predicted sigma
is given the distribution `scale` × a mixture of normals of zero mean and fixed widths (the ash prior of Stephens 2017,
Biostatistics 18, 275), convolved with every value's own noise. Quantiles of the mixture are the factors. Two more
components, as wide as four and as twenty sigmas of noise, take wrong measurements away.

Suffixes: N values, J widths, W widths of wrong measurements, C all components.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

WIDTHS_J = np.geomspace(0.25, 6.0, 10)  # of u / scale
OUTLIER_NOISE = 20.0  # sigmas of noise: as in reconstruction_loss
#: The same, and the few sigmas by which variable stars and blends are off: taken for errors of predictions, they would
#: widen the intervals of all stars. (Noise itself is fitted without them: a little more of it looks just so.)
WRONG_NOISE_W = np.array([4.0, OUTLIER_NOISE])
ROUNDS = 150
STEP = np.log(4.0) / 8  # of the grids of logarithms
SCALE_GRID = np.exp(STEP * np.arange(-8, 9))  # around the scale leaned on
NOISE_GRID = np.exp(STEP * np.arange(-5, 7))  # real over published noise
NOISE_PRIOR = 0.1  # 1 sigma of its logarithm: stated errors are roughly right
SPREADS = np.geomspace(0.03, 0.6, 14)  # of the logarithms of the scales of kinds of values
USUAL_SPREAD = 0.15  # leaned on by a factor of e, where kinds are few
ALIKE = (
    0.15  # of the logarithms of real over stated noise: bands of a survey this near to their median share it
)
#: Between these, published errors are taken as they are, whatever the bands of a survey agree on: on the clean sky, where 1
#: is right, all five of PS1 say 1.10.
BELIEVED = (0.93, 1.12)
NOISE_SAMPLE = 5_000  # for a first guess
WRONG_LOGIT = -5.0  # of the share of wrong measurements, to begin with
LEAST_WEIGHT = 1e-3  # of a width that sigmas about right ask for
FEWEST = 200
#: of log likelihood, that errors are stated too large: sigmas too small for some stars look much the same
EVIDENCE = 10.0


@dataclass(frozen=True)
class Errors:
    """Distribution of u: scale × widths, with their weights; wrong measurements have weights of their own."""

    scale: float
    weight_J: np.ndarray
    wrong_W: np.ndarray

    @staticmethod
    def of_nobody() -> Errors:
        """Sigmas about right, one value in a hundred an accident, one off by a few sigmas."""
        weight, wrong_W = np.exp(-0.5 * (np.log(WIDTHS_J) / 0.2) ** 2), np.full(len(WRONG_NOISE_W), 0.01)
        return Errors(1.0, (1 - wrong_W.sum()) * weight / weight.sum(), wrong_W)

    @property
    def all_weights(self) -> np.ndarray:
        """float[C], in the order of `_log_density`."""
        return np.concatenate([self.weight_J, self.wrong_W])

    def factor(self, level: float) -> float:
        """Half-width, in predicted sigmas, of the interval that holds `level` of the errors."""
        share = self.weight_J / self.weight_J.sum()
        low, high = 0.0, 40.0
        for _ in range(50):
            middle = 0.5 * (low + high)
            inside = float(share @ _erf(middle / (WIDTHS_J * np.sqrt(2))))
            low, high = (middle, high) if inside < level else (low, middle)
        return self.scale * 0.5 * (low + high)


@dataclass(frozen=True)
class Residuals:
    """Held-out values of one kind, in one unit.

    d_N      observed − predicted
    sd_N     predicted sigma
    var_N    noise variance of the observed values
    common_N  the part of it that is no published error: floors, zero points
    repeats  values in which one measurement, with its one noise, appears: together they tell no more than one
    """

    d_N: np.ndarray
    sd_N: np.ndarray
    var_N: np.ndarray
    repeats: float = 1.0
    common_N: np.ndarray | float = 0.0

    def __len__(self) -> int:
        return len(self.d_N)

    def take(self, rows) -> Residuals:
        d, sd, var, common = (
            np.broadcast_to(a, self.d_N.shape)[rows] for a in (self.d_N, self.sd_N, self.var_N, self.common_N)
        )
        return Residuals(d, sd, var, self.repeats, common)

    def with_noise(self, factor: float) -> Residuals:
        """The same, had what is published been too small by this factor."""
        return replace(self, var_N=scaled_noise(self.var_N, factor, self.common_N))


def fit_errors(of: Residuals, parent: Errors, pull: float, shape_pull: float | None = None) -> Errors:
    """Scale of the errors, leaning on `parent` as on `pull` noise-free values; the weights too with `shape_pull`.

    A value under noise s tells about its scale like (sd / s)^4 noise-free ones: thousands may weigh less than `pull`.
    Noise hides shapes more than scales: shapes are for the largest samples only.
    """
    if not len(of):
        return parent
    scale, weight_C = _best_scale(of, parent, pull)[0], parent.all_weights
    if shape_pull is None:
        return replace(parent, scale=scale)
    density = np.exp(_log_density(of.d_N, scale * of.sd_N, of.var_N))
    for _ in range(ROUNDS):
        total = (density @ weight_C).clip(1e-300)
        weight_C = weight_C * (density.T @ (1 / total)) / of.repeats + shape_pull * parent.all_weights
        weight_C /= len(density) / of.repeats + shape_pull
    found = Errors(scale, *np.split(weight_C, [len(WIDTHS_J)]))
    return replace(found, scale=_best_scale(of, found, pull)[0])


def fit_kinds(kinds: Sequence[Residuals], parents: Sequence[Errors]) -> list[Errors]:
    """Scales of several kinds of values, each leaning on its parent, whose shape it has.

    How hard is learned: their scales spread about their parents' by their uncertainty and by how much kinds truly differ
    (empirical Bayes; Efron & Morris 1975, JASA 70, 311). Under large noise the first is nearly all.
    """
    scores = [_scale_scores(kind, parent) for kind, parent in zip(kinds, parents, strict=True)]
    offset, precision = np.array([_peak_and_precision(score) for score in scores]).reshape(-1, 2).T
    known = precision > 0
    likely = []
    for spread in SPREADS:
        var = spread**2 + 1 / precision[known]
        leaning = -0.5 * np.log(spread / USUAL_SPREAD) ** 2
        likely.append(leaning - 0.5 * np.sum(offset[known] ** 2 / var + np.log(var)))
    pull = 0.5 / SPREADS[int(np.argmax(likely))] ** 2
    found = []
    for kind, parent, score in zip(kinds, parents, scores, strict=True):
        at, _ = _peak(np.log(SCALE_GRID), score - pull * np.log(SCALE_GRID) ** 2)
        found.append(replace(parent, scale=float(parent.scale * np.exp(at))) if len(kind) else parent)
    return found


def _peak_and_precision(score: np.ndarray) -> tuple[float, float]:
    """Logarithm of the likeliest scale over the parent's, and 1 / its variance; precision 0 where the grid ends first."""
    i = int(np.argmax(score))
    if not 0 < i < len(score) - 1:
        return 0.0, 0.0
    bend = 2 * score[i] - score[i - 1] - score[i + 1]
    return _peak(np.log(SCALE_GRID), score)[0], float(bend) / STEP**2


def fit_noise(of: Residuals, kind_N: np.ndarray | None = None) -> float:
    """Real noise over published noise of one band, by maximum likelihood; NaN where the values are too few to tell.

    It differs from a wrong sigma of the prediction in how it follows the published errors from value to value. Where sigmas
    are wrong by a factor of their own in each of several kinds (int; by G, say), kind_N keeps one from looking like the
    other.
    """
    if len(of) < FEWEST:
        return np.nan
    kind_N = np.zeros(len(of), np.int64) if kind_N is None else kind_N
    every = slice(None, None, max(1, len(of) // NOISE_SAMPLE))
    few, kind = of.take(every), kind_N[every]
    # Of thinned values few are of one measurement.
    few = replace(few, repeats=1 + (of.repeats - 1) * len(few) / len(of))
    kinds = [few.take(kind == one) for one in np.unique(kind) if (kind == one).sum() >= FEWEST // 4]
    coarse = SCALE_GRID[::2]
    score = -0.5 * (np.log(NOISE_GRID) / NOISE_PRIOR) ** 2
    for one in kinds:
        score += [_best_scale(one.with_noise(k), Errors.of_nobody(), 1.0, coarse)[1] for k in NOISE_GRID]
    factor = refine_noise(of, kind_N, float(np.exp(_peak(np.log(NOISE_GRID), score)[0])))
    evidence = score.max() - score[np.argmin(np.abs(np.log(NOISE_GRID)))]
    return 1.0 if factor < 1 and evidence < EVIDENCE else factor


def refine_noise(of: Residuals, kind_N: np.ndarray, near: float) -> float:
    """The likeliest factor near a first guess, together with the scale of every kind's sigmas and the share of wrong values.

    Under noise of many sigmas a factor that is wrong by one per cent looks like errors twice as large as they are.
    """
    d_N, sd_N, var_N, common_N = (
        torch.as_tensor(np.broadcast_to(a, of.d_N.shape).astype(np.float64))
        for a in (of.d_N, of.sd_N, of.var_N, of.common_N)
    )
    published_N, common_N = (var_N - common_N).clamp_min(0), torch.minimum(common_N, var_N)
    kinds, place = np.unique(kind_N, return_inverse=True)
    place_N = torch.as_tensor(place)
    weight_J = Errors.of_nobody().weight_J
    likely = weight_J > LEAST_WEIGHT
    log_weight_J = torch.as_tensor(np.log(weight_J[likely] / weight_J[likely].sum()))
    width2_J = torch.as_tensor(WIDTHS_J[likely] ** 2)
    # log factor, logit of the share, what the shape's logarithms gain, log scales
    found = torch.zeros(2 + int(likely.sum()) + len(kinds), dtype=torch.float64)
    found[0], found[1] = np.log(near), WRONG_LOGIT
    found.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [found], max_iter=60, line_search_fn="strong_wolfe", tolerance_change=1e-3 / len(of)
    )

    def unlikely() -> Tensor:
        optimizer.zero_grad()
        noise_N = torch.exp(2 * found[0]) * published_N + common_N
        gain_J, scale_T = found[2 : 2 + len(width2_J)], found[2 + len(width2_J) :]
        error_N = torch.exp(2 * scale_T)[place_N] * sd_N**2
        narrow = error_N[:, None] * width2_J + noise_N[:, None]
        total = torch.cat([narrow, (OUTLIER_NOISE**2 * noise_N + error_N)[:, None]], 1)
        right, wrong = torch.nn.functional.logsigmoid(torch.stack([-found[1], found[1]]))
        log_weight = torch.cat([torch.log_softmax(log_weight_J + gain_J, 0) + right, wrong[None]])
        log_p = torch.logsumexp(log_weight - 0.5 * (d_N[:, None] ** 2 / total + torch.log(total)), 1).sum()
        leaning = 0.5 * (found[0] / NOISE_PRIOR) ** 2 + (gain_J**2).sum() + (scale_T**2).sum()
        loss = (leaning - log_p / of.repeats) / len(of)
        loss.backward()
        return loss

    optimizer.step(unlikely)
    factor = float(torch.exp(found[0].detach()))
    return factor if np.isfinite(factor) else near


def scaled_noise(var: np.ndarray, factor: np.ndarray | float, common: np.ndarray | float) -> np.ndarray:
    """Noise variance with its published part `factor`² times larger."""
    return np.square(factor) * np.clip(var - common, 0, None) + np.minimum(common, var)


def noise_of_survey(found_M: np.ndarray) -> np.ndarray:
    """Factors of a survey's bands from what fit_noise found of each; 1 where that is about right, or nothing (NaN).

    A survey misjudges its errors by one factor, more or less. A band in which nearly all stars have the same error cannot
    tell it from a wrong sigma of the prediction, the others can: bands near their median have it. One that is less than
    1 stands: fit_noise says so on strong evidence alone. Under large noise two per cent of it are as much as the whole
    error of a prediction: hence exactly 1 rather than nearly.
    """
    if np.isnan(found_M).all():
        return np.ones(len(found_M))
    middle = max(np.exp(np.nanmedian(np.log(found_M))), 1.0)
    own = (found_M < 1) | (np.abs(np.log(found_M / middle)) > ALIKE)
    factor = np.where(own, found_M, middle)
    right = (factor > BELIEVED[0]) & (factor < BELIEVED[1])
    return np.where(np.isnan(found_M) | right, 1.0, factor)


def _best_scale(of: Residuals, parent: Errors, pull: float, grid=SCALE_GRID) -> tuple[float, float]:
    """(scale, log likelihood there); the parent pulls with the information of `pull` noise-free values."""
    at, height = _peak(np.log(grid), _scale_scores(of, parent, grid) - pull * np.log(grid) ** 2)
    return float(parent.scale * np.exp(at)), height


def _scale_scores(of: Residuals, parent: Errors, grid=SCALE_GRID) -> np.ndarray:
    """Log likelihood of the parent's scale times each of `grid`."""
    score = np.empty(len(grid))
    for i, by in enumerate(grid):
        density = np.exp(_log_density(of.d_N, parent.scale * by * of.sd_N, of.var_N)) @ parent.all_weights
        score[i] = np.log(density.clip(1e-300)).sum()
    return score / of.repeats


def _peak(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Top of the parabola through the three highest neighbours; an end of the grid stays where it is."""
    i = int(np.argmax(y))
    if not 0 < i < len(y) - 1:
        return float(x[i]), float(y[i])
    left, middle, right = y[i - 1 : i + 2]
    bend = left - 2 * middle + right
    shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(x[i] + shift * (x[1] - x[0])), float(middle - 0.25 * (left - right) * shift)


def _log_density(d_N: np.ndarray, sd_N: np.ndarray, var_N: np.ndarray) -> np.ndarray:
    """(N, C) for the components C = J + W."""
    narrow = WIDTHS_J**2 * sd_N[:, None] ** 2 + var_N[:, None]
    wrong = sd_N[:, None] ** 2 + WRONG_NOISE_W**2 * var_N[:, None]
    var = np.concatenate([narrow, wrong], axis=1)
    return -0.5 * (d_N[:, None] ** 2 / var + np.log(2 * np.pi * var))


def _erf(x: np.ndarray) -> np.ndarray:
    return torch.special.erf(torch.from_numpy(np.asarray(x, np.float64))).numpy()
