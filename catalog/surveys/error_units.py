"""What errors are converted with: relative fluxes to magnitudes, one sigma to the half-widths of intervals."""

from __future__ import annotations

import numpy as np

#: 1.0857... mag
MAG_PER_RELATIVE_FLUX = 2.5 / np.log(10.0)
#: half-widths of the central 68 % and 95 % of a unit normal
ONE_68, ONE_95 = 0.994458, 1.959964
