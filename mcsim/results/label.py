"""From a tally to a Dataset: dimensions, coordinates, units and where it all comes from."""

from __future__ import annotations

import datetime
import platform
from functools import cache
from importlib import metadata

import numpy as np
import xarray as xr

from mcsim.engine.histogram import COARSEST, SMALLEST, edges_of
from mcsim.engine.philox import GENERATOR
from mcsim.engine.selfcheck import CHANCE
from mcsim.engine.tally import Tally
from mcsim.model.choice import steps_a_block
from mcsim.results.estimates import QUANTILES, Summary
from mcsim.results.part import Part
from mcsim.results.statistics import STATISTICS, Statistic, overall
from mcsim.results.target import is_reached, relative_error
from mcsim.scenario import Scenario

_LIBRARIES = ("numba", "numpy", "scipy", "xarray", "netCDF4")


def label(part: Part) -> xr.Dataset:
    """The Dataset of a run: every statistic with its standard error, and the provenance.

    Of a part of one: which steps it has, and how long they took.
    """
    if not part.is_complete:
        return _label_piece(part)
    tally = part.tally
    summary = Summary(tally)
    variables: dict[str, xr.Variable] = {}
    for statistic in STATISTICS:
        if not statistic.is_known(summary):
            continue
        variables.update(_variables(statistic, summary))
        variables.update(_overall(statistic, summary))
    if tally.plan.keep_steps:
        times = np.array([sums.step_time for sums in tally.replicates])
        attrs = {"units": "s", "long_name": "time of each step"}
        variables["step_time"] = xr.Variable(("replicate", "step"), times, attrs)
    coordinates = _coordinates(summary, part.scenario)
    if tally.plan.keep == "devices":
        for which, name in _DEVICES:
            variables.update(_device_histogram(summary, which, name, coordinates))
    known = _provenance(part) | _checked(part) | _target(tally) | {"completeness": "complete"}
    return xr.Dataset(variables, coordinates, known)


def _label_piece(part: Part) -> xr.Dataset:
    rows = [(one, sums) for one, several in sorted(part.tally.sums.items()) for sums in several]
    size = steps_a_block(part.plan)
    of_pieces = [
        ("piece_replicate", "1", "number of the drawn cluster", [one for one, _ in rows]),
        ("first_step", "1", "number of the first step", [s.ordered.first * size for _, s in rows]),
        ("steps", "1", "number of steps", [sums.steps for _, sums in rows]),
        ("step_time_mean", "s", "mean step time", [sums.moments.mean[0] for _, sums in rows]),
        ("step_time_min", "s", "shortest step time", [sums.shortest for _, sums in rows]),
        ("step_time_max", "s", "longest step time", [sums.longest for _, sums in rows]),
    ]
    variables = {
        name: xr.Variable(("piece",), values, {"units": units, "long_name": long_name})
        for name, units, long_name, values in of_pieces
    }
    done, steps = part.tally.steps, part.plan.steps * part.plan.replicates
    completeness = f"partial: {done} of {steps} steps; `mcsim merge` joins it with the others"
    return xr.Dataset(variables, attrs={**_provenance(part), "completeness": completeness})


_DEVICES = (
    ("times", "time until a device is ready"),
    ("waits", "time that a device waits for the last arrival"),
)
"""What is counted of all devices where that is asked for."""


def _device_histogram(
    summary: Summary, which: str, name: str, coordinates: dict[str, xr.Variable]
) -> dict[str, xr.Variable]:
    """The histogram of all devices of each group, and its bins among the coordinates."""
    number, counts = summary.device_counts(which)
    kind = f"device_{which.removesuffix('s')}"
    lower, upper = edges_of(number, COARSEST)
    for suffix, values, what in (
        ("", (lower + upper) / 2, "centre"),
        ("_lower", lower, "least value"),
        ("_upper", upper, "end"),
    ):
        attrs = {"units": "s", "long_name": f"{what} of the histogram's bin: {name}"}
        coordinates[f"{kind}_bin{suffix}"] = xr.Variable((f"{kind}_bin",), values, attrs)
    attrs = {
        "units": "1",
        "long_name": f"number of devices and steps by the {name}",
        "comment": "of times in single precision, so that the last arrival may seem to wait for"
        f" itself; the first bin also holds what is below {SMALLEST:.1g} s, and the last what is"
        " beyond it",
    }
    dims = ("replicate", "group", f"{kind}_bin")
    return {f"{kind}_histogram": xr.Variable(dims, counts, attrs)}


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


def _overall(statistic: Statistic, summary: Summary) -> dict[str, xr.Variable]:
    """An estimate over all clusters: what the run says in one number, with both errors in it."""
    if statistic.stderr is None or "replicate" not in statistic.dims:
        return {}
    mean, error = overall(statistic, summary)
    name = f"overall_{statistic.name}"
    dims = statistic.dims[1:]
    replicates = summary.plan.replicates
    lottery = replicates > 1
    attrs = {
        "units": statistic.units,
        "long_name": f"{statistic.long_name}, mean over the clusters",
        "ancillary_variables": f"{name}_stderr",
    }
    error_attrs = {
        "units": statistic.units,
        "long_name": f"standard error of the {statistic.long_name}, mean over the clusters",
        "degrees_of_freedom": np.int64(replicates if lottery else max(summary.plan.steps, 2)) - 1,
        "comment": "of the lottery of the cluster and of the sampling of steps"
        if lottery
        else "of the sampling of steps alone: one cluster says nothing of others",
    }
    return {
        name: xr.Variable(dims, mean, attrs),
        f"{name}_stderr": xr.Variable(dims, error, error_attrs),
    }


def _coordinates(summary: Summary, scenario: Scenario) -> dict[str, xr.Variable]:
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
        "component": variable(
            ("component",), np.array(plan.components), "1", "what the step is spent on"
        ),
        "group_site": variable(
            ("group",),
            np.array([plan.sites[g.site].name for g in plan.groups]),
            "1",
            "site of the device group",
        ),
        "group_device": variable(
            ("group",),
            np.array([fleet.device for fleet in scenario.fleet]),
            "1",
            "kind of the devices of the group",
        ),
        "group_devices": variable(
            ("group",), np.array([g.count for g in plan.groups]), "1", "devices in the group"
        ),
        "group_compute_time": variable(
            ("group",),
            np.array([plan.inner * g.compute for g in plan.groups]),
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
    if plan.barriers:
        coordinates["level"] = variable(
            ("level",), np.array(["node", "site"]), "1", "level of the network inside a site"
        )
    if plan.link_times:
        coordinates["link"] = variable(
            ("link",), np.array(list(plan.link_times)), "1", "link between sites"
        )
    if plan.stages > 1:
        coordinates["stage"] = variable(
            ("stage",), np.arange(plan.stages), "1", "stage of the pipelines"
        )
    coordinates["run_length"] = variable(
        ("run_length",), summary.run_lengths, "1", "least number of steps of a run of the bin"
    )
    if plan.keep_steps:
        coordinates["step"] = variable(("step",), np.arange(plan.steps), "1", "number of the step")
    return coordinates


@cache
def version_of(name: str) -> str:
    """Of an installed package. Remembered: it takes 2 ms to read, at each point of a sweep."""
    return metadata.version(name)


def now() -> str:
    """In UTC, as ISO 8601 has it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def provenance_of(
    scenario: Scenario, title: str, done: str, at: str | None = None
) -> dict[str, object]:
    """What any Dataset says of where it comes from. done: what was, and at which time; default:
    now."""
    version = version_of("mcsim")
    libraries = [f"{name} {version_of(name)}" for name in _LIBRARIES]
    return {
        "Conventions": "CF-1.11",
        "title": f"{title}: {scenario.name}",
        "source": f"mcsim {version}",
        "history": f"{at or now()} mcsim {version}: {done}",
        "scenario": scenario.to_toml(),
        "scenario_name": scenario.name,
        "scenario_hash": scenario.hash,
        "seed": np.uint64(scenario.run.seed),
        "sync_policy": scenario.sync.policy,
        "inner_steps": np.int64(scenario.sync.steps_a_round),
        "generator": GENERATOR,
        "library_versions": ", ".join([f"Python {platform.python_version()}", *libraries]),
    }


def _provenance(part: Part) -> dict[str, object]:
    cost = part.cost
    title = "Step times of synchronous training"
    return {
        **provenance_of(part.scenario, title, "simulated", cost.finished),
        "engine": part.choice.engine,
        "engine_reason": part.choice.reason,
        "target": cost.targets,
        "threads": cost.threads,
        "wall_seconds": cost.wall / 1000,
        "cpu_seconds": cost.cpu / 1000,
        "replicates_done": part.plan.replicates if part.is_complete else len(part.tally.sums),
        "steps_done": part.plan.steps if part.is_complete else part.tally.steps,
    }


def _checked(part: Part) -> dict[str, object]:
    """What the comparison of the engines found."""
    check = part.check
    assert check is not None
    return {
        "self_check": check.outcome,
        "self_check_reason": check.reason,
        "self_check_deviation": check.deviation,
        "self_check_bound": check.bound,
        "self_check_false_alarm": CHANCE,
        "self_check_steps": np.int64(check.steps),
    }


def _target(tally: Tally) -> dict[str, object]:
    """How near the run came to the error that it was to reach, if any."""
    target = tally.plan.target
    if target is None:
        return {}
    return {
        "target_statistic": target.statistic,
        "target_relative_error": target.relative_error,
        "target_relative_error_reached": relative_error(tally, target.statistic),
        "target_reached": "yes" if is_reached(tally) else "no",
    }
