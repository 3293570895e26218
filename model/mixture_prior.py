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
DROP_SIGMA = 3.5  # leave-one-out residual beyond which a visible cell is not believed
LIKELIEST = 4  # components of a mixture that are asked about one star ...
BUT_FOR_ONE = 4  # ... and so many more that would be, were it not for their worst cell
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
    distance_B        squared Mahalanobis distance / number of cells used; mean over the components, by responsibility
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
    _full_QQ: Tensor
    _twice_P: Tensor

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
        self.register_buffer("_full_QQ", full, persistent=False)
        self._kept: tuple[Tensor, int, Tensor] | None = None
        self.register_buffer("_twice_P", torch.where(rows == cols, 1.0, 2.0), persistent=False)

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
            worst_B, which_B = (post.loo_z_BD.abs() * post.visible_BD).max(1)
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
        """Each star's own few components: with many, all but a few have no say in it, yet would cost as much.

        A wrong measurement makes those the likeliest that can bear with it. The star's own may be none of them, and
        then nothing disowns the measurement: so the likeliest without their worst cell are asked as well.
        """
        which_KB = joint.log_joint_CB.topk(min(LIKELIEST, self.components), 0).indices
        if left := self.components - len(which_KB):
            but_for_one_CB = (joint.log_joint_CB + 0.5 * joint.worst_CB).scatter(0, which_KB, -torch.inf)
            which_KB = torch.cat([which_KB, but_for_one_CB.topk(min(BUT_FOR_ONE, left), 0).indices])
        log_joint_KB = joint.log_joint_CB.gather(0, which_KB)
        star_B = torch.arange(len(s_BD), device=s_BD.device)
        psi_KBD = self.psi_CD[which_KB]
        at_N = (which_KB * len(s_BD) + star_B).flatten()  # N: the K components of every star
        root_PN = joint.root_PCB.flatten(1).index_select(1, at_N)
        return _Likeliest(
            log_joint_KB,
            joint.chi2_CB[which_KB, star_B],
            _weight(psi_KBD, s_BD, visible_BD),
            joint.shift_CBD.flatten(0, 1)[at_N].view_as(psi_KBD) + self.mu_CD[which_KB],
            self._factor_variance(_inverse(root_PN), which_KB.flatten()).view_as(psi_KBD),
            psi_KBD,
        )

    def _factor_variance(self, cov_PN: Tensor, which_N: Tensor) -> Tensor:
        """Variance of every cell of W z, (N, D), for covariances of z under component which_N."""
        loadings_CPD = self._pair_loadings() * self._twice_P[:, None]
        order_N = which_N.argsort()
        cov_NP = cov_PN.T[order_N]
        found_ND = cov_NP.new_empty(len(which_N), loadings_CPD.shape[2])
        # A product a component, instead of a copy of its loadings for every star.
        counts = torch.bincount(which_N, minlength=self.components).tolist()
        parts = [
            cov_NP @ loadings_PD
            for cov_NP, loadings_PD in zip(cov_NP.split(counts), loadings_CPD, strict=True)
        ]
        found_ND[order_N] = torch.cat(parts)
        return found_ND

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
        responsibilities: exact for a mixture of the components asked, at the cost of a few elementwise operations.
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
        weight = _weight(self.psi_CD[:, None], s_BD, visible_BD)
        delta = x_BD - self.mu_CD[:, None]
        root_PCB = _cholesky_((self._pair_loadings() @ weight.mT).transpose(0, 1).contiguous())
        right_QCB = (self.W_CDQ.mT @ (weight * delta).mT).transpose(0, 1)
        z_CBQ = _solve(root_PCB, right_QCB).permute(1, 2, 0)
        shift = z_CBQ @ self.W_CDQ.mT
        terms_CBD = delta.sub_(shift).square_().mul_(weight)
        chi2 = terms_CBD.sum(2) + (z_CBQ**2).sum(2)
        log_det = 2 * torch.stack([column[0] for column in _columns(root_PCB)]).log().sum(0)
        log_w = (torch.log(weight.clamp_min(1e-30)).mul_(visible_BD)).sum(2) - LOG_2PI * visible_BD.sum(1)
        return _Joint(
            self.log_pi_C[:, None] - 0.5 * (chi2 + log_det - log_w),
            chi2,
            terms_CBD.amax(2),
            weight,
            z_CBQ,
            shift,
            root_PCB,
        )

    def expect(self, x_BD: Tensor, s_BD: Tensor, visible_BD: Tensor) -> Expectation:
        """What the M-step needs to know of every star under every component."""
        joint = self._join(x_BD, s_BD, visible_BD)
        log_like_B = torch.logsumexp(joint.log_joint_CB, 0)
        cov_CBP = _inverse(joint.root_PCB).permute(1, 2, 0).contiguous()
        factor_var = (cov_CBP * self._twice_P) @ self._pair_loadings()
        return Expectation(
            torch.exp(joint.log_joint_CB - log_like_B),
            joint.weight_CBD,
            joint.z_CBQ,
            cov_CBP[..., self._full_QQ],
            joint.shift_CBD + self.mu_CD[:, None],
            factor_var.clamp_min(0),
            joint.log_joint_CB,
        )

    def _pair_loadings(self) -> Tensor:
        """W_i W_j of every cell, (C, P, D); kept while the loadings stay as they are."""
        W_CDQ, kept = self.W_CDQ, self._kept
        if kept is None or kept[0] is not W_CDQ or kept[1] != W_CDQ._version:
            W_CQD = W_CDQ.mT
            self._kept = kept = W_CDQ, W_CDQ._version, W_CQD[:, self._upper[0]] * W_CQD[:, self._upper[1]]
        return kept[2]

    def forget_pair_loadings(self) -> None:
        """For after a write that PyTorch does not count, as dist.broadcast's."""
        self._kept = None


def _weight(psi: Tensor, s_BD: Tensor, visible_BD: Tensor) -> Tensor:
    """1 / (psi + noise variance); a cell that is not visible has endless noise."""
    noise_BD = torch.where(visible_BD, s_BD, torch.inf)
    return (psi + noise_BD).clamp_min_(1 / MAX_PRECISION).reciprocal_()


# Thousands of matrices of a dozen rows: with the stars innermost the elimination is a few dozen operations on long
# vectors, several times faster than as many calls of LAPACK. A symmetric matrix is its upper triangle, row by row; a
# lower triangular root is its columns, from the diagonal down: the same places. P pairs (i, j >= i), N stars.


def _columns(packed_PN: Tensor) -> list[Tensor]:
    """Views of the columns of a packed root (rows of a packed symmetric matrix), the q-th of Q - q elements."""
    Q = round((math.sqrt(8 * len(packed_PN) + 1) - 1) / 2)
    return list(packed_PN.split(list(range(Q, 0, -1))))


def _cholesky_(packed_PN: Tensor) -> Tensor:
    """Roots of I + positive semidefinite matrices (hence no pivot below 1), in their place."""
    columns = _columns(packed_PN)
    for q, column in enumerate(columns):
        pivot = (column[0] + 1.0).clamp_min_(1.0).sqrt_()
        column /= pivot
        column[0] = pivot
        for i, later in enumerate(columns[q + 1 :], start=1):
            later.addcmul_(column[i:], column[i], value=-1.0)
    return packed_PN


def _solve(root_PN: Tensor, right_QN: Tensor) -> Tensor:
    """x of (root root') x = right."""
    x = right_QN.clone()
    columns = _columns(root_PN)
    for q, column in enumerate(columns):
        x[q] /= column[0]
        x[q + 1 :].addcmul_(column[1:], x[q], value=-1.0)
    for q, column in reversed(list(enumerate(columns))):
        x[q] = (x[q] - (column[1:] * x[q + 1 :]).sum(0)) / column[0]
    return x


def _inverse(root_PN: Tensor) -> Tensor:
    """(root root')⁻¹, packed."""
    columns = _columns(root_PN)
    Q = len(columns)
    half = root_PN.new_zeros(Q, Q, *root_PN.shape[1:])  # root⁻¹, lower triangular
    for q, column in enumerate(columns):
        half[q, q] = 1.0
        half[q, : q + 1] /= column[0]
        half[q + 1 :, : q + 1].addcmul_(column[1:, None], half[q, : q + 1], value=-1.0)
    return torch.cat([(half[q:, q, None] * half[q:, q:]).sum(0) for q in range(Q)])


@dataclass
class _Joint:
    log_joint_CB: Tensor  # log pi_k + log p_k(visible cells)
    chi2_CB: Tensor
    worst_CB: Tensor  # what one cell adds to chi2 at most
    weight_CBD: Tensor  # 1 / (psi + noise variance), 0 where not visible
    z_CBQ: Tensor
    shift_CBD: Tensor  # W z
    root_PCB: Tensor  # Cholesky root of I + W' diag(weight) W, packed


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
