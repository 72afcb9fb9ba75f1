"""What can be done about lost time: each remedy by its name, as changes of a scenario.

A remedy is one entry here; `mcsim compare`, its help and `mcsim list remedies` follow. Changes are
of keys that a scenario could have itself, so that a remedy that convinces is written into the file.
Names of groups and sites stay, and with them every draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mcsim.model import lower
from mcsim.scenario import Scenario
from mcsim.scenario.schema import CUSTOM, Fleet

Scenarios = tuple[Scenario, ...]
"""Islands that run side by side; their throughputs add up. Mostly one."""


class InapplicableError(Exception):
    """A remedy that a scenario has no place for; the message says why."""


@dataclass(frozen=True)
class Tuned:
    """A key of whole numbers that is set to the best: the one with the largest throughput.

    most: from 0 to so many are tried. beneath: the key is so much less the number of units; None:
    it is the number.
    """

    path: str
    most: int
    beneath: int | None = None
    unit: int = 1

    def changes(self, number: int) -> dict[str, int]:
        """The change of the scenario to a number."""
        if self.beneath is None:
            return {self.path: number}
        return {self.path: self.beneath - number * self.unit}


@dataclass(frozen=True)
class Remedy:
    """A remedy: its name, what it is, and what it makes of a scenario.

    change: raises InapplicableError. tuned: what is left to be found, of what it makes.
    """

    name: str
    description: str
    change: Callable[[Scenario], Scenarios]
    tuned: Callable[[Scenario], Tuned] | None = None


INNER_STEPS = 10
"""Steps between two collectives: an assumption for a comparison, few enough to be harmless to most
training (Douillard et al. 2023, "DiLoCo", uses 500)."""
SPARES = 0.01
"""Spare nodes: an assumption for a comparison."""
MICROBATCHES = 16
"""Of a device: an assumption for a comparison."""
EVICT_AFTER, SWAP_COST = "10 min", "3 min"
"""Assumptions for a comparison: a few checks of a minute, and a restart from a checkpoint in
memory."""


def remedies_of(scenario: Scenario) -> Iterator[Remedy]:
    """All single remedies by name, also those that a scenario has no place for."""
    return all_remedies(
        dict.fromkeys(fleet.device for fleet in scenario.fleet),
        dict.fromkeys(filter(None, (_site(scenario, fleet) for fleet in scenario.fleet))),
    )


def all_remedies(kinds: Iterable[str], sites: Iterable[str]) -> Iterator[Remedy]:
    """All single remedies by name, of some kinds of devices and some sites."""
    yield Remedy("shares-by-group", "work by the speed of each group", _by_group)
    yield Remedy("shares-by-device", "work by the speed of each device", _set({"shares": "device"}))
    yield Remedy(
        "whole-shares",
        f"the same in whole microbatches, {MICROBATCHES} on average",
        _set({"shares": "device", "microbatches": MICROBATCHES}),
    )
    yield Remedy(
        "drop-devices",
        "the best number of the slowest devices left out",
        _set({}),
        lambda s: Tuned("remedy.drop_devices", max(_devices(s) // 2, 1) - 1),
    )
    yield Remedy(
        "drop-nodes",
        "the best number of the slowest nodes left out",
        _set({}),
        lambda s: Tuned("remedy.drop_nodes", max(_devices(s) // 16, 1) - 1),
    )
    for kind in kinds:
        yield Remedy(f"without-{kind}", f"all {kind} left out", partial(_without, kind=kind))
    yield Remedy(
        "spare-nodes",
        f"{100 * SPARES:g} % more nodes, at least one of each group, the slowest idle",
        _set({"spares": SPARES}),
    )
    yield Remedy(
        "evict",
        f"who is in a slow state for {EVICT_AFTER} is replaced, in {SWAP_COST}",
        _set({"evict_after": EVICT_AFTER, "swap_cost": SWAP_COST}),
    )
    yield Remedy(
        "backup",
        "steps end without the best number of the latest replicas, whose samples are lost",
        _backup,
        _waited_for,
    )
    yield Remedy(
        "hierarchical",
        f"sites meet once in {INNER_STEPS} steps, each by itself in between",
        _sync({"policy": "hierarchical", "inner_steps": INNER_STEPS}),
    )
    yield Remedy(
        "local-sgd",
        f"gradients summed once in {INNER_STEPS} steps, each device by itself",
        _sync({"policy": "local-sgd", "inner_steps": INNER_STEPS}),
    )
    yield Remedy("double-inside", "twice the bandwidth inside the sites", partial(_inside, by=2))
    yield Remedy("double-links", "twice the links between sites", partial(_links, by=2))
    yield Remedy("tenfold-links", "ten times the links between sites", partial(_links, by=10))
    yield Remedy(
        "new-links", "links between sites without age, loss, flaps or slow spells", _renewed
    )
    yield Remedy("placement", "stages of a pipeline on one generation", _placed)
    for site in sites:
        yield Remedy(f"only-{site}", f"{site} alone", partial(_only, site=site))
    yield Remedy("islands-by-site", "a model of its own at each site", _islands_of_sites)
    yield Remedy(
        "islands-by-generation", "a model of its own on each kind of device", _islands_of_kinds
    )


COMBINATIONS = (
    "shares-by-device+double-inside",
    "shares-by-device+tenfold-links",
    "shares-by-device+new-links+double-inside",
    "shares-by-device+hierarchical",
    "shares-by-device+local-sgd",
    "islands-by-site+shares-by-device",
)
"""Remedies that are compared together where all are."""


def _devices(scenario: Scenario) -> int:
    return sum(fleet.count for fleet in scenario.fleet)


def _set(keys: dict[str, Any]) -> Callable[[Scenario], Scenarios]:
    """Keys of [remedy]; what the scenario has there already stays."""

    def change(scenario: Scenario) -> Scenarios:
        if scenario.workload.parallel is not None and not keys.keys() & {"evict_after"}:
            raise InapplicableError("the model is divided among devices")
        return (scenario.replace({f"remedy.{key}": value for key, value in keys.items()}),)

    return change


def _by_group(scenario: Scenario) -> Scenarios:
    speeds = {(fleet.device, fleet.compute, fleet.efficiency) for fleet in scenario.fleet}
    if len(speeds) == 1:
        raise InapplicableError("all groups are equally fast")
    return _set({"shares": "group"})(scenario)


def _sync(keys: dict[str, Any]) -> Callable[[Scenario], Scenarios]:
    def change(scenario: Scenario) -> Scenarios:
        if scenario.sync.policy != "bsp":
            raise InapplicableError(f'the policy is "{scenario.sync.policy}" already')
        return (scenario.replace({f"sync.{key}": value for key, value in keys.items()}),)

    return change


def _backup(scenario: Scenario) -> Scenarios:
    return _sync({"policy": "backup", "wait_for": replicas(scenario)})(scenario)


def _waited_for(scenario: Scenario) -> Tuned:
    count, parallel = replicas(scenario), scenario.workload.parallel
    # Replicas that share experts are waited for together.
    together = parallel.expert if parallel else 1
    return Tuned("sync.wait_for", count // 8 // together, count, together)


def replicas(scenario: Scenario) -> int:
    """Copies of the model, without spare ones."""
    return lower(scenario.replace({"remedy": None})).replicas


def _inside(scenario: Scenario, by: float) -> Scenarios:
    level = scenario.network.site if scenario.network else None
    if level is None or scenario.workload.gradient == 0:
        raise InapplicableError("there is no [network.site]")
    return (scenario.replace({"network.site.bandwidth": level.bandwidth * by}),)


def _links(scenario: Scenario, by: float) -> Scenarios:
    _require_links(scenario)
    return (
        scenario.replace(
            {f"link[{i}].bandwidth": by * link.bandwidth for i, link in enumerate(scenario.link)}
        ),
    )


_WORN = ("age", "loss", "flap", "lane_failure", "slow", "connections", "lanes")


def _renewed(scenario: Scenario) -> Scenarios:
    _require_links(scenario)
    changes = {
        f"link[{number}].{key}": None for number in range(len(scenario.link)) for key in _WORN
    }
    renewed = scenario.replace(changes)
    if renewed == scenario:
        raise InapplicableError("links have neither age nor loss")
    return (renewed,)


def _require_links(scenario: Scenario) -> None:
    if not scenario.link:
        raise InapplicableError("there is no [[link]]")


def _placed(scenario: Scenario) -> Scenarios:
    parallel = scenario.workload.parallel
    if parallel is None or parallel.pipeline == 1 or parallel.placement == "by-generation":
        raise InapplicableError("there is no pipeline that could be placed")
    if len({fleet.device for fleet in scenario.fleet}) == 1:
        raise InapplicableError("there is one generation")
    changes = {"workload.parallel.placement": "by-generation", "workload.parallel.stages": None}
    return (scenario.replace(changes),)


def _without(scenario: Scenario, kind: str) -> Scenarios:
    left = [fleet for fleet in scenario.fleet if fleet.device != kind]
    if not left or kind == CUSTOM:
        raise InapplicableError("there is no other generation")
    return (_with(scenario, left),)


def _site(scenario: Scenario, fleet: Fleet) -> str | None:
    """Where a group is; the first site where it does not say."""
    return fleet.site or (scenario.site[0].name if scenario.site else None)


def _only(scenario: Scenario, site: str) -> Scenarios:
    here = [fleet for fleet in scenario.fleet if _site(scenario, fleet) == site]
    if len(here) == len(scenario.fleet):
        raise InapplicableError("there is one site")
    return (_with(scenario, here),)


def _islands_of_sites(scenario: Scenario) -> Scenarios:
    return _islands(scenario, [_site(scenario, fleet) for fleet in scenario.fleet], "site")


def _islands_of_kinds(scenario: Scenario) -> Scenarios:
    return _islands(scenario, [fleet.device for fleet in scenario.fleet], "generation")


def _islands(scenario: Scenario, of: Sequence[str | None], kind: str) -> Scenarios:
    """An island of the groups that have the same in `of`."""
    names = dict.fromkeys(of)
    if len(names) == 1:
        raise InapplicableError(f"there is one {kind}")
    remedy, sync = scenario.remedy, scenario.sync
    if (remedy and (remedy.drop_devices or remedy.drop_nodes)) or sync.wait_for or sync.quorum:
        raise InapplicableError("drop_..., wait_for and quorum are numbers of the whole fleet")
    islands = [
        [fleet for fleet, one in zip(scenario.fleet, of, strict=True) if one == name]
        for name in names
    ]
    spread = [island for island in islands if len({_site(scenario, f) for f in island}) > 1]
    if len(spread) > 1:
        raise InapplicableError("several islands would share the links between sites")
    return tuple(_with(scenario, island) for island in islands)


def _with(scenario: Scenario, fleet: Sequence[Fleet]) -> Scenario:
    """The scenario with some of its groups.

    A batch that is given for all of the fleet stays as large a device.
    """
    workload = scenario.workload
    if workload.model is not None:
        share = sum(one.count for one in fleet) / _devices(scenario)
        batch = round(workload.model.batch * share / workload.model.sequence)
        model = replace(workload.model, batch=max(batch, 1) * workload.model.sequence)
        workload = replace(workload, model=model)
    return replace(scenario, fleet=tuple(fleet), workload=workload)
