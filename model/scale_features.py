"""From a StarBlock to scaled cells: what the prior and the network read, without any sentinel.

A *cell* is one scaled number of a star: the reference magnitude G itself, a colour band − G for every
other band, and (c − b) / F_G for the 110 XP coefficients, with F_G = 10**(−0.4 (G − g0)) and b the background that
all published spectra share (fit_background.py). Each cell is centred by its median and divided by its robust width, fitted once on training
stars and stored with the model, and carries the variance of its measurement error in the same units. Whether a cell was
measured is a bit beside it, never a number in it (docs/model.md).

Suffixes: B stars, M bands, K XP coefficients, D = M + K cells (D = M without XP).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from msacat.catalog.errors import InputRejected
from msacat.catalog.surveys.error_units import MAG_PER_RELATIVE_FLUX
from msacat.catalog.surveys.star_block import K, StarBlock
from msacat.catalog.surveys.star_features import StarFeatures
from msacat.model.cells import Cells
from msacat.model.fit_background import first_colour, fit_background
from msacat.model.noise_in_flux import fit_snr_limits
from msacat.model.synthetic_bands import ANY_COLOUR, SyntheticBands, colours_with_targets

MAX_ERR_MAG = 5.0  # a larger published error says no more than this one, and its square stays finite
MAX_SCALED = 60.0  # robust widths; beyond this a cell is an accident, and its square must stay finite
MIN_SUPPORT = 20  # stars with a band below which the model gives no number for it
FEWEST_FOR_WIDTH = 50  # measured stars of a band
XP_FLOOR = 0.01  # of a coefficient's robust width: no spectrum is known better than its calibration


@dataclass(frozen=True)
class FeatureScaling:
    """The fitted scaling; arrays in the order of `features`, all finite."""

    features: StarFeatures
    g0: float  # mag, at which F_G = 1
    center_D: np.ndarray
    scale_D: np.ndarray  # > 0
    proxy_width_M: np.ndarray  # mag, half of the central 95 % of band − G, over 1.96: tails included
    background_K: np.ndarray  # Gaia flux units, in every published spectrum (fit_background.py)
    background_err_K: np.ndarray
    xp_typical_K: np.ndarray  # scaled error of a coefficient whose error is not published
    n_seen_M: np.ndarray  # stars of the sample with a measurement of the band
    n_derived_M: np.ndarray  # ... with a synthetic magnitude from their XP
    n_xp: int  # stars of the sample with at least half a spectrum
    err_mag_T: np.ndarray  # mag, grid of `err_MT`
    err_MT: np.ndarray  # mag, median published error by magnitude; 0 = unknown there
    through_xp_M: np.ndarray  # bool: too few measured; learned from synthetic magnitudes of the spectra
    noise_D: np.ndarray  # real over published error, without floors (fit_noise_scale.py); 1 until fitted
    zero_point_M: np.ndarray  # mag, scatter over the sky (fit_zero_points.py); 0 until fitted
    snr_limit_M: np.ndarray  # S/N from which the survey lists a star (noise_in_flux.py); 0 = no sharp limit
    #: mag, range of first_colour() of the stars that teach a band known only through spectra; else endless
    taught_MR: np.ndarray
    synthetic: SyntheticBands

    @property
    def supported_bands(self) -> np.ndarray:
        """Bands the model may give numbers for."""
        return (self.n_seen_M >= MIN_SUPPORT) | (self.n_derived_M >= MIN_SUPPORT)

    @property
    def n_bands(self) -> int:
        return len(self.features.bands)

    @property
    def n_cells(self) -> int:
        return self.n_bands + (K if self.features.xp else 0)

    @property
    def reference(self) -> int:
        return self.features.band_names.index(self.features.reference_band)

    def to_json(self) -> dict:
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "synthetic"}
        data = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in data.items()}
        return data | {"features": self.features.to_json()}

    @staticmethod
    def from_json(data: dict) -> FeatureScaling:
        kinds = {"n_seen_M": np.int64, "n_derived_M": np.int64, "through_xp_M": np.bool_}
        features = StarFeatures.from_json(data["features"])
        values = {
            k: np.asarray(v, kinds.get(k, np.float64)) if isinstance(v, list) else v for k, v in data.items()
        }
        # Models of before know no such range.
        values.setdefault("taught_MR", np.tile(ANY_COLOUR, (len(features.bands), 1)))
        return FeatureScaling(**values | {"features": features, "synthetic": SyntheticBands.of(features)})

    def encode(self, block: StarBlock) -> Cells:
        """The scaled cells of `block` (numpy arrays inside; call `.to(device)`)."""
        derived = self.synthetic.from_spectra(block, self.through_xp_M, self.background_K)
        raw = _normalise(
            self.features,
            block,
            self._colour_medians(),
            self.proxy_width_M,
            self.g0,
            derived,
            self.background_K,
        )
        M = self.n_bands
        value = (raw.value - self.center_D) / self.scale_D
        var = (raw.var * self.noise_D**2 + raw.common_var) / self.scale_D**2
        var[:, :M] += np.where(raw.observed[:, :M], (self.zero_point_M / self.scale_D[:M]) ** 2, 0.0)
        if self.features.xp:
            missing_err = raw.observed[:, M:] & ~np.isfinite(var[:, M:])
            var[:, M:] = np.where(missing_err, self.xp_typical_K**2, var[:, M:]) + XP_FLOOR**2
            raw.guessed[:, M:] = missing_err
        known = raw.observed | raw.derived
        var = np.where(known, np.clip(var, 1e-8, 1e6), 1.0)
        value = np.where(known, np.clip(value, -MAX_SCALED, MAX_SCALED), 0.0)
        return Cells(
            value.astype(np.float32),
            var.astype(np.float32),
            raw.observed,
            raw.derived,
            raw.guessed & raw.observed,
            _scalar_inputs(block, raw.norm, self.g0, self.features.scales_with_distance),
            raw.norm.astype(np.float32),
            raw.proxy,
        )

    def believed_error(self, stated_BM: np.ndarray) -> np.ndarray:
        """mag: what stated errors are taken for; with each band's factor, its floor and its wandering zero point."""
        return np.sqrt((stated_BM * self.noise_D[: self.n_bands]) ** 2 + self.common_error**2)

    def stated_error(self, believed_BM: np.ndarray) -> np.ndarray:
        """mag: the inverse of believed_error; 0 for what lies below the floor."""
        squared = np.clip(believed_BM**2 - self.common_error**2, 0.0, None)
        return np.sqrt(squared) / self.noise_D[: self.n_bands]

    @property
    def common_error(self) -> np.ndarray:
        """mag: of every measurement of a band, whatever it states: its floor and its wandering zero point."""
        return np.hypot([b.floor_err for b in self.features.bands], self.zero_point_M)

    @property
    def common_var(self) -> np.ndarray:
        """The same, squared, of scaled cells; coefficients have the floor of their calibration."""
        bands = (self.common_error / self.scale_D[: self.n_bands]) ** 2
        return np.append(bands, np.full(self.n_cells - self.n_bands, XP_FLOOR**2))

    def magnitudes(self, value_BD: np.ndarray, norm_B: np.ndarray) -> np.ndarray:
        """Bands of scaled cells back to mag_BM (float64)."""
        mag = value_BD[:, : self.n_bands] * self.scale_D[: self.n_bands] + self.center_D[: self.n_bands]
        offset = np.repeat(np.asarray(norm_B, np.float64)[:, None], self.n_bands, axis=1)
        offset[:, self.reference] = 0.0  # G is itself, not a colour
        return mag + offset

    def coefficients(self, value_BD: np.ndarray, norm_B: np.ndarray) -> np.ndarray:
        """XP cells back to coefficients_BK in Gaia's internal flux units (float64)."""
        M = self.n_bands
        relative = value_BD[:, M:] * self.scale_D[M:] + self.center_D[M:]
        return relative * _reference_flux(norm_B, self.g0)[:, None] + self.background_K

    def coefficient_unit(self, norm_B: np.ndarray) -> np.ndarray:
        """Gaia flux units of one scaled unit of each coefficient, (B, K)."""
        return self.scale_D[self.n_bands :] * _reference_flux(norm_B, self.g0)[:, None]

    def _colour_medians(self) -> np.ndarray:
        median = self.center_D[: self.n_bands].copy()
        median[self.reference] = 0.0
        return np.where(self.n_seen_M > 0, median, np.nan)


@dataclass
class _Raw:
    value: np.ndarray  # mag or c/F_G, NaN where unknown
    var: np.ndarray  # of what is published
    common_var: np.ndarray  # of the floor, and of a guessed reference
    observed: np.ndarray
    derived: np.ndarray
    guessed: np.ndarray
    norm: np.ndarray
    proxy: np.ndarray


def fit_scaling(features: StarFeatures, block: StarBlock, background: bool = True) -> FeatureScaling:
    """Medians and robust widths of the cells of `block`, a random sample of training stars.

    Bands measured in fewer than FEWEST_FOR_WIDTH of them (or fewer than 1 % where the sample is small) keep a width of
    0.3 mag. background: take the one of the spectra out (methods to compare with do not know of it).
    Raises InputRejected if no star has the reference band.
    """
    ref = features.band_names.index(features.reference_band)
    G = block.mag_BM[:, ref].astype(np.float64)
    if not np.isfinite(G).any():
        raise InputRejected(
            f"no training star has the reference band {features.reference_band}: nothing to normalise by",
            column=features.reference_band,
            next_step="ingest gaia_source, or choose other stars with --where",
        )
    M = len(features.bands)
    g0 = float(np.round(np.nanmedian(G), 1))
    synthetic = SyntheticBands.of(features)
    through_xp = synthetic.has_row & (np.isfinite(block.mag_BM).sum(0) < MIN_SUPPORT)
    constant, constant_err = np.zeros((2, K if features.xp else 0))
    if features.xp and background:
        constant, constant_err = fit_background(features, block)
    derived = synthetic.from_spectra(block, through_xp, constant)
    raw = _normalise(features, block, np.full(M, np.nan), np.zeros(M), g0, derived, constant)
    center, scale, proxy_width = _centres_and_widths(features, raw)
    grid, table = _error_by_magnitude(block)
    return FeatureScaling(
        features,
        g0,
        center,
        scale,
        proxy_width[:M],
        constant,
        constant_err,
        _typical_xp_errors(raw, scale, M),
        raw.observed[:, :M].sum(0),
        raw.derived[:, :M].sum(0),
        int((raw.observed[:, M] | raw.observed[:, M + K // 2]).sum()) if features.xp else 0,
        grid,
        table,
        through_xp,
        np.ones(len(scale)),
        np.zeros(M),
        fit_snr_limits(block),
        _taught_colours(features, block, derived[0], through_xp),
        synthetic,
    )


def _taught_colours(
    features: StarFeatures, block: StarBlock, synthetic_BM: np.ndarray, through_xp_M: np.ndarray
) -> np.ndarray:
    """taught_MR, from stars with a whole spectrum."""
    colour = first_colour(features, block.mag_BM.astype(np.float64))
    use = np.isfinite(block.xp_BK).all(1) & np.isfinite(colour)
    taught = np.tile(ANY_COLOUR, (len(through_xp_M), 1))
    for m in np.flatnonzero(through_xp_M):
        if np.isfinite(synthetic_BM[use, m]).sum() >= MIN_SUPPORT:
            taught[m] = colours_with_targets(colour[use], np.isfinite(synthetic_BM[use, m]))
    return taught


def _centres_and_widths(features: StarFeatures, raw: _Raw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(center_D, scale_D, half of the central 95 % over 1.96), in the units of `raw`."""
    n_stars, D = raw.value.shape
    center, scale, tails = np.zeros(D), np.full(D, 0.3), np.full(D, 0.5)
    known = raw.observed | raw.derived
    enough = min(FEWEST_FOR_WIDTH, max(1, n_stars // 100))
    for d in range(D):
        x = raw.value[known[:, d], d]
        if len(x) >= 1:
            center[d] = np.median(x)
        if len(x) >= max(3, enough):
            low, high = np.percentile(x, [25, 75])
            scale[d] = (high - low) / 1.349
            low, high = np.percentile(x, [2.5, 97.5])
            tails[d] = max((high - low) / 3.92, 0.01)
    # A constant column has width 0: dividing by the calibration floor keeps its noise of order one.
    M = len(features.bands)
    smallest_xp = max(1e-6 * np.abs(center[M:]).max(initial=0.0), 1e-12)
    smallest = [*(max(b.floor_err, 1e-3) for b in features.bands), *np.full(D - M, smallest_xp)]
    return center, np.maximum(scale, smallest), tails


def _typical_xp_errors(raw: _Raw, scale_D: np.ndarray, n_bands: int) -> np.ndarray:
    """Median published error of every coefficient, scaled; 0.1 where fewer than 10 stars tell."""
    typical = np.full(len(scale_D) - n_bands, 0.1)
    err = np.sqrt(raw.var[:, n_bands:]) / scale_D[n_bands:]
    for k, seen in enumerate((raw.observed[:, n_bands:] & np.isfinite(err)).T):
        if seen.sum() >= 10:
            typical[k] = np.clip(np.median(err[seen, k]), 1e-3, 30.0)
    return typical


def _normalise(
    features: StarFeatures,
    block: StarBlock,
    colour_M: np.ndarray,
    width_M: np.ndarray,
    g0: float,
    synthetic: tuple[np.ndarray, np.ndarray],
    background_K: np.ndarray,
) -> _Raw:
    """Colours and relative coefficients, not yet centred; `synthetic` = mag and err of derived bands."""
    M = len(features.bands)
    ref = features.band_names.index(features.reference_band)
    mag = block.mag_BM.astype(np.float64)
    err = block.mag_err_BM.astype(np.float64)
    measured = np.isfinite(mag) & (np.abs(mag) < 60)
    norm, proxy, norm_var = _normaliser(features, mag, measured, colour_M, width_M)
    has_norm = np.isfinite(norm)
    observed = measured & has_norm[:, None]
    derived = ~observed & np.isfinite(synthetic[0]) & has_norm[:, None]
    mag = np.where(derived, synthetic[0], mag)
    err = np.where(derived, synthetic[1], err)
    guessed = observed & ~(np.isfinite(err) & (err >= 0))
    typical = np.array([b.typical_err for b in features.bands])
    floor = np.array([b.floor_err for b in features.bands])
    err = np.where(guessed | ~(observed | derived), typical, np.minimum(err, MAX_ERR_MAG))
    var = err**2
    common_var = np.broadcast_to(floor**2, var.shape)
    is_colour = np.ones(M, bool)
    is_colour[ref] = False
    value = np.where(observed | derived, mag - np.where(is_colour, norm[:, None], 0.0), np.nan)
    # Without G the normaliser is itself uncertain: every colour inherits that, and G is a weak measurement.
    common_var = common_var + np.where(is_colour, norm_var[:, None], 0.0)
    value[proxy, ref], observed[proxy, ref] = norm[proxy], True
    var[proxy, ref], common_var[proxy, ref] = 0.0, norm_var[proxy]

    if features.xp:
        flux = _reference_flux(np.where(has_norm, norm, g0), g0)
        xp = (block.xp_BK.astype(np.float64) - background_K) / flux[:, None]
        with np.errstate(invalid="ignore"):
            xp_err = block.xp_err_BK.astype(np.float64)
            xp_err = np.where(xp_err > 0, xp_err, np.nan) / flux[:, None]
        seen = np.isfinite(xp) & has_norm[:, None]
        from_norm = (xp / MAG_PER_RELATIVE_FLUX) ** 2 * norm_var[:, None]
        value = np.concatenate([value, np.where(seen, xp, np.nan)], axis=1)
        var = np.concatenate([var, np.where(seen, xp_err**2, np.nan)], axis=1)
        common_var = np.concatenate([common_var, np.where(seen, from_norm, 0.0)], axis=1)
        observed = np.concatenate([observed, seen], axis=1)
        derived = np.concatenate([derived, np.zeros_like(seen)], axis=1)
        guessed = np.concatenate([guessed, np.zeros_like(seen)], axis=1)
    return _Raw(value, var, common_var, observed, derived, guessed, norm, proxy)


def _normaliser(features, mag, measured, colour_M, width_M):
    """norm_B (mag), proxy_B and the variance of a guessed norm_B (mag²; 0 where G is measured).

    Where the reference band is missing, the measured band nearest to it in wavelength stands in, moved by
    the median colour of the training stars; the width of that colour is its uncertainty.
    """
    ref = features.band_names.index(features.reference_band)
    norm = np.where(measured[:, ref], mag[:, ref], np.nan)
    proxy = np.zeros(len(mag), bool)
    var = np.zeros(len(mag))
    wavelength = np.array([b.wavelength_nm for b in features.bands])
    for m in np.argsort(np.abs(np.log(wavelength / wavelength[ref])), kind="stable"):
        if m == ref or not np.isfinite(colour_M[m]):
            continue
        fill = ~np.isfinite(norm) & measured[:, m]
        norm[fill] = mag[fill, m] - colour_M[m]
        var[fill] = width_M[m] ** 2
        proxy |= fill
    return norm, proxy, var


def _scalar_inputs(
    block: StarBlock, norm_B: np.ndarray, g0: float, scales_with_distance_S: np.ndarray
) -> np.ndarray:
    """Four inputs a scalar v (parallax, proper motion, reddening): present, asinh v, asinh(v f), log(err f).

    f = 10**(0.2 (G − g0)) turns a parallax into a luminosity and a proper motion into a reduced one; for other scalars
    it is 1. All 0 where the scalar is missing.
    """
    value, err = block.scalar_BS.astype(np.float64), block.scalar_err_BS.astype(np.float64)
    f = 10.0 ** (0.2 * np.clip(np.nan_to_num(norm_B - g0), -10, 10))[:, None]
    f = np.where(scales_with_distance_S, f, 1.0)
    present = np.isfinite(value) & np.isfinite(err) & (err > 0) & np.isfinite(norm_B)[:, None]
    v, e = np.where(present, value, 0.0), np.where(present, err, 1.0)
    channels = [np.ones_like(v), np.arcsinh(v), np.arcsinh(v * f), np.log(e * f) / 3]
    return np.concatenate([np.where(present, c, 0.0) for c in channels], axis=1).astype(np.float32)


def _reference_flux(norm_B: np.ndarray, g0: float) -> np.ndarray:
    return 10.0 ** (-0.4 * (np.asarray(norm_B, np.float64) - g0))


def _error_by_magnitude(block: StarBlock) -> tuple[np.ndarray, np.ndarray]:
    """Median published error in bins of one magnitude, made non-decreasing; 0 beyond the faintest bin."""
    grid = np.arange(0.5, 30.5)
    table = np.zeros((block.mag_BM.shape[1], len(grid)))
    for m in range(block.mag_BM.shape[1]):
        ok = np.isfinite(block.mag_BM[:, m]) & np.isfinite(block.mag_err_BM[:, m])
        bins = np.floor(block.mag_BM[ok, m]).astype(int)
        for t in np.unique(bins[(bins >= 0) & (bins < len(grid))]):
            err = block.mag_err_BM[ok, m][bins == t]
            if len(err) >= 20:
                table[m, t] = max(np.median(err), table[m, :t].max(initial=0.0))
    return grid, table
