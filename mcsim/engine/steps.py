"""What an engine gives: some steps of a replicate, whichever engine it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray


@dataclass(frozen=True)
class Steps:
    """What happened in some steps of a replicate.

    time: shape (steps,), s. ready: shape (steps, sites), s, the last arrival at each site.
    culprit: shape (steps, sites), the group of that arrival. draw: shape (steps, sites), the
    survival probability it was drawn at. busy: shape (steps, groups), s, the mean time of a
    device of the group.
    """

    time: FloatArray
    ready: FloatArray
    culprit: NDArray[np.int64]
    draw: FloatArray
    busy: FloatArray

    @property
    def last_site(self) -> NDArray[np.int64]:
        """The site of the very last arrival; among equal times, of the smallest draw."""
        last = self.ready.max(axis=1, keepdims=True)
        return np.asarray(np.argmin(np.where(self.ready == last, self.draw, np.inf), axis=1))

    def joined(self, *others: Steps) -> Steps:
        """These steps and those that follow."""
        if not others:
            return self
        parts = [self, *others]
        return Steps(
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.ready for part in parts]),
            np.concatenate([part.culprit for part in parts]),
            np.concatenate([part.draw for part in parts]),
            np.concatenate([part.busy for part in parts]),
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

    name: str

    def draw(self, replicate: int) -> Replicate:
        """The cluster of a replicate. Raises SimulationError where its factors overflow."""
        ...
