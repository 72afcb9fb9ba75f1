"""What `mcsim list` prints."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from mcsim import catalogue
from mcsim.fields import Spec, spec_of
from mcsim.laws import LAWS
from mcsim.scenario import Scenario, bundled
from mcsim.tables import table
from mcsim.units import parse, show


def targets() -> str:
    """Where devices can be sampled here, or why not."""
    from mcsim.batch import targets_here

    rows = [[one.name, "yes" if one.is_usable else "no", one.what] for one in targets_here()]
    return table(["target", "usable", "what was found"], rows, left=(0, 1, 2))


def scenarios() -> str:
    """The bundled scenarios and what each is."""
    rows = []
    for name, path in bundled().items():
        text = path.read_text(encoding="utf-8")
        groups = tomllib.loads(text)["fleet"]
        devices = sum(group["count"] for group in groups)
        # The first line of comment says what the scenario is.
        rows.append([name, f"{devices:,}", text.partition("\n")[0].lstrip("# ")])
    return table(["scenario", "devices", "what it is"], rows, left=(0, 2))


def remedies() -> str:
    """What `mcsim compare` compares."""
    from mcsim.study.remedies import COMBINATIONS, all_remedies

    rows = [[one.name, one.description] for one in all_remedies(["DEVICE"], ["SITE"])]
    rows += [[name, "together"] for name in COMBINATIONS]
    note = (
        "DEVICE and SITE are those of the scenario; remedies may be joined by +; new values of keys"
        " are one too,\nas 'sync.policy=timeout;sync.timeout=12 s'"
    )
    return f"{table(['remedy', 'what is done'], rows, left=(0, 1))}\n{note}"


def devices() -> str:
    """The catalogue's devices with their dense peaks."""
    precisions = ("bf16", "fp8", "fp4")
    rows = [
        [
            name,
            *(f"{device.peak[p] / 1e12:,.0f}" if p in device.peak else "-" for p in precisions),
            show(device.memory, "data"),
            show(device.memory_bandwidth, "rate"),
            show(device.scale_up_bandwidth, "rate"),
            f"{device.power:,.0f} W",
            str(device.devices_per_node),
            device.confidence,
            device.source,
        ]
        for name, device in catalogue.devices().items()
    ]
    header = ["device", "bf16", "fp8", "fp4", "memory", "bandwidth", "scale-up", "power"]
    header += ["per node", "confidence", "source"]
    note = "peaks in dense Tflop/s; scale-up bandwidth per direction"
    return f"{table(header, rows, left=(0, 9, 10))}\n{note}"


def tables() -> str:
    """The measured distributions, for empirical laws."""
    rows = [
        [name, found.dimension or "factor", found.title]
        for name, found in catalogue.distributions().items()
    ]
    header = ["table", "of a", 'what was measured ({ law = "empirical", table = "..." })']
    return table(header, rows, left=(0, 1, 2))


def ageing() -> str:
    """What links between sites suffer by their age, and where each figure is from."""
    found = catalogue.ageing().values()
    year = parse("1 yr", "time")
    rows = [
        [
            f"{step.below / year:g} years",
            f"{step.loss:g}",
            *(_spell(spell) for spell in (step.flap, step.lane_failure)),
        ]
        for step in found
    ]
    header = ["link below", "loses", "flaps", "each lane fails"]
    sources = [
        [f"{step.below / year:g} years", key, step.confidence[key], source]
        for step in found
        for key, source in step.source.items()
    ]
    note = "that older links are like the worse ones of a measured fleet is always an assumption"
    return (
        f"{table(header, rows, left=(0, 2, 3))}\n\n"
        f"{table(['link below', 'figure', 'confidence', 'source'], sources, left=(0, 1, 2, 3))}\n"
        f"{note}"
    )


def _spell(spell: tuple[float, float]) -> str:
    every, duration = spell
    return f"every {show(every, 'time')}, for {show(duration, 'time')}"


def disturbances() -> str:
    """The published disturbances, each figure with how sure it is and its source."""
    rows = []
    for name, found in catalogue.disturbances().items():
        rows.append([name, found.unit, "", "", found.title])
        for key, figure in found.figures.items():
            rows.append(["", key, _figure(figure.value, key), figure.confidence, figure.source])
    note = 'as [jitter] slow_node = { catalogue = "slow-host" }, daily = { catalogue = "llama-3" }'
    header = ["disturbance", "of a", "", "confidence", "what it is, and who says so"]
    return f"{table(header, rows, left=(0, 1, 2, 3, 4))}\n{note}; keys given beside it win"


def _figure(value: Any, key: str) -> str:
    if isinstance(value, Mapping):
        parameters = (f"{k} {v}" for k, v in value.items() if k != "law")
        return f"{value['law']}: {', '.join(parameters)}"
    return f"{value}" if key == "amplitude" else show(value, "time")


def serving() -> str:
    """What is taken for keys of a service that are not given, and where it is from."""
    rows = [
        [f"{part}.{key}", f"{figure.value:g}", figure.confidence, figure.source]
        for part, figures in catalogue.serving().items()
        for key, figure in figures.items()
    ]
    return table(["default of", "", "confidence", "who says so"], rows, left=(0, 2, 3))


def prices() -> str:
    """What a GPU hour costs, by lists of prices."""
    rows = [
        [name, device, f"{figure.value:.2f}", figure.confidence, figure.source]
        for name, figures in catalogue.prices().items()
        for device, figure in figures.items()
    ]
    header = ["list", "device", "USD an hour", "confidence", "who says so"]
    note = 'as [prices] catalogue = "specialty-clouds-2026"'
    return f"{table(header, rows, left=(0, 1, 3, 4))}\n{note}"


def keys() -> str:
    """Every key of a scenario, from the declarations that read it."""
    rows = list(_keys(Scenario, ""))
    note = "units as in 50 us, 628 GB, 400 Gb/s (bits), 50 GB/s (bytes), 16 km; a bare number is SI"
    return f"{table(['key', 'holds', 'default', 'what it is'], rows, left=(0, 1, 2, 3))}\n{note}"


def _keys(part: type, path: str) -> Iterator[list[str]]:
    for field in dataclasses.fields(part):
        spec = spec_of(field)
        here = f"{path}.{field.name}" if path else field.name
        if spec.kind == "tables":
            here += "[]"
        if spec.item is not None:
            yield [here, spec.kind, "", spec.doc]
            yield from _keys(spec.item, here)
            continue
        if field.default is dataclasses.MISSING:
            default = "required"
        else:
            default = "" if field.default is None else str(field.default)
        yield [here, _holds(spec), default, spec.doc]


def _holds(spec: Spec) -> str:
    if spec.kind == "choice":
        return " | ".join(spec.choices)
    if spec.kind == "table":
        return "law of a time" if spec.dimension == "time" else "law of a factor"
    if spec.kind == "quantity":
        return "number" if spec.dimension is None else spec.dimension
    return spec.kind


def laws() -> str:
    """The probability laws with their parameters."""
    rows = []
    for name, law in sorted(LAWS.items()):
        fields = [f.name for f in dataclasses.fields(law) if f.name != "shapes"]  # type: ignore[arg-type]
        forms = " | ".join(", ".join(form) for form in law.forms) or ", ".join(fields)
        rows.append([name, forms, (law.__doc__ or "").partition("\n")[0]])
    note = 'factors are pure numbers; values of times take a unit, as mean = "2 ms"'
    return f"{table(['law', 'keys', 'what it is'], rows, left=(0, 1, 2))}\n{note}"
