"""The smallest value of a law."""

from __future__ import annotations

import numpy as np

from mcsim.laws.law import Law

_LARGEST_SURVIVAL = 1.0 - 2.0**-53


def smallest(law: Law) -> float:
    """The smallest value that is ever drawn: no draw is made at a larger survival probability."""
    return float(law.quantile(np.array([_LARGEST_SURVIVAL]))[0])
