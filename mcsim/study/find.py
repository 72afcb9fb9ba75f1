"""The value of a key at which a statistic reaches a target, and how sure it is.

All values are tried on the same random numbers, so that the statistic is as smooth and monotone in
the key as the model is, and a root can be sought as if nothing were random. What is random is the
curve as a whole: its error at the root, over its slope there, is the error of the root (the delta
method). The unit of that error is the cluster, as in any estimate over all clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import xarray as xr

from mcsim.batch import anywhere
from mcsim.engine import SelfCheck
from mcsim.errors import Problem, ScenarioError, SimulationError
from mcsim.results import Finished, Found, Goal, goal_of, label_found
from mcsim.scenario import Scenario
from mcsim.study.design import about, at, axis_of, only_network
from mcsim.study.ranges import Range, Span, read, refusal, span_of
from mcsim.study.sweep import finish

Progress = Callable[[int, int], None]

LIKELY_RUNS = 12
"""So many are tried, about: the ends, eight of the search, and the ends of the interval."""
_CLOSE = 0.01
"""Of the standard error: nearer to the target than that is no more certain."""
_RESOLVED = 1e-9
"""Of the range, where nothing is random."""
_DECADE = 10.0
LEVEL = 0.95


@dataclass(frozen=True)
class Tried:
    """What a value gave: the statistic over all clusters, its error, and its Student's t."""

    value: float
    mean: float
    error: float
    away: float


def find(
    scenario: Scenario,
    key: str,
    over: str,
    reach: str,
    target: str | float,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """The value of a key at which a statistic is as asked, between the ends of a range.

    over: `A..B`, sought by logarithms where it spans a decade, or with `,log`; of whole numbers the
    last one at which the target is reached. reach: a statistic, as "efficiency", of which there is
    one number a cluster. target: in its unit, or text with one. progress: called with the number of
    runs done, and how many there are likely to be.
    Raises ScenarioError for what cannot be sought, and SimulationError, which says what is reached
    at both ends, where the target is not between them.
    """
    goal, base, span = sought(scenario, key, over, reach, target)
    search = _Search(base, key, span, goal, threads, progress)
    ends = search.at(0.0), search.at(1.0)
    _require_between(base, key, goal, *ends)
    found = _of_whole(search, goal) if span.whole else _of_reals(search, goal)
    tried = [search.tried[share] for share in sorted(search.tried)]
    axis = axis_of(key, about(base, key), [one.value for one in tried])
    return label_found(
        anywhere(base), axis, goal, found, [(one.mean, one.error) for one in tried], LEVEL
    )


def sought(
    scenario: Scenario, key: str, over: str, reach: str, target: str | float
) -> tuple[Goal, Scenario, Span]:
    """What is asked for, the scenario at the lower end, and the range. Raises ScenarioError."""
    asked = read(key, over)
    if not isinstance(asked, Range) or asked.count is not None:
        raise refusal(key, f"{over!r} is no range to look for a value in, as 100..800")
    try:
        goal = goal_of(reach, target)
    except ValueError as error:
        raise ScenarioError("sweep", [Problem("", str(error))]) from None
    base = at(scenario, {key: asked.low})
    at(scenario, {key: asked.high})
    span = span_of(key, asked, about(base, key))
    decades = span.low > 0 and span.high / span.low >= _DECADE
    return goal, base, Span(span.low, span.high, span.logarithmic or decades, span.whole)


class _Search:
    """Runs at some shares of a range, each only once."""

    def __init__(
        self,
        base: Scenario,
        key: str,
        span: Span,
        goal: Goal,
        threads: int | None,
        progress: Progress | None,
    ) -> None:
        self.tried: dict[float, Tried] = {}
        self.span = span
        self._base, self._key, self._goal = base, key, goal
        self._threads, self._progress = threads, progress
        self._check: SelfCheck | None = None

    def at(self, share: float) -> Tried:
        """What is so far along the range."""
        if share not in self.tried:
            value = self.span.real(share)
            value = round(value) if self.span.whole else value
            finished = self._run(value)
            if f"overall_{self._goal.statistic}" not in finished.variables:
                raise refusal("", f"this scenario has no {self._goal.statistic}")
            mean, error = finished.estimate(f"overall_{self._goal.statistic}")
            self.tried[share] = Tried(value, mean, error, _away(finished, self._goal.statistic))
            if self._progress is not None:
                self._progress(len(self.tried), max(LIKELY_RUNS, len(self.tried)))
        return self.tried[share]

    def _run(self, value: float) -> Finished:
        scenario = at(self._base, {self._key: value})
        finished, check = finish(scenario, self._threads, self._check)
        self._check = check if only_network([self._key]) else None
        return finished

    def beyond(self, share: float) -> float:
        """By how much the statistic is above the target."""
        return self.at(share).mean - self._goal.target


def _away(finished: Finished, statistic: str) -> float:
    """How many standard errors the ends of the interval are away."""
    from scipy.special import stdtrit

    freedom = finished.attrs[f"overall_{statistic}_stderr"]["degrees_of_freedom"]
    return float(stdtrit(float(freedom), 0.5 + LEVEL / 2))


def _require_between(base: Scenario, key: str, goal: Goal, low: Tried, high: Tried) -> None:
    if math.isnan(low.mean) or math.isnan(high.mean):
        raise SimulationError(f"{base.name}: {goal.statistic} is no number at an end of the range")
    if (low.mean - goal.target) * (high.mean - goal.target) > 0:
        axis = axis_of(key, about(base, key), [low.value, high.value])
        ends = " and ".join(
            f"{goal.text(one.mean)} at {axis.text(one.value)}" for one in (low, high)
        )
        raise SimulationError(
            f"{base.name}: {goal.statistic} = {goal.text(goal.target)} is not reached between the"
            f" ends of {key}: it is {ends}"
        )


def _of_reals(search: _Search, goal: Goal) -> Found:
    """The root, by Brent's method; where the statistic is as near to the target as its error
    allows to tell, it is there."""
    from scipy.optimize import brentq

    def beyond(share: float) -> float:
        found = search.beyond(share)
        return 0.0 if abs(found) <= _CLOSE * search.at(share).error else found

    root = 0.0 if beyond(0.0) == 0 else 1.0 if beyond(1.0) == 0 else None
    if root is None:
        root = float(brentq(beyond, 0.0, 1.0, xtol=_RESOLVED, rtol=_RESOLVED))
    search.at(root)
    return _with_interval(search, goal, root)


def _with_interval(search: _Search, goal: Goal, root: float) -> Found:
    """The root with its error: the interval's ends are tried too, for the slope on either side."""
    span = search.span
    here = search.at(root)
    least = _is_least(search, goal)
    value = span.real(root)
    if here.error == 0:
        return Found(value, 0.0, value, value, least)
    if math.isnan(here.error):
        return Found(value, math.nan, math.nan, math.nan, least)
    below, above = (_nearest(search, root, side) for side in (-1, 1))
    away = here.away * here.error
    coarse = abs(_slope(search, below, above))
    ends = []
    for side in (-1, 1):
        reach = away / coarse if coarse > 0 else 1.0
        there = min(max(root + side * reach, 0.0), 1.0)
        slope = abs(_slope(search, root, there)) if there != root else 0.0
        end = root + side * (away / slope if slope > 0 else math.inf)
        ends.append(min(max(end, 0.0), 1.0))
    half = (ends[1] - ends[0]) / 2 / here.away
    scale = value * math.log(span.high / span.low) if span.logarithmic else span.high - span.low
    return Found(value, half * scale, span.real(ends[0]), span.real(ends[1]), least)


def _nearest(search: _Search, root: float, side: int) -> float:
    """The share nearest to the root on a side, among those that are not at it; or the root."""
    others = [share for share in search.tried if (share - root) * side > 1e-4]
    return min(others, key=lambda share: abs(share - root), default=root)


def _slope(search: _Search, one: float, other: float) -> float:
    """Of the statistic between two shares: paired, as both have the same random numbers."""
    return (search.at(other).mean - search.at(one).mean) / (other - one)


def _is_least(search: _Search, goal: Goal) -> bool:
    """Whether the target is reached above the value that is sought, rather than below."""
    return (search.at(1.0).mean > search.at(0.0).mean) == goal.at_least


def _of_whole(search: _Search, goal: Goal) -> Found:
    """The least or largest whole number at which the target is reached, by bisection.

    Its error and interval are those of the real number at which a straight line between its
    neighbours reaches the target.
    """
    span = search.span
    least = _is_least(search, goal)
    low, high = int(span.low), int(span.high)

    def tried(number: int) -> Tried:
        return search.at(span.share(number))

    def beyond(number: int) -> bool:
        return goal.is_reached(tried(number).mean) == least

    # Where an end is right at the target, there is nothing to divide.
    if beyond(low):
        high = low
    elif not beyond(high):
        low = high
    while high - low > 1:
        middle = round(math.sqrt(low * high)) if span.logarithmic else (low + high) // 2
        middle = min(max(middle, low + 1), high - 1)
        low, high = (low, middle) if beyond(middle) else (middle, high)
    value = high if least else low
    here = tried(value)
    below, above = max(value - 1, int(span.low)), min(value + 1, int(span.high))
    slope = (tried(above).mean - tried(below).mean) / (above - below)
    if here.error == 0:
        return Found(value, 0.0, value, value, least)
    if math.isnan(here.error) or slope == 0:
        return Found(value, math.nan, math.nan, math.nan, least)
    crossing = value + (goal.target - here.mean) / slope
    error = here.error / abs(slope)
    rounded = math.ceil if least else math.floor
    start = rounded(max(crossing - here.away * error, span.low))
    end = rounded(min(crossing + here.away * error, span.high))
    return Found(value, error, start, end, least)
