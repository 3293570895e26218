"""What spoils the dirty sky's measurements: blends, variability, zero points, outliers, odd cells."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from msacat.catalog.healpix import nested_pixel, separation_deg
from msacat.catalog.simulated_sky.measure import Measurement, to_maggies
from msacat.catalog.simulated_sky.parameters import Parameters, pair
from msacat.catalog.simulated_sky.sky_objects import SkyObjects
from msacat.catalog.simulated_sky.sky_positions import DUST_LEVEL, cell_generator


@dataclass
class Dirt:
    """The dirty sky's parameters with what they need to know of one chunk of sky."""

    p: Parameters
    seed: int
    objects: SkyObjects
    names: list[str]  # bands of objects.mag
    wavelength_nm: np.ndarray  # of those bands
    pair_a: np.ndarray = field(init=False)  # objects closer than the widest beam, a brighter than b in G
    pair_b: np.ndarray = field(init=False)
    pair_arcsec: np.ndarray = field(init=False)
    cell_index: np.ndarray = field(init=False)  # (N,) row of zero_point_draws
    zero_point_draws: np.ndarray = field(init=False)  # (cells, B) in units of the survey's sigma

    def __post_init__(self) -> None:
        o = self.objects
        cells, self.cell_index = np.unique(nested_pixel(DUST_LEVEL, o.ra, o.dec), return_inverse=True)
        streams = [cell_generator(self.seed, cell, "zero points") for cell in cells.tolist()]
        self.zero_point_draws = np.array([stream.standard_normal(len(self.names)) for stream in streams])
        widest = max(s["beam_arcsec"] for s in self.p["surveys"].values())
        a, b, self.pair_arcsec = close_pairs(o.ra, o.dec, widest)
        g = o.mag[:, 0]
        swap = g[a] > g[b]
        self.pair_a, self.pair_b = np.where(swap, b, a), np.where(swap, a, b)

    def noise(self, dataset: str) -> float:
        return self.p["dirt"]["noise"][dataset]

    def swallowed(self, dataset: str) -> np.ndarray:
        """Objects that share a row with a brighter one inside the survey's beam, (N,) bool."""
        inside = self._merged(dataset)
        out = np.zeros(len(self.objects), bool)
        out[self.pair_b[inside]] = True
        return out

    def _merged(self, dataset: str) -> np.ndarray:
        share = self.p["dirt"]["pairs"]["merged_within"]
        return self.pair_arcsec < share * self.p["surveys"][dataset]["beam_arcsec"]

    def shared_rows(self, dataset: str) -> tuple[np.ndarray, np.ndarray]:
        """Gaia sources a and b whose light the survey gives in one row, a's; (pairs,) each."""
        inside = self._merged(dataset)
        inside &= self.objects.in_gaia[self.pair_a] & self.objects.in_gaia[self.pair_b]
        return self.pair_a[inside], self.pair_b[inside]

    def blend_shift(
        self, true_mag: np.ndarray, beam_arcsec: float, softening: float | None = None
    ) -> np.ndarray:
        """mag by which neighbours' light brightens each object, (N,): all of it within half a beam, none outside."""
        return -2.5 * np.log10(1 + self._neighbours_light(to_maggies(true_mag, softening), beam_arcsec, True))

    def _neighbours_light(self, light: np.ndarray, beam_arcsec: float, relative: bool) -> np.ndarray:
        share = np.clip(2 * (1 - self.pair_arcsec / beam_arcsec), 0, 1)
        share = share if light.ndim == 1 else share[:, None].astype(light.dtype)
        added = np.zeros_like(light)
        np.add.at(added, self.pair_a, share * light[self.pair_b])
        np.add.at(added, self.pair_b, share * light[self.pair_a])
        return added / light if relative else added

    def shifts(
        self,
        rng: np.random.Generator,
        dataset: str,
        index: np.ndarray,
        bands: list[str],
        epochs_averaged: int = 1,
    ) -> dict[str, np.ndarray]:
        """mag added to each band of rows `index`: variability at one phase a row, zero points, outliers."""
        d, n = self.p["dirt"], len(index)
        phase = np.cos(rng.uniform(0, 2 * np.pi, n)) / np.sqrt(epochs_averaged)
        swing = self.objects.amplitude[index] * phase
        out = {}
        for band in bands:
            power = d["variability"]["wavelength_power"]
            colour = (self.wavelength_nm[self.names.index(band)] / 500.0) ** power
            shift = swing * colour + self._zero_point(dataset, band)[index]
            share = d["outliers"][dataset] if band != "gaia_g" else 0.0
            outlier = rng.random(n) < share
            size = d["outliers"]["size_mag"] * np.abs(rng.standard_normal(n))
            sign = np.where(rng.random(n) < d["outliers"]["brighter_share"], -1.0, 1.0)
            out[band] = shift + np.where(outlier, sign * size, 0.0)
        return out

    def _zero_point(self, dataset: str, band: str) -> np.ndarray:
        draws = self.zero_point_draws[self.cell_index, self.names.index(band)]
        return self.p["dirt"]["zero_points"][dataset] * draws

    def gaia_shifts(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """mag over the Gaia objects: its epochs averaged, neighbours' light in BP and RP."""
        index = np.flatnonzero(self.objects.in_gaia)
        averaged = self.p["dirt"]["variability"]["gaia_epochs"]
        bands = ["gaia_g", "gaia_bp", "gaia_rp"]
        shifts = self.shifts(rng, "gaia_source", index, bands, averaged)
        beam = self.p["dirt"]["pairs"]["gaia_beam_arcsec"]
        for band in bands[1:]:
            shifts[band] += self.blend_shift(self.objects.mag[:, self.names.index(band)], beam)[index]
        return {band.removeprefix("gaia_"): shift for band, shift in shifts.items()}

    def repeats(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.random(n) < self.p["dirt"]["repeats"]["fraction"]

    def spoil_cells(self, rng: np.random.Generator, bands: dict[str, Measurement]) -> None:
        """Some magnitudes lose their error, some cells become absurd, as published catalogues have them."""
        odd = self.p["dirt"]["oddities"]
        for m in bands.values():
            n = len(m.mag)
            seen = np.isfinite(m.mag)
            m.err[seen & (rng.random(n) < odd["error_missing"])] = np.nan
            absurd = seen & (rng.random(n) < odd["absurd"])
            m.mag[absurd] = rng.uniform(*pair(odd["absurd_mag"]), int(absurd.sum()))
            m.err[absurd] = rng.uniform(*pair(odd["absurd_error"]), int(absurd.sum()))

    def xp_spoil(self, rng: np.random.Generator, index: np.ndarray) -> np.ndarray:
        """(n, 110) added to the coefficients of objects `index`: neighbours inside Gaia's beam, bad BP spectra."""
        bad, n = self.p["dirt"]["bad_bp"], len(index)
        beam = self.p["dirt"]["pairs"]["gaia_beam_arcsec"]
        out = self._neighbours_light(self.objects.xp, beam, False)[index].astype(float)
        hit = np.flatnonzero(rng.random(n) < bad["fraction"])
        size = bad["size"] * np.abs(self.objects.xp[index[hit], :1])
        out[hit, : bad["orders"]] = size * rng.standard_normal((len(hit), bad["orders"]))
        return out


def close_pairs(
    ra: np.ndarray, dec: np.ndarray, within_arcsec: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index pairs closer than a limit and their separations (arcsec); sorted by declination, then swept."""
    order = np.argsort(dec, kind="stable")
    limit = within_arcsec / 3600
    firsts, seconds, distances = [], [], []
    for step in range(1, len(order)):
        a, b = order[:-step], order[step:]
        band = dec[b] - dec[a] <= limit
        if not band.any():
            break
        a, b = a[band], b[band]
        away = np.abs((ra[a] - ra[b] + 180) % 360 - 180) * np.cos(np.radians(dec[a])) <= 1.01 * limit
        a, b = a[away], b[away]
        distance = separation_deg(ra[a], dec[a], ra[b], dec[b])
        close = distance <= limit
        firsts.append(a[close])
        seconds.append(b[close])
        distances.append(distance[close] * 3600)
    if not firsts:
        empty = np.zeros(0, np.int64)
        return empty, empty, np.zeros(0)
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(distances)
