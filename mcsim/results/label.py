"""From a tally to a Dataset: dimensions, coordinates, units and where it all comes from."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import xarray as xr

from mcsim.engine.philox import GENERATOR
from mcsim.engine.tally import Tally
from mcsim.results.statistics import QUANTILES, STATISTICS, Statistic, Summary
from mcsim.scenario import Scenario

_LIBRARIES = ("numba", "numpy", "scipy", "xarray", "netCDF4")


@dataclass(frozen=True)
class Cost:
    """What a run took. threads: at most so many at once."""

    engine: str
    threads: int
    wall_seconds: float
    cpu_seconds: float


def label(tally: Tally, scenario: Scenario, cost: Cost) -> xr.Dataset:
    """The Dataset of a run: every statistic with its standard error, and the provenance."""
    summary = Summary(tally)
    variables: dict[str, xr.Variable] = {}
    for statistic in STATISTICS:
        variables.update(_variables(statistic, summary))
    if tally.plan.keep_steps:
        times = np.array([sums.step_time for sums in tally.replicates])
        attrs = {"units": "s", "long_name": "time of each step"}
        variables["step_time"] = xr.Variable(("replicate", "step"), times, attrs)
    return xr.Dataset(variables, _coordinates(summary), _provenance(scenario, cost))


def _variables(statistic: Statistic, summary: Summary) -> dict[str, xr.Variable]:
    attrs = {"units": statistic.units, "long_name": statistic.long_name}
    comments = [statistic.comment] if statistic.comment else []
    made: dict[str, xr.Variable] = {}
    if statistic.stderr is not None:
        error = statistic.stderr(summary)
        attrs["ancillary_variables"] = name = f"{statistic.name}_stderr"
        error_name = f"standard error of the {statistic.long_name}"
        error_attrs = {"units": statistic.units, "long_name": error_name}
        made[name] = xr.Variable(statistic.dims, error, error_attrs)
        if not summary.plan.has_finite_variance and np.isnan(error).all():
            comments.append("a law has an infinite variance: no standard error is valid")
    if comments:
        attrs["comment"] = "; ".join(comments)
    return {statistic.name: xr.Variable(statistic.dims, statistic.read(summary), attrs), **made}


def _coordinates(summary: Summary) -> dict[str, xr.Variable]:
    plan = summary.plan

    def variable(dims: tuple[str, ...], values: object, units: str, name: str) -> xr.Variable:
        return xr.Variable(dims, values, {"units": units, "long_name": name})

    coordinates = {
        "replicate": variable(
            ("replicate",), np.arange(plan.replicates), "1", "number of the drawn cluster"
        ),
        "quantile": variable(("quantile",), np.array(QUANTILES), "1", "cumulative probability"),
        "group": variable(
            ("group",), np.array([g.name for g in plan.groups]), "1", "name of the device group"
        ),
        "site": variable(
            ("site",), np.array([s.name for s in plan.sites]), "1", "name of the site"
        ),
        "group_site": variable(
            ("group",),
            np.array([plan.sites[g.site].name for g in plan.groups]),
            "1",
            "site of the device group",
        ),
        "group_devices": variable(
            ("group",), np.array([g.count for g in plan.groups]), "1", "devices in the group"
        ),
        "group_compute_time": variable(
            ("group",),
            np.array([g.compute for g in plan.groups]),
            "s",
            "time of one undisturbed step on a device of the group",
        ),
        # Not as CF's bounds, which may have neither units nor a name of their own.
        "bin": variable(
            ("bin",), summary.bounds.mean(axis=1), "s", "centre of the histogram's bin"
        ),
        "bin_lower": variable(
            ("bin",), summary.bounds[:, 0], "s", "least step time in the histogram's bin"
        ),
        "bin_upper": variable(("bin",), summary.bounds[:, 1], "s", "end of the histogram's bin"),
    }
    if plan.keep_steps:
        coordinates["step"] = variable(("step",), np.arange(plan.steps), "1", "number of the step")
    return coordinates


def _provenance(scenario: Scenario, cost: Cost) -> Mapping[str, object]:
    version = metadata.version("mcsim")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    libraries = [f"{name} {metadata.version(name)}" for name in _LIBRARIES]
    return {
        "Conventions": "CF-1.11",
        "title": f"Step times of synchronous training: {scenario.name}",
        "source": f"mcsim {version}",
        "history": f"{now} mcsim {version}: simulated",
        "scenario": scenario.to_toml(),
        "scenario_name": scenario.name,
        "scenario_hash": scenario.hash,
        "seed": np.uint64(scenario.run.seed),
        "generator": GENERATOR,
        "engine": cost.engine,
        "threads": cost.threads,
        "wall_seconds": round(cost.wall_seconds, 3),
        "cpu_seconds": round(cost.cpu_seconds, 3),
        "library_versions": ", ".join([f"Python {platform.python_version()}", *libraries]),
        "replicates_done": scenario.run.replicates,
        "steps_done": scenario.run.steps,
        "completeness": "complete",
    }
