"""Remedies side by side: as a Dataset, and in words and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from mcsim.engine.tally import Tally
from mcsim.laws import FloatArray
from mcsim.model.economics import Cost
from mcsim.results.estimates import Summary
from mcsim.results.label import provenance_of
from mcsim.results.summary import with_error
from mcsim.scenario import Scenario
from mcsim.tables import Paragraphs, Table


@dataclass(frozen=True)
class Outcome:
    """What a remedy comes to, on each cluster; arrays have the shape (replicates,).

    step_time: s, of a round where there are inner steps, of the slowest of several islands.
    has_error: whether its mean has a standard error. throughput: work done in a second: in shares
    of a device of a step, or in tokens of the model's batch. ideal: the same if nothing disturbed,
    with perfect balance and a free network. devices: that there are, and at_work of them. lost:
    share of the work that enters no update.
    """

    name: str
    description: str
    step_time: FloatArray
    has_error: bool
    throughput: FloatArray
    ideal: float
    devices: int
    at_work: FloatArray
    lost: FloatArray


def outcome_of(name: str, description: str, runs: Sequence[tuple[Scenario, Tally]]) -> Outcome:
    """The outcome of islands that run side by side, mostly one."""
    summaries = [Summary(tally) for _, tally in runs]
    peaks = [_peak(scenario, one) for (scenario, _), one in zip(runs, summaries, strict=True)]
    pairs = list(zip(peaks, summaries, strict=True))
    throughput = sum((peak * one.capacity_used for peak, one in pairs), np.zeros(1))
    at_work: FloatArray = np.sum([one.at_work for one in summaries], axis=0, dtype=np.float64)
    return Outcome(
        name,
        description,
        np.max([one.step_time + one.swapping for one in summaries], axis=0),
        all(one.plan.means_have_errors for one in summaries),
        throughput,
        sum(peaks),
        sum(one.plan.devices for one in summaries),
        at_work,
        np.average([one.lost for one in summaries], axis=0, weights=peaks),
    )


def _peak(scenario: Scenario, summary: Summary) -> float:
    """Work in a second of all devices, if nothing disturbed."""
    plan = summary.plan
    asked = sum(fleet.count for fleet in scenario.fleet)
    model = scenario.workload.model
    work = float(asked if model is None else model.batch)
    # Spares could do as much as the others.
    work *= plan.devices / asked
    return work * scenario.sync.steps_a_round / plan.ideal_step_time


def label_comparison(
    scenario: Scenario, outcomes: Sequence[Outcome], cost: Cost | None = None
) -> xr.Dataset:
    """The Dataset of a comparison, over `remedy`; the first outcome is that of doing nothing.

    cost: of the scenario's devices, where it is known.
    """
    first = outcomes[0]
    throughput = np.array([one.throughput for one in outcomes])
    unit = "1/s"
    # GPUs of this fleet, undisturbed: what is done over what one of them would.
    effective = throughput / (first.ideal / first.devices)
    lost = first.devices - effective[0]
    variables: dict[str, xr.Variable] = {}

    def add(name: str, values: FloatArray, units: str, what: str, comment: str = "") -> None:
        variables.update(_with_error(name, values, units, what, comment))

    add(
        "step_time_mean",
        np.array([one.step_time for one in outcomes]),
        "s",
        "mean step time",
        "of a round where there are inner steps; of the slowest of several islands; with the time"
        " in which devices are replaced",
    )
    known = np.array([one.has_error for one in outcomes])
    of_mean = variables["overall_step_time_mean_stderr"]
    variables["overall_step_time_mean_stderr"] = of_mean.copy(
        data=np.where(known, of_mean.values, np.nan)
    )
    work = "tokens" if scenario.workload.model else "shares of a device of a step"
    add("throughput", throughput, unit, f"work done in a second, in {work}")
    add("effective_gpus", effective, "1", "devices that would do the same without any loss")
    add(
        "samples_lost",
        np.array([one.lost for one in outcomes]),
        "1",
        "share of the work that enters no update",
    )
    for name, units, what, estimate in (
        ("gain", "1", "throughput over that of doing nothing, minus 1", _ratio(throughput)),
        (
            "recovered",
            "1",
            "part of the lost GPUs that the remedy returns",
            _part(effective - effective[0], lost),
        ),
    ):
        value, paired, unpaired = estimate
        attrs = {"units": units, "long_name": what, "ancillary_variables": f"{name}_stderr"}
        variables[name] = xr.Variable(("remedy",), value, attrs)
        for suffix, error, how in (
            ("stderr", paired, "of pairs on the same clusters"),
            ("unpaired_stderr", unpaired, "if each had clusters of its own"),
        ):
            of_error = {
                "units": units,
                "long_name": f"standard error, {how}: {what}",
                "degrees_of_freedom": np.float64(throughput.shape[1] - 1),
            }
            variables[f"{name}_{suffix}"] = xr.Variable(("remedy",), error, of_error)
    best = (effective == effective.max(axis=0)) / (effective == effective.max(axis=0)).sum(axis=0)
    for name, values, what in (
        ("best_share", best.mean(axis=1), "share of the clusters on which it is the best"),
        ("devices", [one.devices for one in outcomes], "devices that there are"),
        (
            "extra_devices",
            [max(one.devices - first.devices, 0) for one in outcomes],
            "devices beyond those of the scenario",
        ),
        (
            "idle_devices",
            [max(one.devices, first.devices) - one.at_work.mean() for one in outcomes],
            "devices that there are and do not work, on average",
        ),
    ):
        attrs = {"units": "1", "long_name": what}
        variables[name] = xr.Variable(("remedy",), np.asarray(values), attrs)
    paid = np.array([max(one.devices, first.devices) / first.devices for one in outcomes])
    attrs = {
        "units": "1",
        "long_name": "cost of the same work, over that without a remedy",
        "comment": "all devices are paid for alike, idle ones too; what else a remedy costs is not"
        " known",
    }
    variables["relative_cost"] = xr.Variable(("remedy",), paid / (1 + variables["gain"]), attrs)
    if cost is not None:
        watts = np.zeros(len(outcomes))
        attrs = {
            "units": "1",
            "long_name": f"cost of a month of all devices, in {cost.currency}",
            "comment": f"without electricity; {cost.source}",
        }
        variables["cost_a_month"] = xr.Variable(("remedy",), paid * cost.a_month(watts), attrs)
    provenance = provenance_of(
        scenario, "Remedies of lost time in synchronous training", "compared"
    )
    sizes = {
        "completeness": "complete",
        "devices": np.int64(first.devices),
        "steps_done": np.int64(scenario.run.steps),
        "replicates_done": np.int64(throughput.shape[1]),
    }
    return xr.Dataset(variables, _coordinates(outcomes, throughput.shape[1]), provenance | sizes)


def _coordinates(outcomes: Sequence[Outcome], replicates: int) -> dict[str, xr.Variable]:
    def variable(dim: str, values: object, name: str) -> xr.Variable:
        return xr.Variable((dim,), values, {"units": "1", "long_name": name})

    return {
        "remedy": variable("remedy", [one.name for one in outcomes], "name of the remedy"),
        "remedy_description": variable(
            "remedy", [one.description for one in outcomes], "what is done"
        ),
        "replicate": variable("replicate", np.arange(replicates), "number of the drawn cluster"),
    }


Estimate = tuple[FloatArray, FloatArray, FloatArray]
"""Of each remedy: a value, its error of pairs, and its error without them."""


def _ratio(values: FloatArray) -> Estimate:
    """The means of the rows over that of the first, minus 1. values: (remedies, replicates)."""
    base = values[0].mean()
    ratio = values.mean(axis=1) / base
    paired = _error(values - ratio[:, None] * values[0]) / abs(base)
    unpaired = np.hypot(_error(values), ratio * _error(values[:1])) / abs(base)
    return ratio - 1, paired, unpaired


def _part(gained: FloatArray, lost: FloatArray) -> Estimate:
    """The means of the rows over that of `lost`, (replicates,)."""
    if not lost.mean() > 0:
        nothing = np.full(len(gained), np.nan)
        return nothing, nothing, nothing
    part = gained.mean(axis=1) / lost.mean()
    paired = _error(gained - part[:, None] * lost) / lost.mean()
    # Doing nothing is a row of what is gained, too: without pairs it counts twice.
    after = gained - lost
    unpaired = np.hypot(_error(after), (1 - part) * _error(lost[None])) / lost.mean()
    return part, paired, unpaired


def _error(values: FloatArray) -> FloatArray:
    """Standard errors of the means of rows; not a number of a single cluster."""
    if values.shape[1] < 2:
        return np.full(len(values), np.nan)
    return np.asarray(values.std(axis=1, ddof=1) / np.sqrt(values.shape[1]))


def _with_error(
    name: str, values: FloatArray, units: str, what: str, comment: str
) -> dict[str, xr.Variable]:
    """An estimate on each cluster and over all. values: (remedies, replicates)."""
    attrs = {"units": units, "long_name": what} | ({"comment": comment} if comment else {})
    several = f"overall_{name}"
    of_error = {
        "units": units,
        "long_name": f"standard error: {what}",
        "degrees_of_freedom": np.float64(values.shape[1] - 1),
    }
    return {
        name: xr.Variable(("remedy", "replicate"), values, attrs),
        several: xr.Variable(
            ("remedy",), values.mean(axis=1), attrs | {"ancillary_variables": f"{several}_stderr"}
        ),
        f"{several}_stderr": xr.Variable(("remedy",), _error(values), of_error),
    }


def best_first(dataset: xr.Dataset) -> list[xr.Dataset]:
    """What is done without any remedy, and then each, the most effective GPUs first."""
    order = np.argsort(-dataset.overall_effective_gpus.to_numpy()[1:], kind="stable") + 1
    return [dataset.isel(remedy=number) for number in [0, *order.tolist()]]


def summarise_comparison(dataset: xr.Dataset) -> Paragraphs:
    """The table of remedies, the best first under what is done without any."""
    attrs = dataset.attrs
    clusters = int(attrs["replicates_done"])
    first, *others = best_first(dataset)
    rows = [_row(one) for one in (first, *others)]
    header = ["remedy", "step or round, s", "effective GPUs", "", "gain", "", "recovered", ""]
    header += ["lost", "idle", "work costs", "best on"]
    head = (
        f"{attrs['scenario_name']}: {int(attrs['devices']):,} devices;"
        f" {int(attrs['steps_done']):,} steps of each of {clusters} cluster(s), seed"
        f" {attrs['seed']}; the same clusters for all"
    )
    named = (f"{one.remedy.item()!s}: {one.remedy_description.item()!s}" for one in others)
    notes = [
        "gain: of throughput; recovered: of the lost GPUs; ±: standard errors of pairs on the same"
        " clusters.",
        "A step is a round where there are inner steps, and the slowest of several islands'."
        " lost: of the samples;",
        "what samples are worth where replicas meet rarely is not in it. work costs: of the same"
        " work, all devices",
        "paid for alike, over that without a remedy; best on: of the clusters.",
    ]
    if clusters == 1:
        notes.append("One cluster says nothing of others: take several (run.replicates).")
    return [head, Table(header, rows), "\n".join(named), "\n".join(notes)]


def _row(one: xr.Dataset) -> list[str]:
    gpus, gpus_error = with_error(
        float(one.overall_effective_gpus), float(one.overall_effective_gpus_stderr)
    )
    if one.remedy.item() == "none":
        cells = ["", "", "", ""]
    else:
        cells = [*_percent(one, "gain"), *_percent(one, "recovered")]
    return [
        str(one.remedy.item()),
        f"{float(one.overall_step_time_mean):.5g}",
        gpus,
        gpus_error and f"± {gpus_error}",
        *cells,
        _or_nothing(f"{100 * float(one.overall_samples_lost):.3g} %"),
        _or_nothing(f"{float(one.idle_devices):,.0f}"),
        f"{float(one.relative_cost):.3f}",
        f"{100 * float(one.best_share):.0f} %",
    ]


def _or_nothing(said: str) -> str:
    return "" if said in ("0 %", "0") else said


def _percent(one: xr.Dataset, name: str) -> tuple[str, str]:
    value, error = 100 * float(one[name]), 100 * float(one[f"{name}_stderr"])
    shown, around = with_error(value, error)
    if not around:
        return f"{value:.4g} %", ""
    return f"{shown} %", f"± {around}"
