"""What a run reports: each variable of the Dataset, where it is defined.

A statistic is its dimensions, unit, name and the function that reads it off the tally, with its
standard error where it is an estimate. A new one is one entry here; the Dataset, the file and
its attributes follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.histogram import COARSEST, FINEST, coarser, edges_of, quantile_of
from mcsim.engine.runs import Runs
from mcsim.engine.tally import Tally
from mcsim.laws import FloatArray
from mcsim.model.plan import LEAST_BEYOND

Value = TypeVar("Value")

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)

_MOST_CELLS = 1 << 22

_TIME, _COMPUTE, _COMMUNICATION, _FIRST_WAIT = 0, 1, 2, 3


class Summary:
    """A tally as arrays over its replicates."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.plan = tally.plan
        self.replicates = tally.replicates

    @cached_property
    def mean(self) -> FloatArray:
        """Shape (replicates, columns of the moments)."""
        return np.array([r.moments.mean for r in self.replicates])

    @cached_property
    def variance(self) -> FloatArray:
        """Shape (replicates, columns of the moments)."""
        return np.array([r.moments.variance() for r in self.replicates])

    @cached_property
    def mean_stderr(self) -> FloatArray:
        """Standard errors of the means.

        Not a number for times whose variance is infinite: no interval is claimed.
        """
        error = np.sqrt(self.variance / self.plan.steps * self.inefficiency)
        if not self.plan.has_finite_variance:
            error[:, :_FIRST_WAIT] = error[:, self.waits.stop :] = np.nan
        return np.asarray(error)

    @cached_property
    def inefficiency(self) -> FloatArray:
        """How many steps that remember each other are worth an independent one, at least 1.

        Shape (replicates, columns of the moments).
        """
        return np.array(
            [
                np.ones_like(r.moments.mean) if r.blocking is None else r.blocking.inefficiency()
                for r in self.replicates
            ]
        )

    @cached_property
    def independent_steps(self) -> FloatArray:
        """Of each cluster, how many independent steps its steps are worth; shape (replicates, 1).

        For what is no mean of a column: by the column that remembers longest.
        """
        return np.asarray(self.plan.steps / self.inefficiency.max(axis=1, keepdims=True))

    @property
    def waits(self) -> slice:
        return slice(_FIRST_WAIT, _FIRST_WAIT + len(self.plan.groups))

    @property
    def sites(self) -> slice:
        return slice(self.waits.stop, self.waits.stop + len(self.plan.sites))

    @property
    def busy(self) -> slice:
        return slice(self.sites.stop, self.sites.stop + len(self.plan.groups))

    @property
    def components(self) -> slice:
        rest = slice(self.busy.stop, None)
        return rest if self.mean.shape[1] > self.busy.stop else slice(_COMPUTE, _COMMUNICATION + 1)

    @cached_property
    def step_time(self) -> FloatArray:
        return self.mean[:, _TIME]

    @cached_property
    def relative_stderr(self) -> FloatArray:
        """Not a number where the mean is zero."""
        size = np.where(self.step_time == 0, np.nan, np.abs(self.step_time))
        return np.asarray(self.mean_stderr[:, _TIME] / size)

    @cached_property
    def std_stderr(self) -> FloatArray:
        """Standard errors of the standard deviations, from the fourth moment; (replicates,).

        Source: Var(s^2) = (m4 - s^4 (n-3)/(n-1)) / n; Cho & Cho, Journal of Statistical Planning
        and Inference 138 (2008); and the delta method.
        """
        n = self.plan.steps
        if n < 2 or not self.plan.has_finite_variance:
            return np.full(len(self.replicates), np.nan)
        variance = self.variance[:, _TIME]
        fourth = np.array([r.moments.fourth[_TIME] for r in self.replicates]) / n
        of_variance = np.maximum(fourth - variance**2 * (n - 3) / (n - 1), 0)
        of_variance /= self.independent_steps[:, 0]
        std = np.sqrt(variance)
        error = np.divide(np.sqrt(of_variance), 2 * std, out=np.zeros_like(std), where=std > 0)
        return np.asarray(error)

    @cached_property
    def slowdown(self) -> FloatArray:
        return np.asarray(self.step_time / self.plan.ideal_step_time)

    @cached_property
    def efficiency(self) -> FloatArray:
        """At most 1: a lucky draw of specimens is faster than the ideal, but uses no more GPUs."""
        with np.errstate(divide="ignore"):
            return np.where(self.slowdown > 0, np.minimum(1 / self.slowdown, 1.0), np.nan)

    @cached_property
    def bits(self) -> int:
        """How finely the Dataset's bins divide an octave: as the file's size allows."""
        for bits in range(FINEST, COARSEST, -1):
            if self._bins(bits).size * len(self.replicates) <= _MOST_CELLS:
                return bits
        return COARSEST

    def _bins(self, bits: int) -> NDArray[np.int64]:
        ends = [coarser(r.histogram.number[[0, -1]], bits) for r in self.replicates]
        return np.arange(min(first for first, _ in ends), max(last for _, last in ends) + 1)

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """The numbers of the Dataset's bins, shape (bins,), without empty ends."""
        return self._bins(self.bits)

    @cached_property
    def counts(self) -> NDArray[np.int64] | NDArray[np.int32]:
        """Shape (replicates, bins)."""
        kind = np.int32 if self.plan.steps < 2**31 else np.int64
        counts = np.zeros((len(self.replicates), self.bins.size), kind)
        for row, replicate in zip(counts, self.replicates, strict=True):
            place = coarser(replicate.histogram.number, self.bits) - self.bins[0]
            np.add.at(row, place, replicate.histogram.counts.astype(kind))
        return counts

    @cached_property
    def bounds(self) -> FloatArray:
        """Shape (bins, 2), s."""
        return np.column_stack(edges_of(self.bins, self.bits))

    def quantile(self, probability: FloatArray) -> FloatArray:
        """Quantiles of the step time from the histogram, shape (replicates, probabilities), s.

        probability: shape (probabilities,), or (replicates, probabilities).
        Linear inside a bin, of which none is wider than 0.025 %; the ends are exact.
        """
        shape = (len(self.replicates), probability.shape[-1])
        out, every = np.empty(shape), np.broadcast_to(probability, shape)
        for row, p, replicate in zip(out, every, self.replicates, strict=True):
            histogram = replicate.histogram
            found = quantile_of(histogram.counts, *edges_of(histogram.number), p)
            found = np.clip(found, replicate.shortest, replicate.longest)
            found = np.where(p <= 0, replicate.shortest, found)
            row[:] = np.where(p >= 1, replicate.longest, found)
        return out

    @cached_property
    def quantiles(self) -> FloatArray:
        return self.quantile(np.array(QUANTILES))

    @cached_property
    def quantiles_stderr(self) -> FloatArray:
        """Half the distance of the quantiles one standard error of the probability away.

        Not a number where too few steps are expected on a side: no interval is claimed.
        """
        p, n = np.array(QUANTILES), self.independent_steps
        away = np.sqrt(p * (1 - p) / n)
        low, high = (self.quantile(np.clip(p + side, 0, 1)) for side in (-away, away))
        error = np.hypot((high - low) / 2, self._of_bins(p))
        return np.where(np.minimum(p, 1 - p) * n >= LEAST_BEYOND, error, np.nan)

    def _of_bins(self, p: FloatArray) -> FloatArray:
        """What the straight line inside a quantile's bin may be off, s; shape (replicates, p).

        Half of the bin where all steps are in it, and the less the fewer are.
        """
        rows = []
        for replicate in self.replicates:
            counts = replicate.histogram.counts
            share = counts / counts.sum()
            at = np.minimum(np.searchsorted(np.cumsum(share), p), counts.size - 1)
            lower, upper = edges_of(replicate.histogram.number[at])
            width = np.minimum(upper, replicate.longest) - np.maximum(lower, replicate.shortest)
            rows.append(0.5 * width * share[at])
        return np.array(rows)

    def device_counts(self, which: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts of all devices' `times` or `waits` where they are kept, without empty ends.

        Result: the numbers of the bins, shape (bins,), and shape (replicates, groups, bins).
        """
        counts = np.array([getattr(r.devices, which) for r in self.replicates])
        used = np.flatnonzero(counts.any(axis=(0, 1)))
        number = np.arange(used[0], used[-1] + 1)
        return number, counts[:, :, number]

    @cached_property
    def runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts of runs with the same culprit's group, shape (replicates, groups, POWERS), and
        the longest, shape (replicates, groups)."""
        return _of_runs([r.runs for r in self.replicates])

    @cached_property
    def device_runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """The same with the same device, if it is known."""
        known = [r.device_runs for r in self.replicates if r.device_runs is not None]
        return _of_runs(known) if len(known) == len(self.replicates) else None

    @cached_property
    def run_lengths(self) -> NDArray[np.int64]:
        """The least length of each bin of runs, without longer ones than there are."""
        longest = int(self.runs[1].max())
        return 1 << np.arange(longest.bit_length())

    def share(self, counts: list[NDArray[np.int64]]) -> FloatArray:
        return np.array(counts) / self.plan.steps

    @cached_property
    def group_share(self) -> FloatArray:
        return self.share([r.culprits for r in self.replicates])

    @cached_property
    def level_times(self) -> FloatArray:
        """Shape (sites, levels), s."""
        buckets = 1 if self.plan.division is None else self.plan.division.parallel.buckets
        return np.asarray(
            buckets * np.max([barrier.levels for barrier in self.plan.barriers], axis=0)
        )

    @cached_property
    def stage_share(self) -> FloatArray:
        return self.share(
            [r.stage_culprits for r in self.replicates if r.stage_culprits is not None]
        )

    @cached_property
    def site_share(self) -> FloatArray:
        return self.share([r.site_culprits for r in self.replicates])

    def share_stderr(self, share: FloatArray) -> FloatArray:
        """Standard errors of shares, shape (replicates, any), which do not vanish with the share.

        Source: Agresti & Coull, American Statistician 52 (1998): two more of either outcome.
        """
        if share.shape[1] == 1:
            return np.zeros_like(share)
        n = self.independent_steps + 4
        likely = (share * self.independent_steps + 2) / n
        return np.asarray(np.sqrt(likely * (1 - likely) / n))


def _of_runs(runs: list[Runs]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    counts, longest = zip(*(one.ended() for one in runs), strict=True)
    return np.array(counts), np.array(longest)


def over_replicates(values: FloatArray, within: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The mean of an estimate over the clusters, and its standard error.

    values, within: shape (replicates, ...), the estimates and their errors from steps alone. Over
    several clusters the error is that of the mean of independent values, which holds both the
    lottery of the cluster and the sampling of steps; with one cluster it is the steps' own. Not a
    number where no error is claimed within a cluster.
    """
    mean = values.mean(axis=0)
    if len(values) == 1:
        return mean, within[0]
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return mean, np.where(np.isnan(within).any(axis=0), np.nan, error)


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
        lambda s: max(group.compute for group in s.plan.groups),
    ),
    Statistic("step_time_mean", ("replicate",), "s", "mean step time", *_column(_TIME)),
    Statistic(
        "step_time_std",
        ("replicate",),
        "s",
        "standard deviation of the step time",
        lambda s: np.sqrt(s.variance[:, _TIME]),
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
        lambda s: s.mean_stderr[:, _TIME] / s.plan.ideal_step_time,
    ),
    Statistic(
        "efficiency",
        ("replicate",),
        "1",
        "share of the undisturbed capacity of the fleet that is used",
        lambda s: s.efficiency,
        lambda s: s.efficiency * s.relative_stderr,
        "ideal step time over mean step time, at most 1",
        bounded=True,
    ),
    Statistic(
        "effective_gpus",
        ("replicate",),
        "1",
        "devices that would do the same work without any loss",
        lambda s: s.efficiency * s.plan.devices,
        lambda s: s.efficiency * s.relative_stderr * s.plan.devices,
        bounded=True,
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
        *_column(_COMPUTE),
    ),
    Statistic(
        "communication_time_mean",
        ("replicate",),
        "s",
        "mean time of communication that compute does not hide",
        *_column(_COMMUNICATION),
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
        "of what the step waited for; they add up to the step time",
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
        "time of a step in which the link carries gradients, undisturbed",
        lambda s: np.array(list(s.plan.link_times.values())),
        comment="of all stages together, in the direction that carries more",
        is_known=lambda s: bool(s.plan.link_times),
    ),
)
