"""From arrivals to steps: the barrier, and whatever policy is in its place.

Arrivals are drawn by either engine, which know of no policy but whom a step does not wait for.
"""

from __future__ import annotations

import numpy as np

from mcsim.engine.ends import OVERFLOW, step_times
from mcsim.engine.rounds import rounds_ended
from mcsim.engine.shared import shared_factors
from mcsim.engine.steps import Arrivals, Steps
from mcsim.model.plan import Plan


def ended(plan: Plan, replicate: int, first: int, arrivals: Arrivals) -> Steps:
    """The steps from `first` on, of the arrivals that an engine draws.

    What whole sites share in a step multiplies all of their devices' times, stalls too; where some
    are not waited for, it does so already. Raises SimulationError as `step_times` does.
    """
    if plan.cutoff is None:
        factors = shared_factors(plan, replicate, first * plan.inner, len(arrivals.ready))
        if factors is not None:
            of_groups = factors[:, [group.site for group in plan.groups]]
            with np.errstate(**OVERFLOW):
                arrivals = arrivals._replace(
                    ready=arrivals.ready * factors, busy=arrivals.busy * of_groups
                )
    if plan.rounds is not None:
        return rounds_ended(plan, replicate, first, arrivals)
    ready, culprit, draw, busy, device, lost = arrivals
    time, components = step_times(plan, replicate, first, ready)
    if plan.cutoff is not None:
        # Where everybody is late, they are interrupted with the others.
        ready = np.where(np.isneginf(ready), ready.max(axis=1, keepdims=True), ready)
    return Steps(time, ready, culprit, draw, busy, components, device, lost=lost)
