"""What happens, in SI numbers and laws: the form of a scenario that engines understand."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from mcsim.errors import Problem, ScenarioError
from mcsim.laws import Law

Level = Literal["device", "node", "rack", "site"]


@dataclass(frozen=True)
class Slow:
    """A slow state that units fall into and get out of, a Markov chain.

    level: what is slow as a whole. refresh: the probability that a unit's state is drawn anew at a
    step, whatever it was. share: the probability that it then is slow, and the share of time that
    it is. factor: the law of the factor of the compute time while it is, drawn with the state.
    """

    level: Level
    refresh: float
    share: float
    factor: Law


@dataclass(frozen=True)
class Shock:
    """What makes a unit slow for a single step, whatever the steps before.

    level: what is slow as a whole. share: the probability that it is, at a step. factor: the law
    of the factor of the compute time then.
    """

    level: Level
    share: float
    factor: Law


@dataclass(frozen=True)
class Daily:
    """A swing of all times: 1 + amplitude cos(2 pi (step x turn - phase)).

    turn: part of a period that passes in an undisturbed step. phase: of the slowest step, in
    periods.
    """

    amplitude: float
    turn: float
    phase: float


@dataclass(frozen=True)
class Group:
    """Like devices at one site; devices are numbered from 0, by node and rack.

    identity: the group's word in the address of every draw. site: index among the plan's sites.
    compute: s, one undisturbed step. scale_up: byte/s, of a device inside its node. A law that is
    None is the constant 1 (stall: 0). slow: what makes its devices slow for a while.
    correlation: the probability that a device keeps the draw of `step` of the step before.
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
    slow: tuple[Slow | Shock, ...] = ()
    correlation: float = 0.0

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
class Messages:
    """Like messages that are sent at the same time.

    level: "node", "site" or "link"; identity: of the site or link. law: of the delay of one, s.
    participants: how many there are.
    """

    level: str
    identity: int
    law: Law
    participants: int


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
        """Of all messages."""
        return [messages.law for delay in self.delays for messages in delay.messages]


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
    replicates are what is wanted. slow_sites: what makes whole sites slow for a while, each alike
    but at times of its own. daily: what swings with the time of day. Both multiply all that the
    devices of a site do.
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
    slow_sites: tuple[Slow | Shock, ...] = ()
    daily: Daily | None = None

    @property
    def keep_steps(self) -> bool:
        """Whether the time of every step is kept."""
        return self.keep == "steps"

    @property
    def has_finite_variance(self) -> bool:
        """Whether step times have a variance, given the cluster: a mean has an error only then."""
        laws = [law for group in self.groups for law in (group.step, group.stall) if law]
        laws += [slow.factor for slow in self._slow]
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
    def _slow(self) -> list[Slow | Shock]:
        """All that makes something slow for a while."""
        return [*self.slow_sites, *(slow for group in self.groups for slow in group.slow)]

    @property
    def steps_remember(self) -> bool:
        """Whether steps depend on those before, or on the time, given the cluster."""
        return (
            self.daily is not None
            or any(isinstance(slow, Slow) for slow in self._slow)
            or any(group.correlation > 0 for group in self.groups)
        )

    @property
    def is_disturbed(self) -> bool:
        """Whether steps differ by more than draws of their own of each device."""
        return self.steps_remember or bool(self._slow)

    def undisturbed(self) -> Plan:
        """The same, in which all devices draw anew in every step and nothing else differs."""
        groups = tuple(replace(group, slow=(), correlation=0.0) for group in self.groups)
        return replace(self, groups=groups, slow_sites=(), daily=None)

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
