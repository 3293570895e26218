"""The prior: a mixture of factor analysers that knows every cell's noise (docs/model.md, "The prior").

A star of component k is x = mu_k + W_k z + e + noise, z ~ N(0, I_q), e ~ N(0, diag psi_k), with the
*known* variance of every measured cell; missing cells drop out of the likelihood. Fitted by stepwise EM
(Cappé & Moulines 2009); with per-cell noise the E-step is that of extreme deconvolution (Bovy, Hogg &
Roweis 2011) with low-rank covariances. The network then predicts corrections to this posterior.

Suffixes: B stars, D cells, C components, K the likeliest of them, Q latent dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MAX_PRECISION = 1e5  # scaled units: keeps I + W'DW far from float32's limits
DROP_SIGMA = 4.0  # leave-one-out residual beyond which a visible cell is not believed
LIKELIEST = 4  # components of a mixture that are asked about one star
LOG_2PI = math.log(2 * math.pi)


@dataclass
class Posterior:
    """What the prior knows of every cell of every star, given the visible ones (scaled units).

    mean_BD, sd_BD    of the noise-free cell
    log_like_B        log p(visible cells)
    loo_z_BD          (measured − predicted from the star's other visible cells) / its sigma, noise
                      included; 0 where not visible
    visible_BD        the cells used: those given, less the ones dropped as outliers
    dropped_BD        visible cells dropped because the others disown them
    distance_B        squared Mahalanobis distance to the best component / number of cells used
    """

    mean_BD: Tensor
    sd_BD: Tensor
    log_like_B: Tensor
    loo_z_BD: Tensor
    visible_BD: Tensor
    dropped_BD: Tensor
    distance_B: Tensor


class MixturePrior(nn.Module):
    """Parameters as buffers (EM sets them, not gradients)."""

    log_pi_C: Tensor
    mu_CD: Tensor
    W_CDQ: Tensor
    psi_CD: Tensor
    _upper: Tensor
    _full: Tensor

    def __init__(self, n_cells: int, components: int, latent: int):
        super().__init__()
        self.register_buffer("log_pi_C", torch.full((components,), -math.log(components)))
        self.register_buffer("mu_CD", torch.zeros(components, n_cells))
        self.register_buffer("W_CDQ", torch.zeros(components, n_cells, latent))
        self.register_buffer("psi_CD", torch.ones(components, n_cells))
        rows, cols = torch.triu_indices(latent, latent)
        full = torch.zeros(latent, latent, dtype=torch.long)
        full[rows, cols] = full[cols, rows] = torch.arange(len(rows))
        self.register_buffer("_upper", torch.stack([rows, cols]), persistent=False)
        self.register_buffer("_full", full.flatten(), persistent=False)

    @property
    def components(self) -> int:
        return len(self.log_pi_C)

    @property
    def latent(self) -> int:
        return self.W_CDQ.shape[2]

    @torch.no_grad()
    def posterior(
        self, value_BD: Tensor, var_BD: Tensor, visible_BD: Tensor, max_drops: int = 0
    ) -> Posterior:
        """Mean and sigma of every cell given the visible ones.

        With `max_drops` > 0 the worst visible cell is dropped while its leave-one-out residual exceeds
        DROP_SIGMA, at most that many times: one bad measurement must not move all the others.
        """
        post = self._posterior_once(value_BD, var_BD, visible_BD)
        for _ in range(max_drops):
            worst_B, which_B = post.loo_z_BD.abs().max(1)
            bad_B = (worst_B > DROP_SIGMA) & (post.visible_BD.sum(1) > 2)
            if not bool(bad_B.any()):
                break
            rows = bad_B.nonzero()[:, 0]
            visible = post.visible_BD[rows].clone()
            dropped = post.dropped_BD[rows].clone()
            at = torch.arange(len(rows), device=rows.device), which_B[rows]
            visible[at], dropped[at] = False, True
            again = self._posterior_once(value_BD[rows], var_BD[rows], visible)
            again.dropped_BD = dropped
            # A dropped cell keeps the residual that condemned it.
            again.loo_z_BD = torch.where(dropped, post.loo_z_BD[rows], again.loo_z_BD)
            _write_rows(post, rows, again)
            post.loo_z_BD[rows] = again.loo_z_BD
        return post

    def _posterior_once(self, x_BD: Tensor, s_BD: Tensor, visible_BD: Tensor) -> Posterior:
        e = self._expect(x_BD, s_BD, visible_BD)
        p = self._likeliest(e)
        residual = x_BD[None] - p.factor_KBD
        gain = p.weight_KBD * p.psi_KBD  # 0 where not visible
        mean = p.factor_KBD + gain * residual
        var = p.psi_KBD * (1 - gain) + (1 - gain) ** 2 * p.factor_var_KBD
        r = torch.softmax(p.log_joint_KB, 0)
        mean_BD = (r[:, :, None] * mean).sum(0)
        second = (r[:, :, None] * (var + (mean - mean_BD) ** 2)).sum(0)

        loo_residual, loo_var = self._leave_one_out(
            p.weight_KBD, p.factor_KBD, p.factor_var_KBD, p.log_joint_KB, x_BD, visible_BD
        )
        loo_z = torch.where(visible_BD, loo_residual / loo_var.sqrt(), 0.0)
        used = visible_BD.sum(1).clamp_min(1)
        return Posterior(
            mean_BD,
            second.clamp_min(1e-12).sqrt(),
            e.log_like_B,
            loo_z,
            visible_BD,
            torch.zeros_like(visible_BD),
            (r * p.chi2_KB).sum(0) / used,
        )

    def _likeliest(self, e: _Expectation) -> _Likeliest:
        """Each star's own few components: with many, all but a few have no say in it, yet would cost as much."""
        psi_CBD = self.psi_CD[:, None].expand_as(e.weight_CBD)
        if self.components <= LIKELIEST:
            return _Likeliest(
                e.log_joint_CB, e.chi2_CB, e.weight_CBD, e.factor_CBD, e.factor_var_CBD, psi_CBD
            )
        log_joint_KB, which_KB = e.log_joint_CB.topk(LIKELIEST, 0)
        star_B = torch.arange(e.log_joint_CB.shape[1], device=which_KB.device)
        return _Likeliest(
            log_joint_KB,
            e.chi2_CB[which_KB, star_B],
            e.weight_CBD[which_KB, star_B],
            e.factor_CBD[which_KB, star_B],
            e.factor_var_CBD[which_KB, star_B],
            self.psi_CD[which_KB],
        )

    @torch.no_grad()
    def leave_one_out(self, value_BD: Tensor, var_BD: Tensor, visible_BD: Tensor) -> tuple[Tensor, Tensor]:
        """(measured − predicted from the star's other visible cells, its variance with noise); read where visible."""
        p = self._likeliest(self._expect(value_BD, var_BD, visible_BD))
        return self._leave_one_out(
            p.weight_KBD, p.factor_KBD, p.factor_var_KBD, p.log_joint_KB, value_BD, visible_BD
        )

    def _leave_one_out(
        self,
        weight_KBD: Tensor,
        factor_KBD: Tensor,
        factor_var_KBD: Tensor,
        log_joint_KB: Tensor,
        x_BD: Tensor,
        visible_BD: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(measured − predicted from the other visible cells, its variance with noise) of every cell.

        The cell's own Gaussian factor is divided out of the posterior of every component, and out of the
        responsibilities: exact for the mixture, at the cost of a few elementwise operations.
        """
        keep = (1 - factor_var_KBD * weight_KBD).clamp_min(1e-4)
        residual = (x_BD[None] - factor_KBD) / keep
        variance = factor_var_KBD / keep + 1 / weight_KBD.clamp_min(1e-12)
        log_p = -0.5 * (residual**2 / variance + torch.log(variance) + LOG_2PI)
        r = torch.softmax(torch.where(visible_BD[None], log_joint_KB[:, :, None] - log_p, 0.0), 0)
        mean = (r * residual).sum(0)
        return mean, (r * (variance + (residual - mean) ** 2)).sum(0)

    def _expect(self, x_BD: Tensor, s_BD: Tensor, visible_BD: Tensor) -> _Expectation:
        C, Q = self.components, self.latent
        i, j = self._upper[0], self._upper[1]
        weight = (1.0 / (self.psi_CD[:, None] + s_BD[None])).clamp_max(MAX_PRECISION) * visible_BD[None]
        pairs = self.W_CDQ[:, :, i] * self.W_CDQ[:, :, j]  # C, D, Q(Q+1)/2
        A = (weight @ pairs)[:, :, self._full].reshape(C, -1, Q, Q)
        A = A + torch.eye(Q, device=A.device)
        delta = torch.where(visible_BD[None], x_BD[None] - self.mu_CD[:, None], 0.0)
        chol = torch.linalg.cholesky(A)
        cov = torch.cholesky_inverse(chol)
        z = (cov @ ((weight * delta) @ self.W_CDQ)[..., None])[..., 0]
        shift = z @ self.W_CDQ.mT
        twice = torch.where(i == j, 1.0, 2.0).to(A.dtype)
        factor_var = (cov[:, :, i, j] * twice) @ pairs.mT
        chi2 = (weight * (delta - shift) ** 2).sum(2) + (z**2).sum(2)
        log_det = 2 * torch.diagonal(chol, dim1=2, dim2=3).log().sum(2)
        log_w = torch.where(visible_BD[None], torch.log(weight.clamp_min(1e-30)) - LOG_2PI, 0.0).sum(2)
        log_joint = self.log_pi_C[:, None] - 0.5 * (chi2 + log_det - log_w)
        log_like = torch.logsumexp(log_joint, 0)
        return _Expectation(
            torch.exp(log_joint - log_like),
            weight,
            z,
            cov,
            shift + self.mu_CD[:, None],
            factor_var.clamp_min(0),
            chi2,
            log_joint,
            log_like,
        )


@dataclass
class _Expectation:
    resp_CB: Tensor
    weight_CBD: Tensor  # 1 / (psi + noise variance), 0 where not visible
    z_CBQ: Tensor
    cov_CBQQ: Tensor
    factor_CBD: Tensor  # mu + W z
    factor_var_CBD: Tensor  # W cov W'
    chi2_CB: Tensor
    log_joint_CB: Tensor  # log pi_k + log p_k(visible cells)
    log_like_B: Tensor


@dataclass
class _Likeliest:
    """Of the likeliest components of every star; names as in _Expectation."""

    log_joint_KB: Tensor
    chi2_KB: Tensor
    weight_KBD: Tensor
    factor_KBD: Tensor
    factor_var_KBD: Tensor
    psi_KBD: Tensor


def _write_rows(post: Posterior, rows: Tensor, part: Posterior) -> None:
    for name in ("mean_BD", "sd_BD", "log_like_B", "visible_BD", "dropped_BD", "distance_B"):
        array = getattr(post, name)
        if array is post.visible_BD:
            array = array.clone()
            post.visible_BD = array
        array[rows] = getattr(part, name)
