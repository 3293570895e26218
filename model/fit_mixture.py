"""Fits the mixture prior by stepwise EM with per-cell noise, missing cells and distrusted outliers.

A cell more than OUTLIER_SIGMA from its leave-one-out prediction gets extra noise, so much that its pull falls
with the third power of its distance; since it takes no part in that prediction, it recovers when the fit improves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from msacat.model.cells import CellTensors
from msacat.model.mixture_prior import MixturePrior

OUTLIER_SIGMA = 4.0  # a cell further than this from what its star's other cells say loses weight
PRIOR_STARS = 3.0  # pseudo-stars pulling loadings to 0: rare bands must not fit their few stars exactly
PRIOR_PSI = 0.05
LEARNED_STARS, MOST_PASSES = 60_000, 50
FADED = 1e-12  # stars of a batch: a component with fewer has none
CLOSING_PASSES = 2  # of plain EM


def default_size(n_stars: int, n_cells_seen: int) -> tuple[int, int]:
    """(components, latent) that `n_stars` can support: 8 x 14 from 12,000 stars with spectra, 24 x 12 from 50,000."""
    latent = max(1, min(14, n_cells_seen - 1, 2 + n_cells_seen // 4))
    if n_stars >= 50_000:
        return 24, min(12, latent)
    for least, components in ((12_000, 8), (3_000, 4), (600, 2)):
        if n_stars >= least:
            return components, latent
    return 1, latent


def enough_passes(n_stars: int, least: int) -> int:
    """Few stars are gone over more often: until 60,000 were seen, within limits."""
    return max(least, min(MOST_PASSES, LEARNED_STARS // max(1, n_stars)))


def fit_mixture(
    cells: CellTensors,
    components: int | None,
    latent: int | None,
    seed: int,
    passes: int = 3,
    check: Callable[[], None] = lambda: None,
    seconds: float | None = None,
) -> MixturePrior:
    """EM over `cells` (a random sample, tensors on one device); the same seed gives the same prior.

    `check` is called between batches and may raise. `seconds` ends the fit early (then the same seed need
    not give the same prior).
    """
    until = math.inf if seconds is None else time.monotonic() + seconds
    known = cells.observed_BD | cells.derived_BD
    usable = known.any(1) & ~cells.proxy_B
    x, s, known = cells.value_BD[usable], cells.var_BD[usable], known[usable].clone()
    n_seen = int((known.sum(0) > 0).sum())
    auto = default_size(len(x), n_seen)
    C, Q = components or auto[0], latent or auto[1]
    generator = torch.Generator().manual_seed(seed)

    one = MixturePrior(x.shape[1], 1, Q).to(x.device)
    one.W_CDQ[:] = 0.3 * torch.randn(1, x.shape[1], Q, generator=generator).to(x.device)
    first = slice(0, min(len(x), 8192))
    _em(one, x[first], s[first], known[first], 12, generator, check=check, until=until)
    if C == 1:
        _em(one, x, s, known, passes, generator, check=check, until=until)
        return one
    prior = _split(one, x[first], s[first], known[first], C, generator)
    _em(prior, x, s, known, passes, generator, check=check, until=until)
    return prior


def _split(one: MixturePrior, x, s, known, C: int, generator: torch.Generator) -> MixturePrior:
    """k-means on the single model's latent positions seeds the components."""
    z = one.expect(x, s, known).z_CBQ[0]
    centres = z[torch.randperm(len(z), generator=generator)[:1].to(z.device)]
    for _ in range(C - 1):  # k-means++ seeding
        far = torch.cdist(z, centres).min(1).values ** 2
        pick = torch.multinomial(far.double().cpu() + 1e-12, 1, generator=generator)
        centres = torch.cat([centres, z[pick.to(z.device)]])
    for _ in range(10):
        nearest = torch.cdist(z, centres).argmin(1)
        for c in range(C):
            if bool((nearest == c).any()):
                centres[c] = z[nearest == c].mean(0)
    prior = MixturePrior(one.mu_CD.shape[1], C, one.latent).to(x.device)
    prior.mu_CD[:] = one.mu_CD + centres @ one.W_CDQ[0].T
    prior.W_CDQ[:] = 0.8 * one.W_CDQ
    prior.psi_CD[:] = one.psi_CD
    share = torch.bincount(nearest, minlength=C).to(x.dtype) + 1.0
    prior.log_pi_C[:] = torch.log(share / share.sum())
    return prior


@torch.no_grad()
def _em(prior, x, s, known, passes, generator, check, until) -> None:
    """Stepwise EM: running averages of the sufficient statistics, a new M-step after every batch; then plain EM.

    The running averages remember a part of the stars and follow its noise: under large noise that is a tenth of the
    errors of what is imputed. The closing passes average over all stars alike.
    """
    averages: tuple[Tensor, ...] | None = None
    extra = torch.zeros_like(s)
    step = 0
    # Many small M-steps converge in few passes; a batch still has to hold some of every common band.
    n_batches = max(1, len(x) // min(1024, max(256, len(x) // 8)))
    for number in range(passes + CLOSING_PASSES):
        closing = number >= passes
        if closing:
            averages = None
        used = 0
        for rows in torch.randperm(len(x), generator=generator).to(x.device).chunk(n_batches):
            check()
            if time.monotonic() > until and step:
                return
            visible = known[rows]
            expected = prior.expect(x[rows], s[rows] + extra[rows], visible)
            stats = _statistics(prior, expected, x[rows], visible)
            step, used = step + 1, used + len(rows)
            rate = len(rows) / used if closing or n_batches == 1 else (step + 1.0) ** -0.6
            averages = (
                stats
                if averages is None
                else tuple(a + rate * (b - a) for a, b in zip(averages, stats, strict=True))
            )
            if not closing:
                _maximise(prior, averages, len(x))
            extra[rows] = _distrust(prior, expected, x[rows], visible, extra[rows])
        if closing and averages is not None:
            _maximise(prior, averages, len(x))


def _distrust(prior: MixturePrior, expected, x: Tensor, visible: Tensor, extra: Tensor) -> Tensor:
    """Extra noise variance of cells far from what their star's other cells say; `extra`: what `expected` took it for."""
    residual, variance = prior._leave_one_out(
        expected.weight_CBD, expected.factor_CBD, expected.factor_var_CBD, expected.log_joint_CB, x, visible
    )
    variance = (variance - extra).clamp_min(1e-8)
    far = (residual**2 / (OUTLIER_SIGMA**2 * variance)).clamp(1, 1e4)
    return torch.where(visible, variance * (far**2 - 1), 0.0)


def _statistics(prior: MixturePrior, e, x, visible) -> tuple[Tensor, ...]:
    """Means over the batch of everything the M-step needs (float64)."""
    B, Q, D = len(x), prior.latent, x.shape[1]
    one = torch.ones_like(e.z_CBQ[..., :1])
    z1 = torch.cat([e.z_CBQ, one], 2)
    zz = z1[..., :, None] * z1[..., None, :]
    zz[..., :Q, :Q] += e.cov_CBQQ
    r = e.resp_CB[:, :, None]
    rw = r * e.weight_CBD
    normal = (rw.mT @ zz.flatten(2)).reshape(-1, D, Q + 1, Q + 1)
    right = (rw * x[None]).mT @ z1
    seen = r * visible[None]
    gain = prior.psi_CD[:, None] * e.weight_CBD
    squared = (torch.where(visible[None], x[None] - e.factor_CBD, 0.0) ** 2 + e.factor_var_CBD) * visible[
        None
    ]
    psi = (r * (gain**2 * squared + prior.psi_CD[:, None] * (1 - gain) * visible[None])).sum(1)
    moment = (r[..., None] * zz).sum(1)
    return tuple(
        t.double() / B for t in (normal, right, psi, seen.sum(1), e.resp_CB.sum(1), rw.sum(1), moment)
    )


def _maximise(prior: MixturePrior, averages: tuple[Tensor, ...], n_stars: int) -> None:
    normal, right, psi, seen, resp, weight, moment = averages
    Q = prior.latent
    pseudo = PRIOR_STARS / n_stars
    # One pseudo-star has the typical weight of the cell's own measurements. A cell unseen, or seen by a component that is
    # dying (weights vanish in float32 before the responsibilities do), gets weight 1, else nothing would be left to solve.
    typical = torch.where(seen > FADED, weight / seen.clamp_min(FADED), torch.ones_like(weight))
    ridge = pseudo * typical
    eye = torch.eye(Q + 1, dtype=normal.dtype, device=normal.device)
    eye[Q, Q] = 0.1  # the mean is pulled less than the loadings
    solved = torch.linalg.solve(normal + ridge[..., None, None] * eye, right[..., None])[..., 0]
    # Parameter expansion (Liu, Rubin & Wu 1998): let the latent population have a mean and covariance of its
    # own, then absorb them; several times fewer passes than plain EM.
    moment = moment / resp.clamp_min(1e-9)[:, None, None]
    mean = moment[:, :Q, Q]
    cov = moment[:, :Q, :Q] - mean[:, :, None] * mean[:, None, :]
    root = torch.linalg.cholesky(cov + 1e-4 * torch.eye(Q, dtype=cov.dtype, device=cov.device))
    prior.W_CDQ[:] = (solved[..., :Q] @ root).to(prior.W_CDQ.dtype)
    prior.mu_CD[:] = (solved[..., Q] + (solved[..., :Q] @ mean[..., None])[..., 0]).to(prior.mu_CD.dtype)
    new_psi = (psi + pseudo * PRIOR_PSI) / (seen + pseudo)
    prior.psi_CD[:] = new_psi.clamp(1e-6, 1e4).to(prior.psi_CD.dtype)
    share = (resp + 1e-3) / (resp + 1e-3).sum()
    prior.log_pi_C[:] = torch.log(share).to(prior.log_pi_C.dtype)
