"""Who waits for whom, as engines understand it: how a plan differs from a full barrier.

Sources: backup workers, Chen et al. 2016, "Revisiting distributed synchronous SGD"; bounded
staleness, Ho et al. 2013, "More effective distributed ML via a stale synchronous parallel parameter
server"; DiLoCo, Douillard et al. 2023; its streaming form, Douillard et al. 2025, "Streaming DiLoCo
with overlapping communication".
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cutoff:
    """Replicas that a step does not wait for: they are interrupted, and their samples are lost.

    spare: so many, the latest. timeout: s, after which nobody is waited for.
    """

    spare: int = 0
    timeout: float = math.inf

    @property
    def has_timeout(self) -> bool:
        """Whether a time decides, not a number."""
        return self.timeout < math.inf


@dataclass(frozen=True)
class Stale:
    """Replicas with clocks of their own. bound: steps that one may be ahead of the slowest;
    infinite where nobody waits."""

    bound: float


@dataclass(frozen=True)
class Rounds:
    """Rounds of steps in which each site works by itself: what the steps of a plan then are.

    inner: steps of a round. quorum: sites that a round waits for. grace: s, that it waits for the
    others after those. fragments: parts of the model, each exchanged once a round, one after the
    other at even distances. overlap: steps that an exchange may take until its result is needed.
    """

    inner: int
    quorum: int
    grace: float = 0.0
    fragments: int = 1
    overlap: int = 0

    @property
    def due(self) -> tuple[int, ...]:
        """After how many steps of the round the result of each fragment is needed."""
        return tuple(
            (number + 1) * self.inner // self.fragments for number in range(self.fragments)
        )
