"""Cells: the scaled numbers of some stars, as numpy arrays (Cells) or on a device (CellTensors).

Suffixes: B stars, D cells (bands, then 110 coefficients), X inputs made from scalars.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor


@dataclass
class Cells:
    """Numpy arrays.

    value_BD     float32, scaled; 0 where nothing stands (read only under `observed` or `derived`)
    var_BD       float32, variance of the measurement error in scaled units, floor included; 1 where nothing
    observed_BD  bool, measured
    derived_BD   bool, not measured but computed from the star's own XP: a target, never an input
    guessed_BD   bool, measured without a published error (the survey's typical error stands in)
    scalar_BX    float32, inputs from parallax and proper motion, four a scalar (see scale_features.py)
    norm_B       float32, mag, the magnitude everything is normalised by; NaN = star without input
    proxy_B      bool, norm_B was guessed from another band because the reference band is missing
    """

    value_BD: np.ndarray
    var_BD: np.ndarray
    observed_BD: np.ndarray
    derived_BD: np.ndarray
    guessed_BD: np.ndarray
    scalar_BX: np.ndarray
    norm_B: np.ndarray
    proxy_B: np.ndarray

    @property
    def stated(self) -> np.ndarray:
        """(B, D) bool, the error is the publisher's: neither guessed nor of a guessed normaliser."""
        return ~self.guessed_BD & ~self.proxy_B[:, None]

    def __len__(self) -> int:
        return len(self.norm_B)

    def take(self, index: np.ndarray | slice) -> Cells:
        return Cells(*(getattr(self, f.name)[index] for f in fields(self)))

    def copy(self) -> Cells:
        return Cells(*(getattr(self, f.name).copy() for f in fields(self)))

    def to(self, device: torch.device) -> CellTensors:
        return CellTensors(*(to_device(getattr(self, f.name), device) for f in fields(self)))


@dataclass
class CellTensors:
    """The same on a device."""

    value_BD: Tensor
    var_BD: Tensor
    observed_BD: Tensor
    derived_BD: Tensor
    guessed_BD: Tensor
    scalar_BX: Tensor
    norm_B: Tensor
    proxy_B: Tensor

    @property
    def stated(self) -> Tensor:
        return ~self.guessed_BD & ~self.proxy_B[:, None]

    def __len__(self) -> int:
        return len(self.norm_B)


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Pinned and without waiting on CUDA, so that the copy overlaps with computing; a view on CPU."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor
