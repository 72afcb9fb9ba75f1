"""What a fleet draws and costs, and how much of it for nothing.

A device draws its catalogue's power while it computes and given shares of it while it waits, reads
memory or has nothing to do; servers, switches and cooling come on top as factors. Money is that of
all devices for all hours, by the hour or as a lease, and of the electricity where its price is
given; it is lost in proportion to the GPU hours that are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mcsim import catalogue
from mcsim.errors import Problem
from mcsim.laws import FloatArray
from mcsim.scenario import Scenario
from mcsim.scenario.uses import Power, Prices

HOURS_A_MONTH = 365.25 * 24 / 12
"""Of a Julian year's twelfth."""


class Activity(NamedTuple):
    """What the devices of each group do, as parts of all time, shape (..., groups); the rest of it
    they are idle. reading: of the memory, in passes that it bounds."""

    computing: FloatArray
    reading: FloatArray
    waiting: FloatArray


@dataclass(frozen=True)
class Draw:
    """What a fleet draws.

    watts: shape (groups,), of all devices, servers and cooling, while they compute. waiting,
    reading, idle: the shares of it then. sources: of each.
    """

    watts: FloatArray
    waiting: float
    reading: float
    idle: float
    sources: tuple[str, ...]

    def of(self, activity: Activity) -> tuple[FloatArray, FloatArray]:
        """Watts that are drawn, and those of them while nothing is done; shape (...,)."""
        useful = activity.computing + self.reading * activity.reading
        busy = activity.computing + activity.reading + activity.waiting
        idle = self.waiting * activity.waiting + self.idle * (1.0 - busy)
        return (useful + idle) @ self.watts, idle @ self.watts


def draw_of(scenario: Scenario) -> Draw:
    """What the scenario's fleet draws; its devices are all of the catalogue."""
    asked, figures = scenario.power or Power(), catalogue.serving()["power"]
    value, sources = {}, ["fleet.count x catalogue devices.toml, power"]
    for key, figure in figures.items():
        given = getattr(asked, key)
        value[key] = figure.value if given is None else given
        said = f"catalogue serving.toml, power.{key} ({figure.confidence})"
        sources.append(said if given is None else f"power.{key}")
    watts = [fleet.count * catalogue.device(fleet.device).power for fleet in scenario.fleet]
    return Draw(
        np.array(watts) * value["servers"] * value["pue"],
        value["waiting"],
        value["decode"],
        value["idle"],
        tuple(sources),
    )


@dataclass(frozen=True)
class Cost:
    """What a fleet costs. hour: of all its devices. kilowatt_hour: of electricity besides."""

    currency: str
    hour: float
    kilowatt_hour: float
    source: str

    def a_month(self, watts: FloatArray) -> FloatArray:
        """Of a fleet that draws so much."""
        return HOURS_A_MONTH * (self.hour + self.kilowatt_hour * watts / 1000.0)


def cost_of(scenario: Scenario) -> Cost | None:
    """None where no price is given. Raises ScenarioError for a device that a list lacks."""
    prices = scenario.prices
    if prices is None:
        return None
    hour, source = _hour(scenario, prices)
    sources = [source] if source else []
    if prices.kilowatt_hour is not None:
        sources.append("prices.kilowatt_hour")
    if not sources:
        return None
    currency, electricity = prices.currency or "USD", prices.kilowatt_hour or 0.0
    return Cost(currency, hour, electricity, ", ".join(sources))


def _hour(scenario: Scenario, prices: Prices) -> tuple[float, str]:
    devices = sum(fleet.count for fleet in scenario.fleet)
    if prices.lease_per_month is not None:
        return prices.lease_per_month / HOURS_A_MONTH, "prices.lease_per_month"
    if prices.gpu_hour is not None:
        return prices.gpu_hour * devices, "prices.gpu_hour x fleet.count"
    if prices.catalogue is None:
        return 0.0, ""
    known = catalogue.prices()[prices.catalogue]
    unknown = sorted({fleet.device for fleet in scenario.fleet} - set(known))
    if unknown:
        message = f'"{prices.catalogue}" has no price of {", ".join(unknown)}; give prices.gpu_hour'
        raise scenario.error([Problem("prices.catalogue", message)])
    hour = sum(fleet.count * float(known[fleet.device].value) for fleet in scenario.fleet)
    return hour, f"fleet.count x catalogue prices.toml, {_confidence(scenario, prices.catalogue)}"


def _confidence(scenario: Scenario, name: str) -> str:
    known = catalogue.prices()[name]
    devices: Sequence[str] = list(dict.fromkeys(fleet.device for fleet in scenario.fleet))
    return f"{name} ({', '.join(f'{device}: {known[device].confidence}' for device in devices)})"
