"""A sweep as one Dataset: the keys are its dimensions, the estimates of the runs its variables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from mcsim.results.label import provenance_of
from mcsim.results.points import Finished, PartOfSweep
from mcsim.units import SI_UNIT, Dimension, show

SWEEP = "sweep"
"""The attribute `study` of a sweep's Dataset."""

UNITS: Mapping[Dimension, str] = {**SI_UNIT, "data": "byte", "rate": "byte s-1"}
"""As files call them: UDUNITS, and so CF, knows B for the bel only."""
DIMENSIONS: Mapping[str, Dimension] = {unit: dimension for dimension, unit in UNITS.items()}
"""What a variable measures, by its unit; pure numbers and texts are not there."""
_LONGEST = 40


@dataclass(frozen=True)
class Axis:
    """A key of a sweep.

    key: its path. name: of the dimension, or of the coordinate along `point`. values: in SI units,
    along the dimension of a grid, else of each point.
    """

    key: str
    name: str
    units: str
    long_name: str
    values: tuple[float | int | str, ...]

    def text(self, value: float | int | str) -> str:
        """A value as people write it: "12.5 GB/s", "1,000", "local-sgd"."""
        if isinstance(value, str):
            return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..."
        dimension = DIMENSIONS.get(self.units)
        if dimension is not None:
            return show(float(value), dimension)
        return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"

    @property
    def attrs(self) -> dict[str, str]:
        return {"units": self.units, "long_name": self.long_name, "scenario_key": self.key}


def label_sweep(part: PartOfSweep, method: str, axes: Sequence[Axis]) -> xr.Dataset:
    """The Dataset of a sweep all of whose points are finished.

    What only some points have, as a stage of longer pipelines, is not a number at the others.
    """
    points = [part.points[number] for number in sorted(part.points)]
    dims: tuple[str, ...] = ("point",)
    shape: tuple[int, ...] = (len(points),)
    if method == "grid":
        dims = tuple(axis.name for axis in axes)
        shape = tuple(len(axis.values) for axis in axes)
    coordinates: dict[str, xr.Variable] = {
        axis.name: xr.Variable(
            (axis.name,) if method == "grid" else dims, np.array(axis.values), axis.attrs
        )
        for axis in axes
    }
    labels = _labels(points)
    attrs = {name: found for one in points for name, found in one.attrs.items()}
    coordinates |= {
        dim: xr.Variable((dim,), np.array(values), attrs[dim]) for dim, values in labels.items()
    }
    if method != "grid":
        number = {"units": "1", "long_name": "number of the point"}
        coordinates["point"] = xr.Variable(dims, np.arange(len(points)), number)
    variables: dict[str, xr.Variable] = {}
    for name in dict.fromkeys(name for one in points for name in one.variables):
        inner = next(one.variables[name][0] for one in points if name in one.variables)
        values = np.stack([_values(one, name, inner, labels) for one in points])
        values = values.reshape(shape + values.shape[1:])
        variables[name] = xr.Variable((*dims, *inner), values, attrs[name])
        freedom = [
            one.attrs[name]["degrees_of_freedom"]
            for one in points
            if "_stderr" in name and name in one.attrs
        ]
        if freedom:
            variables[name].attrs["degrees_of_freedom"] = np.int64(min(freedom))
    for name, long_name in _OF_POINTS.items():
        values = np.array([getattr(one, name) for one in points]).reshape(shape)
        variables[name] = xr.Variable(dims, values, {"units": "1", "long_name": long_name})
    return xr.Dataset(variables, coordinates, _attrs(part, points))


_OF_POINTS = {
    "devices": "devices of all groups",
    "steps": "steps of each cluster",
    "replicates": "clusters drawn from the lottery",
    "inner_steps": "steps of a round, which is what is called a step where there are several",
    "engine": "engine of the run",
    "self_check": "comparison of the engines",
}


def _labels(points: Sequence[Finished]) -> dict[str, list[Any]]:
    """The labels of all dimensions of the runs, in the order in which points bring them."""
    found: dict[str, dict[Any, None]] = {}
    for one in points:
        for dim, labels in one.labels.items():
            found.setdefault(dim, {}).update(dict.fromkeys(labels))
    return {dim: list(labels) for dim, labels in found.items()}


def _values(
    one: Finished, name: str, dims: Sequence[str], labels: Mapping[str, Sequence[Any]]
) -> Any:
    """A variable of a point over all labels; not a number where the point has none."""
    whole = np.full([len(labels[dim]) for dim in dims], np.nan)
    if name not in one.variables:
        return whole
    here = [[labels[dim].index(label) for label in one.labels[dim]] for dim in dims]
    values = np.array(one.variables[name][1], float)
    whole[np.ix_(*here)] = values
    return whole


def _attrs(part: PartOfSweep, points: Sequence[Finished]) -> dict[str, Any]:
    return {
        **provenance_of(part.scenario, "Sweep of synchronous training", "swept"),
        "study": SWEEP,
        "sweep": json.dumps(part.plan),
        "comment": "the scenario is that of the first point; all points have the same random"
        " numbers, so that their errors are not independent",
        "threads": max(one.threads for one in points),
        "wall_seconds": sum(one.wall for one in points),
        "cpu_seconds": sum(one.cpu for one in points),
        "completeness": "complete",
    }


def axes_of(dataset: xr.Dataset) -> list[Axis]:
    """The keys of a sweep's Dataset, in their order."""
    return [
        Axis(
            one.attrs["scenario_key"],
            str(name),
            one.attrs["units"],
            one.attrs["long_name"],
            tuple(one.values.tolist()),
        )
        for name, one in dataset.coords.items()
        if "scenario_key" in one.attrs
    ]
