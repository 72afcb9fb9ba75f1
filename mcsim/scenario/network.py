"""The network's tables: links between sites, and the levels below them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcsim import catalogue, fields
from mcsim.errors import McsimError
from mcsim.laws import Law
from mcsim.laws.smallest import smallest
from mcsim.scenario.decode import UNREADABLE
from mcsim.scenario.part import LONGEST, MAX_COUNT, Part

MAX_LANES = 1_024
LANES = 8
"""Of a link, where it is not said."""

SLOWEST, FASTEST = 1.0, 1e18
"""Bounds of bandwidths, byte/s; what is beyond them is a slip of units."""
FARTHEST = 1e9
"""Bound of distances, m: more than twice as far as the moon."""

ALGORITHMS = ("auto", "ring", "recursive-doubling", "rabenseifner", "double-binary-tree")


QUEUES = ("m/m/1", "m/d/1", "kingman")
PROTOCOLS = ("go-back-n", "selective-repeat", "tcp")


@dataclass(frozen=True)
class Spells(Part):
    """A state that comes and goes: a Markov chain in time."""

    every: float = fields.quantity(
        "mean time from the end of a spell to the next of the same unit", "time", above=0
    )
    duration: float = fields.quantity("mean time of a spell", "time", above=0)


@dataclass(frozen=True)
class SlowLink(Spells):
    """A state in which a link has less bandwidth."""

    factor: Law | None = fields.law(
        "that divides the bandwidth while it lasts, drawn with each spell",
        None,
        default=fields.REQUIRED,
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        law = self.factor
        if not isinstance(law, Law):
            return
        if not abs(law.expectation()) < float("inf"):
            yield "factor", f"the {type(law).name} law has no finite mean with these parameters"
        if not smallest(law) > 0:
            yield "factor", f"{smallest(law):g} must be above 0: it divides the bandwidth"


def _never_early(part: Part, *keys: str) -> Iterable[tuple[str, str]]:
    """Faults of delays that may be negative."""
    for key in keys:
        law = getattr(part, key)
        if isinstance(law, Law) and not smallest(law) >= 0:
            yield key, f"{smallest(law):g} s must be at least 0: no message is early"


@dataclass(frozen=True)
class Link(Part):
    """A connection between two sites, the same in both directions."""

    between: tuple[str, str] = fields.names("the two sites", length=2)
    bandwidth: float = fields.quantity(
        "per direction, all channels together", "rate", at_least=SLOWEST, at_most=FASTEST
    )
    distance: float = fields.quantity(
        "of the sites", "length", default=0.0, at_least=0, at_most=FARTHEST
    )
    route_factor: float = fields.quantity(
        "length of the cable over the distance", None, default=1.0, at_least=1, at_most=1000
    )
    medium: str = fields.choice(
        "what the light travels in", ("silica", "hollow-core"), default="silica"
    )
    latency: float = fields.quantity(
        "of equipment, one way, besides that of the distance",
        "time",
        default=0.0,
        at_least=0,
        at_most=LONGEST,
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
    arrival_cv: float | None = fields.quantity(
        "of the times between packets of other traffic: sd / mean; Kingman's formula, default 1",
        None,
        default=None,
        at_least=0,
        at_most=1000,
    )
    service_cv: float | None = fields.quantity(
        "of the time that a packet takes; Kingman's formula, default 1",
        None,
        default=None,
        at_least=0,
        at_most=1000,
    )
    loss: float | None = fields.quantity(
        "probability that a packet is lost; default: by `age`, or none",
        None,
        default=None,
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
    packet: float = fields.quantity(
        "what is lost at once", "data", default=4096.0, at_least=1, at_most=1e12
    )
    connections: int | None = fields.integer(
        "queue pairs (go-back-N) or TCP connections side by side, each with a like share of the"
        " bandwidth: one loses only what it has in flight; default: 1, as if one filled the link",
        default=None,
        at_least=1,
        at_most=MAX_COUNT,
    )
    flap: Spells | None = fields.table(
        "the link is down, and what is to cross it waits; default: by `age`, or never",
        Spells,
        default=None,
    )
    lanes: int | None = fields.integer(
        f"equal channels that share the bandwidth, where they fail; default: {LANES}",
        default=None,
        at_least=1,
        at_most=MAX_LANES,
    )
    lane_failure: Spells | None = fields.table(
        "a lane is down, but never the last one; default: by `age`, or never", Spells, default=None
    )
    slow: SlowLink | None = fields.table("the link has less bandwidth", SlowLink, default=None)
    age: float | None = fields.quantity(
        "gives loss, flap and lane_failure, where they are not given (`mcsim list ageing`)",
        "time",
        default=None,
        at_least=0,
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        for key in ("arrival_cv", "service_cv"):
            if getattr(self, key) is not None and self.queue in ("m/m/1", "m/d/1"):
                yield key, f'is given, but the queue "{self.queue}" has its own; use "kingman"'
        if self.queue == "kingman" and self.arrival_cv == 0 and self.service_cv == 0:
            yield "queue", '"kingman" waits for nothing where arrival_cv and service_cv are both 0'
        yield from _never_early(self, "delay")
        if self.connections not in (None, UNREADABLE):
            if self.protocol == "selective-repeat":
                yield (
                    "connections",
                    "changes nothing: only what is lost is sent again",
                )
            elif self.loss is None and self.age is None:
                yield "connections", "changes nothing: no packet is lost; give `loss` or `age`"
        ends = self.between
        if ends is not UNREADABLE and ends[0] == ends[1] and ends[0] is not UNREADABLE:
            yield "between", f'both ends are "{ends[0]}"; a link joins two sites'
        if self.lanes not in (None, UNREADABLE) and self.lane_failure is None and self.age is None:
            yield "lanes", "changes nothing: no lane fails; give `lane_failure` or `age`"
        if self.lane_failure is not None and self.lanes == 1:
            yield "lane_failure", "changes nothing: the last lane never fails; give more `lanes`"
        if self.age is not None and self.age is not UNREADABLE:
            try:
                catalogue.aged(self.age)
            except McsimError as error:
                yield "age", str(error)


@dataclass(frozen=True, kw_only=True)
class Level(Part):
    """What the levels of the network inside a site have in common."""

    latency: float = fields.quantity(
        "of one message", "time", default=0.0, at_least=0, at_most=LONGEST
    )
    delay: Law | None = fields.law("random delay of one message", "time")
    algorithm: str = fields.choice("of the all-reduce", ALGORITHMS, default="auto")

    def faults(self) -> Iterable[tuple[str, str]]:
        shared = (key for key in vars(self) if key.startswith("shared_"))
        yield from _never_early(self, "delay", *shared)


@dataclass(frozen=True, kw_only=True)
class NodeLevel(Level):
    """The network among the devices of a node."""

    bandwidth: float | None = fields.quantity(
        "per device and direction; default: the catalogue's",
        "rate",
        default=None,
        at_least=SLOWEST,
        at_most=FASTEST,
    )
    shared_node: Law | None = fields.law(
        "random delay of all messages of a node in a round, besides their own", "time"
    )
    shared_rack: Law | None = fields.law("the same, of all messages of a rack", "time")
    shared_site: Law | None = fields.law("the same, of all messages of a site", "time")


@dataclass(frozen=True, kw_only=True)
class SiteLevel(Level):
    """The network among the nodes of a site; each device has an adapter of its own."""

    bandwidth: float = fields.quantity(
        "per device and direction", "rate", at_least=SLOWEST, at_most=FASTEST
    )
    shared_rack: Law | None = fields.law(
        "random delay of all messages of a rack in a round, besides their own", "time"
    )
    shared_site: Law | None = fields.law("the same, of all messages of a site", "time")


@dataclass(frozen=True)
class Network(Part):
    """The levels of the network below the links; an absent level costs nothing."""

    node: NodeLevel | None = fields.table("inside the NVLink domain", NodeLevel, default=None)
    site: SiteLevel | None = fields.table("between the nodes of a site", SiteLevel, default=None)
