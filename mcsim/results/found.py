"""What was sought and found: as a Dataset, and in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr

from mcsim.errors import UnitError
from mcsim.laws import FloatArray
from mcsim.results.label import provenance_of
from mcsim.results.statistics import STATISTICS
from mcsim.results.summary import with_error
from mcsim.results.swept import DIMENSIONS, Axis, axes_of
from mcsim.scenario import Scenario
from mcsim.suggest import did_you_mean
from mcsim.tables import table
from mcsim.units import parse, show

FIND = "find"
"""The attribute `study` of such a Dataset."""
_MORE_IS_BETTER = ("efficiency", "effective_gpus", "mfu", "goodput", "throughput")
"""Statistics that are to be at least as asked; all others at most."""


@dataclass(frozen=True)
class Goal:
    """A statistic that is to reach a target. at_least: or at most."""

    statistic: str
    target: float
    units: str
    at_least: bool

    def is_reached(self, value: float) -> bool:
        """Whether a value is as good as the target."""
        return value >= self.target if self.at_least else value <= self.target

    def text(self, value: float) -> str:
        """A value of the statistic, with its unit."""
        return f"{value:.5g}" if self.units == "1" else show(value, DIMENSIONS[self.units])


def goal_of(statistic: str, target: str | float) -> Goal:
    """What is to be reached. Raises ValueError for what is no statistic, or not of its unit."""
    units = {one.name: one.units for one in STATISTICS if one.stderr and one.dims == ("replicate",)}
    if statistic not in units:
        near = did_you_mean(statistic, units)
        raise ValueError(f"unknown statistic {statistic!r}{near}; there are {', '.join(units)}")
    with suppress(ValueError):
        # As in a file, where a bare number is SI.
        target = float(target)
    try:
        number = parse(target, DIMENSIONS.get(units[statistic]))
    except UnitError as error:
        raise ValueError(f"{statistic}: {error}") from None
    return Goal(statistic, number, units[statistic], statistic in _MORE_IS_BETTER)


class Found(NamedTuple):
    """The value that is sought, its standard error, the ends of its interval, in SI units.

    least: whether all larger ones reach the target too; else all smaller ones.
    """

    value: float
    error: float
    low: float
    high: float
    least: bool


def label_found(
    scenario: Scenario,
    axis: Axis,
    goal: Goal,
    found: Found,
    tried: Sequence[tuple[float, float]],
    level: float,
) -> xr.Dataset:
    """The Dataset of a value that was sought. tried: estimates and errors at the axis's values."""
    said = f"{'least' if found.least else 'largest'} {axis.key} that reaches the target"
    interval = f"of the interval that holds it with {100 * level:g} %"
    of_value = {
        "value": (found.value, said),
        "value_stderr": (found.error, f"standard error: {said}"),
        "value_low": (found.low, f"lower end {interval}"),
        "value_high": (found.high, f"upper end {interval}"),
    }
    variables = {
        name: xr.Variable((), value, {"units": axis.units, "long_name": long_name})
        for name, (value, long_name) in of_value.items()
    }
    variables["value"].attrs["ancillary_variables"] = "value_stderr"
    means, errors = np.array(tried).T
    overall = f"overall_{goal.statistic}"
    long_name = next(one.long_name for one in STATISTICS if one.name == goal.statistic)
    variables[overall] = xr.Variable(
        (axis.name,),
        means,
        {
            "units": goal.units,
            "long_name": f"{long_name}, mean over the clusters",
            "ancillary_variables": f"{overall}_stderr",
        },
    )
    variables[f"{overall}_stderr"] = xr.Variable(
        (axis.name,),
        errors,
        {"units": goal.units, "long_name": f"standard error of the {long_name}"},
    )
    attrs = {
        **provenance_of(scenario, "A value at which a target is reached", "sought"),
        "study": FIND,
        "statistic": goal.statistic,
        "target": goal.target,
        "target_sense": "at least" if goal.at_least else "at most",
        "value_sense": "least" if found.least else "largest",
        "monotone": "yes" if _is_monotone(means, errors) else "no",
        "comment": "the scenario is that of the lower end of the range",
        "completeness": "complete",
    }
    coordinate = xr.Variable((axis.name,), np.array(axis.values), axis.attrs)
    return xr.Dataset(variables, {axis.name: coordinate}, attrs)


def _is_monotone(means: FloatArray, errors: FloatArray) -> bool:
    """Whether estimates rise or fall throughout, but for less than two of their errors."""
    steps = np.diff(means) * np.sign(means[-1] - means[0])
    allowed = 2 * np.nan_to_num(np.maximum(errors[1:], errors[:-1])) + 1e-9 * np.abs(means[1:])
    return bool((steps >= -allowed).all())


def _scale(axis: Axis, value: float) -> tuple[float, str]:
    """A unit in which a value is readable: what it is in SI, and its name."""
    dimension = DIMENSIONS.get(axis.units)
    if dimension is None:
        return 1.0, ""
    unit = show(value, dimension).partition(" ")[2]
    return parse(f"1 {unit}", dimension), f" {unit}"


def summarise_found(dataset: xr.Dataset) -> str:
    """The value that was sought with its error and interval, and all that were tried."""
    attrs, (axis,) = dataset.attrs, axes_of(dataset)
    statistic = attrs["statistic"]
    overall = dataset[f"overall_{statistic}"]
    goal = Goal(
        statistic, float(attrs["target"]), overall.units, attrs["target_sense"] != "at most"
    )
    rows = []
    for value, mean, error in zip(
        axis.values, overall.values, dataset[f"overall_{statistic}_stderr"].values, strict=True
    ):
        shown, uncertainty = with_error(float(mean), float(error))
        rows.append([axis.text(value), shown, uncertainty and f"± {uncertainty}"])
    value, error = float(dataset.value), float(dataset.value_stderr)
    low, high = float(dataset.value_low), float(dataset.value_high)
    factor, key_unit = _scale(axis, value)
    shown, uncertainty = with_error(value / factor, error / factor)
    whole = isinstance(axis.values[0], int)
    shown = f"{value:,.0f}" if whole else shown
    around = ""
    if math.isnan(error):
        around = "; its error is unknown"
    elif uncertainty:
        ends = [
            f"{end:,.0f}" if whole else with_error(end / factor, error / factor)[0]
            for end in (low, high)
        ]
        around = f" ± {uncertainty}{key_unit}, 95 %: {ends[0]} to {ends[1]}{key_unit}"
        if {low, high} & {axis.values[0], axis.values[-1]}:
            around += " (to an end of the range: it may be beyond)"
    if attrs["monotone"] == "no":
        around += f"\nnote: {statistic} rises here and falls there: it may be so elsewhere too"
    unit = "" if goal.units == "1" else f", {goal.units}"
    return "\n\n".join(
        [
            f"{attrs['scenario_name']}: {attrs['value_sense']} {axis.key} with {statistic}"
            f" {attrs['target_sense']} {goal.text(goal.target)}, seed {attrs['seed']}:"
            f" {shown}{key_unit}{around}",
            table([axis.key, f"{statistic}{unit}", "std. error"], rows, left=()),
        ]
    )
