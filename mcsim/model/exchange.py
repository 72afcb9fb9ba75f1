"""The exchange among the sites: how long it takes with what its links carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mcsim.model.fairness import max_min


@dataclass(frozen=True)
class Exchange:
    """Sites that send each other like parts at the same time, each over a leg of its own.

    latency: s, of all rounds together. volume: bytes that each leg carries. capacity: byte/s, of
    each hop, which is a direction of a link, undisturbed. legs: of each, the numbers of its hops.
    link: of each hop, the number of its link. The slowest leg is waited for.
    """

    latency: float = 0.0
    volume: float = 0.0
    capacity: tuple[float, ...] = ()
    legs: tuple[tuple[int, ...], ...] = ()
    link: tuple[int, ...] = ()

    @cached_property
    def undisturbed(self) -> float:
        """Seconds while all links carry what they can."""
        return self._seconds(self.capacity)

    def seconds(self, share: Sequence[float]) -> float:
        """Seconds while each link carries only a share of what it can; legs share it fairly."""
        return self._seconds([c * share[l] for c, l in zip(self.capacity, self.link, strict=True)])

    def busy(self) -> list[float]:
        """Seconds in which each link carries parts in its busier direction, undisturbed."""
        found = [0.0] * (1 + max(self.link, default=-1))
        for hop, (capacity, link) in enumerate(zip(self.capacity, self.link, strict=True)):
            legs = sum(hop in leg for leg in self.legs)
            found[link] = max(found[link], legs * self.volume / capacity)
        return found

    def _seconds(self, capacity: Sequence[float]) -> float:
        if not self.legs:
            return self.latency
        # NumPy's division: by a share that underflows it is infinite, and refused as a step's time.
        return float(self.latency + self.volume / max_min(capacity, self.legs).min())
