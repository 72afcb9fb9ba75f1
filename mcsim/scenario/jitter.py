"""The jitter's tables: what disturbs devices, for good, for a while, and in every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mcsim import catalogue, fields
from mcsim.laws import Law
from mcsim.laws.smallest import smallest
from mcsim.scenario.decode import UNREADABLE
from mcsim.scenario.part import Part
from mcsim.suggest import did_you_mean


@dataclass(frozen=True)
class SlowState(Part):
    """A state in which a unit is slow for a while, and then no more: a Markov chain in time."""

    catalogue: str | None = fields.text(
        "a published disturbance, for what is not given here", default=None
    )
    every: float | None = fields.quantity(
        "mean time from the end of a spell to the next of the same unit",
        "time",
        default=None,
        above=0,
    )
    duration: float | None = fields.quantity("mean time of a spell", "time", default=None, above=0)
    factor: Law | None = fields.law(
        "of the compute time while it lasts, drawn with each spell", None
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        yield from _factor_faults(self.factor)
        yield from _published(self, ("every", "duration", "factor"))


def _published(part: Any, needed: Sequence[str]) -> Iterable[tuple[str, str]]:
    """What is wrong with the disturbance that a part takes from the catalogue, or missing where it
    takes none."""
    name = part.catalogue
    if name is UNREADABLE:
        return
    if name is None:
        specs = {field.name: fields.spec_of(field) for field in dataclasses.fields(part)}
        for key in needed:
            if getattr(part, key) is None:
                yield "", f"`{key}` is missing ({specs[key].doc})"
        return
    known = [n for n, d in catalogue.disturbances().items() if set(needed) <= set(d.figures)]
    if name not in known:
        there = f"there are {', '.join(known)}"
        yield "catalogue", f'unknown disturbance "{name}"{did_you_mean(name, known)}; {there}'


@dataclass(frozen=True)
class Shocks(Part):
    """What makes a unit slow for one step, at any time."""

    every: float = fields.quantity("mean time between two of the same unit", "time", above=0)
    factor: Law | None = fields.law(
        "of the compute time of that step, drawn with each", None, default=fields.REQUIRED
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        return _factor_faults(self.factor)


def _factor_faults(law: Any) -> Iterable[tuple[str, str]]:
    """What is wrong with a factor of times."""
    if not isinstance(law, Law):
        return
    name = type(law).name
    if not abs(law.expectation()) < float("inf"):
        yield "factor", f"the {name} law has no finite mean with these parameters"
    if not smallest(law) >= 0 or law.expectation() == 0:
        reached = f"{smallest(law):g}, which the {name} law reaches"
        yield "factor", f"{reached}, must be above 0: it multiplies times"


def _without_mean(part: Part, keys: Iterable[str]) -> Iterable[tuple[str, str]]:
    """The keys of laws that have no mean."""
    for key in keys:
        law = getattr(part, key)
        if isinstance(law, Law) and not abs(law.expectation()) < float("inf"):
            yield key, f"the {type(law).name} law has no finite mean with these parameters"


@dataclass(frozen=True)
class Jitter(Part):
    """What disturbs a device. All laws but `stall` are of factors of the compute time."""

    persistent: Law | None = fields.law("of each device, drawn once a replicate", None)
    node: Law | None = fields.law("shared by a node, drawn once a replicate", None)
    rack: Law | None = fields.law("shared by a rack, drawn once a replicate", None)
    site: Law | None = fields.law("shared by a site, drawn once a replicate", None)
    step: Law | None = fields.law("of each device in each step", None)
    operation: Law | None = fields.law(
        "of each device in each forward or backward pass of [workload.parallel]", None
    )
    correlation: float | None = fields.quantity(
        "probability that a device keeps the factor of `step` from the step before",
        None,
        default=None,
        at_least=0,
        below=1,
        reason="or none is ever drawn anew; what lasts for ever is `persistent`",
    )
    stall: Law | None = fields.law("added to each device in each step", "time")
    slow: SlowState | None = fields.table("of single devices", SlowState, default=None)
    slow_node: SlowState | None = fields.table("of whole nodes", SlowState, default=None)
    slow_rack: SlowState | None = fields.table("of whole racks", SlowState, default=None)
    shock: Shocks | None = fields.table("of single devices", Shocks, default=None)
    shock_node: Shocks | None = fields.table("of whole nodes", Shocks, default=None)
    shock_rack: Shocks | None = fields.table("of whole racks", Shocks, default=None)

    elsewhere = MappingProxyType(
        dict.fromkeys(
            ("slow_site", "shock_site", "daily"),
            "belongs into the scenario's [jitter]: the groups of a site share it",
        )
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        factors = ("persistent", "node", "rack", "site")
        yield from _without_mean(self, (*factors, "step", "operation", "stall"))
        for key in factors:
            law = getattr(self, key)
            if isinstance(law, Law) and law.expectation() < 0:
                yield (
                    key,
                    f"{law.expectation():g}, its mean, must be at least 0: it multiplies times",
                )


@dataclass(frozen=True)
class DailySwing(Part):
    """A swing of all times with the time of day: 1 + amplitude cos(2 pi (t - peak) / period)."""

    catalogue: str | None = fields.text(
        "a published swing, for what is not given here", default=None
    )
    amplitude: float | None = fields.quantity(
        "half of the swing, as a part of the mean", None, default=None, at_least=0, below=1
    )
    peak: float | None = fields.quantity(
        "time after the start of the run when all is slowest; default: 0 h, or the catalogue's",
        "time",
        default=None,
        at_least=0,
    )
    period: float | None = fields.quantity(
        "from one peak to the next; default: 24 h", "time", default=None, at_least=1e-9
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        return _published(self, ("amplitude",))


@dataclass(frozen=True)
class CommonJitter(Jitter):
    """What disturbs all groups, and what sites share: all times of their devices, stalls too."""

    slow_site: SlowState | None = fields.table("of whole sites", SlowState, default=None)
    shock_site: Shocks | None = fields.table("of whole sites", Shocks, default=None)
    daily: DailySwing | None = fields.table("of all sites together", DailySwing, default=None)
