"""The exact engine: one draw a step from the law of the last arrival, whatever the fleet's size.

Given what is persistent, devices are independent, so the last arrival at a site follows a law that
`mcsim.model.maximum` tabulates once a replicate. A step costs one draw a site, and one more for
the group of the device that came last: given when it came, each group's share of the hazard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.cluster import base_times
from mcsim.engine.compile import kernel
from mcsim.engine.philox import Purpose, Word, key_of, philox, to_survival, word_3
from mcsim.engine.policies import ended
from mcsim.engine.steps import Arrivals, Steps
from mcsim.laws import FloatArray
from mcsim.model.choice import why_not_exact
from mcsim.model.lookup import IndexArray
from mcsim.model.maximum import MaximumLaw, Members, NotExact, maximum_law
from mcsim.model.plan import Plan
from mcsim.model.remedies import ABSENT

_WORD = 2.0**-32


def site_laws(plan: Plan, replicate: int) -> list[MaximumLaw]:
    """The law of the last arrival at each site of a replicate. Raises NotExact."""
    base = base_times(plan, replicate)
    laws = []
    for site in range(len(plan.sites)):
        here = _groups_of(plan, site)
        present = [base[i][base[i] > ABSENT] for i in here]
        if any(times.size == 0 for times in present):
            raise NotExact("all devices of a group are left out")
        members = [
            Members(times, plan.groups[i].step, plan.groups[i].stall)
            for i, times in zip(here, present, strict=True)
        ]
        laws.append(maximum_law(members))
    return laws


def _groups_of(plan: Plan, site: int) -> list[int]:
    return [index for index, group in enumerate(plan.groups) if group.site == site]


class ExactEngine:
    """The laws of the last arrivals are drawn from."""

    name = "exact"

    first_laws: Sequence[MaximumLaw] | None = None
    """Of the first replicate, once it is drawn: for the self-check."""

    def __init__(self, plan: Plan) -> None:
        reason = why_not_exact(plan)
        if reason is not None:
            raise NotExact(reason)
        self._plan = plan

    def draw(self, replicate: int) -> ExactReplicate:
        """The laws of a replicate's cluster. Raises NotExact where they cannot be tabulated."""
        laws = site_laws(self._plan, replicate)
        if replicate == 0:
            self.first_laws = laws
        return ExactReplicate(self._plan, replicate, laws)


@dataclass(frozen=True)
class ExactReplicate:
    """The laws of the last arrivals at the sites of a cluster."""

    plan: Plan
    replicate: int
    laws: Sequence[MaximumLaw]

    def sample(self, first: int, count: int) -> Steps:
        """Steps `first` to `first + count - 1`, each from its own address."""
        inner = self.plan.inner
        arrivals = self._arrivals(first * inner, count * inner)
        return ended(self.plan, self.replicate, first, arrivals)

    def _arrivals(self, first: int, count: int) -> Arrivals:
        plan = self.plan
        shape = (count, len(plan.sites))
        ready, draw = np.empty(shape), np.empty(shape)
        culprit = np.empty(shape, np.int64)
        busy = np.empty((count, len(plan.groups)))
        last = word_3(self.replicate, Purpose.EXACT)
        key = key_of(plan.seed)
        for site, law in enumerate(self.laws):
            here = _groups_of(plan, site)
            identity = np.uint32(plan.sites[site].identity)
            latest, drawn, group, mean = draw_maxima(
                law.first,
                law.spacing,
                law.guide,
                law.level,
                law.time,
                np.cumsum(law.share, axis=0),
                law.busy,
                law.floor,
                np.cumsum(law.floor_share),
                first,
                count,
                identity,
                last,
                *key,
            )
            ready[:, site], draw[:, site] = latest, drawn
            culprit[:, site] = np.array(here)[group]
            busy[:, here] = mean
        return Arrivals(ready, culprit, draw, busy)


@kernel
def draw_maxima(
    lowest: float,
    spacing: float,
    guide: IndexArray,
    level: FloatArray,
    time: FloatArray,
    share: FloatArray,
    busy: FloatArray,
    floor: float,
    floor_share: FloatArray,
    first: int,
    count: int,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
) -> tuple[FloatArray, FloatArray, NDArray[np.int64], FloatArray]:
    """The last arrival at a site in each of some steps, from the tables of its law.

    lowest, spacing, guide, level, time, busy, floor: of `MaximumLaw`. share, floor_share: the
    cumulated shares of the groups. Result: times, s; the survival probabilities they were drawn
    at; groups, each shape (steps,); and the mean times of the devices of each group, shape
    (steps, groups), s.
    """
    groups = share.shape[0]
    latest = np.empty(count, np.float64)
    draw = np.empty(count, np.float64)
    group = np.empty(count, np.int64)
    mean = np.empty((count, groups), np.float64)
    cells = time.size - 1
    for s in range(count):
        a, b, c, _ = philox(np.uint32(0), np.uint32(first + s), identity, last, k0, k1)
        survival = to_survival(a, b)
        # How many devices are late, on average: the hazard of the law, by which it is tabulated.
        y = np.log(-np.log1p(-survival))
        near = min(max(int((y - lowest) / spacing), 0), guide.size - 1)
        cell = min(guide[near], cells - 1)
        while cell > 0 and y < level[cell]:
            cell -= 1
        while cell < cells - 1 and y >= level[cell + 1]:
            cell += 1
        part = (y - level[cell]) / (level[cell + 1] - level[cell])
        part = min(max(part, 0.0), 1.0)
        at = time[cell] + (time[cell + 1] - time[cell]) * part
        chance = (np.float64(c) + 0.5) * _WORD
        found = 0
        if at > floor:
            while found < groups - 1 and chance >= share[found, cell]:
                found += 1
        else:
            at = floor
            while found < groups - 1 and chance >= floor_share[found]:
                found += 1
        latest[s] = at
        draw[s] = survival
        group[s] = found
        for g in range(groups):
            mean[s, g] = busy[g, cell] + (busy[g, cell + 1] - busy[g, cell]) * part
    return latest, draw, group, mean
