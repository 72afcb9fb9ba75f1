"""What a run reports: each variable of the Dataset, where it is defined.

A statistic is its dimensions, unit, name and the function that reads it off the tally, with its
standard error where it is an estimate. A new one is one entry here; the Dataset, the file and
its attributes follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray
from mcsim.results.estimates import COMMUNICATION, COMPUTE, TIME, Summary, over_replicates

Value = TypeVar("Value")


def overall(statistic: Statistic, summary: Summary) -> tuple[FloatArray, FloatArray]:
    """A statistic over all clusters, and its standard error."""
    assert statistic.stderr is not None
    values, within = np.asarray(statistic.read(summary)), np.asarray(statistic.stderr(summary))
    plan = summary.plan
    if plan.steps == 1 and plan.has_finite_variance and statistic.of_one_step:
        # The clusters tell the error, if there are several.
        within = within if plan.replicates == 1 else np.zeros_like(values)
    mean, error = over_replicates(values, within)
    exists = statistic.bounded or plan.replicates == 1 or plan.clusters_have_variance
    return mean, error if exists else np.full_like(error, np.nan)


Reader = Callable[[Summary], NDArray[np.generic] | float]


@dataclass(frozen=True)
class Statistic:
    """One variable: `read` gives an array of the shape of `dims`, `stderr` its standard error.

    bounded: whether its values are, so that they have a variance whatever the laws.
    of_one_step: whether a single step is enough for an estimate that is right on average.
    is_known: whether the run has it; where not, the Dataset is without it.
    """

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str
    read: Reader
    stderr: Reader | None = None
    comment: str = ""
    bounded: bool = False
    of_one_step: bool = True
    is_known: Callable[[Summary], bool] = lambda summary: True


def _column(column: int) -> tuple[Reader, Reader]:
    return (lambda s: s.mean[:, column]), (lambda s: s.mean_stderr[:, column])


_OF_RUNS = "from run_length steps to less than twice as many; runs of single steps are counted too"


def _known(value: Value | None) -> Value:
    assert value is not None
    return value


STATISTICS: tuple[Statistic, ...] = (
    Statistic(
        "ideal_step_time",
        (),
        "s",
        "step time without disturbance, with work in proportion to speed and a free network",
        lambda s: s.plan.ideal_step_time,
    ),
    Statistic(
        "undisturbed_step_time",
        (),
        "s",
        "step time without disturbance, with equal work for every device and a free network",
        lambda s: s.plan.undisturbed_step_time,
    ),
    Statistic(
        "clock",
        (),
        "s",
        "step time without disturbance, with equal work, the pipeline and the network",
        lambda s: s.plan.clock,
        comment="what is given in time (spells, shocks, the time of day) is counted in such steps",
    ),
    Statistic("step_time_mean", ("replicate",), "s", "mean step time", *_column(TIME)),
    Statistic(
        "step_time_std",
        ("replicate",),
        "s",
        "standard deviation of the step time",
        lambda s: np.sqrt(s.variance[:, TIME]),
        lambda s: s.std_stderr,
        of_one_step=False,
    ),
    Statistic(
        "step_time_quantile",
        ("replicate", "quantile"),
        "s",
        "quantile of the step time",
        lambda s: s.quantiles,
        lambda s: s.quantiles_stderr,
        "0 and 1 are exact; the others are read off the histogram",
        of_one_step=False,
    ),
    Statistic(
        "step_time_histogram",
        ("replicate", "bin"),
        "1",
        "number of steps by their time",
        lambda s: s.counts,
    ),
    Statistic(
        "slowdown",
        ("replicate",),
        "1",
        "mean step time over ideal step time",
        lambda s: s.slowdown,
        lambda s: s.mean_stderr[:, TIME] / s.plan.ideal_step_time,
    ),
    Statistic(
        "efficiency",
        ("replicate",),
        "1",
        "share of the undisturbed capacity of the fleet that is used",
        lambda s: s.efficiency,
        lambda s: s.efficiency * s.efficiency_stderr,
        "ideal step time over mean step time, times the share of the devices that is at work and"
        " that of samples that enter an update; at most 1",
        bounded=True,
    ),
    Statistic(
        "devices_at_work",
        ("replicate",),
        "1",
        "devices that [remedy] does not leave out",
        lambda s: s.at_work,
        is_known=lambda s: s.plan.remedies is not None and s.plan.remedies.leaves_out,
    ),
    Statistic(
        "swap_time",
        (),
        "s",
        "time a step in which all wait for devices to be replaced",
        lambda s: s.swapping,
        comment="not in the step times; in efficiency and what follows from it",
        is_known=lambda s: s.swapping > 0.0,
    ),
    Statistic(
        "effective_gpus",
        ("replicate",),
        "1",
        "devices that would do the same work without any loss",
        lambda s: s.efficiency * s.plan.devices,
        lambda s: s.efficiency * s.efficiency_stderr * s.plan.devices,
        "of samples that enter no update, none is counted",
        bounded=True,
    ),
    Statistic(
        "samples_lost",
        ("replicate",),
        "1",
        "share of samples that do not enter the update of their step",
        lambda s: s.lost,
        lambda s: s.lost_stderr,
        "of devices that the policy does not wait for, each of which has as many samples",
        bounded=True,
        is_known=lambda s: "samples_lost" in s.plan.tracked,
    ),
    Statistic(
        "staleness",
        ("replicate",),
        "1",
        "steps that the slowest replica is behind the mean of all",
        lambda s: s.staleness[0],
        lambda s: s.staleness[1],
        "when as many updates are made as there are replicas; without a bound it grows with the run"
        " where replicas differ for good",
        is_known=lambda s: "staleness" in s.plan.tracked,
    ),
    Statistic(
        "update_rate",
        ("replicate",),
        "s-1",
        "updates of all replicas a second, those who are ahead included",
        lambda s: s.updates,
        lambda s: s.updates * s.relative_stderr,
        "a step of such a run is as many updates as there are replicas, whoever makes them",
        is_known=lambda s: s.plan.stale is not None,
    ),
    Statistic(
        "statistical_efficiency",
        (),
        "1",
        "what a sample is worth under the policy, of what it is under a full barrier",
        lambda s: _known(s.plan.statistical_efficiency),
        comment="as given in the scenario; it enters no other variable",
        is_known=lambda s: s.plan.statistical_efficiency is not None,
    ),
    Statistic(
        "mfu",
        ("replicate",),
        "1",
        "model FLOPs utilisation: operations of the model over what the fleet's peak would do",
        lambda s: s.mfu,
        lambda s: s.mfu * s.efficiency_stderr,
        "operations as of workload.model, without any that are done twice or for no update",
        bounded=True,
        is_known=lambda s: s.plan.ideal_mfu is not None,
    ),
    Statistic(
        "straggler_share",
        ("replicate", "group"),
        "1",
        "share of steps whose last arrival was in the group",
        lambda s: s.group_share,
        lambda s: s.share_stderr(s.group_share),
        "among equal arrivals one is taken at random, each with the same chance",
        bounded=True,
    ),
    Statistic(
        "site_straggler_share",
        ("replicate", "site"),
        "1",
        "share of steps whose last arrival was at the site",
        lambda s: s.site_share,
        lambda s: s.share_stderr(s.site_share),
        bounded=True,
    ),
    Statistic(
        "stage_straggler_share",
        ("replicate", "stage"),
        "1",
        "share of steps that waited for a pipeline whose slowest stage it was",
        lambda s: s.stage_share,
        lambda s: s.share_stderr(s.stage_share),
        bounded=True,
        is_known=lambda s: s.plan.stages > 1,
    ),
    Statistic(
        "culprit_run_length",
        ("replicate", "group", "run_length"),
        "1",
        "number of runs of steps whose last arrivals were in the group, by their length",
        lambda s: s.runs[0][:, :, : s.run_lengths.size],
        comment=_OF_RUNS,
    ),
    Statistic(
        "culprit_run_longest",
        ("replicate", "group"),
        "1",
        "most consecutive steps whose last arrivals were in the group",
        lambda s: s.runs[1],
    ),
    Statistic(
        "device_run_length",
        ("replicate", "group", "run_length"),
        "1",
        "number of runs of steps whose last arrivals were of one device, by their length",
        lambda s: _known(s.device_runs)[0][:, :, : s.run_lengths.size],
        comment=f"{_OF_RUNS}; of the sampled engine alone: the exact one draws no device",
        is_known=lambda s: s.device_runs is not None,
    ),
    Statistic(
        "device_run_longest",
        ("replicate", "group"),
        "1",
        "most consecutive steps whose last arrivals were of one device of the group",
        lambda s: _known(s.device_runs)[1],
        comment="of the sampled engine alone: the exact one draws no device",
        is_known=lambda s: s.device_runs is not None,
    ),
    Statistic(
        "wait_fraction",
        ("replicate", "group"),
        "1",
        "mean share of the step that a device of the group waits for the last arrival",
        lambda s: s.mean[:, s.waits],
        lambda s: s.mean_stderr[:, s.waits],
        "communication is not counted as waiting",
        bounded=True,
    ),
    Statistic(
        "compute_time_mean",
        ("replicate",),
        "s",
        "mean time until the last arrival of all devices",
        *_column(COMPUTE),
    ),
    Statistic(
        "communication_time_mean",
        ("replicate",),
        "s",
        "mean time of communication that compute does not hide",
        *_column(COMMUNICATION),
    ),
    Statistic(
        "site_compute_time_mean",
        ("replicate", "site"),
        "s",
        "mean time until the last arrival of the devices of a site",
        lambda s: s.mean[:, s.sites],
        lambda s: s.mean_stderr[:, s.sites],
    ),
    Statistic(
        "device_time_mean",
        ("replicate", "group"),
        "s",
        "mean time until a device of the group is ready",
        lambda s: s.mean[:, s.busy],
        lambda s: s.mean_stderr[:, s.busy],
    ),
    Statistic(
        "component_time_mean",
        ("replicate", "component"),
        "s",
        "mean time that the step is spent on the component",
        lambda s: s.mean[:, s.components],
        lambda s: s.mean_stderr[:, s.components],
        "of what the step waited for; they add up to the step time; of pipelines, sites is also by"
        " how much they would be done sooner if links took no time, and bubble all other waiting",
    ),
    Statistic(
        "level_time",
        ("site", "level"),
        "s",
        "time of the gradient's collective at the level, undisturbed",
        lambda s: s.level_times,
        comment="of the slowest stage, hidden or not",
        is_known=lambda s: bool(s.plan.barriers),
    ),
    Statistic(
        "link_time",
        ("link",),
        "s",
        "time of a step in which the link carries gradients and what stages hand on, undisturbed",
        lambda s: np.array(list(s.plan.link_times.values())),
        comment="of all stages together, in the direction that carries more",
        is_known=lambda s: bool(s.plan.link_times),
    ),
)
