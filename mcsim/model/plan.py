"""What happens, in SI numbers and laws: the form of a scenario that engines understand."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from mcsim.errors import Problem, ScenarioError
from mcsim.laws import Law
from mcsim.model.exchange import Exchange
from mcsim.model.policy import Cutoff, Rounds, Stale

if TYPE_CHECKING:
    from mcsim.model.division import Division
    from mcsim.model.remedies import Remedies

Level = Literal["device", "node", "rack", "site"]


@dataclass(frozen=True)
class Chain:
    """A state that units fall into and get out of, a Markov chain looked at once a step.

    refresh: the probability that a unit's state is drawn anew at a step, whatever it was. share:
    the probability that it then is in the state, and the share of time that it is.
    """

    refresh: float
    share: float

    @classmethod
    def of(cls, every: float, duration: float, step_time: float) -> Chain:
        """Of the mean times between spells and of a spell, and the plan's clock; all s."""
        rate = 1.0 / every + 1.0 / duration
        return cls(-math.expm1(-step_time * rate), duration / (every + duration))


@dataclass(frozen=True)
class Slow(Chain):
    """A slow state of devices, nodes, racks or sites, or of a link.

    factor: the law of the factor of the compute time while it lasts, or of that which divides the
    bandwidth; drawn with the state. level: what is slow as a whole. evicted: the probability that a
    spell ends because the unit is replaced.
    """

    factor: Law
    level: Level = "device"
    evicted: float = 0.0


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

    turn: part of a period that passes in a step of the clock. phase: of the slowest step, in
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
    operation: Law | None = None
    slow: tuple[Slow | Shock, ...] = ()
    correlation: float = 0.0

    @property
    def nodes(self) -> int:
        """Nodes, the last of which may be partly filled."""
        return -(-self.count // self.devices_per_node)

    @property
    def has_full_node(self) -> bool:
        """Whether it is not all of it the remainder of a node."""
        return self.count >= self.devices_per_node

    @property
    def racks(self) -> int:
        """Racks, the last of which may be partly filled."""
        return -(-self.nodes // self.nodes_per_rack)

    def units(self, level: Level) -> int:
        """Devices, nodes or racks; one site."""
        return {"device": self.count, "node": self.nodes, "rack": self.racks, "site": 1}[level]


@dataclass(frozen=True)
class SitePlan:
    """A site that has devices; identity: its word in the address of its draws."""

    name: str
    identity: int


@dataclass(frozen=True)
class LinkPlan:
    """A link that the sites use; identity: its word in the address of its draws.

    lane_down: the chain of each of its lanes, of which at least one counts as up. slow: its own.
    None where there is no such state.
    """

    name: str
    identity: int
    lanes: int = 1
    lane_down: Chain | None = None
    slow: Slow | None = None

    @property
    def degrades(self) -> bool:
        """Whether it has less bandwidth for spells of time."""
        return self.slow is not None or self.lane_down is not None


@dataclass(frozen=True)
class Unit:
    """A node, rack or site, all messages of which are delayed together, or one more hop of a route.

    name: "node", "rack", "site" or "hop". law: of the delay that is added to each, s.
    participants: its messages that share nothing more. units: inside it, and how many of each
    kind.
    """

    name: str
    law: Law
    participants: int
    units: tuple[tuple[Unit, int], ...] = ()


@dataclass(frozen=True)
class Messages:
    """Like messages that are sent at the same time.

    level: "node", "site" or "link", or "flap": what waits for a link that is down. identity: of the
    site or link. law: of the delay of one, s, besides what it shares. participants: how many there
    are that share no delay. units: those whose messages do, and how many of each kind.
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

    @property
    def is_flap(self) -> bool:
        """Whether it is the wait for links that are down: once a step, whatever is sent."""
        return self.messages[0].level == "flap"


@dataclass(frozen=True)
class Barrier:
    """What the collective at the end of a step takes.

    up, down: s per site, from its last arrival until its part is ready for the other sites, and
        from the result of all sites until its last device has it.
    exchange: among the sites.
    overlap: part of a site's compute time that hides communication.
    links: that the exchange uses, in the order of its numbers.
    levels: s per site, what of `up` and `down` together goes on inside nodes, and among them.
    """

    up: tuple[float, ...]
    down: tuple[float, ...]
    exchange: Exchange
    overlap: float
    delays: tuple[Delay, ...]
    links: tuple[LinkPlan, ...] = ()
    levels: tuple[tuple[float, float], ...] = ()

    @property
    def degrading(self) -> list[LinkPlan]:
        """The links that have less bandwidth for spells of time."""
        return [link for link in self.links if link.degrades]

    @property
    def across(self) -> float:
        """Seconds of the undisturbed exchange among the sites."""
        return self.exchange.undisturbed

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

BARE = ("compute", "data")
"""What a step is spent on where a replica is a device, at one site: until the last arrival, and
after it."""

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
    speed, a free network. clock: s, of a step with equal work, its pipeline and its network but no
    disturbance: what is given in time is looked at once in it. barrier: None where meeting costs
    nothing. target: None where steps and replicates are what is wanted. division: None where every
    device is a replica of its own. slow_sites: what makes whole sites slow for a while, each alike
    but at times of its own. daily: what swings with the time of day. Both multiply all that the
    devices of a site do. ideal_mfu: what part of the fleet's peak the model's operations are in an
    ideal step; None where either is not known. remedies: what is done about slow devices, if
    anything. cutoff: None where everybody is waited for. rounds:
    None where a step is one; where not, groups and clock are of a single step of the round.
    stale: None where all replicas do the same step. statistical_efficiency: that the user gives;
    nothing here depends on it.
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
    clock: float
    target: Target | None = None
    division: Division | None = None
    slow_sites: tuple[Slow | Shock, ...] = ()
    daily: Daily | None = None
    ideal_mfu: float | None = None
    remedies: Remedies | None = None
    cutoff: Cutoff | None = None
    rounds: Rounds | None = None
    stale: Stale | None = None
    statistical_efficiency: float | None = None

    @property
    def inner(self) -> int:
        """Steps that are sampled for one of the result."""
        return 1 if self.rounds is None else self.rounds.inner

    @property
    def undisturbed_step_time(self) -> float:
        """Seconds of a step without disturbance, with equal work and a free network."""
        return self.inner * max(group.compute for group in self.groups)

    @property
    def tracked(self) -> tuple[str, ...]:
        """What is kept of steps beside their times."""
        if self.stale is not None:
            return ("staleness",)
        loses = self.rounds is not None and self.rounds.quorum < len(self.sites)
        return ("samples_lost",) if self.cutoff is not None or loses else ()

    @property
    def barriers(self) -> tuple[Barrier, ...]:
        """At which devices meet: of all, or of each stage."""
        if self.division is not None:
            return self.division.barriers
        return () if self.barrier is None else (self.barrier,)

    @property
    def link_times(self) -> dict[str, float]:
        """Seconds of a step in which each link that is used carries gradients, and what stages
        hand on, undisturbed."""
        buckets = 1 if self.rounds is None else self.rounds.fragments
        if self.division is not None:
            buckets = self.division.parallel.buckets
        found = {} if self.division is None else dict(self.division.link_times)
        for barrier in self.barriers:
            for link, seconds in zip(barrier.links, barrier.exchange.busy(), strict=True):
                found[link.name] = found.get(link.name, 0.0) + buckets * seconds
        return found

    @property
    def components(self) -> tuple[str, ...]:
        """What a step is spent on: computing, collectives of tensors and of experts, waiting in
        the pipeline inside the sites, and what is not hidden of the gradient's inside the sites;
        and of both among them."""
        if self.division is not None:
            return (BARE[0], "tensor", "expert", "bubble", BARE[1], "sites")
        return BARE if len(self.sites) == 1 else (*BARE, "sites")

    @property
    def stages(self) -> int:
        """Of a pipeline."""
        return 1 if self.division is None else self.division.placement.stages

    @property
    def keep_steps(self) -> bool:
        """Whether the time of every step is kept."""
        return self.keep == "steps"

    @property
    def has_finite_variance(self) -> bool:
        """Whether step times have a variance, given the cluster: a mean has an error only then."""
        laws = [
            law
            for group in self.groups
            for law in (group.step, group.stall, group.operation)
            if law is not None
        ]
        laws += [slow.factor for slow in self._slow]
        laws += self.division.delay_laws if self.division else []
        for barrier in self.barriers:
            laws += barrier.delay_laws
            laws += [link.slow.factor for link in barrier.links if link.slow]
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
    def means_have_errors(self) -> bool:
        """Whether mean step times have a standard error, over the clusters if there are several."""
        return self.has_finite_variance and (self.replicates == 1 or self.clusters_have_variance)

    @property
    def draws(self) -> int:
        """Random draws of devices in a step."""
        operations = self.division.operations if self.division is not None else 0
        return sum(
            group.count
            * (1 + (group.stall is not None) + operations * (group.operation is not None))
            for group in self.groups
        )

    @property
    def _slow(self) -> list[Slow | Shock]:
        """All that makes something slow for a while."""
        return [*self.slow_sites, *(slow for group in self.groups for slow in group.slow)]

    @property
    def steps_remember(self) -> bool:
        """Whether steps depend on those before, or on the time, given the cluster."""
        return (
            self.daily is not None
            or self.stale is not None
            or any(isinstance(slow, Slow) for slow in self._slow)
            or any(group.correlation > 0 for group in self.groups)
            or any(barrier.degrading for barrier in self.barriers)
        )

    @property
    def is_plain(self) -> bool:
        """Whether everybody waits for the last, in every step."""
        return self.cutoff is None and self.rounds is None and self.stale is None

    @property
    def is_disturbed(self) -> bool:
        """Whether what devices do in a step differs by more than draws of their own of each."""
        kept = any(group.correlation > 0 for group in self.groups)
        return self.daily is not None or kept or bool(self._slow)

    def undisturbed(self) -> Plan:
        """The same, in which all devices draw anew in every step, and wait for each other."""
        groups = tuple(replace(group, slow=(), correlation=0.0) for group in self.groups)
        return replace(
            self, groups=groups, slow_sites=(), daily=None, cutoff=None, rounds=None, stale=None
        )

    @property
    def devices(self) -> int:
        """Devices of all groups."""
        return sum(group.count for group in self.groups)

    @property
    def replicas(self) -> int:
        """Copies of the model."""
        return self.devices if self.division is None else self.division.placement.replicas


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
