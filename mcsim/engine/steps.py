"""What an engine gives: some steps of a replicate, whichever engine it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.screening import outranks
from mcsim.laws import FloatArray
from mcsim.model.plan import Plan


@dataclass(frozen=True)
class DeviceCounts:
    """How often the times of all devices of each group fell into the bins, and their waits.

    times, waits: shape (groups, bins), bins as `histogram.edges_of` numbers them from 0, of
    `histogram.COARSEST` bits.
    """

    times: NDArray[np.int64]
    waits: NDArray[np.int64]

    def __add__(self, other: DeviceCounts) -> DeviceCounts:
        return DeviceCounts(self.times + other.times, self.waits + other.waits)


class Arrivals(NamedTuple):
    """Who arrives last in some steps, as an engine draws it: arrays as of `Steps`.

    Of a plan with rounds: of each of their steps.
    """

    ready: FloatArray
    culprit: NDArray[np.int64]
    draw: FloatArray
    busy: FloatArray
    device: NDArray[np.int64] | None = None
    lost: FloatArray | None = None

    @classmethod
    def of_nobody(cls, count: int, plan: Plan) -> Arrivals:
        """Of so many steps, to be filled: nobody has arrived."""
        shape = (count, len(plan.sites))
        culprit, device = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        busy = np.empty((count, len(plan.groups)))
        return cls(np.full(shape, -np.inf), culprit, np.ones(shape), busy, device)

    def admit(
        self,
        group: int,
        site: int,
        latest: FloatArray,
        drawn: FloatArray,
        device: NDArray[np.int64],
    ) -> None:
        """The last arrivals of a group at its site, each shape (steps,), where they are the site's.

        drawn: the survival probabilities that they were drawn at.
        """
        assert self.device is not None
        later = outranks(latest, drawn, self.ready[:, site], self.draw[:, site])
        self.ready[later, site] = latest[later]
        self.draw[later, site] = drawn[later]
        self.culprit[later, site] = group
        self.device[later, site] = device[later]


@dataclass(frozen=True)
class Steps:
    """What happened in some steps of a replicate.

    time: shape (steps,), s. ready: shape (steps, sites), s, the last arrival at each site.
    culprit: shape (steps, sites), the group of that arrival. draw: shape (steps, sites), the
    survival probability it was drawn at. busy: shape (steps, groups), s, the mean time of a
    device of the group. components: shape (steps, components), s, what the step was spent on, in
    the order of `Plan.components`; None where those are BARE. device: shape (steps, sites), the
    number in its group of the device of that arrival; None where the engine does not know. devices:
    of all devices in all of the steps; None if not asked for. stage: shape (steps,), the slowest of
    the pipeline that the step waited for; None where the model is not divided. lost: shape
    (steps,), the share of samples that do not enter the update; None where all do. staleness: shape
    (steps,), in steps; None where all replicas do the same one.
    """

    time: FloatArray
    ready: FloatArray
    culprit: NDArray[np.int64]
    draw: FloatArray
    busy: FloatArray
    components: FloatArray | None = None
    device: NDArray[np.int64] | None = None
    devices: DeviceCounts | None = None
    stage: NDArray[np.intp] | None = None
    lost: FloatArray | None = None
    staleness: FloatArray | None = None

    @property
    def last_site(self) -> NDArray[np.int64]:
        """The site of the very last arrival; among equal times, of the smallest draw."""
        if self.ready.shape[1] == 1:
            return np.zeros(len(self.ready), np.int64)
        last = self.ready.max(axis=1, keepdims=True)
        return np.asarray(np.argmin(np.where(self.ready == last, self.draw, np.inf), axis=1))

    def part(self, first: int, count: int) -> Steps:
        """Up to `count` of these steps from `first` on; all of them where devices are counted."""
        if first == 0 and count >= len(self.time):
            return self
        assert self.devices is None
        rows = slice(first, first + count)
        return Steps(
            self.time[rows],
            self.ready[rows],
            self.culprit[rows],
            self.draw[rows],
            self.busy[rows],
            None if self.components is None else self.components[rows],
            None if self.device is None else self.device[rows],
            stage=None if self.stage is None else self.stage[rows],
            lost=None if self.lost is None else self.lost[rows],
            staleness=None if self.staleness is None else self.staleness[rows],
        )

    def joined(self, *others: Steps) -> Steps:
        """These steps and those that follow."""
        if not others:
            return self
        parts = [self, *others]
        known = [part.device for part in parts if part.device is not None]
        counts = [part.devices for part in parts if part.devices is not None]
        components = [part.components for part in parts if part.components is not None]
        stages = [part.stage for part in parts if part.stage is not None]
        lost = [part.lost for part in parts if part.lost is not None]
        stale = [part.staleness for part in parts if part.staleness is not None]
        return Steps(
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.ready for part in parts]),
            np.concatenate([part.culprit for part in parts]),
            np.concatenate([part.draw for part in parts]),
            np.concatenate([part.busy for part in parts]),
            np.concatenate(components) if components else None,
            np.concatenate(known) if len(known) == len(parts) else None,
            reduce(add, counts) if counts else None,
            np.concatenate(stages) if stages else None,
            np.concatenate(lost) if lost else None,
            np.concatenate(stale) if stale else None,
        )


class Replicate(Protocol):
    """One cluster drawn from the lottery, ready to be sampled."""

    def sample(self, first: int, count: int) -> Steps:
        """Steps `first` to `first + count - 1`, each from its own address.

        Raises SimulationError where a time is not finite, or too large for sums of its powers.
        """
        ...


class Engine(Protocol):
    """A way to sample the steps of a plan."""

    @property
    def name(self) -> str:
        """As a scenario calls it."""
        ...

    def draw(self, replicate: int) -> Replicate:
        """The cluster of a replicate. Raises SimulationError where its factors overflow."""
        ...
