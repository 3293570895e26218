"""Reads the theoretical SED grids of the PyPI package SEDFit (MIT) for make_star_library.py, never unpickling freely.

SEDFit stores each grid as a bz2 pickle of (flux, table of nodes, wavelengths). A pickle can run code, so only
the numpy and astropy names such a grid needs are admitted and anything else is refused.
"""

from __future__ import annotations

import bz2
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ADMITTED = {
    ("astropy.table.column", "Column"),
    ("astropy.table.table", "Table"),
    ("astropy.units.core", "CompositeUnit"),
    ("astropy.units.core", "IrreducibleUnit"),
    ("astropy.units.core", "PrefixUnit"),
    ("astropy.units.core", "Unit"),
    ("astropy.units.core", "_recreate_irreducible_unit"),
    ("astropy.units.quantity", "Quantity"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
}


class _GridUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"a SED grid has no business with {module}.{name}")
        return super().find_class(module, name)


@dataclass
class SedGrid:
    """Model atmospheres: N nodes, W wavelengths.

    log_flux_NW holds log10 of the surface flux F_lambda in W m-2 nm-1.
    """

    teff_N: np.ndarray
    logg_N: np.ndarray
    fe_h_N: np.ndarray
    alpha_N: np.ndarray
    wavelength_W: np.ndarray  # nm
    log_flux_NW: np.ndarray

    def select(self, keep_N: np.ndarray) -> SedGrid:
        return SedGrid(
            self.teff_N[keep_N], self.logg_N[keep_N], self.fe_h_N[keep_N], self.alpha_N[keep_N],
            self.wavelength_W, self.log_flux_NW[keep_N],
        )  # fmt: skip


def read_grid(sdist: Path, name: str) -> SedGrid:
    """The grid `name` ('kurucz', 'phoenix') out of SEDFit's source archive.

    SEDFit stores log10(lambda F_lambda) in erg s-1 cm-2 with lambda in Angstrom; its integral is sigma Teff^4.
    """
    with tarfile.open(sdist) as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(f"/sed_{name}.p"))
        raw = archive.extractfile(member)
        assert raw is not None
        with bz2.open(raw) as pickled:
            flux, table, wavelength = _GridUnpickler(pickled).load()
    angstrom = np.asarray(getattr(wavelength, "value", wavelength), float)
    # 1 erg s-1 cm-2 A-1 = 1e-3 W m-2 * 10 nm-1 = 1e-2 W m-2 nm-1.
    log_flux = np.asarray(flux, float) - np.log10(angstrom) - 2.0

    def column(key: str) -> np.ndarray:
        return np.asarray(table[key], float)

    alpha = column("alpha") if "alpha" in table.colnames else np.zeros(len(table))
    return SedGrid(column("teff"), column("logg"), column("feh"), alpha, angstrom / 10.0, log_flux)
