"""How much more a run needs until the error that it is to reach is reached."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from mcsim.engine.tally import Tally
from mcsim.laws import FloatArray
from mcsim.model.plan import Plan, Target
from mcsim.results.statistics import QUANTILES, Summary, over_replicates

_QUANTILE = {"step_time_p50": 0.5, "step_time_p99": 0.99, "step_time_p999": 0.999}
_MARGIN = 1.1
_LEAST_GROWTH, _MOST_GROWTH = 1.3, 10.0


def relative_error(tally: Tally, statistic: str) -> float:
    """The relative standard error of a statistic over all clusters; not a number where none is
    valid."""
    mean, error = over_replicates(*_estimates(tally, statistic))
    if error == 0:
        return 0.0
    return float(error / abs(mean)) if mean != 0 else math.nan


def next_plan(tally: Tally) -> Plan | None:
    """The plan that is likely to reach the target; None if it is reached, or no more is allowed.

    Steps are added where their error is the larger part of the whole, clusters where the lottery's
    is. The rest of the plan is the same, so what is sampled already counts.
    """
    plan, target = tally.plan, tally.plan.target
    if target is None or is_reached(tally):
        return None
    values, within = _estimates(tally, target.statistic)
    mean, error = over_replicates(values, within)
    if math.isnan(error) or mean == 0:
        # Too few steps for an error.
        return _larger(plan, target, steps=_MOST_GROWTH)
    wanted = target.relative_error * abs(float(mean))
    growth = min(max(_MARGIN * (float(error) / wanted) ** 2, _LEAST_GROWTH), _MOST_GROWTH)
    of_steps = float(np.mean(within**2)) / len(values)
    mostly_steps = of_steps >= 0.5 * float(error) ** 2
    larger = _larger(plan, target, steps=growth) if mostly_steps else None
    return larger or _larger(plan, target, replicates=growth) or _larger(plan, target, steps=growth)


def is_reached(tally: Tally) -> bool:
    """Whether the error is as small as the plan's target."""
    target = tally.plan.target
    assert target is not None
    return relative_error(tally, target.statistic) <= target.relative_error


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
    if statistic in _QUANTILE:
        column = QUANTILES.index(_QUANTILE[statistic])
        return summary.quantiles[:, column], summary.quantiles_stderr[:, column]
    column = {"step_time_mean": 0, "communication_time_mean": 2}[statistic]
    return summary.mean[:, column], summary.mean_stderr[:, column]
