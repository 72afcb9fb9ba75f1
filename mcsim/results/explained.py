"""What each cause of lost time costs: as a Dataset, and in words and numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mcsim.laws import FloatArray
from mcsim.results.label import provenance_of
from mcsim.results.summary import estimate, with_error
from mcsim.scenario import Scenario
from mcsim.tables import Paragraphs, Table

FORMS: Mapping[str, str] = {
    "shapley": "what a cause adds to a step, on average over all orders of the causes",
    "alone": "by how much a step is longer with this cause only",
    "removed": "by how much a step is shorter without this cause",
}
"""The variables `NAME_time`, and what they are."""


def label_explanation(
    scenario: Scenario,
    ideal: float,
    time: FloatArray,
    costs: Mapping[str, FloatArray],
    causes: Mapping[str, str],
    steps: NDArray[np.int64],
    *,
    errors: bool,
) -> xr.Dataset:
    """The Dataset of an explanation.

    ideal: s. time: shape (replicates, batches), s, of steps. costs: by the names of FORMS, shape
    (causes, replicates, batches), s. causes: their names, and what they are. steps: of each batch.
    errors: whether means have any.
    """
    variables = {
        "ideal_step_time": xr.Variable(
            (),
            ideal,
            {
                "units": "s",
                "long_name": "step time without disturbance, perfectly balanced, free network",
            },
        )
    }
    variables |= _with_errors("step_time_mean", (), time[None], steps, "mean step time", errors)
    for form, what in FORMS.items():
        variables |= _with_errors(f"{form}_time", ("cause",), costs[form], steps, what, errors)
    attrs = provenance_of(scenario, "Causes of lost time in synchronous training", "explained")
    coordinates = {
        "cause": (("cause",), list(causes), {"units": "1", "long_name": "cause of lost time"}),
        "cause_description": (
            ("cause",),
            list(causes.values()),
            {"units": "1", "long_name": "what the cause is"},
        ),
        "replicate": (
            ("replicate",),
            np.arange(time.shape[0]),
            {"units": "1", "long_name": "number of the drawn cluster"},
        ),
    }
    sizes = {
        "completeness": "complete",
        "devices": np.int64(sum(group.count for group in scenario.fleet)),
        "steps_done": np.int64(steps.sum()),
        "replicates_done": np.int64(len(time)),
    }
    return xr.Dataset(variables, coordinates, attrs | sizes)


def _with_errors(
    name: str,
    dims: tuple[str, ...],
    values: FloatArray,
    steps: NDArray[np.int64],
    long_name: str,
    exists: bool,
) -> dict[str, xr.Variable]:
    """An estimate of each cluster and over all, with its error. values: (n, replicates, batches).

    Of several clusters the error is that of their means, which holds the error inside each; of one
    it is given the cluster, from the batches of its steps. exists: whether there is an error.
    """
    each = np.average(values, axis=2, weights=steps)
    units = each if each.shape[1] > 1 else values[:, 0]
    number = units.shape[1]
    error = np.full(len(values), np.nan)
    if number > 1 and exists:
        error = units.std(axis=1, ddof=1) / np.sqrt(number)
    scalar = not dims
    attrs = {"units": "s", "long_name": long_name}
    several = f"overall_{name}"
    whole = {**attrs, "ancillary_variables": f"{several}_stderr"}
    of_error = {
        "units": "s",
        "long_name": f"standard error: {long_name}",
        "degrees_of_freedom": np.float64(number - 1),
    }
    by_cluster = each[0] if scalar else each.T
    return {
        name: xr.Variable(("replicate", *dims), by_cluster, attrs),
        several: xr.Variable(dims, each.mean(axis=1)[0] if scalar else each.mean(axis=1), whole),
        f"{several}_stderr": xr.Variable(dims, error[0] if scalar else error, of_error),
    }


def present(dataset: xr.Dataset) -> list[xr.Dataset]:
    """The explanation of each cause that there is, the dearest first."""
    lost = dataset.overall_shapley_time.to_numpy()
    every = [dataset.isel(cause=number) for number in np.argsort(-lost, kind="stable")]
    return [one for one in every if one.overall_shapley_time != 0 or one.overall_removed_time != 0]


def summarise_explanation(dataset: xr.Dataset) -> Paragraphs:
    """The table of what each cause costs, largest first, and how it adds up."""
    ideal, (mean, mean_error) = float(dataset.ideal_step_time), estimate(dataset, "step_time_mean")
    attrs = dataset.attrs
    inner, clusters = int(attrs["inner_steps"]), int(attrs["replicates_done"])
    step = "a step" if inner == 1 else f"a round of {inner:,} steps"
    head = (
        f"{attrs['scenario_name']}: {int(attrs['devices']):,} devices;"
        f" {int(attrs['steps_done']):,} {'steps' if inner == 1 else 'rounds'} of each of"
        f" {clusters} cluster(s), seed {attrs['seed']}"
    )
    rows = [[f"{step} without any of it", "", "", *with_error(ideal, 0.0), _share(ideal, mean)]]
    for one in present(dataset):
        cost, error = estimate(one, "shapley_time")
        rows.append(
            [
                f"{one.cause.item()!s}: {one.cause_description.item()!s}",
                f"{float(one.overall_alone_time):.4g}",
                f"{float(one.overall_removed_time):.4g}",
                *_known(cost, error),
                _share(cost, mean),
            ]
        )
    rows.append([step, "", "", *_known(mean, mean_error), _share(mean, mean)])
    header = [f"what {step} takes, s", "alone", "removed", "Shapley", "std. error", "of the step"]
    notes = (
        "alone: with this cause only, a step is longer by so much; removed: without it, shorter.\n"
        "Shapley: what it adds on average over all orders of the causes; these add up."
    )
    if clusters == 1:
        notes += (
            "\nOf one cluster errors are those of its steps, too small where these remember each"
            " other:\ntake several (run.replicates)."
        )
    return [head, Table(header, rows), notes]


def _known(value: float, error: float) -> tuple[str, str]:
    """As `with_error`; an error that is not known is no small one."""
    return with_error(value, error) if np.isfinite(error) else (f"{value:.4g}", "unknown")


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %"
