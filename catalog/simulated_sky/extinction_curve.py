"""Interstellar extinction A(lambda) / A(V) as a function of R_V.

Cardelli, Clayton & Mathis 1989, ApJ 345, 245 (infrared and ultraviolet), with the optical polynomials of
O'Donnell 1994, ApJ 422, 158. Its infrared power law is continued beyond 3.3 um to WISE's bands.
"""

from __future__ import annotations

import numpy as np

_A_OPTICAL = np.array([1.0, 0.104, -0.609, 0.701, 1.137, -1.718, -0.827, 1.647, -0.505])
_B_OPTICAL = np.array([0.0, 1.952, 2.908, -3.989, -7.985, 11.102, 5.491, -10.805, 3.347])


def extinction_terms(wavelength_nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a and b at each wavelength (125 nm upwards): A(lambda) / A(V) = a + b / R_V."""
    x = 1000.0 / np.asarray(wavelength_nm, float)  # inverse micron
    if np.any(x > 8.0):
        raise ValueError("the extinction law begins at 125 nm")
    a, b = 0.574 * x**1.61, -0.527 * x**1.61
    optical = (x >= 1.1) & (x < 3.3)
    y = x[optical] - 1.82
    a[optical] = np.polynomial.polynomial.polyval(y, _A_OPTICAL)
    b[optical] = np.polynomial.polynomial.polyval(y, _B_OPTICAL)
    uv = x >= 3.3
    y = x[uv] - 5.9
    far_a = np.where(y > 0, -0.04473 * y**2 - 0.009779 * y**3, 0.0)
    far_b = np.where(y > 0, 0.2130 * y**2 + 0.1207 * y**3, 0.0)
    a[uv] = 1.752 - 0.316 * x[uv] - 0.104 / ((x[uv] - 4.67) ** 2 + 0.341) + far_a
    b[uv] = -3.090 + 1.825 * x[uv] + 1.206 / ((x[uv] - 4.62) ** 2 + 0.263) + far_b
    return a, b
