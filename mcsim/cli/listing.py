"""What `mcsim list` prints."""

from __future__ import annotations

import dataclasses
import tomllib

from mcsim import catalogue
from mcsim.laws import LAWS
from mcsim.scenario import bundled
from mcsim.tables import table
from mcsim.units import show


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


def laws() -> str:
    """The probability laws with their parameters."""
    rows = []
    for name, law in sorted(LAWS.items()):
        fields = [f.name for f in dataclasses.fields(law) if f.name != "shapes"]
        forms = " | ".join(", ".join(form) for form in law.forms) or ", ".join(fields)
        rows.append([name, forms, (law.__doc__ or "").partition("\n")[0]])
    return table(["law", "keys", "what it is"], rows, left=(0, 1, 2))
