"""Euclid publishes AB magnitudes, GaiaXPy's Euclid_VIS is Vega: the survey file bridges the two."""

from __future__ import annotations

import numpy as np

from msacat.catalog.surveys.load_specs import builtin_specs
from msacat.catalog.xp.xp_operators import coefficients_from_sed, synthetic_magnitudes


def test_a_flat_ab_source_has_its_ab_magnitude_in_vis():
    wavelength_nm = np.linspace(329.5, 1050.5, 1443)
    flux = 3631e-26 * 2.99792458e17 / wavelength_nm**2 * 1e-4  # AB 10, W m-2 nm-1
    vis = next(b for b in builtin_specs()["euclid"].bands if b.name == "euclid_vis")
    mag, _ = synthetic_magnitudes(coefficients_from_sed(wavelength_nm, flux[None]), [vis.xp])
    assert vis.system == "AB"
    assert abs(mag[0, 0] + vis.xp_shift - 10.0) < 2e-3
