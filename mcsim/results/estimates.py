"""A tally as arrays over its replicates: estimates and their standard errors."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.cluster import at_work
from mcsim.engine.histogram import COARSEST, FINEST, coarser, edges_of, quantile_of
from mcsim.engine.runs import Runs
from mcsim.engine.tally import Tally
from mcsim.laws import FloatArray
from mcsim.model.plan import LEAST_BEYOND

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)

_MOST_CELLS = 1 << 22

TIME, COMPUTE, COMMUNICATION, _FIRST_WAIT = 0, 1, 2, 3


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
    def tracked(self) -> slice:
        return slice(self.busy.stop, self.busy.stop + len(self.plan.tracked))

    @property
    def components(self) -> slice:
        rest = slice(self.tracked.stop, None)
        return rest if self.mean.shape[1] > rest.start else slice(COMPUTE, COMMUNICATION + 1)

    @cached_property
    def lost(self) -> FloatArray:
        """The mean share of samples that do not enter an update; shape (replicates,)."""
        return self._tracked("samples_lost")[0]

    @cached_property
    def lost_stderr(self) -> FloatArray:
        return self._tracked("samples_lost")[1]

    @cached_property
    def staleness(self) -> tuple[FloatArray, FloatArray]:
        """The mean staleness, in steps, and its standard error; each shape (replicates,)."""
        return self._tracked("staleness")

    def _tracked(self, name: str) -> tuple[FloatArray, FloatArray]:
        """The mean of one of `Plan.tracked`, and its standard error; 0 where it is none."""
        if name not in self.plan.tracked:
            return np.zeros(len(self.replicates)), np.zeros(len(self.replicates))
        at = self.tracked.start + self.plan.tracked.index(name)
        # Bounded, so that it has a variance, whatever the times have; but for leads without bound.
        error = np.sqrt(self.variance[:, at] / self.plan.steps * self.inefficiency[:, at])
        unbounded = self.plan.stale is not None and self.plan.stale.bound == np.inf
        if unbounded and not self.plan.has_finite_variance:
            error = np.full_like(error, np.nan)
        return self.mean[:, at], np.asarray(error)

    @cached_property
    def updates(self) -> FloatArray:
        """Updates of all replicas a second; shape (replicates,)."""
        with np.errstate(divide="ignore"):
            whole = self.step_time + self.swapping
            found = self.plan.replicas * (1.0 - self.lost) / whole
        return np.asarray(found)

    @cached_property
    def step_time(self) -> FloatArray:
        return self.mean[:, TIME]

    @cached_property
    def relative_stderr(self) -> FloatArray:
        """Not a number where the mean is zero."""
        size = np.where(self.step_time == 0, np.nan, np.abs(self.step_time))
        return np.asarray(self.mean_stderr[:, TIME] / size)

    @cached_property
    def std_stderr(self) -> FloatArray:
        """Standard errors of the standard deviations, from the fourth moment; (replicates,).

        Source: Var(s^2) = (m4 - s^4 (n-3)/(n-1)) / n; Cho & Cho, Journal of Statistical Planning
        and Inference 138 (2008); and the delta method.
        """
        n = self.plan.steps
        if n < 2 or not self.plan.has_finite_variance:
            return np.full(len(self.replicates), np.nan)
        variance = self.variance[:, TIME]
        fourth = np.array([r.moments.fourth[TIME] for r in self.replicates]) / n
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
        return np.asarray(np.minimum(self.capacity_used, 1.0))

    @cached_property
    def capacity_used(self) -> FloatArray:
        """What the devices at work do over what all would do undisturbed, shape (replicates,).

        Samples that enter no update are no use of any.
        """
        ideal = self.plan.ideal_step_time * (1.0 - self.lost)
        with np.errstate(divide="ignore"):
            speed = np.where(self.slowdown > 0, ideal / (self.step_time + self.swapping), np.nan)
        return np.asarray(speed * self.at_work / self.plan.devices)

    @property
    def swapping(self) -> float:
        """Seconds a step for which all wait while devices are replaced."""
        return 0.0 if self.plan.remedies is None else self.plan.remedies.swapping

    @cached_property
    def at_work(self) -> NDArray[np.int64]:
        """Devices that are not left out, shape (replicates,)."""
        return np.array([at_work(self.plan, one) for one in range(len(self.replicates))])

    @cached_property
    def efficiency_stderr(self) -> FloatArray:
        """Standard errors of the efficiencies, relative; shape (replicates,).

        Of a step time and of what is lost the errors add up: a step that loses much is often long.
        """
        kept = np.where(self.lost < 1.0, 1.0 - self.lost, np.nan)
        return np.asarray(self.relative_stderr + self.lost_stderr / kept)

    @cached_property
    def mfu(self) -> FloatArray:
        assert self.plan.ideal_mfu is not None
        return np.asarray(self.plan.ideal_mfu * self.capacity_used)

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
        buckets = self.plan.inner
        if self.plan.division is not None:
            buckets = self.plan.division.parallel.buckets
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
