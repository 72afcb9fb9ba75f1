"""From a scenario to a service: how many devices serve together, and how many requests at a time.

Where it is not said, a replica has as many devices, and answers as many requests at a time, as give
most tokens a device: a part of a node that divides it, or up to four whole nodes, that hold the
weights and the caches and keep the time per token.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcsim import catalogue
from mcsim.errors import Problem, ScenarioError
from mcsim.model.collectives import Level
from mcsim.model.plan import Group, Plan
from mcsim.model.roofline import Replica, Served
from mcsim.model.served import Known, known_of, precision_of, served_of
from mcsim.model.serving import Pool, Service
from mcsim.scenario import Scenario
from mcsim.scenario.schema import CUSTOM, Fleet
from mcsim.scenario.uses import Inference
from mcsim.units import show

_MOST_NODES = 4
"""Of a replica, where its size is not given."""


def service_of(scenario: Scenario, plan: Plan) -> Service:
    """The scenario's fleet as a service. Raises ScenarioError for what is not known or fits not."""
    try:
        known = known_of(scenario)
        served = served_of(known)
        pools = tuple(
            _pool(scenario, served, known, fleet, group, index)
            for index, (fleet, group) in enumerate(zip(scenario.fleet, plan.groups, strict=True))
        )
    except ScenarioError as error:
        raise scenario.error(error.problems) from None
    return Service(served, pools, known)


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
    device, (precision, key) = catalogue.device(fleet.device), precision_of(scenario)
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
