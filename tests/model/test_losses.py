"""Losses: known values, empty masks, outliers, label offsets, agreement of spectrum and magnitudes."""

import math

import numpy as np
import pytest
import torch

from msacat.model.reconstruction_loss import (
    LEAST_SHARE,
    OUTLIER_LOGIT,
    OUTLIER_SHARE,
    label_loss,
    log_shares,
    reconstruction_loss,
    robust_nll,
)
from msacat.model.scale_features import fit_scaling
from msacat.model.xp_consistency_loss import XpConsistency


def test_the_likelihood_is_gaussian_in_the_core_and_normalised():
    got = float(robust_nll(torch.tensor(0.5), torch.tensor(0.2), torch.tensor(0.04)))
    core = 0.5 * math.log(2 * math.pi * 0.04) + 0.5 * 0.09 / 0.04 - math.log(1 - OUTLIER_SHARE)
    assert got == pytest.approx(core, abs=0.01)
    x = torch.linspace(-200, 200, 400_001, dtype=torch.float64)
    p = torch.exp(
        -robust_nll(x, torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    )
    assert float(torch.trapezoid(p, x)) == pytest.approx(1.0, abs=1e-4)


def test_an_outlier_loses_its_pull():
    pulls = []
    for distance in (1.0, 3.0, 30.0):
        mean = torch.tensor(0.0, requires_grad=True)
        robust_nll(torch.tensor(distance), mean, torch.tensor(1.0)).backward()
        pulls.append(abs(float(mean.grad)))
    assert pulls[2] < 0.5 * pulls[0] < pulls[0]


def test_an_empty_mask_is_zero_loss_and_zero_gradient():
    mean = torch.zeros(4, 3, requires_grad=True)
    log_sd = torch.zeros(4, 3, requires_grad=True)
    # cells that were never measured may hold anything, even NaN
    value = torch.full((4, 3), float("nan"))
    loss = reconstruction_loss(
        value, torch.ones(4, 3), torch.zeros(4, 3, dtype=torch.bool), mean, log_sd.exp()
    )
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert (mean.grad == 0).all() and (log_sd.grad == 0).all()


def test_measurement_error_is_added_in_quadrature_so_sd_finds_the_stars_own_scatter():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(20_000, 1, generator=generator) + 0.5
    value = 0.7 * torch.randn(20_000, 1, generator=generator) + noise * torch.randn(
        20_000, 1, generator=generator
    )
    log_sd = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([log_sd], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        mask = torch.ones(20_000, 1, dtype=torch.bool)
        sd = log_sd.exp().expand(20_000, 1)
        reconstruction_loss(value, noise**2, mask, torch.zeros(20_000, 1), sd).backward()
        optimizer.step()
    assert float(log_sd.exp().detach()) == pytest.approx(0.7, abs=0.04)


@pytest.mark.parametrize("share", [0.0, 0.03])
def test_the_share_of_wrong_values_is_learned_and_honest_tails_stay_honest(share):
    """A sigma under five times its noise; where a fixed share takes tails of the noise for wrong, it comes out too small."""
    generator = torch.Generator().manual_seed(1)
    n = 400_000
    value = math.sqrt(26.0) * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    wrong = torch.rand(n, 1, generator=generator) < share
    value = torch.where(wrong, 100.0 * torch.randn(n, 1, generator=generator, dtype=torch.float64), value)
    mask = torch.ones(n, 1, dtype=torch.bool)

    def fitted(learned: bool) -> tuple[float, float]:
        log_sd = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        logit = torch.full((1,), OUTLIER_LOGIT, dtype=torch.float64, requires_grad=learned)
        free = [log_sd, logit] if learned else [log_sd]
        optimizer = torch.optim.LBFGS(
            free, max_iter=100, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            got = reconstruction_loss(
                value,
                torch.full_like(value, 25.0),
                mask,
                torch.zeros_like(value),
                log_sd.exp().expand(n, 1),
                logit,
            )
            got.backward()
            return got

        optimizer.step(loss)
        return float(log_sd.exp().detach()), float(log_shares(logit.detach())[1].exp())

    sd, found = fitted(learned=True)
    assert sd == pytest.approx(1.0, abs=0.08)
    assert found == pytest.approx(max(share, LEAST_SHARE), abs=0.003)
    if not share:
        assert fitted(learned=False)[0] < 0.92


def test_label_offsets_are_found_and_missing_labels_ignored():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(3000, generator=generator)
    labels = torch.stack([truth, truth + 0.3], 1) + 0.1 * torch.randn(3000, 2, generator=generator)
    labels[:1500, 0] = float("nan")
    labels[1000:, 1] = float("nan")
    errors = torch.where(torch.isfinite(labels), 0.1, float("nan"))
    offset = torch.zeros(2, requires_grad=True)
    fitted = torch.tensor([0.0, 1.0])
    optimizer = torch.optim.Adam([offset], lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = label_loss(
            labels, errors, offset * fitted, torch.tensor([0, 0]), truth[:, None], torch.full((3000, 1), 0.05)
        )
        loss.backward()
        optimizer.step()
    assert float(offset[1].detach()) == pytest.approx(0.3, abs=0.02) and float(offset[0].detach()) == 0.0
    nothing = torch.full((3, 2), float("nan"))
    zero = label_loss(nothing, nothing, offset, torch.tensor([0, 0]), torch.zeros(3, 1), torch.ones(3, 1))
    assert float(zero.detach()) == 0.0


def test_a_predicted_label_is_the_median_of_skewed_ones():
    generator = torch.Generator().manual_seed(0)
    labels = -torch.log1p(-torch.rand(4000, 1, generator=generator))  # exponential: mean 1, median ln 2
    centre, log_sd = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([centre, log_sd], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        at, sd = centre.expand(4000, 1), log_sd.exp().expand(4000, 1)
        label_loss(
            labels, torch.full_like(labels, 0.01), torch.zeros(1), torch.tensor([0]), at, sd
        ).backward()
        optimizer.step()
    assert float(centre.detach()) == pytest.approx(float(labels.median()), abs=0.03)


@pytest.fixture(scope="module")
def scaling(sky):
    return fit_scaling(sky.features, sky.stars)


def true_cells(sky, scaling, n=200):
    """Scaled noise-free cells of the first stars and their true G."""
    G = sky.mag_BM[:n, 0]
    mag = sky.mag_BM[:n] - np.where(np.arange(scaling.n_bands) == 0, 0.0, G[:, None])
    xp = (sky.xp_BK[:n] - scaling.background_K) / 10 ** (-0.4 * (G - scaling.g0))[:, None]
    value = (np.concatenate([mag, xp], 1) - scaling.center_D) / scaling.scale_D
    return torch.tensor(value, dtype=torch.float32), torch.tensor(G, dtype=torch.float32)


def test_true_spectra_and_true_magnitudes_agree(sky, scaling):
    term = XpConsistency(scaling)
    assert term.active and term.names == [b.name for b in sky.features.bands if b.xp]
    value, G = true_cells(sky, scaling)
    sd = torch.full_like(value, 1e-3)
    agree = float(term(value, sd, G).detach())
    assert agree < 0.02
    moved = value.clone()
    moved[:, 3] += 0.1 / scaling.scale_D[3]  # ps1_g a tenth of a magnitude off
    assert float(term(moved, sd, G).detach()) > agree + 0.5


def test_the_term_pulls_a_wrong_magnitude_to_the_spectrum(sky, scaling):
    term = XpConsistency(scaling)
    value, G = true_cells(sky, scaling)
    wrong = value.clone()
    wrong[:, 4] += 0.05 / scaling.scale_D[4]
    wrong.requires_grad_(True)
    term(wrong, torch.full_like(value, 1e-3), G).backward()
    assert (wrong.grad[:, 4] > 0).float().mean() > 0.95
    assert torch.isfinite(wrong.grad).all()


def test_a_star_without_g_has_no_say_and_spoils_nobody_s(sky, scaling):
    """Its only magnitude was 99, say: nothing to normalise by."""
    term = XpConsistency(scaling)
    value, G = true_cells(sky, scaling)
    sd = torch.full_like(value, 1e-3)
    value[:, 4] += 0.05 / scaling.scale_D[4]
    alone = term(value[1:], sd[1:], G[1:])
    lost = G.clone()
    lost[0] = torch.nan
    value.requires_grad_(True)
    found = term(value, sd, lost)
    found.backward()
    torch.testing.assert_close(found, alone)
    assert torch.isfinite(value.grad).all() and (value.grad[0] == 0).all()


def test_negative_synthetic_flux_has_a_finite_gradient(sky, scaling):
    term = XpConsistency(scaling)
    value, G = true_cells(sky, scaling)
    value[:, scaling.n_bands :] = -50.0
    value.requires_grad_(True)
    loss = term(value, torch.ones_like(value), G)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(value.grad).all()


def test_standardised_sdss_u_agrees_through_its_colour_equation(sky, background):
    from dataclasses import replace

    from msacat.catalog.xp.xp_operators import sdss_u_colour_correction, synthetic_magnitudes, synthetic_row

    u = replace(sky.features.bands[3], name="sdss_u", survey="sdss_dr13", xp="SDSS_Std:u", xp_weight=0.2)
    features = replace(sky.features, bands=(*sky.features.bands[:3], u, *sky.features.bands[4:]))
    g_i, _ = synthetic_magnitudes(sky.xp_BK, ["SDSS_Std:g", "SDSS_Std:i"])
    linear = -2.5 * np.log10((sky.xp_BK - background) @ synthetic_row("SDSS_Std:u")[0])
    truth = (linear + sdss_u_colour_correction(g_i[:, 0] - g_i[:, 1])[0])[:, None]
    stars = replace(sky.stars, mag_BM=sky.stars.mag_BM.copy())
    stars.mag_BM[:, 3] = truth[:, 0]
    scaling = fit_scaling(features, stars)
    value, G = true_cells(sky, scaling)
    value[:, 3] = torch.tensor(
        (truth[:200, 0] - sky.mag_BM[:200, 0] - scaling.center_D[3]) / scaling.scale_D[3]
    )
    sd = torch.full_like(value, 1e-4)
    term = XpConsistency(scaling)
    agree = float(term(value, sd, G).detach())
    assert agree < 0.05
    value[:, 3] += 0.3 / scaling.scale_D[3]
    assert float(term(value, sd, G).detach()) > agree + 0.05


def test_offsets_are_fitted_only_where_the_survey_says_so(sky):
    from dataclasses import replace

    bands = tuple(replace(b, xp_offset=b.survey == "panstarrs1") for b in sky.features.bands)
    shifted = replace(sky.stars, mag_BM=sky.stars.mag_BM.copy())
    shifted.mag_BM[:, 4] -= 0.06  # the survey is brighter than its synthetic magnitude
    scaling = fit_scaling(replace(sky.features, bands=bands), shifted)
    term = XpConsistency(scaling)
    value, G = true_cells(sky, scaling, 500)
    value[:, 4] -= 0.06 / scaling.scale_D[4]
    optimizer = torch.optim.Adam(term.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        term(value, torch.full_like(value, 1e-3), G).backward()
        optimizer.step()
    report = term.report()
    assert set(report) == {"ps1_g", "ps1_i", "ps1_z"}
    assert report["ps1_i"] == pytest.approx(0.06, abs=0.01) and report["ps1_g"] == pytest.approx(
        0.0, abs=0.01
    )


def test_without_spectra_the_term_is_off(sky, without):
    scaling = fit_scaling(sky.features, without(sky.stars, "xp", slice(None)))
    assert not XpConsistency(scaling).active
