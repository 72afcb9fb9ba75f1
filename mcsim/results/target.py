"""How much more a run needs until the error that it is to reach is reached."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from mcsim.engine.tally import Tally
from mcsim.laws import FloatArray
from mcsim.model.plan import QUANTILES_BY_NAME, Plan, Target
from mcsim.results.estimates import QUANTILES, Summary, over_replicates

_MARGIN = 1.1
_LEAST_GROWTH, _MOST_GROWTH = 1.3, 10.0
_LEAST_STEPS, _LEAST_CLUSTERS = 100, 8
"""With fewer, an error is itself too uncertain to stop by: runs that underestimate it would."""


def relative_error(tally: Tally, statistic: str) -> float:
    """The relative standard error of a statistic over all clusters; not a number where none is
    valid."""
    mean, error = over_replicates(*_estimates(tally, statistic))
    if error == 0:
        return 0.0
    return float(error / abs(mean)) if mean != 0 else math.nan


def next_plan(tally: Tally) -> Plan | None:
    """The plan that is likely to reach the target; None if it is reached, or cannot be.

    Steps are added where their error is the larger part of the whole, clusters where the lottery's
    is. The rest of the plan is the same, so what is sampled already counts.
    """
    plan, target = tally.plan, tally.plan.target
    if target is None or is_reached(tally):
        return None
    few = _enough(plan, target)
    if few != plan:
        return few
    values, within = _estimates(tally, target.statistic)
    mean, error = (float(x) for x in over_replicates(values, within))
    if math.isnan(error):
        # Too few steps for an error.
        return _larger(plan, target, steps=_MOST_GROWTH)
    wanted = (target.relative_error * mean) ** 2
    of_steps = float(np.mean(within**2)) / len(values)
    of_clusters = max(error**2 - of_steps, 0.0)
    if of_steps >= of_clusters or plan.replicates == target.max_replicates:
        left = wanted - of_clusters
        longer = _larger(plan, target, steps=_growth(of_steps, left)) if left > 0.0 else None
        if longer is not None:
            return longer
    return _larger(plan, target, replicates=_growth(error**2, wanted))


def _growth(variance: float, wanted: float) -> float:
    """How many times more of what the variance is in inverse proportion to."""
    growth = _MARGIN * variance / wanted if wanted > 0.0 else _MOST_GROWTH
    return min(max(growth, _LEAST_GROWTH), _MOST_GROWTH)


def is_reached(tally: Tally) -> bool:
    """Whether the error is as small as the plan's target, and known well enough to tell."""
    plan, target = tally.plan, tally.plan.target
    assert target is not None
    small = relative_error(tally, target.statistic) <= target.relative_error
    return small and _enough(plan, target) == plan


def _enough(plan: Plan, target: Target) -> Plan:
    """The plan with as many steps, or clusters, as an error needs that a run is to stop by."""
    if target.max_replicates > 1:
        least = max(plan.replicates, min(_LEAST_CLUSTERS, target.max_replicates))
        return dataclasses.replace(plan, replicates=least)
    return dataclasses.replace(plan, steps=max(plan.steps, min(_LEAST_STEPS, target.max_steps)))


def _larger(
    plan: Plan, target: Target, *, steps: float = 1.0, replicates: float = 1.0
) -> Plan | None:
    """The plan with more steps or replicates; None where there are as many as allowed."""
    more = dataclasses.replace(
        plan,
        steps=max(min(math.ceil(plan.steps * steps), target.max_steps), plan.steps),
        replicates=max(
            min(math.ceil(plan.replicates * replicates), target.max_replicates), plan.replicates
        ),
    )
    return more if more != plan else None


def _estimates(tally: Tally, statistic: str) -> tuple[FloatArray, FloatArray]:
    """A statistic of each cluster and its error from steps alone, shape (replicates,)."""
    summary = Summary(tally)
    if statistic in QUANTILES_BY_NAME:
        column = QUANTILES.index(QUANTILES_BY_NAME[statistic])
        return summary.quantiles[:, column], summary.quantiles_stderr[:, column]
    column = {"step_time_mean": 0, "communication_time_mean": 2}[statistic]
    return summary.mean[:, column], summary.mean_stderr[:, column]
