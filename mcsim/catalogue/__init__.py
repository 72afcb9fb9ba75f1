"""Figures of real hardware, each with its source and how sure it is.

The data stands in the TOML files beside this one, in readable units; it is read on first use.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, TypeVar

from mcsim.errors import McsimError
from mcsim.suggest import did_you_mean
from mcsim.units import Dimension, parse

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator.

    peak: flop/s by precision, dense (vendors' headlines since Ampere are for 2:4 sparsity: half of
        them). memory: byte. memory_bandwidth: byte/s. scale_up_bandwidth: byte/s per direction,
        half of what vendors print. power: W. devices_per_node: size of the domain of the fast
        interconnect. confidence: "seen" or "remembered(high)".
    """

    name: str
    title: str
    peak: Mapping[str, float]
    memory: float
    memory_bandwidth: float
    scale_up_bandwidth: float
    power: float
    devices_per_node: int
    nodes_per_rack: int
    source: str
    confidence: str
    note: str


@dataclass(frozen=True, slots=True)
class Distribution:
    """A measured distribution as a table of quantiles, linear between them.

    probabilities: cumulative, increasing from 0 to 1. values: SI, never decreasing.
    dimension: of the values; None for a factor.
    """

    name: str
    title: str
    dimension: Dimension | None
    probabilities: tuple[float, ...]
    values: tuple[float, ...]
    source: str
    confidence: str
    note: str


@dataclass(frozen=True, slots=True)
class Medium:
    """What light travels in; speed: m/s."""

    name: str
    speed: float
    source: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Ageing:
    """What a link between sites suffers at an age below `below`, s.

    loss: of packets. flap, lane_failure: mean time between two, and of one, s. source, confidence:
    of each of the three, by name; confidence is "seen", "remembered(high)" or "assumption".
    """

    name: str
    below: float
    loss: float
    flap: tuple[float, float]
    lane_failure: tuple[float, float]
    source: Mapping[str, str]
    confidence: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Figure:
    """What is said of something, and by whom.

    value: SI, or the table of a law. confidence: "seen", "remembered(high)" or "assumption".
    """

    value: Any
    source: str
    confidence: str


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What disturbs clusters for a while, or daily, as far as it is published.

    unit: what it befalls as a whole. figures: by the key of the scenario that they stand for.
    """

    name: str
    title: str
    unit: str
    figures: Mapping[str, Figure]


@cache
def devices() -> Mapping[str, Device]:
    """Every accelerator by its name in a scenario."""
    return _entries("devices", _device)


@cache
def distributions() -> Mapping[str, Distribution]:
    """Every measured distribution by its name."""
    return _entries("distributions", _distribution)


@cache
def media() -> Mapping[str, Medium]:
    """Every medium of a link by its name."""
    return _entries("media", _medium)


@cache
def ageing() -> Mapping[str, Ageing]:
    """What links suffer, by the steps of their age, from new on."""
    return _entries("ageing", _ageing)


def aged(age: float) -> Ageing:
    """What a link of an age suffers; s. Raises McsimError where nothing is known of it."""
    for step in ageing().values():
        if 0.0 <= age < step.below:
            return step
    year = parse("1 yr", "time")
    last = max(step.below for step in ageing().values())
    raise McsimError(
        f"{age / year:g} years must be at least 0 and below {last / year:g}, where the table of"
        " ageing ends"
    )


@cache
def disturbances() -> Mapping[str, Disturbance]:
    """Every published disturbance by its name."""
    return _entries("disturbances", _disturbance)


@cache
def serving() -> Mapping[str, Mapping[str, Figure]]:
    """What is taken for keys of a scenario that are not given, by its table and key."""
    return _entries("serving", _figures)


@cache
def prices() -> Mapping[str, Mapping[str, Figure]]:
    """Lists of prices of a GPU hour, USD, by device."""
    return _entries("prices", _figures)


def device(name: str) -> Device:
    """An accelerator. Raises McsimError with a suggestion where there is none of that name."""
    return _find(devices(), name, "device")


def distribution(name: str) -> Distribution:
    """A measured distribution. Raises McsimError where there is none of that name."""
    return _find(distributions(), name, "distribution")


def medium(name: str) -> Medium:
    """A medium. Raises McsimError where there is none of that name."""
    return _find(media(), name, "medium")


def disturbance(name: str) -> Disturbance:
    """A published disturbance. Raises McsimError where there is none of that name."""
    return _find(disturbances(), name, "disturbance")


def _find(entries: Mapping[str, Entry], name: str, kind: str) -> Entry:
    if name in entries:
        return entries[name]
    near = did_you_mean(name, entries)
    raise McsimError(f'unknown {kind} "{name}"{near}; there are {", ".join(entries)}')


def _entries(file: str, make: Any) -> Mapping[str, Any]:
    text = resources.files(__package__).joinpath(f"{file}.toml").read_text(encoding="utf-8")
    return MappingProxyType({name: make(name, raw) for name, raw in tomllib.loads(text).items()})


def _device(name: str, raw: Mapping[str, Any]) -> Device:
    return Device(
        name=name,
        title=raw["title"],
        peak=MappingProxyType({key: float(value) for key, value in raw["peak"].items()}),
        memory=parse(raw["memory"], "data"),
        memory_bandwidth=parse(raw["memory_bandwidth"], "rate"),
        scale_up_bandwidth=parse(raw["scale_up_bandwidth"], "rate"),
        power=float(raw["power"]),
        devices_per_node=raw["devices_per_node"],
        nodes_per_rack=raw["nodes_per_rack"],
        source=raw["source"],
        confidence=raw["confidence"],
        note=raw.get("note", ""),
    )


def _distribution(name: str, raw: Mapping[str, Any]) -> Distribution:
    dimension: Dimension | None = raw.get("dimension")
    unit = f" {raw['unit']}" if "unit" in raw else ""
    return Distribution(
        name=name,
        title=raw["title"],
        dimension=dimension,
        probabilities=tuple(numerator / raw["of"] for numerator in raw["probabilities"]),
        values=tuple(
            parse(f"{value}{unit}" if unit else value, dimension) for value in raw["values"]
        ),
        source=raw["source"],
        confidence=raw["confidence"],
        note=raw.get("note", ""),
    )


def _medium(name: str, raw: Mapping[str, Any]) -> Medium:
    # Defined exactly: the speed of light in vacuum, m/s.
    return Medium(name, 299_792_458 / raw["group_index"], raw["source"], raw["confidence"])


def _ageing(name: str, raw: Mapping[str, Any]) -> Ageing:
    what = ("loss", "flap", "lane_failure")

    def spell(key: str) -> tuple[float, float]:
        return parse(raw[key]["every"], "time"), parse(raw[key]["duration"], "time")

    return Ageing(
        name=name,
        below=parse(raw["below"], "time"),
        loss=float(raw["loss"]["value"]),
        flap=spell("flap"),
        lane_failure=spell("lane_failure"),
        source=MappingProxyType({key: raw[key]["source"] for key in what}),
        confidence=MappingProxyType({key: raw[key]["confidence"] for key in what}),
    )


def _figures(_: str, raw: Mapping[str, Any]) -> Mapping[str, Figure]:
    """What of an entry is a figure; text is a time."""
    return MappingProxyType(
        {
            key: Figure(
                parse(said["value"], "time") if isinstance(said["value"], str) else said["value"],
                said["source"],
                said["confidence"],
            )
            for key, said in raw.items()
            if isinstance(said, Mapping)
        }
    )


def _disturbance(name: str, raw: Mapping[str, Any]) -> Disturbance:
    return Disturbance(name, raw["title"], raw["unit"], _figures(name, raw))
