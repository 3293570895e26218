"""What a model says of stars: measured values untouched, the rest filled in, with calibrated intervals."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX, ONE_95
from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.autoencoder import EMBEDDING, QUANTITIES, Output
from msacat.model.calibrate_intervals import NORMAL
from msacat.model.cells import Cells
from msacat.model.devices import choose_autocast, choose_device
from msacat.model.fit_background import first_colour
from msacat.model.held_out import beside
from msacat.model.match_features import Renaming
from msacat.model.mixture_prior import Posterior
from msacat.model.model_folder import StoredModel, load_model
from msacat.model.out_of_support import is_outside
from msacat.model.reconcile_spectra import reconcile_spectra
from msacat.model.shared_noise import shared_noise

BATCH = 1024
SUSPECT_SIGMA = 5.0
#: mag; agreement of synthetic with survey photometry where no training star links the two (divided by xp_weight)
SYNTHETIC_SYSTEMATIC = 0.02


@dataclass
class Prediction:
    """Numpy arrays in the order of the features asked for; float32 unless said otherwise.

    mag_BM       mag: measured where observed_BM, else imputed; NaN = no support, or no input
    err68_BM, err95_BM   half-widths of the calibrated intervals; where measured the published error
                 (NaN if unpublished) and 1.96 times it
    observed_BM  bool, measured
    suspect_BM   bool, measured > 5 sigma off what the star's other values say; or imputed for a star unlike
                 the training stars, or of a colour of which no spectrum taught a band known only through them
    no_support_BM  bool, band that neither training photometry nor training spectra reach
    through_xp_BM  bool, imputed in a band no training star was measured in: known only through the XP
    xp_BK, xp_err_BK  Gaia internal flux units: measured halves untouched, the other predicted
    bp_observed_B, rp_observed_B  bool
    embedding_BE float32[64]
    fe_h_B, fe_h_lo_B, fe_h_hi_B  dex, with the 16 and 84 % limits; teff_B, teff_err_B K; logg_B, logg_err_B
    label_suspect_B  bool, the star is unlike the training stars, or a label beyond those of 99.8 % of them
    has_input_B  bool; False = nothing was measured: every value NaN
    """

    mag_BM: np.ndarray
    err68_BM: np.ndarray
    err95_BM: np.ndarray
    observed_BM: np.ndarray
    suspect_BM: np.ndarray
    no_support_BM: np.ndarray
    through_xp_BM: np.ndarray
    xp_BK: np.ndarray
    xp_err_BK: np.ndarray
    bp_observed_B: np.ndarray
    rp_observed_B: np.ndarray
    embedding_BE: np.ndarray
    fe_h_B: np.ndarray
    fe_h_lo_B: np.ndarray
    fe_h_hi_B: np.ndarray
    teff_B: np.ndarray
    teff_err_B: np.ndarray
    logg_B: np.ndarray
    logg_err_B: np.ndarray
    label_suspect_B: np.ndarray
    has_input_B: np.ndarray

    def __len__(self) -> int:
        return len(self.has_input_B)


class StarModel:
    """A stored model, ready to predict; `remap` for stars whose features are in another order."""

    def __init__(self, stored: StoredModel, device: torch.device, asked: StarFeatures | None = None):
        self.stored, self.device = stored, device
        self.network = stored.network
        self.scaling = stored.network.scaling
        self.features = asked or self.scaling.features
        self.autocast = choose_autocast(stored.network.config.bf16, device)
        self._renaming = Renaming(self.features, self.scaling.features)

    @staticmethod
    def load(folder: Path | str, device: str = "auto") -> StarModel:
        """Read a model folder. InputRejected if anything in it is not as written."""
        chosen = choose_device(device)
        return StarModel(load_model(Path(folder), chosen), chosen)

    def remap(self, features: StarFeatures) -> StarModel:
        """This model for blocks in the order of `features`, matched by name.

        A band the model knows and `features` lacks is unobserved; one it does not know is passed through
        where measured and has no support elsewhere.
        """
        return StarModel(self.stored, self.device, features)

    @property
    def predicts_xp(self) -> bool:
        return self.scaling.features.xp and self.scaling.n_xp > 0

    @property
    def predicts_labels(self) -> bool:
        return bool(self.network.labels.supported_quantities.any())

    def predict(self, block: StarBlock) -> Prediction:
        """Predict every star of `block` (order of `self.features`), in the same order."""
        own = self._renaming.to_model(block)
        cells = self.scaling.encode(own)
        with torch.inference_mode():
            parts = [
                self._predict_batch(
                    own.take(np.arange(i, min(i + BATCH, len(block)))), cells.take(slice(i, i + BATCH))
                )
                for i in range(0, max(1, len(block)), BATCH)
            ]
        found = Prediction(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Prediction)))
        return self._in_asked_order(found, block)

    def _predict_batch(self, block: StarBlock, cells: Cells) -> Prediction:
        net, scaling, calibration = self.network, self.scaling, self.stored.calibration
        M = scaling.n_bands
        on_device = cells.to(self.device)
        prior, out = net(on_device, on_device.observed_BD, self.autocast)
        mean, sd = out.mean_BD.double().cpu().numpy(), out.sd_BD.double().cpu().numpy()
        norm = np.asarray(cells.norm_B, np.float64)
        has_input = np.asarray(np.isfinite(norm))
        shared = shared_noise(net, cells, mean, self._synthetic_error(), self.device, self.autocast)
        norm, guess_err = self._without_reference(cells, prior, mean, sd, norm)
        norm_err = np.repeat(guess_err[:, None], M, axis=1)
        norm_err[:, scaling.reference] = 0.0  # its sigma is that error already
        outside = is_outside(prior, M, self.stored.support_z).cpu().numpy()

        measured = np.isfinite(block.mag_BM)
        xp_seen = np.any(cells.observed_BD[:, M:], axis=1)
        no_support = np.broadcast_to(~scaling.supported_bands, measured.shape) & ~measured
        factor = calibration.bands(norm, xp_seen, beside(cells.observed_BD, scaling))
        # Factors were fitted to the network's sigmas; the prior that answers without a reference has its own.
        normal_V11 = np.array(NORMAL)[:, None, None]
        factor = np.where(np.asarray(cells.proxy_B)[:, None], normal_V11, factor)
        err = factor * sd[:, :M] * scaling.scale_D[:M]
        err = np.hypot(err, normal_V11 * np.hypot(self._synthetic_error(), shared)) + normal_V11 * norm_err
        imputed = scaling.magnitudes(mean, norm)
        blank = ~has_input[:, None] | no_support
        mag = np.where(measured, block.mag_BM, np.where(blank, np.nan, imputed))
        err68 = np.where(measured, block.mag_err_BM, np.where(blank, np.nan, err[0]))
        err95 = np.where(measured, ONE_95 * block.mag_err_BM, np.where(blank, np.nan, err[1]))
        loo = np.abs(prior.loo_z_BD[:, :M].cpu().numpy())
        colour = first_colour(scaling.features, mag)[:, None]
        untaught = (colour < scaling.taught_MR[:, 0]) | (colour > scaling.taught_MR[:, 1])
        suspect = np.where(measured, loo > SUSPECT_SIGMA, (outside[:, None] | untaught) & ~blank)

        xp, xp_err, bp_seen, rp_seen = self._spectra(block, cells, mean, sd, norm, guess_err)
        alone = np.flatnonzero(~(bp_seen | rp_seen))
        xp[alone] = self._agreeing(*(a[alone] for a in (xp, xp_err, mag, err68, measured, suspect)))
        labels = self._labels(out, xp_seen, has_input)
        embedding = np.where(has_input[:, None], out.embedding_BE.float().cpu().numpy(), np.nan)
        return Prediction(
            mag_BM=_f32(mag),
            err68_BM=_f32(err68),
            err95_BM=_f32(err95),
            observed_BM=measured,
            suspect_BM=suspect,
            no_support_BM=no_support,
            through_xp_BM=scaling.through_xp_M & ~measured & ~blank,
            xp_BK=_f32(xp),
            xp_err_BK=_f32(xp_err),
            bp_observed_B=bp_seen,
            rp_observed_B=rp_seen,
            embedding_BE=_f32(embedding.reshape(-1, EMBEDDING)),
            label_suspect_B=(outside | self._beyond_labels(out) | np.asarray(cells.proxy_B)) & has_input,
            has_input_B=has_input,
            **labels,
        )

    def _without_reference(self, cells: Cells, prior: Posterior, mean, sd, norm):
        """(norm_B, its error_B in mag: 0 where measured); where the reference band is missing, mean and sd are changed.

        The network has seen next to no such star (hardly a Gaia source lacks G, and G is never hidden), so the prior
        answers for them; what they are normalised by is itself a prediction, whose error is added to every band's and
        coefficient's linearly: a star whose colour was guessed too blue here is too blue there.
        """
        proxy, ref = np.asarray(cells.proxy_B), self.scaling.reference
        error = np.zeros(len(proxy))
        if proxy.any():
            mean[proxy] = prior.mean_BD.double().cpu().numpy()[proxy]
            sd[proxy] = prior.sd_BD.double().cpu().numpy()[proxy]
            scale, center = self.scaling.scale_D[ref], self.scaling.center_D[ref]
            norm = np.where(proxy, mean[:, ref] * scale + center, norm)
            error[proxy] = sd[proxy, ref] * scale
        return norm, error

    def _synthetic_error(self) -> np.ndarray:
        """mag: what synthetic photometry may be off by in bands no training star was measured in."""
        weight = np.array([b.xp_weight for b in self.scaling.features.bands])
        return np.where(self.scaling.through_xp_M, SYNTHETIC_SYSTEMATIC / weight, 0.0)

    def _spectra(self, block: StarBlock, cells: Cells, mean, sd, norm, guess_err):
        B, M = len(block), self.scaling.n_bands
        seen = [np.isfinite(block.xp_BK[:, half]).all(1) for half in (slice(0, K // 2), slice(K // 2, K))]
        if not self.predicts_xp:
            return block.xp_BK.copy(), block.xp_err_BK, *seen
        xp = self.scaling.coefficients(mean, norm)
        factor = np.where(
            np.asarray(cells.proxy_B)[:, None], NORMAL[0], self.stored.calibration.coefficients(norm)[0]
        )
        error = factor * sd[:, M:] * self.scaling.coefficient_unit(norm)
        error = np.hypot(error, self.scaling.background_err_K)
        light = np.abs(xp - self.scaling.background_K)
        error = error + NORMAL[0] * light * guess_err[:, None] / MAG_PER_RELATIVE_FLUX
        seen_BK = np.repeat(np.stack(seen, 1), K // 2, axis=1).reshape(B, K)
        return (
            np.where(seen_BK, block.xp_BK, xp),
            np.where(seen_BK, block.xp_err_BK, error),
            *seen,
        )

    def _agreeing(self, xp, xp_err, mag, err68, measured, suspect) -> np.ndarray:
        """The spectra moved towards the star's magnitudes; a measured one that the others disown has no say."""
        typical = np.array([b.typical_err for b in self.scaling.features.bands])
        error = np.where(np.isfinite(err68), err68, typical)
        error = np.where(measured, self.scaling.believed_error(error), error)
        return reconcile_spectra(xp, xp_err, mag, error, ~(measured & suspect), self.scaling)

    def _labels(self, out: Output, xp_seen: np.ndarray, has_input: np.ndarray) -> dict[str, np.ndarray]:
        """fe_h with its limits, teff and logg with errors; NaN without labels in training or without input."""
        labels = self.network.labels
        median, sd = labels.decode(out.label_BQ.cpu().numpy(), out.label_sd_BQ.cpu().numpy())
        factor = self._label_factor(xp_seen)
        usable = has_input[:, None] & labels.supported_quantities
        median, err = np.where(usable, median, np.nan), np.where(usable, factor * sd, np.nan)
        f, t, g = (QUANTITIES.index(q) for q in ("fe_h", "teff", "logg"))
        return {
            "fe_h_B": _f32(median[:, f]),
            "fe_h_lo_B": _f32(median[:, f] - err[:, f]),
            "fe_h_hi_B": _f32(median[:, f] + err[:, f]),
            "teff_B": _f32(median[:, t]),
            "teff_err_B": _f32(err[:, t]),
            "logg_B": _f32(median[:, g]),
            "logg_err_B": _f32(err[:, g]),
        }

    def _beyond_labels(self, out: Output) -> np.ndarray:
        labels = self.network.labels
        median = out.label_BQ.cpu().numpy()
        beyond = (median < labels.low_Q) | (median > labels.high_Q)
        return (beyond & labels.supported_quantities).any(1)

    def _label_factor(self, xp_seen: np.ndarray) -> np.ndarray:
        """68 % factor_BQ, by the survey with most labels of each quantity."""
        labels = self.network.labels
        by_label = self.stored.calibration.labels(xp_seen)[0]
        factor = np.ones((len(xp_seen), len(QUANTITIES)))
        for q in range(len(QUANTITIES)):
            of_q = np.flatnonzero(labels.quantity_of_label == q)
            if len(of_q):
                factor[:, q] = by_label[:, of_q[np.argmax(labels.n_L[of_q])]]
        return factor

    def _in_asked_order(self, found: Prediction, block: StarBlock) -> Prediction:
        r = self._renaming
        if r.same:
            return found
        measured = np.isfinite(block.mag_BM)
        bands = {
            "mag_BM": (block.mag_BM, np.nan),
            "err68_BM": (block.mag_err_BM, np.nan),
            "err95_BM": (ONE_95 * block.mag_err_BM, np.nan),
            "observed_BM": (measured, False),
            "suspect_BM": (np.zeros_like(measured), False),
            "no_support_BM": (~measured, True),
            "through_xp_BM": (np.zeros_like(measured), False),
        }
        out = {}
        for name, (through, blank) in bands.items():
            array = np.where(measured, through, blank).astype(getattr(found, name).dtype)
            array[:, r.shared_asked] = getattr(found, name)[:, r.shared_own]
            out[name] = array
        return replace(found, **out)


def _f32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float32)
