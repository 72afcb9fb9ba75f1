"""What a use of a fleet comes to: work, GPU hours, power and money, each defined in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.economics import HOURS_A_MONTH, Activity, Cost, Draw


class Use(NamedTuple):
    """What a fleet does in a use, cluster by cluster.

    efficiency: shape (replicates,), of the fleet's undisturbed capacity, that is kept. load: of
    that, the part that is asked for. activity: shape (replicates, groups). tokens, operations: a
    second, shape (replicates,); not a number where they are not known.
    """

    efficiency: FloatArray
    load: float
    activity: Activity
    tokens: FloatArray
    operations: FloatArray


class Fleet(NamedTuple):
    """What is the same in both uses. Peaks in operations a second, of all devices."""

    devices: int
    peak_in_training: float
    peak_in_inference: float
    draw: Draw
    cost: Cost | None


class Quantity(NamedTuple):
    """A variable over `use`: its unit, its name, and what it follows from in either use."""

    units: str
    long_name: str
    training: str
    inference: str


_RUN = "of the run (workload, fleet, network, link, jitter, sync, run)"
_LOST = "1 - efficiency x demand"

QUANTITIES: Mapping[str, Quantity] = {
    "efficiency": Quantity(
        "1",
        "share of the fleet's undisturbed capacity that is kept",
        "efficiency: ideal_step_time / step_time_mean, times the part of the work that counts,"
        f" without samples that are lost and swaps, {_RUN}",
        "requests a second that the drawn replicas can answer over those of undisturbed devices"
        " with a free network, none left over (inference, fleet, network, jitter)",
    ),
    "demand": Quantity(
        "1",
        "share of the capacity that is asked for",
        "1: a step follows the other; failures and pauses are not modelled",
        "inference.utilisation",
    ),
    "effective_gpus": Quantity(
        "1",
        "devices that would do the same work without any loss",
        "efficiency x demand x fleet.count",
        "efficiency x demand x fleet.count",
    ),
    "wasted_gpus": Quantity(
        "1",
        "GPU hours an hour in which no work is done",
        f"({_LOST}) x fleet.count",
        f"({_LOST}) x fleet.count",
    ),
    "waiting_gpus": Quantity(
        "1",
        "GPU hours an hour lost to waiting, slow devices and networks",
        "demand x (1 - efficiency) x fleet.count",
        "demand x (1 - efficiency) x fleet.count",
    ),
    "headroom_gpus": Quantity(
        "1",
        "GPU hours an hour that nobody asks for",
        "(1 - demand) x fleet.count",
        "(1 - demand) x fleet.count",
    ),
    "wasted_gpu_hours_a_day": Quantity(
        "h", "GPU hours a day in which no work is done", "24 x wasted_gpus", "24 x wasted_gpus"
    ),
    "wasted_gpu_hours_a_month": Quantity(
        "h",
        "GPU hours a month in which no work is done",
        "730.5 x wasted_gpus",
        "730.5 x wasted_gpus",
    ),
    "mfu": Quantity(
        "1",
        "model FLOPs utilisation: operations of the model over the fleet's peak",
        "operations of a step (workload.model; or workload.compute x peak x verdict.mfu) over"
        " step_time_mean and the catalogue's peaks at workload.precision",
        "operations of the tokens over the catalogue's peaks at inference.precision",
    ),
    "tokens_per_second": Quantity(
        "s-1",
        "tokens that are trained on, or prompted and answered",
        "workload.model.batch (or workload.compute x peak x verdict.mfu over 6 x"
        " inference.active_parameters for each device) over step_time_mean",
        "demand x requests a second x (inference.prompt + inference.output)",
    ),
    "power": Quantity(
        "MW",
        "power that is drawn",
        "fleet.count x catalogue devices.toml, power x power.servers x power.pue: in full while"
        " device_time_mean, else power.waiting",
        "the same: in full in passes that are bound by operations, power.decode in those by memory,"
        " power.waiting in the rest of what is asked for, else power.idle",
    ),
    "wasted_power": Quantity(
        "MW",
        "power that is drawn while devices wait or have nothing to do",
        "as power: power.waiting",
        "as power: power.waiting and power.idle",
    ),
    "cost_a_month": Quantity(
        "1",
        "cost of the fleet a month",
        "prices, 730.5 h",
        "prices, 730.5 h",
    ),
    "wasted_cost_a_month": Quantity(
        "1",
        "cost a month of GPU hours in which no work is done",
        f"({_LOST}) x cost_a_month",
        f"({_LOST}) x cost_a_month",
    ),
    "cost_of_million_tokens": Quantity(
        "1",
        "cost of a million tokens",
        "cost_a_month / tokens_per_second",
        "cost_a_month / tokens_per_second",
    ),
}


def amounts(use: Use, fleet: Fleet, peak: float) -> dict[str, FloatArray]:
    """The QUANTITIES of a use, each of shape (replicates,); those of money where there is any."""
    kept = use.efficiency * use.load
    watts, wasted = fleet.draw.of(use.activity)
    every = np.ones_like(kept)
    found = {
        "efficiency": use.efficiency,
        "demand": use.load * every,
        "effective_gpus": fleet.devices * kept,
        "wasted_gpus": fleet.devices * (1.0 - kept),
        "waiting_gpus": fleet.devices * use.load * (1.0 - use.efficiency),
        "headroom_gpus": fleet.devices * (1.0 - use.load) * every,
        "wasted_gpu_hours_a_day": 24.0 * fleet.devices * (1.0 - kept),
        "wasted_gpu_hours_a_month": HOURS_A_MONTH * fleet.devices * (1.0 - kept),
        "mfu": use.operations / peak,
        "tokens_per_second": use.tokens,
        "power": watts / 1e6,
        "wasted_power": wasted / 1e6,
    }
    if fleet.cost is not None:
        month = fleet.cost.a_month(watts)
        found["cost_a_month"] = month
        found["wasted_cost_a_month"] = month * (1.0 - kept)
        found["cost_of_million_tokens"] = 1e6 * month / (use.tokens * HOURS_A_MONTH * 3600.0)
    return found
