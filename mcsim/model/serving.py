"""The fleet as a service: independent replicas of a model, each of a few devices.

A replica answers several requests at a time: when one is answered, the next one's prompt is run and
it takes the place (continuous batching: Yu et al., "Orca", OSDI 2022; caches in pages: Kwon et al.,
"Efficient memory management for large language model serving with PagedAttention", SOSP 2023). No
replica waits for another, so what they answer adds up; the devices of a replica share every layer
and wait for the slowest of them in every pass. All that a device does is slowed by its factors,
what the memory bounds too: an upper bound of the loss, since measured speeds of memory-bound work
differ 50 times less than those of compute-bound work (0.04 % against 2 %).

Left out: random delays of messages inside a replica, failures, and requests of unlike length that
are not answered in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcsim import catalogue
from mcsim.errors import Problem, ScenarioError
from mcsim.laws import FloatArray
from mcsim.model.collectives import Level
from mcsim.model.lockstep import slowed
from mcsim.model.plan import Group, Plan
from mcsim.model.queueing import m_g_c
from mcsim.model.roofline import Replica, Served
from mcsim.scenario import Scenario
from mcsim.scenario.schema import CUSTOM, Fleet
from mcsim.scenario.uses import BYTES, Inference
from mcsim.units import show

_MOST_NODES = 4
"""Of a replica, where its size is not given."""


@dataclass(frozen=True)
class Known:
    """A value, and what it follows from: a key of the scenario, or the catalogue's figure."""

    value: float
    source: str


@dataclass(frozen=True)
class Pool:
    """The replicas of a group of devices.

    batch: requests that a replica answers at a time.
    """

    group: Group
    replica: Replica
    batch: int

    @property
    def replicas(self) -> int:
        """Whole ones; the devices that are left over do nothing."""
        return self.group.count // self.replica.devices

    @cached_property
    def token_time(self) -> tuple[float, float]:
        """From a token to the next, undisturbed, s: of the devices, and of what they exchange."""
        step, prefill = self.replica.step(self.batch), self.replica.prefill()
        each = self.batch / self.replica.served.output
        return (
            step.devices + each * prefill.devices,
            step.exchange + each * prefill.exchange,
        )

    @property
    def ideal(self) -> float:
        """Requests a second of all devices, undisturbed, with a free network and none left over."""
        output = self.replica.served.output
        whole = self.group.count / self.replica.devices
        return whole * self.batch / (output * self.token_time[0])

    @property
    def reading(self) -> float:
        """Part of the devices' undisturbed time in passes that the memory bounds."""
        prefill, step = self.replica.prefill(), self.replica.step(self.batch)
        prompts = self.batch / self.replica.served.output * prefill.devices
        time = prompts * prefill.by_memory + step.devices * step.by_memory
        return time / self.token_time[0]

    @property
    def taking_part(self) -> float:
        """Part of the devices that are in a whole replica."""
        return self.replicas * self.replica.devices / self.group.count

    def rates(self, factor: FloatArray) -> FloatArray:
        """Requests a second of each replica. factor: by which its devices are slower."""
        devices, exchange = self.token_time
        output = self.replica.served.output
        return np.asarray(self.batch / (output * (factor * devices + exchange)))

    def latencies(self, factor: FloatArray) -> FloatArray:
        """Of a request that waits for no other, of each replica: prompt and answer, s."""
        devices, exchange = self.token_time
        output = self.replica.served.output
        return self.first_token(factor) + output * (factor * devices + exchange)

    def first_token(self, factor: FloatArray) -> FloatArray:
        """Until the prompt has been run, of each replica, s."""
        prefill = self.replica.prefill()
        return np.asarray(factor * prefill.devices + prefill.exchange)


@dataclass(frozen=True)
class Drawn:
    """What the pools of a drawn cluster do.

    Shape (pools,): capacity: requests a second. wait, wait_at_random: s, for a place in the pool,
    and in a replica that is chosen at random. latency, first_token, slowest: s, of a request: the
    mean, until its first token, and in the slowest replica; waiting included. factor: by which
    replicas are slower, their mean.
    """

    capacity: FloatArray
    wait: FloatArray
    wait_at_random: FloatArray
    latency: FloatArray
    first_token: FloatArray
    slowest: FloatArray
    factor: FloatArray

    @classmethod
    def stacked(cls, several: Sequence[Drawn]) -> Drawn:
        """Several clusters, shape (replicates, pools)."""
        names = cls.__dataclass_fields__
        return cls(*(np.array([getattr(one, name) for one in several]) for name in names))


@dataclass(frozen=True)
class Service:
    """All that a scenario says of the fleet as a service.

    known: the keys of [inference] with what they are, given or not, and what they follow from.
    """

    served: Served
    pools: tuple[Pool, ...]
    known: dict[str, Known]

    @property
    def load(self) -> float:
        """Requests over the most that can be answered."""
        return self.known["utilisation"].value

    @property
    def ideal(self) -> float:
        """Requests a second, undisturbed and with a free network."""
        return sum(pool.ideal for pool in self.pools)

    @property
    def exchanging(self) -> float:
        """Requests a second where nothing disturbs but replicas exchange, and devices are left."""
        one = np.ones(1)
        return sum(pool.replicas * float(pool.rates(one)[0]) for pool in self.pools)

    @property
    def whole(self) -> float:
        """Requests a second where nothing disturbs, replicas exchange nothing, devices are left."""
        return sum(pool.ideal * pool.taking_part for pool in self.pools)

    def drawn(self, plan: Plan, base: Sequence[FloatArray]) -> Drawn:
        """Of a cluster. base: per group, the times of its devices in training, s."""
        rows = [self._pool(pool, plan, times) for pool, times in zip(self.pools, base, strict=True)]
        return Drawn(*np.array(rows).T)

    def _pool(self, pool: Pool, plan: Plan, base: FloatArray) -> tuple[float, ...]:
        factor = slowed(pool.group, base, pool.replica.devices, plan.slow_sites)
        rates, latencies = pool.rates(factor), pool.latencies(factor)
        share = rates / rates.sum()
        service, cv2 = float(latencies @ share), self.known["variation"].value ** 2
        wait = m_g_c(pool.replicas * pool.batch, self.load, service, cv2)
        at_random = m_g_c(pool.batch, self.load, service, cv2)
        first = float(pool.first_token(factor) @ share)
        slowest = float(latencies.max())
        return (
            float(rates.sum()),
            wait,
            at_random,
            wait + service,
            wait + first,
            wait + slowest,
            float(factor.mean()),
        )


def service_of(scenario: Scenario, plan: Plan) -> Service:
    """The scenario's fleet as a service. Raises ScenarioError for what is not known or fits not."""
    try:
        known = _known(scenario)
        served = _served(known)
        pools = tuple(
            _pool(scenario, served, known, fleet, group, index)
            for index, (fleet, group) in enumerate(zip(scenario.fleet, plan.groups, strict=True))
        )
    except ScenarioError as error:
        raise scenario.error(error.problems) from None
    return Service(served, pools, known)


def _known(scenario: Scenario) -> dict[str, Known]:
    """Every key of [inference], from the scenario, its workload or the catalogue."""
    asked, model = scenario.inference or Inference(), scenario.workload.model
    found = {
        key: Known(float(value), f"inference.{key}")
        for key in Inference.__dataclass_fields__
        if key != "precision" and (value := getattr(asked, key)) is not None
    }
    for key, figure in catalogue.serving()["inference"].items():
        source = f"catalogue serving.toml, inference.{key} ({figure.confidence})"
        found.setdefault(key, Known(float(figure.value), source))
    if model is not None:
        for key in ("parameters", "active_parameters", "layers", "hidden"):
            value = getattr(model, key)
            if value is not None:
                found.setdefault(key, Known(float(value), f"workload.model.{key}"))
    gradient = scenario.workload.gradient
    if "parameters" not in found and gradient:
        found["parameters"] = Known(gradient / 2.0, "workload.gradient, two bytes a parameter")
    if "parameters" not in found:
        message = "is not known: neither it, workload.model nor workload.gradient is given"
        raise _problem("inference.parameters", message)
    parameters = found["parameters"]
    found.setdefault("active_parameters", Known(parameters.value, f"{parameters.source}: all"))
    if found["active_parameters"].value > parameters.value:
        message = f"{found['active_parameters'].value:g} are more than all {parameters.value:g}"
        raise _problem("inference.active_parameters", message)
    # Of a dense transformer, 12 L h^2 parameters (Kaplan et al., arXiv:2001.08361, table 1).
    aspect = found["aspect"].value
    layers = max(1.0, round((found["active_parameters"].value / (12 * aspect**2)) ** (1 / 3)))
    shape = "of 12 L h^2 active parameters, catalogue serving.toml, inference.aspect (assumption)"
    found.setdefault("layers", Known(layers, shape))
    found.setdefault("hidden", Known(aspect * found["layers"].value, shape))
    width = _width(scenario, asked)
    found["width"] = width
    cache = 2.0 * found["layers"].value * found["cache_width"].value * width.value
    source = f"2 x layers x {found['cache_width'].source}"
    found.setdefault("cache", Known(cache, source))
    return found


def _precision(scenario: Scenario) -> tuple[str, str]:
    """The format of weights and caches, and the key that says it."""
    asked = scenario.inference
    if asked is not None and asked.precision is not None:
        return asked.precision, "inference.precision"
    return scenario.workload.precision, "workload.precision"


def _width(scenario: Scenario, asked: Inference) -> Known:
    precision, key = _precision(scenario)
    if precision not in BYTES:
        raise _problem(key, f'"{precision}": it is not known how many bytes a number has')
    return Known(BYTES[precision], f'{key} = "{precision}"')


def _served(known: dict[str, Known]) -> Served:
    value = {key: one.value for key, one in known.items()}
    return Served(
        parameters=value["parameters"],
        active=value["active_parameters"],
        layers=int(value["layers"]),
        hidden=int(value["hidden"]),
        width=value["width"],
        cache=value["cache"],
        prompt=int(value["prompt"]),
        output=int(value["output"]),
    )


def _pool(
    scenario: Scenario,
    served: Served,
    known: dict[str, Known],
    fleet: Fleet,
    group: Group,
    index: int,
) -> Pool:
    if fleet.device == CUSTOM:
        message = (
            "of a custom device neither memory, memory bandwidth, peak nor power are known, from"
            " which follows how it serves; take one of the catalogue's (`mcsim list devices`)"
        )
        raise _problem(f"fleet[{index}].device", message)
    device, (precision, key) = catalogue.device(fleet.device), _precision(scenario)
    if precision not in device.peak:
        there = ", ".join(device.peak)
        raise _problem(key, f'"{precision}" is not known of {fleet.device}; there are {there}')
    value = {name: one.value for name, one in known.items()}
    node = min(group.devices_per_node, group.count)

    def replica(devices: int) -> Replica:
        return Replica(
            served=served,
            devices=devices,
            peak=device.peak[precision] * value["compute_efficiency"] * fleet.efficiency,
            bandwidth=device.memory_bandwidth * value["bandwidth_efficiency"],
            memory=device.memory * value["memory_share"],
            levels=tuple(_levels(scenario, group, devices, node)),
        )

    asked = scenario.inference or Inference()
    sizes = _sizes(asked.devices_per_replica, node, group)
    able = [one for one in map(replica, sizes) if one.room >= max(1, asked.batch or 1)]
    if not able:
        raise _no_room(asked, replica(sizes[-1]), group)
    bound = value["time_per_token"]
    if asked.batch is not None and asked.time_per_token is None:
        batches = [asked.batch] * len(able)
    else:
        batches = [min(one.largest_batch(bound), asked.batch or 10**9) for one in able]
    least = asked.batch or 1
    fast = [(one, batch) for one, batch in zip(able, batches, strict=True) if batch >= least]
    if not fast:
        best = min(one.time_per_token(least) for one in able)
        message = (
            f"{show(bound, 'time')} a token are not kept by {group.name}, which takes"
            f" {show(best, 'time')} for {least} request(s) at a time"
        )
        raise _problem("inference.time_per_token", message)
    # The smaller of equally good ones, whatever rounding says.
    chosen, batch = max(
        fast, key=lambda one: float(f"{one[0].requests_per_second(one[1]) / one[0].devices:.9g}")
    )
    return Pool(group, chosen, batch)


def _sizes(asked: int | None, node: int, group: Group) -> list[int]:
    """Devices that a replica may have, ascending."""
    if asked is None:
        parts = [size for size in range(1, node + 1) if node % size == 0]
        several = [node * number for number in range(2, _MOST_NODES + 1)]
        return [size for size in (*parts, *several) if size <= group.count]
    if asked > group.count:
        message = f"{asked:,} are more than the {group.count:,} of {group.name}"
        raise _problem("inference.devices_per_replica", message)
    if node % asked and asked % node:
        message = f"{asked:,} are neither a part of a node of {node} ({group.name}) nor whole nodes"
        raise _problem("inference.devices_per_replica", message)
    return [asked]


def _levels(scenario: Scenario, group: Group, devices: int, node: int) -> Iterator[Level]:
    """Of the network among the devices of a replica; what is absent costs nothing."""
    network = scenario.network
    inside, outside = min(devices, node), devices // min(devices, node)
    if network is not None and network.node is not None and inside > 1:
        at = network.node
        yield Level(inside, at.latency, at.bandwidth or group.scale_up)
    if network is not None and network.site is not None and outside > 1:
        yield Level(outside, network.site.latency, network.site.bandwidth)


def _no_room(asked: Inference, largest: Replica, group: Group) -> ScenarioError:
    served, batch = largest.served, max(1, asked.batch or 1)
    needed = served.weights + batch * served.request_cache
    there = largest.devices * largest.memory
    key = next(
        (key for key in ("batch", "devices_per_replica") if getattr(asked, key) is not None),
        "parameters",
    )
    message = (
        f"weights of {show(served.weights, 'data')} and caches of {batch:,} request(s) need"
        f" {show(needed, 'data')}, and {largest.devices:,} device(s) of {group.name} have"
        f" {show(there, 'data')} for them"
    )
    return _problem(f"inference.{key}", message)


def _problem(path: str, message: str) -> ScenarioError:
    return ScenarioError("scenario", [Problem(path, message)])
