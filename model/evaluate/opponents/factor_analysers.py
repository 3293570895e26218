"""Gaussian mixtures with known noise and missing cells, by EM: the single Gaussian, the MFA and its robust form."""

from __future__ import annotations

import numpy as np
import torch

from msacat.catalog.surveys.error_units import ONE_68, ONE_95
from msacat.catalog.surveys.star_block import StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.cells import CellTensors
from msacat.model.evaluate.guess import Guess, Method
from msacat.model.evaluate.regimes import cases
from msacat.model.fit_mixture import default_size, enough_passes, fit_mixture
from msacat.model.mixture_prior import MixturePrior
from msacat.model.reconstruction_loss import masked_mean, robust_nll
from msacat.model.scale_features import FeatureScaling, fit_scaling

MAX_STARS = 150_000
MAX_CHOOSING = 6_000
BATCH = 1024
#: components, latent dimensions, beside default_size(); with few stars those few can support
LARGE, LARGE_FROM_STARS = ((8, 14), (24, 12)), 12_000
SMALL = ((4, 5), (4, 8), (8, 5))
LEAST_PASSES = 4


class Mixture(Method):
    """A mixture of factor analysers fitted as the product fits its prior.

    sizes      (components, latent) to choose among on calibration cells; () = by the number of stars
    max_drops  visible cells a star may lose when the others disown them
    background  given what the product knows of the spectra's background (fit_background.py)
    """

    def __init__(
        self,
        name: str,
        sizes: tuple[tuple[int, int], ...],
        max_drops: int,
        background: bool = False,
    ):
        self.background = background
        self.name, self.sizes, self.max_drops = name, sizes, max_drops
        self.scaling: FeatureScaling
        self.prior: MixturePrior

    def settings(self) -> dict:
        sizes = self.sizes or ("automatic", LARGE, SMALL)
        return {
            "sizes": sizes,
            "max_drops": self.max_drops,
            "max_stars": MAX_STARS,
            "passes": LEAST_PASSES,
            "chosen_by": f"likelihood of hidden cells, {MAX_CHOOSING} stars",
        } | ({"background": True} if self.background else {})

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        fitted_to = (train.source_id_B.tobytes(), seed)
        if getattr(self, "_fitted_to", None) == fitted_to:
            return  # under another name
        self._fitted_to = fitted_to
        chosen = np.random.default_rng(seed).permutation(len(train))[:MAX_STARS]
        sample = train.take(np.sort(chosen))
        self.scaling = fit_scaling(features, sample, background=self.background)
        cells = self.scaling.encode(sample).to(torch.device("cpu"))
        sizes = self.sizes
        if not sizes:
            seen = int((cells.observed_BD.sum(0) > 0).sum())
            tried = LARGE if len(sample) >= LARGE_FROM_STARS else SMALL
            sizes = tuple(dict.fromkeys((default_size(len(sample), seen), *tried)))
        passes = enough_passes(len(sample), LEAST_PASSES)
        widest = cells.value_BD.shape[1] - 1
        fitted = [fit_mixture(cells, c, min(q, widest), seed, passes) for c, q in sizes]
        if len(fitted) == 1:
            self.prior = fitted[0]
            return
        losses = []
        for prior in fitted:
            self.prior = prior
            losses.append(self._loss(calibrate.take(np.arange(min(MAX_CHOOSING, len(calibrate)))), features))
        self.prior = fitted[int(np.argmin(losses))]

    def predict(self, block: StarBlock) -> Guess:
        cells = self.scaling.encode(block)
        mean, sd = (t.double().numpy() for t in self._posterior(cells.to(torch.device("cpu"))))
        M = self.scaling.n_bands
        sd_mag = sd[:, :M] * self.scaling.scale_D[:M]
        if self.scaling.features.xp:
            xp = self.scaling.coefficients(mean, cells.norm_B)
            sd_xp = sd[:, M:] * self.scaling.coefficient_unit(cells.norm_B)
        else:
            xp = sd_xp = np.full((len(block), 110), np.nan)
        return Guess(
            self.scaling.magnitudes(mean, cells.norm_B), xp,
            ONE_68 * sd_mag, ONE_95 * sd_mag, ONE_68 * sd_xp, ONE_95 * sd_xp,
        )  # fmt: skip

    def _posterior(self, cells: CellTensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and sigma of every cell of every star, a batch at a time."""
        found = [
            self.prior.posterior(value, var, observed, self.max_drops)
            for value, var, observed in zip(
                *(t.split(BATCH) for t in (cells.value_BD, cells.var_BD, cells.observed_BD)), strict=True
            )
        ]
        return torch.cat([p.mean_BD for p in found]), torch.cat([p.sd_BD for p in found])

    def _loss(self, block: StarBlock, features: StarFeatures) -> float:
        """- log likelihood of hidden random cells, bands and coefficients averaged apart.

        Not the NMAD: against noisy values it hardly differs between sizes whose errors of the truth differ by a tenth.
        """
        (case,) = cases(block, features, "random_cells", 0)
        shown = self.scaling.encode(case.block).to(torch.device("cpu"))
        whole = self.scaling.encode(block.take(case.row_B)).to(torch.device("cpu"))
        mean, sd = self._posterior(shown)
        loss = robust_nll(whole.value_BD, mean, sd**2 + whole.var_BD)
        asked = whole.observed_BD & ~shown.observed_BD
        parts = slice(0, self.scaling.n_bands), slice(self.scaling.n_bands, None)
        return sum(float(masked_mean(loss[:, part], asked[:, part])) for part in parts)


class SharedFit(Method):
    """Another name for a fitted mixture with another max_drops: the fit itself is already robust."""

    def __init__(self, name: str, fitted: Mixture, max_drops: int):
        self.name, self.fitted, self.max_drops = name, fitted, max_drops

    def settings(self) -> dict:
        return self.fitted.settings() | {"max_drops": self.max_drops}

    def fit(
        self, train: StarBlock, calibrate: StarBlock, features: StarFeatures, regime: str, seed: int
    ) -> None:
        self.fitted.fit(train, calibrate, features, regime, seed)

    def predict(self, block: StarBlock) -> Guess:
        kept, self.fitted.max_drops = self.fitted.max_drops, self.max_drops
        try:
            return self.fitted.predict(block)
        finally:
            self.fitted.max_drops = kept
