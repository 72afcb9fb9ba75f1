"""What a step loses time to, cause by cause: each can be taken away, alone or with others.

Taken away: generations, all devices take the time of perfectly balanced work; specimens, places,
jitter, slow states and stalls, the factor is 1 and the stall 0; the pipeline, each stage does its
operations without waiting for others; the network inside sites, it takes no time; of links, the
distance with all latencies and random delays, the bandwidth with other traffic, the packets that
are lost, and what wear does for spells of time (flaps, lanes, slow spells). What is given in time
befalls as many steps as with all causes: the clock stays that of the whole scenario, so that no
cause is paid for by another's making steps longer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from mcsim.errors import Problem
from mcsim.model.division import Division, Handing
from mcsim.model.lower import lower
from mcsim.model.plan import Barrier, Group, Plan
from mcsim.model.wear import aged
from mcsim.scenario import Scenario
from mcsim.scenario.network import Link

OF_DEVICES: Mapping[str, str] = MappingProxyType(
    {
        "generations": "equal work on unequal devices",
        "specimens": "slow devices, drawn once",
        "places": "slow nodes, racks and sites, drawn once",
        "jitter": "each device, step by step",
        "slow-states": "slow for a while, shocks, time of day",
        "stalls": "what is added to a step",
    }
)
OF_NETWORK: Mapping[str, str] = MappingProxyType(
    {
        "pipeline": "waiting for other stages",
        "inside": "collectives inside the sites",
        "distance": "between sites: latency, delays",
        "bandwidth": "between sites: volume, other traffic",
        "loss": "between sites: packets sent again",
        "wear": "between sites: flaps, lanes, slow spells",
    }
)
CAUSES: Mapping[str, str] = MappingProxyType({**OF_DEVICES, **OF_NETWORK})

_NO_LIMIT = 1e30
"""byte/s"""


class Disturbances:
    """The causes of a scenario. Raises ScenarioError."""

    def __init__(self, scenario: Scenario) -> None:
        self.plan = lower(scenario)
        if self.plan.stale is not None:
            message = f'"{scenario.sync.policy}": steps that remember all before them cannot be'
            raise scenario.error([Problem("sync.policy", f"{message} explained yet")])
        self._scenario = scenario
        self.of_devices = tuple(
            cause for cause in OF_DEVICES if self.devices(set(OF_DEVICES) - {cause}) != self.plan
        )
        self.of_network = tuple(
            cause for cause in OF_NETWORK if self.network(set(OF_NETWORK) - {cause}) != self.plan
        )

    def devices(self, causes: Collection[str]) -> Plan:
        """The plan whose devices suffer from these causes only."""
        groups = tuple(self._group(group, causes) for group in self.plan.groups)
        if "slow-states" in causes:
            return replace(self.plan, groups=groups)
        return replace(self.plan, groups=groups, slow_sites=(), daily=None)

    def _group(self, group: Group, causes: Collection[str]) -> Group:
        if "generations" not in causes:
            group = replace(group, compute=self.plan.ideal_step_time / self.plan.inner)
        if "specimens" not in causes:
            group = replace(group, persistent=None)
        if "places" not in causes:
            group = replace(group, node=None, rack=None, site_factor=None)
        if "jitter" not in causes:
            group = replace(group, step=None, operation=None, correlation=0.0)
        if "slow-states" not in causes:
            group = replace(group, slow=())
        if "stalls" not in causes:
            group = replace(group, stall=None)
        return group

    def network(self, causes: Collection[str]) -> Plan:
        """The plan whose devices wait for the network, and in a pipeline, for these causes only."""
        plan = self.plan
        links = tuple(_link(link, causes) for link in self._scenario.link)
        if links != tuple(map(aged, self._scenario.link)):
            changed = lower(replace(self._scenario, link=links), plan.clock)
            plan = replace(plan, barrier=changed.barrier, division=changed.division)
        if "inside" not in causes and plan.barrier is not None:
            plan = replace(plan, barrier=_free_inside(plan.barrier))
        if plan.division is not None:
            division = plan.division
            if "inside" not in causes:
                division = _pipelines_free_inside(division)
            if "pipeline" not in causes and division.placement.stages > 1:
                schedule = division.schedule
                # Each stage does its operations one after the other, whatever the others do.
                alone = replace(schedule, needs=np.full_like(schedule.needs, -1))
                division = replace(division, schedule=alone)
            plan = replace(plan, division=division)
        return plan


def _free_inside(barrier: Barrier) -> Barrier:
    """The barrier whose collectives inside the sites take no time."""
    none = tuple(0.0 for _ in barrier.up)
    return replace(
        barrier,
        up=none,
        down=none,
        delays=tuple(delay for delay in barrier.delays if delay.site is None),
        levels=tuple((0.0, 0.0) for _ in barrier.levels),
    )


def _pipelines_free_inside(division: Division) -> Division:
    """The division whose devices meet inside the sites, and hand on, in no time; itself if so."""
    nothing = tuple(0.0 for _ in division.tensor_time)
    changes: dict[str, Any] = {
        "tensor_time": nothing,
        "expert_time": nothing,
        "tensor_delay": None,
        "expert_delay": None,
        "gather": tuple(0.0 for _ in division.gather),
        "ways": tuple(way if way.among_sites else Handing() for way in division.ways),
        "barriers": tuple(_free_inside(barrier) for barrier in division.barriers),
    }
    if all(getattr(division, name) == value for name, value in changes.items()):
        return division
    return replace(division, **changes)


def _link(link: Link, causes: Collection[str]) -> Link:
    link = aged(link)
    if "distance" not in causes:
        link = replace(link, distance=0.0, latency=0.0, delay=None)
    if "bandwidth" not in causes:
        link = replace(link, bandwidth=_NO_LIMIT, utilisation=0.0)
    if "loss" not in causes:
        link = replace(link, loss=0.0)
    if "wear" not in causes:
        link = replace(link, age=None, flap=None, lane_failure=None, slow=None)
    return link
