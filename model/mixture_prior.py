"""The prior: a mixture of factor analysers that knows every cell's noise (docs/model.md, "The prior").

A star of component k is x = mu_k + W_k z + e + noise, z ~ N(0, I_q), e ~ N(0, diag psi_k), with the
*known* variance of every measured cell; missing cells drop out of the likelihood. Fitted by stepwise EM
(Cappé & Moulines 2009); with per-cell noise the E-step is that of extreme deconvolution (Bovy, Hogg &
Roweis 2011) with low-rank covariances. The network then predicts corrections to this posterior.

Suffixes: B stars, D cells, C components, K the likeliest of them, Q latent dimensions, P pairs of these.
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
        joint = self._join(x_BD, s_BD, visible_BD)
        p = self._likeliest(joint, s_BD, visible_BD)
        gain = p.weight_KBD * p.psi_KBD  # 0 where not visible
        mean = p.factor_KBD + gain * (x_BD - p.factor_KBD)
        var = p.psi_KBD * (1 - gain) + (1 - gain) ** 2 * p.factor_var_KBD
        r = torch.softmax(p.log_joint_KB, 0)
        mean_BD = (r[:, :, None] * mean).sum(0)
        second = (r[:, :, None] * (var + (mean - mean_BD) ** 2)).sum(0)

        loo_residual, loo_var = self._leave_one_out(
            p.weight_KBD, p.factor_KBD, p.factor_var_KBD, p.log_joint_KB, x_BD, visible_BD
        )
        used = visible_BD.sum(1).clamp_min(1)
        return Posterior(
            mean_BD,
            second.clamp_min(1e-12).sqrt(),
            torch.logsumexp(joint.log_joint_CB, 0),
            loo_residual / loo_var.sqrt() * visible_BD,
            visible_BD,
            torch.zeros_like(visible_BD),
            (r * p.chi2_KB).sum(0) / used,
        )

    def _likeliest(self, joint: _Joint, s_BD: Tensor, visible_BD: Tensor) -> _Likeliest:
        """Each star's own few components: with many, all but a few have no say in it, yet would cost as much."""
        log_joint_KB, which_KB = joint.log_joint_CB.topk(min(LIKELIEST, self.components), 0)
        star_B = torch.arange(len(s_BD), device=s_BD.device)
        psi_KBD = self.psi_CD[which_KB]
        root_KBQQ = joint.root_QQCB[:, :, which_KB, star_B].permute(2, 3, 0, 1)
        W_KBDQ = self.W_CDQ[which_KB]
        return _Likeliest(
            log_joint_KB,
            joint.chi2_CB[which_KB, star_B],
            _weight(psi_KBD, s_BD, visible_BD),
            joint.factor_CBD[which_KB, star_B],
            ((W_KBDQ @ torch.cholesky_inverse(root_KBQQ)) * W_KBDQ).sum(3),
            psi_KBD,
        )

    @torch.no_grad()
    def leave_one_out(self, value_BD: Tensor, var_BD: Tensor, visible_BD: Tensor) -> tuple[Tensor, Tensor]:
        """(measured − predicted from the star's other visible cells, its variance with noise); read where visible."""
        p = self._likeliest(self._join(value_BD, var_BD, visible_BD), var_BD, visible_BD)
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
        r = torch.softmax((log_joint_KB[:, :, None] - log_p) * visible_BD, 0)
        mean = (r * residual).sum(0)
        return mean, (r * (variance + (residual - mean) ** 2)).sum(0)

    def _join(self, x_BD: Tensor, s_BD: Tensor, visible_BD: Tensor) -> _Joint:
        """Every component's own view of every star."""
        C, Q = self.components, self.latent
        weight = _weight(self.psi_CD[:, None], s_BD, visible_BD)
        delta = (x_BD - self.mu_CD[:, None]) * visible_BD
        A_CPB = self._pair_loadings() @ weight.mT
        A_QQCB = A_CPB[:, self._full].reshape(C, Q, Q, -1).permute(1, 2, 0, 3)
        A_QQCB.diagonal(dim1=0, dim2=1).add_(1.0)
        root_QQCB = _cholesky(A_QQCB)
        right_QCB = (self.W_CDQ.mT @ (weight * delta).mT).transpose(0, 1)
        z_CBQ = _solve(root_QQCB, right_QCB).permute(1, 2, 0)
        shift = z_CBQ @ self.W_CDQ.mT
        chi2 = (weight * (delta - shift) ** 2).sum(2) + (z_CBQ**2).sum(2)
        log_det = 2 * root_QQCB.diagonal(dim1=0, dim2=1).log().sum(2)
        log_w = (torch.log(weight.clamp_min(1e-30)) * visible_BD).sum(2) - LOG_2PI * visible_BD.sum(1)
        return _Joint(
            self.log_pi_C[:, None] - 0.5 * (chi2 + log_det - log_w),
            chi2, weight, z_CBQ, shift + self.mu_CD[:, None], root_QQCB,
        )  # fmt: skip

    def expect(self, x_BD: Tensor, s_BD: Tensor, visible_BD: Tensor) -> Expectation:
        """What the M-step needs to know of every star under every component."""
        joint = self._join(x_BD, s_BD, visible_BD)
        log_like_B = torch.logsumexp(joint.log_joint_CB, 0)
        cov_CBQQ = torch.cholesky_inverse(joint.root_QQCB.permute(2, 3, 0, 1))
        i, j = self._upper[0], self._upper[1]
        twice = torch.where(i == j, 1.0, 2.0).to(cov_CBQQ.dtype)
        factor_var = (cov_CBQQ[:, :, i, j] * twice) @ self._pair_loadings()
        return Expectation(
            torch.exp(joint.log_joint_CB - log_like_B),
            joint.weight_CBD,
            joint.z_CBQ,
            cov_CBQQ,
            joint.factor_CBD,
            factor_var.clamp_min(0),
            joint.log_joint_CB,
        )

    def _pair_loadings(self) -> Tensor:
        W_CQD = self.W_CDQ.mT
        return W_CQD[:, self._upper[0]] * W_CQD[:, self._upper[1]]


def _weight(psi: Tensor, s_BD: Tensor, visible_BD: Tensor) -> Tensor:
    return (1.0 / (psi + s_BD)).clamp_max(MAX_PRECISION) * visible_BD


# Thousands of matrices of a dozen rows: with the stars innermost the elimination is a few dozen operations on long
# vectors, several times faster than as many calls of LAPACK.


def _cholesky(A_QQN: Tensor) -> Tensor:
    """Lower triangular roots of I + positive semidefinite matrices (hence no pivot below 1); N may be several dimensions."""
    root = torch.zeros_like(A_QQN)
    for q in range(len(A_QQN)):
        column = A_QQN[q:, q]
        if q:
            column = column - (root[q:, :q] * root[q, :q]).sum(1)
        pivot = column[0].clamp_min(1.0).sqrt()
        root[q:, q] = column / pivot
        root[q, q] = pivot
    return root


def _solve(root_QQN: Tensor, right_QN: Tensor) -> Tensor:
    """x of (root root') x = right."""
    x = right_QN.clone()
    Q = len(x)
    for q in range(Q):
        x[q] = (x[q] - (root_QQN[q, :q] * x[:q]).sum(0)) / root_QQN[q, q]
    for q in reversed(range(Q)):
        x[q] = (x[q] - (root_QQN[q + 1 :, q] * x[q + 1 :]).sum(0)) / root_QQN[q, q]
    return x


@dataclass
class _Joint:
    log_joint_CB: Tensor  # log pi_k + log p_k(visible cells)
    chi2_CB: Tensor
    weight_CBD: Tensor  # 1 / (psi + noise variance), 0 where not visible
    z_CBQ: Tensor
    factor_CBD: Tensor  # mu + W z
    root_QQCB: Tensor  # Cholesky root of I + W' diag(weight) W


@dataclass
class Expectation:
    """resp_CB responsibilities; cov_CBQQ of z; factor_var_CBD = W cov W'; the rest as in _Joint."""

    resp_CB: Tensor
    weight_CBD: Tensor
    z_CBQ: Tensor
    cov_CBQQ: Tensor
    factor_CBD: Tensor
    factor_var_CBD: Tensor
    log_joint_CB: Tensor


@dataclass
class _Likeliest:
    """Of the likeliest components of every star; names as in Expectation."""

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
