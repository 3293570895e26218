"""The prior against exact Gaussian conditioning, and EM against known parameters."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msacat.model.cells import CellTensors as Cells
from msacat.model.fit_mixture import _maximise, _statistics, fit_mixture
from msacat.model.mixture_prior import MixturePrior


def random_prior(rng, components=3, cells=7, latent=2) -> MixturePrior:
    prior = MixturePrior(cells, components, latent)
    prior.mu_CD[:] = torch.tensor(rng.normal(0, 1.5, (components, cells)))
    prior.W_CDQ[:] = torch.tensor(rng.normal(0, 0.8, (components, cells, latent)))
    prior.psi_CD[:] = torch.tensor(rng.uniform(0.01, 0.3, (components, cells)))
    weights = rng.dirichlet(np.ones(components))
    prior.log_pi_C[:] = torch.tensor(np.log(weights))
    return prior


def exact(prior: MixturePrior, x, s, see):
    """Posterior mean, variance and log likelihood of one star by dense conditioning (float64)."""
    means, variances, logs = [], [], []
    for pi, mu, W, psi in zip(
        prior.log_pi_C.double().numpy(), prior.mu_CD.double().numpy(), prior.W_CDQ.double().numpy(),
        prior.psi_CD.double().numpy(), strict=True,
    ):  # fmt: skip
        cov = W @ W.T + np.diag(psi)
        noisy = cov[np.ix_(see, see)] + np.diag(s[see])
        gain = cov[:, see] @ np.linalg.inv(noisy)
        means.append(mu + gain @ (x[see] - mu[see]))
        variances.append(np.diag(cov - gain @ cov[see]))
        d = x[see] - mu[see]
        _, logdet = np.linalg.slogdet(2 * np.pi * noisy)
        logs.append(pi - 0.5 * (d @ np.linalg.solve(noisy, d) + logdet))
    logs = np.array(logs)
    total = np.logaddexp.reduce(logs)
    r = np.exp(logs - total)
    mean = r @ np.array(means)
    variance = r @ (np.array(variances) + (np.array(means) - mean) ** 2)
    return mean, variance, total


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_posterior_is_exact_for_any_mask(seed):
    rng = np.random.default_rng(seed)
    prior = random_prior(rng)
    x, s = rng.normal(0, 2, 7), rng.uniform(1e-3, 0.5, 7)
    see = rng.random(7) < 0.6
    post = prior.posterior(
        *(torch.tensor(a[None], dtype=torch.float32) for a in (x, s)), torch.tensor(see[None])
    )
    mean, variance, log_like = exact(prior, x, s, see)
    np.testing.assert_allclose(post.mean_BD[0], mean, atol=2e-4)
    np.testing.assert_allclose(post.sd_BD[0] ** 2, variance, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(post.log_like_B[0], log_like, rtol=1e-4, atol=1e-3)


def test_a_wrong_cell_does_not_hide_the_star_s_own_component():
    """Five components that agree with the wrong cell would be asked first, one alone knows the other six cells."""
    prior = MixturePrior(7, 12, 2)
    prior.mu_CD[:] = torch.linspace(-30, 30, 12)[:, None]
    prior.mu_CD[0] = 0.0
    prior.mu_CD[1:6] = torch.tensor([9.0, *[1.2] * 6])
    prior.psi_CD[:] = 0.1
    x, noise, see = torch.zeros(1, 7), torch.full((1, 7), 0.01), torch.ones(1, 7, dtype=torch.bool)
    x[0, 0] = 9.0
    post = prior.posterior(x, noise, see, max_drops=1)
    assert post.dropped_BD[0].tolist() == [True] + [False] * 6
    assert post.mean_BD[0].abs().max() < 0.05


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_leave_one_out_equals_leaving_one_out(seed):
    rng = np.random.default_rng(seed)
    prior = random_prior(rng)
    x, s = rng.normal(0, 2, 7), rng.uniform(1e-2, 0.5, 7)
    see = np.arange(7) < 5
    tensors = [torch.tensor(a[None], dtype=torch.float32) for a in (x, s)]
    loo = prior.posterior(*tensors, torch.tensor(see[None])).loo_z_BD[0]
    for j in range(5):
        others = see & (np.arange(7) != j)
        mean, variance, _ = exact(prior, x, s, others)
        z = (x[j] - mean[j]) / np.sqrt(variance[j] + s[j])
        assert loo[j] == pytest.approx(z, rel=5e-3, abs=5e-3)
    assert (loo[5:] == 0).all()


def test_a_star_without_measurements_is_the_population():
    prior = random_prior(np.random.default_rng(1))
    nothing = torch.zeros(1, 7, dtype=torch.bool)
    post = prior.posterior(torch.zeros(1, 7), torch.ones(1, 7), nothing, max_drops=3)
    mean, variance, _ = exact(prior, np.zeros(7), np.ones(7), np.zeros(7, bool))
    np.testing.assert_allclose(post.mean_BD[0], mean, atol=1e-5)
    np.testing.assert_allclose(post.sd_BD[0] ** 2, variance, rtol=1e-4)
    assert torch.isfinite(post.log_like_B).all()


def test_one_wild_cell_is_dropped_and_does_not_move_the_others():
    rng = np.random.default_rng(2)
    prior = random_prior(rng, components=1, cells=10)
    z = rng.normal(size=(50, 2))
    x = prior.mu_CD[0].numpy() + z @ prior.W_CDQ[0].numpy().T + 0.1 * rng.normal(size=(50, 10))
    clean = torch.tensor(x, dtype=torch.float32)
    wild = clean.clone()
    wild[:, 3] += 30.0
    var, see = torch.full((50, 10), 0.01), torch.ones(50, 10, dtype=torch.bool)
    robust = prior.posterior(wild, var, see, max_drops=2)
    assert robust.dropped_BD[:, 3].all() and not robust.visible_BD[:, 3].any()
    assert (robust.loo_z_BD[:, 3].abs() > 4).all()  # remembered, for `suspect`
    hidden = see.clone()
    hidden[:, 3] = False
    expected = prior.posterior(clean, var, hidden)
    np.testing.assert_allclose(robust.mean_BD, expected.mean_BD, atol=0.35)
    assert see.all(), "the caller's mask must not change"


def test_two_wild_cells_are_both_dropped():
    """The worst is dropped once: what it keeps of its residual must not hide the next."""
    rng = np.random.default_rng(4)
    prior = random_prior(rng, components=1, cells=12)
    z = rng.normal(size=(50, 2))
    x = prior.mu_CD[0].numpy() + z @ prior.W_CDQ[0].numpy().T + 0.1 * rng.normal(size=(50, 12))
    x[:, 3] += 40.0
    x[:, 7] -= 25.0
    wild, var, see = torch.tensor(x, dtype=torch.float32), torch.full((50, 12), 0.01), torch.ones(50, 12) > 0
    one, two = (prior.posterior(wild, var, see, max_drops=drops) for drops in (1, 2))
    assert (one.dropped_BD.sum(1) == 1).all()
    assert two.dropped_BD[:, [3, 7]].all() and (two.dropped_BD.sum(1) == 2).all()
    assert torch.equal(two.visible_BD, ~two.dropped_BD)


def cells_of(x, s, known) -> Cells:
    n = len(x)
    no = torch.zeros(x.shape, dtype=torch.bool)
    return Cells(
        torch.tensor(x, dtype=torch.float32), torch.tensor(s, dtype=torch.float32), torch.tensor(known),
        no, no, torch.zeros(n, 0), torch.zeros(n), torch.zeros(n, dtype=torch.bool),
    )  # fmt: skip


def simulate(n, rng, prior):
    C, D = prior.mu_CD.shape
    k = rng.choice(
        C, n, p=np.exp(prior.log_pi_C.double().numpy()) / np.exp(prior.log_pi_C.double().numpy()).sum()
    )
    z = rng.normal(size=(n, prior.latent))
    truth = prior.mu_CD.numpy()[k] + np.einsum("ndq,nq->nd", prior.W_CDQ.numpy()[k], z)
    truth += np.sqrt(prior.psi_CD.numpy()[k]) * rng.normal(size=(n, D))
    s = rng.uniform(0.01, 0.3, (n, D))
    known = rng.random((n, D)) < 0.7
    x = np.where(known, truth + np.sqrt(s) * rng.normal(size=(n, D)), 0.0)
    return truth, x, s, known


def test_em_recovers_a_known_population_from_noisy_cells_with_gaps():
    rng = np.random.default_rng(3)
    true = random_prior(rng, components=2, cells=8, latent=2)
    _, x, s, known = simulate(5000, rng, true)
    fitted = fit_mixture(cells_of(x, s, known), 2, 2, seed=0, passes=20)
    test_truth, x, s, known = simulate(2000, rng, true)
    arguments = [torch.tensor(a, dtype=torch.float32) for a in (x, s)] + [torch.tensor(known)]
    best, got = true.posterior(*arguments), fitted.posterior(*arguments)
    hidden = ~known
    rms = lambda p: np.sqrt(np.mean((p.mean_BD.numpy() - test_truth)[hidden] ** 2))  # noqa: E731
    assert rms(got) < 1.08 * rms(best)
    z = ((got.mean_BD.numpy() - test_truth) / got.sd_BD.numpy())[hidden]
    assert 0.64 < np.mean(np.abs(z) < 1) < 0.73
    assert (best.log_like_B.mean() - got.log_like_B.mean()) < 0.1


def test_the_same_seed_gives_the_same_prior_and_another_seed_does_not():
    rng = np.random.default_rng(4)
    _, x, s, known = simulate(1500, rng, random_prior(rng))
    a, b, c = (fit_mixture(cells_of(x, s, known), 2, 2, seed=seed, passes=3) for seed in (7, 7, 8))
    assert all(
        torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
    assert not torch.equal(a.W_CDQ, c.W_CDQ)


def test_fitting_survives_empty_constant_and_single_star_columns():
    rng = np.random.default_rng(5)
    _, x, s, known = simulate(700, rng, random_prior(rng))
    known[:, 0] = False  # never measured
    x[:, 1], known[:, 1] = 0.0, True  # constant
    known[1:, 2] = False  # one star
    fitted = fit_mixture(cells_of(x, s, known), 2, 2, seed=0, passes=4)
    for name, tensor in fitted.state_dict().items():
        assert torch.isfinite(tensor).all(), name
    post = fitted.posterior(torch.tensor(x).float(), torch.tensor(s).float(), torch.tensor(known), 2)
    assert torch.isfinite(post.mean_BD).all() and (post.sd_BD > 0).all()


@pytest.mark.parametrize("log_share", [-40.0, -100.0, -103.0, -120.0])
def test_fitting_survives_a_component_that_dies_under_noise(log_share):
    """Its weights vanish in float32 while its responsibilities are still there: the equations had no solution."""
    rng = np.random.default_rng(10)
    prior = random_prior(rng, components=2, cells=6, latent=2)
    prior.log_pi_C[:] = torch.tensor([0.0, log_share])
    prior.mu_CD[:] = prior.mu_CD[:1].clone()
    x = torch.tensor(rng.normal(size=(50, 6))).float()
    s, known = torch.full_like(x, 100.0), torch.tensor(rng.random((50, 6)) < 0.7)
    _maximise(prior, _statistics(prior, prior.expect(x, s, known), x, known), len(x))
    for name, tensor in prior.state_dict().items():
        assert torch.isfinite(tensor).all(), name


def test_the_fit_averages_over_all_stars_and_not_over_the_latest():
    """In a band that hangs on no other the likeliest mean is that of all its values, however noisy."""
    rng = np.random.default_rng(9)
    true = random_prior(rng, components=1, cells=8, latent=2)
    true.W_CDQ[:, 7] = 0.0
    _, x, s, known = simulate(8000, rng, true)
    s[:, 7] = 4.0
    x[:, 7] = np.where(known[:, 7], 0.5 + 2.0 * rng.normal(size=8000), 0.0)
    fitted = fit_mixture(cells_of(x, s, known), 1, 2, seed=0, passes=5)
    standard_error = 2.0 / np.sqrt(known[:, 7].sum())
    assert abs(float(fitted.mu_CD[0, 7]) - x[known[:, 7], 7].mean()) < 0.05 * standard_error


def test_outliers_do_not_widen_the_population():
    rng = np.random.default_rng(6)
    true = random_prior(rng, components=1, cells=8, latent=2)
    _, x, s, known = simulate(4000, rng, true)
    dirty = copy.deepcopy(x)
    bad = known & (rng.random(x.shape) < 0.02)
    dirty[bad] += rng.choice([-25, 25], bad.sum())
    clean_psi = fit_mixture(cells_of(x, s, known), 1, 2, seed=0, passes=12).psi_CD
    dirty_psi = fit_mixture(cells_of(dirty, s, known), 1, 2, seed=0, passes=12).psi_CD
    # 25-sigma cells believed as they are would make it 50 to 240 times wider
    assert (dirty_psi / clean_psi).max() < 4.0
