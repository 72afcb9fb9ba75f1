"""A model divided among devices: what each operation of a pipeline takes besides computing.

An *operation* is a forward or backward pass of a microbatch through a device's piece of the model.
Devices that share layers (tensor parallelism) or experts meet in every layer, so an operation
takes as long as on the slowest of them, and then what their collectives take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mcsim import catalogue
from mcsim.errors import Problem, ScenarioError
from mcsim.laws import Law
from mcsim.model.collectives import AUTO, Level, phase
from mcsim.model.hazard import Indices
from mcsim.model.network import Routes, barrier_among, goodput
from mcsim.model.pipeline import Schedule
from mcsim.model.placement import Placement, placement_of
from mcsim.model.plan import Barrier, Delay, Group, Messages, SitePlan
from mcsim.model.sharing import Members
from mcsim.model.training import EXPERT_COLLECTIVES, TENSOR_COLLECTIVES, Training
from mcsim.model.wear import aged
from mcsim.scenario import Scenario
from mcsim.scenario.schema import CUSTOM, Network
from mcsim.scenario.workload import Parallel
from mcsim.units import show

MOST_OPERATIONS = 1_000_000
"""Of a pipeline in a step; putting them in order takes three seconds."""


@dataclass(frozen=True)
class Handing:
    """How results go from a stage to the next, at one distance.

    latency, busy: s, that a message takes, and that it keeps the next one waiting. laws: of its
    random delays, whose sum it is late by, each with how many messages are sent side by side.
    """

    latency: float
    busy: float
    laws: tuple[tuple[Law, int], ...]


@dataclass(frozen=True, eq=False)
class Division:
    """How the model is divided among the devices of a plan.

    forward, backward: the part of a device's compute time that an operation is. tensor_time,
    expert_time: s, shape (groups,), of the collectives of an operation on a device of the group.
    tensor_delay, expert_delay: of the same, the random delays. gather: s, shape (stages,), at
    least so long takes an operation, whose parameters are gathered meanwhile. handing: shape
    (replicas, stages), how results leave a stage, as an index of `ways`. barriers: of a bucket of
    each stage's gradient; none where it costs nothing.
    """

    parallel: Parallel
    placement: Placement
    schedule: Schedule
    forward: float
    backward: float
    tensor_time: tuple[float, ...]
    expert_time: tuple[float, ...]
    tensor_delay: Delay | None
    expert_delay: Delay | None
    gather: tuple[float, ...]
    handing: Indices
    ways: tuple[Handing, ...]
    barriers: tuple[Barrier, ...]

    @property
    def operations(self) -> int:
        """Of a device in a step."""
        return 2 * self.schedule.microbatches * self.schedule.chunks

    @property
    def delay_laws(self) -> list[Law]:
        """Of all messages."""
        laws = [law for way in self.ways for law, _ in way.laws]
        delays = (self.tensor_delay, self.expert_delay)
        return laws + [one.messages[0].law for one in delays if one is not None]

    @property
    def number(self) -> Indices:
        """Of each operation of the schedule among those of its device: forward passes first."""
        one = self.schedule
        within = one.chunk * one.microbatches + one.microbatch
        return np.asarray(np.where(one.backward, within + self.operations // 2, within))


def training_of(scenario: Scenario) -> Training | None:
    """The model of a scenario as it is divided; None where none is described."""
    workload = scenario.workload
    if workload.model is None:
        return None
    parallel = workload.parallel or Parallel()
    ranks = parallel.tensor * parallel.pipeline
    replicas = sum(fleet.count for fleet in scenario.fleet) // ranks
    # Where it does not divide, `placement_of` says so.
    return Training(workload.model, parallel, max(replicas, 1))


def free_of_network(groups: Sequence[Group], parallel: Parallel | None = None) -> Division:
    """A division whose devices send each other nothing that takes time; default: each a replica."""
    parallel = parallel or Parallel()
    operations = 2 * parallel.pipeline * parallel.microbatches * parallel.virtual_stages
    if operations > MOST_OPERATIONS:
        raise _problem(
            "workload.parallel.microbatches",
            f"a pipeline does {operations:,} operations a step (two for each stage, microbatch and"
            f" piece); at most {MOST_OPERATIONS:,} are simulated",
        )
    schedule = Schedule.of(parallel.pipeline, parallel.microbatches, parallel.virtual_stages)
    pieces = parallel.microbatches * parallel.virtual_stages
    together = 1.0 + parallel.backward
    placement = placement_of(parallel, groups)
    nothing = (0.0,) * len(groups)
    return Division(
        parallel=parallel,
        placement=placement,
        schedule=schedule,
        forward=1.0 / together / pieces,
        backward=parallel.backward / together / pieces,
        tensor_time=nothing,
        expert_time=nothing,
        tensor_delay=None,
        expert_delay=None,
        gather=(0.0,) * placement.stages,
        handing=np.zeros(placement.unit.shape, np.intp),
        ways=(Handing(0.0, 0.0, ()),),
        barriers=(),
    )


def division_of(
    scenario: Scenario, sites: Sequence[SitePlan], groups: Sequence[Group]
) -> Division | None:
    """None where every device is a replica of its own. Raises ScenarioError."""
    parallel = scenario.workload.parallel
    if parallel is None:
        return None
    if scenario.workload.overlap:
        raise _problem(
            "workload.overlap", "is of devices without [workload.parallel]; there, use `buckets`"
        )
    free = free_of_network(groups, parallel)
    work = _Work(scenario, parallel, free.placement, training_of(scenario), sites, groups)
    tensor_time, tensor_delay = work.tensor()
    expert_time, expert_delay = work.experts()
    handing, ways = work.handing()
    return replace(
        free,
        tensor_time=tensor_time,
        expert_time=expert_time,
        tensor_delay=tensor_delay,
        expert_delay=expert_delay,
        gather=work.gather(),
        handing=handing,
        ways=ways,
        barriers=work.barriers(),
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """What the parts of a division are made from."""

    scenario: Scenario
    parallel: Parallel
    placement: Placement
    training: Training | None
    sites: Sequence[SitePlan]
    groups: Sequence[Group]

    @property
    def network(self) -> Network:
        return self.scenario.network or Network()

    @property
    def layers(self) -> float:
        """Of a device's piece of the model."""
        assert self.training is not None
        return self.training.model.layers / (self.parallel.pipeline * self.parallel.virtual_stages)

    def tensor(self) -> tuple[tuple[float, ...], Delay | None]:
        """The all-reduces among the devices that share layers."""
        node, ranks = self.network.node, self.parallel.tensor
        if node is None or self.training is None or ranks == 1:
            return (0.0,) * len(self.groups), None
        number = TENSOR_COLLECTIVES * self.layers
        each = [
            phase(
                "all-reduce",
                node.algorithm,
                Level(ranks, node.latency, node.bandwidth or group.scale_up),
                self.training.activation,
                level="node",
            )
            for group in self.groups
        ]
        times = tuple(number * one.seconds for one in each)
        return times, _delay(node.delay, "node", number * each[0].rounds, ranks)

    def experts(self) -> tuple[tuple[float, ...], Delay | None]:
        """The all-to-alls among the replicas that share experts."""
        ranks = self.parallel.expert
        if ranks == 1 or self.training is None:
            return (0.0,) * len(self.groups), None
        if self.training.model.experts is None:
            raise _problem("workload.parallel.expert", "the model has no `experts` to share")
        if self.training.model.experts % ranks:
            raise _problem(
                "workload.parallel.expert",
                f"{ranks} does not divide the {self.training.model.experts} experts",
            )
        together = self.placement.unit.reshape(-1, ranks, self.placement.stages)
        for where, what in ((self.placement.site, "site"), (self.placement.node, "node")):
            of = where[together]
            alike = bool((of == of[:, :1]).all())
            if what == "site" and not alike:
                raise _problem(
                    "workload.parallel.expert",
                    f"{ranks} replicas share experts, and some of them are at different sites;"
                    " the groups' counts or the placement must keep them together",
                )
        at = self.network.node if alike else self.network.site
        if at is None:
            return (0.0,) * len(self.groups), None
        number = EXPERT_COLLECTIVES * self.layers
        each = [
            phase(
                "all-to-all",
                AUTO,
                Level(ranks, at.latency, at.bandwidth or group.scale_up),
                self.training.routed,
                level="node" if alike else "site",
            )
            for group in self.groups
        ]
        times = tuple(number * one.seconds for one in each)
        participants = ranks * self.parallel.tensor
        return times, _delay(at.delay, each[0].level, number * each[0].rounds, participants)

    def handing(self) -> tuple[Indices, tuple[Handing, ...]]:
        """How results leave each stage: within the node, the site, or over links."""
        stages, unit = self.placement.stages, self.placement.unit
        ways = [Handing(0.0, 0.0, ())]
        handing = np.zeros(unit.shape, np.intp)
        payload = self.parallel.activation
        if payload is None and self.training is not None:
            payload = self.training.activation
        if stages == 1 or payload is None:
            return handing, tuple(ways)
        # Each of the devices that share a layer hands on its part (Narayanan et al., SC 2021).
        share = payload / self.parallel.tensor
        here, there = unit, np.roll(unit, -1, axis=1)
        same_node = self.placement.node[here] == self.placement.node[there]
        site_here, site_there = self.placement.site[here], self.placement.site[there]
        same_site = site_here == site_there
        wraps = self.parallel.virtual_stages > 1
        used = np.ones(unit.shape, np.bool_)
        used[:, -1] = wraps
        node, site = self.network.node, self.network.site
        if node is not None:
            of_group = self.placement.group[here]
            for index, group in enumerate(self.groups):
                ways.append(_handing(node.latency, share, node.bandwidth or group.scale_up))
                ways[-1] = self._with_delay(ways[-1], node.delay)
                handing[same_node & (of_group == index)] = len(ways) - 1
        if site is not None:
            way = self._with_delay(_handing(site.latency, share, site.bandwidth), site.delay)
            ways.append(way)
            handing[same_site & ~same_node] = len(ways) - 1
        self._over_links(payload, used & ~same_site, site_here, site_there, handing, ways)
        return handing, tuple(ways)

    def _with_delay(self, way: Handing, law: Law | None) -> Handing:
        return way if law is None else replace(way, laws=((law, self.parallel.tensor),))

    def _over_links(
        self,
        payload: float,
        crosses: NDArray[np.bool_],
        start: Indices,
        end: Indices,
        handing: Indices,
        ways: list[Handing],
    ) -> None:
        """Stages of a replica at different sites: all that use a link at once share it."""
        if not crosses.any():
            return
        names = [site.name for site in self.sites]
        routes = Routes([aged(link) for link in self.scenario.link], names)
        pairs, number = np.unique(
            np.column_stack([start[crosses], end[crosses]]), axis=0, return_counts=True
        )
        legs = []
        for a, b in pairs:
            routes.require_joined([names[a], names[b]])
            legs.append(routes.leg(names[a], names[b]))
        load: dict[tuple[int, int], int] = {}
        for leg, count in zip(legs, number, strict=True):
            # Forward results go one way, gradients the other.
            for hop in [*leg, *((end, start) for start, end in leg)]:
                load[hop] = load.get(hop, 0) + int(count)
        for (a, b), leg in zip(pairs, legs, strict=True):
            each = [payload * load[hop] / goodput(routes.link(hop)) for hop in leg]
            laws = tuple(
                (routes.link(hop).delay, 1) for hop in leg if routes.link(hop).delay is not None
            )
            ways.append(Handing(routes.latency(leg), max(each), laws))  # type: ignore[arg-type]
            handing[crosses & (start == a) & (end == b)] = len(ways) - 1

    def barriers(self) -> tuple[Barrier, ...]:
        """Of a bucket of each stage's gradients, which its replicas sum; none without a payload."""
        payloads = self._gradients()
        if not payloads or (self.scenario.network is None and not self.scenario.link):
            return ()
        found = []
        for stage in range(self.placement.stages):
            buckets = self.parallel.buckets
            one = [self._barrier(stage, size / buckets, apart) for size, apart in payloads]
            found.append(one[0] if len(one) == 1 else _one_after_the_other(*one))
        # A link that is down is down for all stages: they wait for it together, once.
        others = (replace(b, delays=tuple(d for d in b.delays if not d.is_flap)) for b in found[1:])
        return (found[0], *others)

    def _gradients(self) -> list[tuple[float, int]]:
        """Bytes of a device that are all-reduced, and among every how many-th replica."""
        parallel, given = self.parallel, self.scenario.workload.gradient
        if given is not None:
            return [(given / (parallel.tensor * parallel.pipeline), 1)]
        if self.training is None:
            return []
        width = self.training.gradient_width
        # ZeRO scatters gradients and gathers parameters (2 bytes), which an all-reduce of the mean
        # of both is like; stage 3 gathers elsewhere.
        size = {0: width, 3: width / 2}.get(parallel.zero, (width + 2.0) / 2)
        found = [(self.training.dense * size, 1)]
        if self.training.expert:
            found.append((self.training.expert * size, parallel.expert))
        return found

    def _barrier(self, stage: int, payload: float, apart: int) -> Barrier:
        members = []
        units = self.placement.unit[::apart, stage]
        for site in range(len(self.sites)):
            local = units[self.placement.site[units] == site]
            members.append(list(self._members(local)))
        return barrier_among(
            self.network,
            self.scenario.link,
            payload,
            0.0,
            self.sites,
            members,
            max(group.compute for group in self.groups),
            self.parallel.tensor * apart,
        )

    def _members(self, units: Indices) -> list[Members]:
        """Units of a stage at a site, by group."""
        found = []
        for index, group in enumerate(self.groups):
            local = units[self.placement.group[units] == index]
            if local.size:
                nodes, each = np.unique(self.placement.node[local], return_counts=True)
                # Nodes of a group are numbered one after the other, as its racks are.
                first = self.placement.node[self.placement.group == index].min()
                _, in_rack = np.unique((nodes - first) // group.nodes_per_rack, return_counts=True)
                found.append(
                    Members(
                        int(each.max()), each.size, local.size, int(in_rack.max()), group.scale_up
                    )
                )
        return found

    def gather(self) -> tuple[float, ...]:
        """Of a piece's parameters, which replicas share (ZeRO stage 3): half an all-reduce."""
        stages = range(self.placement.stages)
        if self.training is None or not self.training.gathered:
            return (0.0,) * len(stages)
        each = [self._barrier(stage, self.training.gathered, 1) for stage in stages]
        return tuple((max(one.up) + one.across + max(one.down)) / 2 for one in each)


def _handing(latency: float, share: float, bandwidth: float) -> Handing:
    return Handing(latency, share / bandwidth, ())


def _delay(law: Law | None, level: str, rounds: float, participants: int) -> Delay | None:
    if law is None or round(rounds) == 0:
        return None
    return Delay(None, round(rounds), (Messages(level, 0, law, participants),))


def _one_after_the_other(one: Barrier, other: Barrier) -> Barrier:
    def total(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(x + y for x, y in zip(a, b, strict=True))

    together = replace(
        one.exchange,
        latency=one.exchange.latency + other.exchange.latency,
        volume=one.exchange.volume + other.exchange.volume,
    )
    return replace(
        one,
        up=total(one.up, other.up),
        down=total(one.down, other.down),
        exchange=together,
        levels=tuple(
            (a[0] + b[0], a[1] + b[1]) for a, b in zip(one.levels, other.levels, strict=True)
        ),
        delays=one.delays + tuple(d for d in other.delays if not d.is_flap),
    )


def require_memory(scenario: Scenario, memory: dict[str, float]) -> None:
    """Raise ScenarioError where a device of the model's does not fit."""
    total = sum(memory.values())
    for fleet in scenario.fleet:
        if fleet.device == CUSTOM:
            continue
        there = catalogue.device(fleet.device).memory
        if total > there:
            parts = ", ".join(f"{name} {show(size, 'data')}" for name, size in memory.items())
            raise _problem(
                "workload.model",
                f"needs {show(total, 'data')} on each device ({parts}), and {fleet.device} has"
                f" {show(there, 'data')}; raise tensor, pipeline, microbatches or zero",
            )


def _problem(path: str, message: str) -> ScenarioError:
    return ScenarioError("scenario", [Problem(path, message)])
