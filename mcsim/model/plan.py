"""What happens, in SI numbers and laws: the form of a scenario that engines understand."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from mcsim.errors import Problem, ScenarioError
from mcsim.laws import Law


@dataclass(frozen=True)
class Slow:
    """A slow state that devices, nodes or racks fall into and get out of, a Markov chain.

    refresh: the probability that a unit's state is drawn anew at a step, whatever it was. share:
    the probability that it then is slow, and the share of time that it is. factor: the law of the
    factor of the compute time while it is, drawn with the state.
    """

    refresh: float
    share: float
    factor: Law


@dataclass(frozen=True)
class Group:
    """Like devices at one site; devices are numbered from 0, by node and rack.

    identity: the group's word in the address of every draw. site: index among the plan's sites.
    compute: s, one undisturbed step. scale_up: byte/s, of a device inside its node. A law that is
    None is the constant 1 (stall: 0).
    """

    name: str
    identity: int
    site: int
    count: int
    compute: float
    devices_per_node: int
    nodes_per_rack: int
    scale_up: float
    persistent: Law | None
    node: Law | None
    rack: Law | None
    site_factor: Law | None
    step: Law | None
    stall: Law | None
    slow: Slow | None = None
    slow_node: Slow | None = None
    slow_rack: Slow | None = None

    @property
    def is_ever_slow(self) -> bool:
        """Whether it has a slow state."""
        return any((self.slow, self.slow_node, self.slow_rack))

    @property
    def nodes(self) -> int:
        """Nodes, the last of which may be partly filled."""
        return -(-self.count // self.devices_per_node)

    @property
    def racks(self) -> int:
        """Racks, the last of which may be partly filled."""
        return -(-self.nodes // self.nodes_per_rack)


@dataclass(frozen=True)
class SitePlan:
    """A site that has devices; identity: its word in the address of its draws."""

    name: str
    identity: int


@dataclass(frozen=True)
class Unit:
    """A node, rack or site, all messages of which are delayed together.

    name: "node", "rack" or "site". law: of the delay that is added to each, s. participants: its
    messages that share nothing more. units: inside it, and how many of each kind.
    """

    name: str
    law: Law
    participants: int
    units: tuple[tuple[Unit, int], ...] = ()


@dataclass(frozen=True)
class Messages:
    """Like messages that are sent at the same time.

    level: "node", "site" or "link"; identity: of the site or link. law: of the delay of one, s,
    besides what it shares. participants: how many there are that share no delay. units: those
    whose messages do, and how many of each kind.
    """

    level: str
    identity: int
    law: Law
    participants: int
    units: tuple[tuple[Unit, int], ...] = ()

    @property
    def count(self) -> int:
        """All messages."""
        inside = sum(unit.participants * number for unit, number in self._all_units())
        return self.participants + inside

    @property
    def shared(self) -> Mapping[tuple[str, Law], int]:
        """How many units have a delay of their own, by their name and its law."""
        found: dict[tuple[str, Law], int] = {}
        for unit, number in self._all_units():
            found[unit.name, unit.law] = found.get((unit.name, unit.law), 0) + number
        return found

    def _all_units(self) -> list[tuple[Unit, int]]:
        found, inner = [], list(self.units)
        while inner:
            found += inner
            inner = [(u, n * number) for unit, number in inner for u, n in unit.units]
        return found


@dataclass(frozen=True)
class Delay:
    """A random delay of the barrier: rounds of messages, each of which waits for its slowest.

    site: index of the site whose phase it lengthens, or None for the exchange between sites.
    messages: of each round.
    """

    site: int | None
    rounds: int
    messages: tuple[Messages, ...]


@dataclass(frozen=True)
class Barrier:
    """What the collective at the end of a step takes.

    up, down: s per site, from its last arrival until its part is ready for the other sites, and
        from the result of all sites until its last device has it.
    across: s, among the sites.
    overlap: part of a site's compute time that hides communication.
    """

    up: tuple[float, ...]
    down: tuple[float, ...]
    across: float
    overlap: float
    delays: tuple[Delay, ...]

    @property
    def delay_laws(self) -> list[Law]:
        """Of all messages, and of what they share."""
        every = [messages for delay in self.delays for messages in delay.messages]
        shared = [law for messages in every for _, law in messages.shared]
        return [messages.law for messages in every] + shared


QUANTILES_BY_NAME: Mapping[str, float] = MappingProxyType(
    {"step_time_p50": 0.5, "step_time_p99": 0.99, "step_time_p999": 0.999}
)
"""The quantiles that a target may be of, by their names."""

LEAST_BEYOND = 10
"""Where fewer steps are expected on a side of a quantile, no error of it is claimed."""


@dataclass(frozen=True)
class Target:
    """What a run goes on for: a relative standard error of a statistic, and where it stops."""

    relative_error: float
    statistic: str
    max_steps: int
    max_replicates: int


@dataclass(frozen=True)
class Plan:
    """All that an engine needs.

    engine, keep: as the scenario says. ideal_step_time: s; no disturbance, work in proportion to
    speed, a free network. barrier: None where meeting costs nothing. target: None where steps and
    replicates are what is wanted.
    """

    seed: int
    steps: int
    replicates: int
    engine: str
    keep: str
    groups: tuple[Group, ...]
    sites: tuple[SitePlan, ...]
    barrier: Barrier | None
    ideal_step_time: float
    target: Target | None = None

    @property
    def keep_steps(self) -> bool:
        """Whether the time of every step is kept."""
        return self.keep == "steps"

    @property
    def has_finite_variance(self) -> bool:
        """Whether step times have a variance, given the cluster: a mean has an error only then."""
        laws = [law for group in self.groups for law in (group.step, group.stall) if law]
        laws += [
            slow.factor
            for group in self.groups
            for slow in (group.slow, group.slow_node, group.slow_rack)
            if slow
        ]
        laws += self.barrier.delay_laws if self.barrier else []
        return all(law.variance() < math.inf for law in laws)

    @property
    def clusters_have_variance(self) -> bool:
        """Whether what differs between clusters has a variance: only then has a mean over several
        of them an error."""
        laws = [
            law
            for group in self.groups
            for law in (group.persistent, group.node, group.rack, group.site_factor)
            if law is not None
        ]
        return all(law.variance() < math.inf for law in laws)

    @property
    def draws(self) -> int:
        """Random draws of devices in a step."""
        return sum(group.count * (1 if group.stall is None else 2) for group in self.groups)

    @property
    def steps_remember(self) -> bool:
        """Whether steps depend on those before, given the cluster."""
        return any(group.is_ever_slow for group in self.groups)

    def without_slow_states(self) -> Plan:
        """The same, whose devices are never slow for a while."""
        groups = tuple(
            replace(group, slow=None, slow_node=None, slow_rack=None) for group in self.groups
        )
        return replace(self, groups=groups)

    @property
    def devices(self) -> int:
        """Devices of all groups."""
        return sum(group.count for group in self.groups)


def identity_of(name: str) -> int:
    """The 32-bit word that stands for a name in the address of random numbers.

    It depends on nothing but the name, so that a group keeps its draws when others are added,
    removed or reordered.
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")


def require_distinct(kind: str, names: Iterable[str]) -> None:
    """Two names of one kind must not share an identity: their draws would be the same.

    Among a hundred names the chance is 1e-6. Raises ScenarioError.
    """
    seen: dict[int, str] = {}
    for name in names:
        other = seen.setdefault(identity_of(name), name)
        if other != name:
            message = f'"{other}" and "{name}" have the same 32-bit identity; rename one of them'
            raise ScenarioError("scenario", [Problem(kind, message)])
