"""One cluster drawn from the lottery: what is persistent in a replicate."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.philox import Purpose, key_of, survivals, word_3
from mcsim.engine.screening import Bins, GroupLaws, GroupScreen, Level, screens_of_site
from mcsim.errors import NobodyLeftError, SimulationError
from mcsim.laws import FloatArray, Law
from mcsim.model.plan import Group, Plan
from mcsim.model.policy import Cutoff
from mcsim.model.remedies import ABSENT

KEPT = (16.0, 64.0, 256.0, 1024.0, np.inf)
"""Devices kept per site and step at each depth of screening.

Without stalls, none of the first 16 outranks the level in one step of e^16 = 9 million; it is then
looked at with 64, and at last with all. With stalls, a device is kept where its step or its stall
alone may bring it to the level, and fewer reach it: see `sampled.start_of`.
"""
_NEARLY_NEVER = 1e-3
"""How often a level may be too high: the step is then looked at again, with all devices."""


def kept_at(depth: int, cutoff: Cutoff | None) -> float:
    """Devices kept per site and step at a depth of `KEPT`.

    Of a step that does not wait for the latest `spare`, all of those are among them as surely as
    one is without: their number varies by its root. With stalls, too few reach the level, so that
    each depth keeps twice as many.
    """
    least, spare = KEPT[depth], 0 if cutoff is None else cutoff.spare
    return least + (spare * 2.0**depth + (least * spare) ** 0.5 if spare else 0.0)


@dataclass(frozen=True, eq=False)
class Cluster:
    """The devices of one replicate.

    base: per group, shape (devices,), s: the time of a step without what varies by the step.
    bins: per group, the same times in few bins.
    """

    plan: Plan
    laws: tuple[GroupLaws, ...]
    replicate: int
    base: tuple[FloatArray, ...]
    bins: tuple[Bins, ...]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _screens: dict[int, tuple[tuple[Level, ...], tuple[GroupScreen, ...]]] = field(
        default_factory=dict
    )

    def screens(self, depth: int) -> tuple[tuple[Level, ...], tuple[GroupScreen, ...]]:
        """The level of each site and the thresholds of each group, at a depth of `KEPT`."""
        with self._lock:
            if depth not in self._screens:
                self._screens[depth] = self._find_screens(depth)
            return self._screens[depth]

    @property
    def _highest_level(self) -> float:
        """s; whoever is late for a timeout is above it, but where a site is slower than nearly
        ever."""
        plan = self.plan
        if plan.cutoff is None:
            return np.inf
        slower = 1.0 if plan.daily is None else 1.0 + plan.daily.amplitude
        for slow in plan.slow_sites:
            slower *= max(1.0, float(slow.factor.quantile(np.array([_NEARLY_NEVER]))[0]))
        return plan.cutoff.timeout / slower

    def _find_screens(self, depth: int) -> tuple[tuple[Level, ...], tuple[GroupScreen, ...]]:
        levels: list[Level] = []
        screens: dict[int, GroupScreen] = {}
        for site in range(len(self.plan.sites)):
            here = [i for i, group in enumerate(self.plan.groups) if group.site == site]
            level, found = screens_of_site(
                [(self.laws[i], self.bins[i]) for i in here],
                kept_at(depth, self.plan.cutoff),
                self._highest_level,
            )
            levels.append(level)
            screens.update(zip(here, found, strict=True))
        return tuple(levels), tuple(screens[i] for i in range(len(self.plan.groups)))


def draw_cluster(plan: Plan, laws: tuple[GroupLaws, ...], replicate: int) -> Cluster:
    """The persistent factors of every device, node, rack and site of one replicate.

    Raises SimulationError where their product overflows.
    """
    base = base_times(plan, replicate)
    return Cluster(plan, laws, replicate, base, tuple(Bins.of(times) for times in base))


def base_times(plan: Plan, replicate: int) -> tuple[FloatArray, ...]:
    """Per group, the time of a step by all that is persistent, shape (devices,), s.

    ABSENT of devices that are left out. Raises SimulationError where the product of the factors
    overflows, and where nobody is left at a site.
    """
    base = tuple(_base_times(plan, group, replicate) for group in plan.groups)
    for group, times in zip(plan.groups, base, strict=True):
        if not np.isfinite(times).all():
            raise SimulationError(f"persistent factors of {group.name} overflow")
    if plan.remedies is None:
        return base
    base = plan.remedies.applied(plan.groups, base)
    for index, site in enumerate(plan.sites):
        if not any(np.any(t > ABSENT) for t, g in _paired(base, plan) if g.site == index):
            raise NobodyLeftError(f"[remedy] leaves out all devices at {site.name}")
    return base


def _paired(base: Sequence[FloatArray], plan: Plan) -> Iterator[tuple[FloatArray, Group]]:
    return zip(base, plan.groups, strict=True)


def at_work(plan: Plan, replicate: int) -> int:
    """How many devices of a cluster are not left out."""
    remedies = plan.remedies
    if remedies is None:
        return plan.devices
    if not remedies.drop_nodes:
        return plan.devices - remedies.spare_devices(plan.groups) - remedies.drop_devices
    return sum(int(np.count_nonzero(times > ABSENT)) for times in base_times(plan, replicate))


def _base_times(plan: Plan, group: Group, replicate: int) -> FloatArray:
    """Undisturbed time by all persistent factors, shape (devices,), s."""
    site = plan.sites[group.site].identity

    def factor(law: Law, purpose: Purpose, identity: int, members: int) -> FloatArray:
        index = np.arange(members, dtype=np.uint32)
        last = word_3(replicate, purpose)
        once = np.zeros_like(index)
        drawn = survivals(index, once, np.uint32(identity), last, *key_of(plan.seed))
        return law.quantile(drawn)

    def nodes() -> NDArray[np.int64]:
        return np.arange(group.count) // group.devices_per_node

    base = np.full(group.count, group.compute)
    if group.persistent is not None:
        base *= factor(group.persistent, Purpose.PERSISTENT, group.identity, group.count)
    if group.node is not None:
        base *= factor(group.node, Purpose.NODE, group.identity, group.nodes)[nodes()]
    if group.rack is not None:
        racks = nodes() // group.nodes_per_rack
        base *= factor(group.rack, Purpose.RACK, group.identity, group.racks)[racks]
    if group.site_factor is not None:
        base *= factor(group.site_factor, Purpose.SITE, site, 1)
    return base
