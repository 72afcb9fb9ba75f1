"""The parts of a scenario: every key a user may write, with its unit, bounds and meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from mcsim import fields
from mcsim.laws import Law
from mcsim.scenario.decode import UNREADABLE

MAX_SEED = 2**64 - 1
MAX_STEPS = 2**32 - 1
"""A step's number is one 32-bit word of a random number's address."""
MAX_REPLICATES = 2**24
"""A replicate's number shares a word of the address with the purpose of the draw."""
MAX_COUNT = 2**31 - 1

SHORTEST, LONGEST = 1e-15, 1e15
"""Bounds of times of compute, s; what is beyond them is a slip of units."""

CUSTOM = "custom"
"""The device that is described in the scenario instead of in the catalogue."""

TARGETS = (
    "step_time_mean",
    "step_time_p50",
    "step_time_p99",
    "step_time_p999",
    "communication_time_mean",
)
"""The statistics whose error `run.target_relative_error` may apply to."""

ALGORITHMS = ("auto", "ring", "recursive-doubling", "rabenseifner", "double-binary-tree")


QUEUES = ("m/m/1", "m/d/1")
PROTOCOLS = ("go-back-n", "selective-repeat", "tcp")


class Part:
    """One table of a scenario. Subclasses are frozen dataclasses with fields from mcsim.fields."""

    later: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Keys of the design that this version does not know yet, and what they are for."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """What is wrong with the keys taken together, as (key, message).

        Any key may be UNREADABLE and then has a problem already; the others are still checked,
        so that all problems come out at once.
        """
        return ()


@dataclass(frozen=True)
class Run(Part):
    """How much is sampled, and what is kept of it."""

    seed: int = fields.integer(
        "selects all random numbers", default=0, at_least=0, at_most=MAX_SEED
    )
    steps: int = fields.integer(
        "training steps per replicate", default=1_000, at_least=1, at_most=MAX_STEPS
    )
    replicates: int = fields.integer(
        "clusters drawn from the lottery", default=1, at_least=1, at_most=MAX_REPLICATES
    )
    engine: str = fields.choice(
        "`sampled` draws every device, `exact` the law of the slowest; `auto` takes the cheaper",
        ("auto", "sampled", "exact"),
        default="auto",
    )
    keep: str = fields.choice(
        "`steps` keeps the time of every step, `devices` histograms of all devices",
        ("summary", "steps", "devices"),
        default="summary",
    )
    target_relative_error: float | None = fields.quantity(
        "steps and replicates are added until this relative standard error is reached",
        None,
        default=None,
        at_least=1e-6,
        below=1,
    )
    target_statistic: str = fields.choice(
        "what target_relative_error applies to", TARGETS, default="step_time_mean"
    )
    max_steps: int | None = fields.integer(
        "where a run with a target stops; default: 10,000,000 per replicate",
        default=None,
        at_least=1,
        at_most=MAX_STEPS,
    )
    max_replicates: int | None = fields.integer(
        "where a run with a target stops; default: 10,000, or the one cluster of one",
        default=None,
        at_least=1,
        at_most=MAX_REPLICATES,
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        for key, least in (("steps", self.steps), ("replicates", self.replicates)):
            most = getattr(self, f"max_{key}")
            if UNREADABLE in (most, least, self.target_relative_error) or most is None:
                continue
            if self.target_relative_error is None:
                yield f"max_{key}", "is given, but no target_relative_error that it would bound"
            elif most < least:
                yield f"max_{key}", f"{most:,} is below {key}, {least:,}"
        if self.engine == "exact" and self.keep == "devices":
            yield "engine", '"exact" draws no device, and keep = "devices" asks for all of them'


@dataclass(frozen=True)
class Workload(Part):
    """One training step of one device, and what all devices exchange at its end."""

    later = MappingProxyType({"parallel": "tensor, pipeline and expert parallelism"})

    compute: float | None = fields.quantity(
        "one step on the reference device, undisturbed",
        "time",
        default=None,
        at_least=SHORTEST,
        at_most=LONGEST,
    )
    reference: str | None = fields.text("the device that `compute` is given for", default=None)
    precision: str = fields.text("number format that the peak is taken for", default="bf16")
    gradient: float | None = fields.quantity(
        "all-reduced over all devices each step; absent: no collective",
        "data",
        default=None,
        at_least=0,
    )
    overlap: float = fields.quantity(
        "part of the compute time that can hide communication",
        None,
        default=0.0,
        at_least=0,
        at_most=1,
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        if self.compute is not None and self.reference is None:
            yield "reference", "is missing: name the device that `compute` is the time of"
        if self.reference is not None and self.compute is None:
            yield "compute", "is missing: give the time of one step on the reference device"


@dataclass(frozen=True)
class Site(Part):
    """A campus: devices with one local network."""

    name: str = fields.text("unique among the sites")


@dataclass(frozen=True)
class Link(Part):
    """A connection between two sites, the same in both directions."""

    later = MappingProxyType({"age": "ageing of links"})

    between: tuple[str, str] = fields.names("the two sites", length=2)
    bandwidth: float = fields.quantity("per direction, all channels together", "rate", above=0)
    distance: float = fields.quantity("of the sites", "length", default=0.0, at_least=0)
    route_factor: float = fields.quantity(
        "length of the cable over the distance", None, default=1.0, at_least=1
    )
    medium: str = fields.choice(
        "what the light travels in", ("silica", "hollow-core"), default="silica"
    )
    latency: float = fields.quantity(
        "of equipment, one way, besides that of the distance", "time", default=0.0, at_least=0
    )
    delay: Law | None = fields.law("random delay of one message", "time")
    utilisation: float = fields.quantity(
        "share of the bandwidth that other traffic takes, and that messages queue behind",
        None,
        default=0.0,
        at_least=0,
        below=1,
        reason="a queue behind a full link never ends",
    )
    queue: str = fields.choice(
        "how messages of `packet` wait for other traffic", QUEUES, default="m/m/1"
    )
    loss: float = fields.quantity(
        "probability that a packet is lost",
        None,
        default=0.0,
        at_least=0,
        below=1,
        reason="nothing arrives where all is lost",
    )
    protocol: str = fields.choice(
        "what a lost packet costs: all in flight are sent again (RoCE), it alone is, or TCP halves"
        " its rate",
        PROTOCOLS,
        default="go-back-n",
    )
    packet: float = fields.quantity("what is lost at once", "data", default=4096.0, above=0)
    connections: int = fields.integer(
        "of TCP, side by side", default=1, at_least=1, at_most=MAX_COUNT
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        ends = self.between
        if ends is not UNREADABLE and ends[0] == ends[1] and ends[0] is not UNREADABLE:
            yield "between", f'both ends are "{ends[0]}"; a link joins two sites'


@dataclass(frozen=True, kw_only=True)
class Level(Part):
    """What the levels of the network inside a site have in common."""

    latency: float = fields.quantity("of one message", "time", default=0.0, at_least=0)
    delay: Law | None = fields.law("random delay of one message", "time")
    algorithm: str = fields.choice("of the all-reduce", ALGORITHMS, default="auto")


@dataclass(frozen=True, kw_only=True)
class NodeLevel(Level):
    """The network among the devices of a node."""

    bandwidth: float | None = fields.quantity(
        "per device and direction; default: the catalogue's", "rate", default=None, above=0
    )
    shared_node: Law | None = fields.law(
        "random delay of all messages of a node in a round, besides their own", "time"
    )
    shared_rack: Law | None = fields.law("the same, of all messages of a rack", "time")
    shared_site: Law | None = fields.law("the same, of all messages of a site", "time")


@dataclass(frozen=True, kw_only=True)
class SiteLevel(Level):
    """The network among the nodes of a site; each device has an adapter of its own."""

    bandwidth: float = fields.quantity("per device and direction", "rate", above=0)
    shared_rack: Law | None = fields.law(
        "random delay of all messages of a rack in a round, besides their own", "time"
    )
    shared_site: Law | None = fields.law("the same, of all messages of a site", "time")


@dataclass(frozen=True)
class Network(Part):
    """The levels of the network below the links; an absent level costs nothing."""

    node: NodeLevel | None = fields.table("inside the NVLink domain", NodeLevel, default=None)
    site: SiteLevel | None = fields.table("between the nodes of a site", SiteLevel, default=None)


@dataclass(frozen=True)
class SlowState(Part):
    """A state in which a unit is slow for a while, and then no more: a Markov chain in time."""

    every: float = fields.quantity(
        "mean time from the end of a spell to the next of the same unit", "time", above=0
    )
    duration: float = fields.quantity("mean time of a spell", "time", above=0)
    factor: Law | None = fields.law(
        "of the compute time while it lasts, drawn with each spell", None, default=fields.REQUIRED
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        law = self.factor
        if isinstance(law, Law) and not abs(law.expectation()) < float("inf"):
            yield "factor", f"the {type(law).name} law has no finite mean with these parameters"


@dataclass(frozen=True)
class Jitter(Part):
    """What disturbs a device. All laws but `stall` are of factors of the compute time."""

    persistent: Law | None = fields.law("of each device, drawn once a replicate", None)
    node: Law | None = fields.law("shared by a node, drawn once a replicate", None)
    rack: Law | None = fields.law("shared by a rack, drawn once a replicate", None)
    site: Law | None = fields.law("shared by a site, drawn once a replicate", None)
    step: Law | None = fields.law("of each device in each step", None)
    stall: Law | None = fields.law("added to each device in each step", "time")
    slow: SlowState | None = fields.table("of single devices", SlowState, default=None)
    slow_node: SlowState | None = fields.table("of whole nodes", SlowState, default=None)
    slow_rack: SlowState | None = fields.table("of whole racks", SlowState, default=None)

    def faults(self) -> Iterable[tuple[str, str]]:
        for key in ("persistent", "node", "rack", "site", "step", "stall"):
            law = getattr(self, key)
            if isinstance(law, Law) and not abs(law.expectation()) < float("inf"):
                yield key, f"the {type(law).name} law has no finite mean with these parameters"


@dataclass(frozen=True)
class Fleet(Part):
    """A group of like devices at one site."""

    later = MappingProxyType({"age": "ageing of devices"})

    name: str = fields.text("unique among the groups; part of the address of every draw")
    device: str = fields.text('from the catalogue, or "custom"')
    count: int = fields.integer("devices", at_least=1, at_most=MAX_COUNT)
    site: str | None = fields.text("where the devices are", default=None)
    compute: float | None = fields.quantity(
        "one undisturbed step of a custom device",
        "time",
        default=None,
        at_least=SHORTEST,
        at_most=LONGEST,
    )
    efficiency: float = fields.quantity(
        "share of peak reached, relative to the share that the reference device reaches",
        None,
        default=1.0,
        above=0,
    )
    devices_per_node: int | None = fields.integer(
        "default: the catalogue's; custom: 1", default=None, at_least=1, at_most=MAX_COUNT
    )
    nodes_per_rack: int | None = fields.integer(
        "default: the catalogue's; custom: 1", default=None, at_least=1, at_most=MAX_COUNT
    )
    jitter: Jitter | None = fields.table(
        "overrides the scenario's [jitter], key by key", Jitter, default=None
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        if self.device is UNREADABLE:
            return
        if self.device == CUSTOM and self.compute is None:
            yield "compute", "is missing: a custom device needs the time of one step"
        if self.device != CUSTOM and self.compute is not None:
            yield (
                "compute",
                f'is given, but "{self.device}" takes its time from the workload;'
                f' use device = "{CUSTOM}" to give it here',
            )


@dataclass(frozen=True)
class Sync(Part):
    """How devices wait for each other."""

    later = MappingProxyType({"wait_for": "backup replicas", "inner_steps": "local SGD"})

    policy: str = fields.choice("bsp: everybody waits for the slowest", ("bsp",), default="bsp")
