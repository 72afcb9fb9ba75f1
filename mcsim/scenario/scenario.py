"""The scenario as a whole: what is asked, complete, checked and frozen."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

from mcsim import catalogue, fields
from mcsim.errors import Problem, ScenarioError
from mcsim.laws import Law
from mcsim.scenario.decode import UNREADABLE, Decoder, listing
from mcsim.scenario.jitter import CommonJitter
from mcsim.scenario.lines import Origin
from mcsim.scenario.network import Link, Network
from mcsim.scenario.overrides import assign
from mcsim.scenario.part import Part
from mcsim.scenario.remedy import Remedy
from mcsim.scenario.schema import CUSTOM, OF_SITES, Fleet, Run, Site, Sync
from mcsim.scenario.toml import dumps
from mcsim.scenario.uses import Inference, Power, Prices, Told
from mcsim.scenario.workload import Workload
from mcsim.suggest import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Scenario(Part):
    """What is asked: a fleet, its disturbances, its network and how much to sample.

    A scenario is complete in itself (data of empirical laws is read in when it is made) and
    equal to another if it means the same. Build one with `mcsim.load` or `Scenario.from_dict`,
    change it with `replace`.
    """

    later = MappingProxyType({"failure": "failures"})

    origin: ClassVar[Origin | None] = None
    """What an instance was read from, if it was."""

    name: str = fields.text("names the result")
    run: Run = fields.table("how much is sampled", Run, default=Run())
    workload: Workload = fields.table("one training step", Workload, default=Workload())
    site: tuple[Site, ...] = fields.tables("campuses", Site, default=())
    link: tuple[Link, ...] = fields.tables("connections between sites", Link, default=())
    network: Network | None = fields.table("inside the sites", Network, default=None)
    jitter: CommonJitter | None = fields.table("of all groups", CommonJitter, default=None)
    sync: Sync = fields.table("who waits for whom", Sync, default=Sync())
    remedy: Remedy | None = fields.table("what is done about slow devices", Remedy, default=None)
    inference: Inference | None = fields.table(
        "the model as a service, for `mcsim verdict`", Inference, default=None
    )
    power: Power | None = fields.table("what devices draw", Power, default=None)
    prices: Prices | None = fields.table("what the fleet costs", Prices, default=None)
    verdict: Told | None = fields.table("what is told of the fleet", Told, default=None)
    fleet: tuple[Fleet, ...] = fields.tables("groups of devices", Fleet)

    @classmethod
    def from_dict(
        cls, table: Mapping[str, Any], *, directory: Path | None = None, source: str = "scenario"
    ) -> Self:
        """The scenario that a table of the shape of a scenario file describes.

        table: as tomllib reads it. directory: what relative paths of data files start from
        (default: the working directory). source: what errors call the table.
        Raises ScenarioError with every problem there is.
        """
        decoder = Decoder(directory or Path())
        made: Self = decoder.part(cls, table, "")
        if decoder.problems:
            raise ScenarioError(source, decoder.problems)
        return made

    def to_dict(self) -> dict[str, Any]:
        """The scenario as a table, in SI units, with all defaults but no absent key."""
        return _table(self)

    def to_toml(self) -> str:
        """The canonical text; loading it gives an equal scenario."""
        return dumps(self.to_dict())

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical text: equal for equal scenarios, wherever they are computed."""
        table = self.to_dict()
        table["run"]["target"] = Run.target
        return hashlib.sha256(dumps(table).encode()).hexdigest()

    def error(self, problems: Iterable[Problem]) -> ScenarioError:
        """The error that something is wrong with it, with its file and lines where it has any."""
        if self.origin is not None:
            return self.origin.error(problems)
        return ScenarioError(self.name, list(problems))

    def replace(self, changes: Mapping[str, Any]) -> Scenario:
        """The scenario with some keys changed, as `scenario.replace({"run.steps": 100})`.

        changes: values by key path; an array's table is chosen by number or by name
        (`fleet[0].count`, `fleet.hopper.count`); None takes the key, or the table, away.
        Raises ScenarioError.
        """
        table, _ = assign(self.to_dict(), changes)
        return Scenario.from_dict(table)

    def faults(self) -> Iterable[tuple[str, str]]:
        groups = _readable(self.fleet, "fleet")
        sites = _readable(self.site, "site")
        links = _readable(self.link, "link")
        yield from _repeated((f"{path}.name", group.name) for path, group in groups)
        yield from _repeated((f"{path}.name", site.name) for path, site in sites)
        yield from _repeated((f"{path}.between", _ends(link)) for path, link in links)
        yield from _site_faults(groups, _names(self.site), links)
        yield from _device_faults(groups, self.workload)
        yield from _sync_faults(groups, self.workload, self.sync)
        node = self.network.node if isinstance(self.network, Network) else None
        yield from _told_twice(self.verdict, self.workload)
        if node is not None and getattr(node, "bandwidth", UNREADABLE) is None:
            custom = [path for path, group in groups if group.device == CUSTOM]
            if custom:
                needs = f"is missing: {custom[0]} is a custom device, of which none is known"
                yield "network.node.bandwidth", needs


# The checks across tables read what is readable, so that all problems come out at once: any
# value may be UNREADABLE, which equals no name and is not text.


def _readable(tables: Any, array: str) -> list[tuple[str, Any]]:
    """The tables of an array that could be read, at least in part, each with its path."""
    if tables is UNREADABLE:
        return []
    return [(f"{array}[{i}]", item) for i, item in enumerate(tables) if item is not UNREADABLE]


def _names(sites: Any) -> list[Any]:
    """The names of all sites; UNREADABLE where one is unknown."""
    if sites is UNREADABLE:
        return [UNREADABLE]
    return [UNREADABLE if site is UNREADABLE else site.name for site in sites]


def _ends(link: Link) -> Any:
    """The sites of a link in either order as one name."""
    readable = link.between is not UNREADABLE and UNREADABLE not in link.between
    return " and ".join(sorted(link.between)) if readable else UNREADABLE


def _repeated(named: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, str]]:
    first: dict[str, str] = {}
    for path, name in named:
        if name is not UNREADABLE and first.setdefault(name, path) != path:
            yield path, f'"{name}" is there already, as {first[name]}'


def _site_faults(
    groups: list[tuple[str, Fleet]], sites: list[Any], links: list[tuple[str, Link]]
) -> Iterable[tuple[str, str]]:
    known = [name for name in sites if name is not UNREADABLE]

    def unknown(name: Any) -> bool:
        return isinstance(name, str) and name not in known and len(known) == len(sites)

    def message(name: str) -> str:
        there = f"there are {', '.join(known)}" if known else "there is no [[site]]"
        return f'unknown site "{name}"{did_you_mean(name, known)}; {there}'

    for path, group in groups:
        if unknown(group.site):
            yield f"{path}.site", message(str(group.site))
        if group.site is None and len(sites) > 1:
            there = f": it is one of {listing(known)}" if known else ""
            yield path, f"`site` is missing{there}"
    for path, link in links:
        for end, name in enumerate(link.between if link.between is not UNREADABLE else ()):
            if unknown(name):
                yield f"{path}.between[{end}]", message(name)


def _device_faults(groups: list[tuple[str, Fleet]], workload: Any) -> Iterable[tuple[str, str]]:
    devices = catalogue.devices()
    named = [(f"{path}.device", group.device) for path, group in groups if group.device != CUSTOM]
    if workload is UNREADABLE:
        workload = Workload(UNREADABLE, UNREADABLE, UNREADABLE)
    if workload.reference is not None:
        named.append(("workload.reference", workload.reference))
    for path, name in named:
        if isinstance(name, str) and name not in devices:
            near = did_you_mean(name, [*devices, CUSTOM])
            yield path, f'unknown device "{name}"{near}; `mcsim list devices` shows them'
    known = list(dict.fromkeys(name for _, name in named if name in devices))
    if known and workload.compute is None and workload.reference is None:
        needs = "`compute` and `reference` are missing: the time of a step"
        yield "workload", f'{needs} on "{known[0]}" follows from them'
    precision = workload.precision
    if precision is not UNREADABLE:
        lacking = [name for name in known if precision not in devices[name].peak]
        if lacking:
            common = [p for p in devices[known[0]].peak if all(p in devices[n].peak for n in known)]
            there = listing(common) if common else "there is none that all devices have"
            yield (
                "workload.precision",
                f'"{precision}"{did_you_mean(precision, common)} is not known of'
                f" {', '.join(lacking)}; take {there}",
            )


def _sync_faults(
    groups: list[tuple[str, Fleet]], workload: Any, sync: Any
) -> Iterable[tuple[str, str]]:
    counts = [group.count for _, group in groups]
    sites = {group.site for _, group in groups}
    parallel = getattr(workload, "parallel", UNREADABLE)
    if sync is UNREADABLE or not groups or UNREADABLE in (*counts, *sites, parallel):
        return
    policy, divided = sync.policy, parallel is not None
    if divided and policy in (*OF_SITES, "timeout", "ssp", "async"):
        message = f'"{policy}" does not know [workload.parallel] yet; take "bsp" or "backup"'
        yield "sync.policy", message
    if policy in OF_SITES and len(sites) == 1:
        message = f'"{policy}" is of several sites, and all devices are at one'
        yield "sync.policy", f'{message}; take "bsp", or "local-sgd" for rounds of several steps'
    elif policy == "quorum" and sync.quorum not in (None, UNREADABLE) and sync.quorum > len(sites):
        message = f"{sync.quorum:,} is above {len(sites):,}, the sites that have devices"
        yield "sync.quorum", f"{message}; take at most that"
    size = (parallel.tensor, parallel.pipeline) if divided else (1, 1)
    wanted = sync.wait_for if policy == "backup" else None
    if wanted not in (None, UNREADABLE) and UNREADABLE not in size:
        replicas = sum(counts) // (size[0] * size[1])
        if sync.wait_for > replicas:
            message = f"{sync.wait_for:,} is above {replicas:,}, the replicas that there are"
            yield "sync.wait_for", f"{message}; take at most that"
        elif divided and parallel.expert not in (None, UNREADABLE):
            over = sync.wait_for % parallel.expert
            if over:
                message = f"{sync.wait_for:,} is no multiple of {parallel.expert:,}, the replicas"
                more = sync.wait_for + parallel.expert - over
                yield "sync.wait_for", f"{message} that share experts; take {more:,}"


def _told_twice(told: Any, workload: Any) -> Iterable[tuple[str, str]]:
    if not isinstance(told, Told) or not isinstance(workload, Workload):
        return
    if told.mfu is not None and workload.model is not None:
        yield "verdict.mfu", "is given, and workload.model.mfu says the same"


def _table(part: Any) -> dict[str, Any]:
    """The keys of a part that hold something, in the order of its declaration."""
    table: dict[str, Any] = {"law": type(part).name} if isinstance(part, Law) else {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.name == "shapes":
            table.update(value)
        elif value is not None and value != ():
            table[field.name] = _plain(value)
    return table


def _plain(value: Any) -> Any:
    if not dataclasses.is_dataclass(value):
        return [_plain(item) for item in value] if isinstance(value, tuple) else value
    table = _table(value)
    inner = table.pop("law", None) if not isinstance(value, Law) else None
    # A weighted law is one table: the keys of the law and its weight.
    return {**table, **inner} if isinstance(inner, dict) else table
