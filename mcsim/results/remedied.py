"""What remedies change in a verdict: the comparison's trainers beside the service."""

from __future__ import annotations

import numpy as np
import xarray as xr

from mcsim.results.summary import with_error
from mcsim.tables import Table


def with_remedies(verdict: xr.Dataset, compared: xr.Dataset) -> xr.Dataset:
    """A verdict with the trainers of a comparison of the same scenario, over `remedy`.

    Its variables, with `_stderr` where they have one: remedy_effective_gpus, remedy_gain,
    remedy_wasted_gpus, remedy_load (of the service, above which it makes more of the fleet than
    training with the remedy does), remedy_extra_devices.
    """
    gpus, error = (compared[f"overall_effective_gpus{end}"] for end in ("", "_stderr"))
    devices = float(verdict.attrs["devices"])
    kept = float(verdict.efficiency.sel(use="inference"))
    source = "mcsim compare"
    made: dict[str, xr.Variable] = {}

    def add(name: str, values: xr.DataArray, what: str, stderr: xr.DataArray | None = None) -> None:
        attrs = {"units": "1", "long_name": what, "follows_from": source}
        if stderr is not None:
            of_error = {"units": "1", "long_name": f"standard error: {what}"}
            made[f"remedy_{name}_stderr"] = xr.Variable(("remedy",), stderr.to_numpy(), of_error)
            attrs["ancillary_variables"] = f"remedy_{name}_stderr"
        made[f"remedy_{name}"] = xr.Variable(("remedy",), values.to_numpy(), attrs)

    add("effective_gpus", gpus, "devices that would train as much without any loss", error)
    add(
        "gain",
        compared.gain,
        "throughput over that without the remedy, minus 1",
        compared.gain_stderr,
    )
    add("extra_devices", compared.extra_devices, "devices beyond those of the scenario")
    wasted = devices + compared.extra_devices - gpus
    add("wasted_gpus", wasted, "GPU hours that training wastes in an hour", error)
    load = gpus / devices / kept
    add(
        "load",
        load.where(load < 1.0),
        "load above which a service makes more of the fleet than training; missing: none",
    )
    named = compared[["remedy", "remedy_description"]].reset_coords()
    coordinates = {
        "remedy": compared.remedy.variable,
        "remedy_description": named.remedy_description.variable,
    }
    return verdict.assign(made).assign_coords(coordinates)


def remedies_of_verdict(dataset: xr.Dataset) -> Table:
    """The table of what remedies change, the best first under what is done without any."""
    gpus = dataset.remedy_effective_gpus.to_numpy()
    order = [0, *(np.argsort(-gpus[1:], kind="stable") + 1).tolist()]
    rows = []
    for number in order:
        one = dataset.isel(remedy=number)
        load = float(one.remedy_load)
        rows.append(
            [
                str(one.remedy.item()),
                *_of(one, "effective_gpus"),
                *(_of(one, "gain", 100.0, " %") if number else ("", "")),
                *_of(one, "wasted_gpus"),
                "never" if np.isnan(load) else f"{100 * load:.0f} %",
            ]
        )
    header = ["as a trainer with", "effective GPUs", "", "gain", "", "wasted GPU hours an hour", ""]
    return Table([*header, "serve above"], rows)


def _of(one: xr.Dataset, name: str, factor: float = 1.0, unit: str = "") -> tuple[str, str]:
    value, error = (factor * float(one[f"remedy_{name}{end}"]) for end in ("", "_stderr"))
    shown, around = with_error(value, error)
    return f"{shown}{unit}", around and f"± {around}"
