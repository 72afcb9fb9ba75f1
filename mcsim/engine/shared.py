"""What all devices of a site share in a step: a factor of all their times, whatever the engine."""

from __future__ import annotations

import numpy as np

from mcsim.engine.compile import kernel
from mcsim.engine.states import Address, purpose_of, unit_spells
from mcsim.laws import FloatArray
from mcsim.model.plan import Plan

_TURN = 2.0 * np.pi


def shared_factors(plan: Plan, replicate: int, first: int, count: int) -> FloatArray | None:
    """The factors of the steps from `first` on, shape (steps, sites); None where nothing is
    shared."""
    if plan.daily is None and not plan.slow_sites:
        return None
    factors = np.ones((count, len(plan.sites)))
    if plan.daily is not None:
        factors *= swing(first, count, plan.daily.turn, plan.daily.phase, plan.daily.amplitude)
    for column, site in enumerate(plan.sites):
        for slow in plan.slow_sites:
            address = Address(plan.seed, replicate, site.identity, purpose_of(slow))
            found = unit_spells(slow, 1, address, first, count)
            row, _, factor = found.steps(first, count)
            factors[row, column] *= factor
    return factors


# Not NumPy's cosine, whose last bit may depend on where in an array a step stands.
@kernel
def swing(first: int, count: int, turn: float, phase: float, amplitude: float) -> FloatArray:
    """1 + amplitude cos(2 pi (step turn - phase)) of the steps from `first` on; (steps, 1)."""
    out = np.empty((count, 1), np.float64)
    for row in range(count):
        out[row, 0] = 1.0 + amplitude * np.cos(_TURN * ((first + row) * turn - phase))
    return out
