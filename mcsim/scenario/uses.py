"""What a fleet is used for besides training, what it draws, what it costs, what is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcsim import catalogue, fields
from mcsim.scenario.decode import UNREADABLE
from mcsim.scenario.part import LONGEST, MAX_COUNT, SHORTEST, Part
from mcsim.suggest import did_you_mean

BYTES = {"fp64": 8.0, "tf32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}
"""Of a number, by the precisions of devices."""


@dataclass(frozen=True)
class Inference(Part):
    """The model as a service: replicas that do not wait for each other.

    What is not given here is of the workload's model, or in catalogue/serving.toml.
    """

    parameters: float | None = fields.quantity(
        "of the served model; default: workload.model's, or half as many as workload.gradient has"
        " bytes (two bytes a parameter)",
        None,
        default=None,
        above=0,
        at_most=1e18,
    )
    active_parameters: float | None = fields.quantity(
        "that a token uses; default: workload.model's, or all",
        None,
        default=None,
        above=0,
        at_most=1e18,
    )
    layers: int | None = fields.integer(
        "default: workload.model's, or as many as a dense model of the active parameters has whose"
        " layers are 128 times as wide as it has layers (an assumption)",
        default=None,
        at_least=1,
        at_most=MAX_COUNT,
    )
    hidden: int | None = fields.integer(
        "width of a layer; default: workload.model's, or 128 times the layers",
        default=None,
        at_least=1,
        at_most=MAX_COUNT,
    )
    cache: float | None = fields.quantity(
        "keys and values of a token, all devices together; default: 2 x layers x 1,024 numbers",
        "data",
        default=None,
        at_least=0,
    )
    precision: str | None = fields.text(
        "number format of weights and caches; default: the workload's", default=None
    )
    prompt: int | None = fields.integer(
        "tokens of a prompt; default: 1,020", default=None, at_least=1, at_most=10**9
    )
    output: int | None = fields.integer(
        "tokens of an answer; default: 129", default=None, at_least=1, at_most=10**9
    )
    variation: float | None = fields.quantity(
        "of the time that requests take: sd / mean; default: 1 (M/M/c)",
        None,
        default=None,
        at_least=0,
        at_most=1000,
    )
    devices_per_replica: int | None = fields.integer(
        "a part of a node, or whole nodes; default: which gives most tokens a device",
        default=None,
        at_least=1,
        at_most=MAX_COUNT,
    )
    batch: int | None = fields.integer(
        "requests that a replica answers at a time; default: the most that memory and"
        " time_per_token allow",
        default=None,
        at_least=1,
        at_most=10**9,
    )
    utilisation: float | None = fields.quantity(
        "requests over the most that replicas can answer; default: 0.7, an assumption",
        None,
        default=None,
        above=0,
        below=1,
        reason="a queue behind a full server never ends",
    )
    compute_efficiency: float | None = fields.quantity(
        "share of the peak that prefill reaches; default: 0.6, an assumption",
        None,
        default=None,
        above=0,
        at_most=1,
    )
    bandwidth_efficiency: float | None = fields.quantity(
        "share of the memory bandwidth that decode reaches; default: 0.7, an assumption",
        None,
        default=None,
        above=0,
        at_most=1,
    )
    memory_share: float | None = fields.quantity(
        "of the memory, for weights and caches; default: 0.9",
        None,
        default=None,
        above=0,
        at_most=1,
    )
    time_per_token: float | None = fields.quantity(
        "at most so long takes a token of an answer, undisturbed; default: 50 ms, an assumption",
        "time",
        default=None,
        at_least=SHORTEST,
        at_most=LONGEST,
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        every, active = self.parameters, self.active_parameters
        if UNREADABLE not in (every, active) and every and active and active > every:
            yield "active_parameters", f"{active:g} are more than all {every:g}"
        if self.precision not in (None, UNREADABLE, *BYTES):
            near = did_you_mean(str(self.precision), BYTES)
            yield "precision", f'unknown precision "{self.precision}"{near}'


@dataclass(frozen=True)
class Power(Part):
    """What devices draw, as a share of the catalogue's power, and what comes on top of it."""

    pue: float | None = fields.quantity(
        "power of the site over that of its servers; default: 1.2, an assumption",
        None,
        default=None,
        at_least=1,
        at_most=10,
    )
    servers: float | None = fields.quantity(
        "power of servers and switches over that of their devices; default: 1.5, an assumption",
        None,
        default=None,
        at_least=1,
        at_most=10,
    )
    waiting: float | None = fields.quantity(
        "of a device that waits for others or for the network; default: 0.5, an assumption",
        None,
        default=None,
        at_least=0,
        at_most=1,
    )
    decode: float | None = fields.quantity(
        "of a device that reads weights and caches; default: 0.43",
        None,
        default=None,
        at_least=0,
        at_most=1,
    )
    idle: float | None = fields.quantity(
        "of a device that has no request; default: 0.15, an assumption",
        None,
        default=None,
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True)
class Prices(Part):
    """What the fleet costs; without any, no money is computed."""

    currency: str | None = fields.text("of all prices here; default: USD", default=None)
    catalogue: str | None = fields.text("a list of prices of a GPU hour, by device", default=None)
    gpu_hour: float | None = fields.quantity(
        "of any device, instead of a list's", None, default=None, at_least=0, at_most=1e9
    )
    lease_per_month: float | None = fields.quantity(
        "of the whole fleet, instead of hours", None, default=None, at_least=0, at_most=1e15
    )
    kilowatt_hour: float | None = fields.quantity(
        "of electricity, where the price of hours or the lease is without it",
        None,
        default=None,
        at_least=0,
        at_most=1e6,
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        of_hardware = ("catalogue", "gpu_hour", "lease_per_month")
        given = [key for key in of_hardware if getattr(self, key) is not None]
        if len(given) > 1:
            yield given[1], f"is given, and so is `{given[0]}`; one of them is what the fleet costs"
        if self.catalogue is None or self.catalogue is UNREADABLE:
            return
        known = catalogue.prices()
        if self.catalogue not in known:
            near = did_you_mean(self.catalogue, known)
            there = f"there are {', '.join(known)}"
            yield "catalogue", f'unknown list of prices "{self.catalogue}"{near}; {there}'
        if self.currency not in (None, UNREADABLE, "USD"):
            yield "currency", f'is "{self.currency}", and the lists of prices are in USD'


@dataclass(frozen=True)
class Told(Part):
    """What is told in public of the fleet as a trainer, to be held against what is computed."""

    mfu: float | None = fields.quantity(
        "share of the peak that the reference device reaches while it computes, where there is no"
        " [workload.model] that says it",
        None,
        default=None,
        above=0,
        at_most=1,
    )
    public_utilisation: float | None = fields.quantity(
        "share of the fleet's peak that is said to be used (model FLOPs utilisation)",
        None,
        default=None,
        above=0,
        at_most=1,
    )
    source: str | None = fields.text("who says so, when, and of what", default=None)

    def faults(self) -> Iterable[tuple[str, str]]:
        if self.public_utilisation is not None and self.source is None:
            yield "source", "is missing: who says that so much is used"
