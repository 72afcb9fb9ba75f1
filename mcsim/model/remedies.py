"""What is done about slow devices once a cluster is drawn: some are left out, shares are dealt out.

Nothing is drawn for it: devices that are left out keep their draws, and so does every other. So a
remedy is compared with none on the very same cluster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mcsim.errors import Problem, SimulationError
from mcsim.laws import FloatArray
from mcsim.model.plan import Group, Plan, Slow
from mcsim.model.shares import real_shares, whole_room, whole_shares
from mcsim.scenario import Scenario
from mcsim.scenario.remedy import Remedy

Value = TypeVar("Value", np.float64, np.bool_)

ABSENT = -np.inf
"""The base time of a device that is left out."""


@dataclass(frozen=True)
class Remedies:
    """What is done about a drawn cluster.

    shares, microbatches, most_share, drop_devices, drop_nodes: as the scenario says. spare_nodes:
    of each group, that its count holds besides the devices that are asked for. swapping: seconds a
    step of replacing devices, for which all wait.
    """

    shares: str = "equal"
    microbatches: int | None = None
    most_share: float = math.inf
    drop_devices: int = 0
    drop_nodes: int = 0
    spare_nodes: tuple[int, ...] = ()
    swapping: float = 0.0

    @property
    def leaves_out(self) -> bool:
        """Whether some devices do not work."""
        return bool(self.drop_devices or self.drop_nodes or any(self.spare_nodes))

    def spare_devices(self, groups: Sequence[Group]) -> int:
        """Devices beyond those that are asked for."""
        return sum(self._spares_of(groups, index) for index in range(len(groups)))

    def _spares_of(self, groups: Sequence[Group], index: int) -> int:
        return self.spare_nodes[index] * groups[index].devices_per_node if self.spare_nodes else 0

    def applied(
        self, groups: Sequence[Group], base: Sequence[FloatArray]
    ) -> tuple[FloatArray, ...]:
        """The base times of the devices with their shares of the work; ABSENT of those left out.

        base: per group, shape (devices,), s, with equal work. All that work, work as much together
        as with equal shares.
        """
        found = [times.copy() for times in base]
        nodes = [_nodes(group, times) for group, times in zip(groups, found, strict=True)]
        for index, spare in enumerate(self.spare_nodes):
            _leave_out(groups, found, nodes, [index], spare)
            # Of nodes that are not full more would stay than are asked for.
            more = int(np.count_nonzero(found[index] > ABSENT)) - groups[index].count
            more += self._spares_of(groups, index)
            found[index][_slowest(found[index], more)] = ABSENT
            nodes[index] = _nodes(groups[index], found[index])
        _leave_out(groups, found, nodes, range(len(groups)), self.drop_nodes)
        if self.drop_devices:
            every = np.concatenate(found)
            every[_slowest(every, self.drop_devices)] = ABSENT
            found = _apart(every, found)
        if self.shares != "equal":
            self._deal_out(groups, found)
        return tuple(found)

    def _deal_out(self, groups: Sequence[Group], found: list[FloatArray]) -> None:
        known = found
        if self.shares == "group":
            known = [np.full(g.count, g.compute) for g in groups]
        present = np.concatenate(found) > ABSENT
        time = np.concatenate(known)[present]
        if not (time.size and time.min() > 0.0 and np.isfinite(time).all()):
            raise SimulationError("[remedy] shares need devices that take some time, all of them")
        if self.microbatches is None:
            share = real_shares(time, self.most_share)
        else:
            number = self.microbatches
            most = None if self.most_share == math.inf else whole_room(self.most_share, number)
            share = whole_shares(time / number, number, most) / number
        every = np.zeros(present.size)
        every[present] = share
        for times, part in zip(found, _apart(every, found), strict=True):
            np.multiply(times, part, out=times, where=times > ABSENT)


def _nodes(group: Group, base: FloatArray) -> FloatArray:
    """The times of the nodes, those of their slowest devices."""
    return np.maximum.reduceat(base, np.arange(0, base.size, group.devices_per_node))


def _leave_out(
    groups: Sequence[Group],
    found: list[FloatArray],
    nodes: list[FloatArray],
    among: Sequence[int],
    number: int,
) -> None:
    """Leave out the slowest nodes of some groups."""
    if not number:
        return
    every = np.concatenate([nodes[index] for index in among])
    gone = np.zeros(every.size, np.bool_)
    gone[_slowest(every, number)] = True
    for index, part in zip(among, _apart(gone, [nodes[i] for i in among]), strict=True):
        nodes[index][part] = ABSENT
        found[index][np.repeat(part, groups[index].devices_per_node)[: found[index].size]] = ABSENT


def _apart(every: NDArray[Value], like: Sequence[FloatArray]) -> list[NDArray[Value]]:
    """What was put together of arrays, as they were."""
    return np.split(every, np.cumsum([one.size for one in like])[:-1])


def _slowest(time: FloatArray, number: int) -> NDArray[np.intp]:
    """The places of the largest; among equal ones, of the first."""
    return np.argsort(-time, kind="stable")[:number]


def until_evicted(duration: float, evict_after: float | None) -> float:
    """The mean time in a slow state whose unit is replaced when it has lasted so long; s.

    Of an exponential time its mean below a bound. That it then ends more regularly is left out.
    """
    if evict_after is None:
        return duration
    return -duration * math.expm1(-evict_after / duration)


def remedied(scenario: Scenario, plan: Plan) -> Plan:
    """The plan with what the scenario does about slow devices.

    Raises ScenarioError for what changes nothing, or leaves nobody.
    """
    remedy = scenario.remedy
    if remedy is None or remedy == Remedy():
        return plan
    problems = list(_problems(remedy, plan))
    if problems:
        raise scenario.error(problems)
    spares = tuple(math.ceil(remedy.spares * group.nodes - 1e-9) for group in plan.groups)
    groups = tuple(
        replace(group, count=group.count + spare * group.devices_per_node)
        for group, spare in zip(plan.groups, spares, strict=True)
    )
    remedies = Remedies(
        remedy.shares,
        remedy.microbatches,
        math.inf if remedy.most_share is None else remedy.most_share,
        remedy.drop_devices,
        remedy.drop_nodes,
        spares,
        _swapping(remedy, plan),
    )
    return replace(plan, groups=groups, remedies=remedies)


def _problems(remedy: Remedy, plan: Plan) -> Iterator[Problem]:
    if plan.division is not None and replace(remedy, evict_after=None, swap_cost=0.0) != Remedy():
        message = "shares, drop_..., spares: not available for a model divided among devices yet"
        yield Problem("remedy", message)
    nodes = sum(group.nodes for group in plan.groups)
    for key, number, there in (
        ("drop_devices", remedy.drop_devices, plan.devices),
        ("drop_nodes", remedy.drop_nodes, nodes),
    ):
        if number >= there:
            message = f"{number:,} leaves nobody: there are {there:,}"
            yield Problem(f"remedy.{key}", message)
    slow = any(isinstance(one, Slow) for group in plan.groups for one in group.slow)
    if remedy.evict_after is not None and not slow:
        message = "changes nothing: no device, node or rack has a slow state to be evicted for"
        yield Problem("remedy.evict_after", message)


def _swapping(remedy: Remedy, plan: Plan) -> float:
    """Seconds of swaps in a step: each spell that lasts long enough costs one."""
    if remedy.evict_after is None:
        return 0.0
    found = 0.0
    for group in plan.groups:
        for slow in group.slow:
            if isinstance(slow, Slow):
                # Spells begin where the state is drawn anew, and slow after not having been it.
                begun = group.units(slow.level) * slow.share * (1 - slow.share) * slow.refresh
                found += begun * slow.evicted * remedy.swap_cost
    return found * plan.inner
