"""When one device arrives whose stall varies as well as its step: base * C + D.

Mixtures are taken apart, since probabilities of their parts add up, down to parts of which one is
constant and parts that are both continuous.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from mcsim.laws import FloatArray, Law, Mixture
from mcsim.model.arrival import Arrival, Scaled, Shifted
from mcsim.model.hazard import constant_value, hazard_from, is_constant
from mcsim.model.tabulated import Tabulated


@lru_cache(maxsize=32)
def sum_of(step: Law, stall: Law) -> Arrival:
    """base * C + D, where neither is constant and at most one has atoms."""
    parts: list[tuple[float, Arrival]] = []
    for weight, c in _parts(step):
        for share, d in _parts(stall):
            if is_constant(d):
                own: Arrival = Scaled(c, constant_value(d, 0.0))
            elif is_constant(c):
                own = Shifted(d, constant_value(c, 1.0))
            else:
                own = Tabulated(c, d)
            parts.append((weight * share, own))
    return parts[0][1] if len(parts) == 1 else Either(tuple(parts))


def _parts(law: Law) -> list[tuple[float, Law]]:
    if not isinstance(law, Mixture):
        return [(1.0, law)]
    total = sum(part.weight for part in law.parts)
    return [
        (part.weight / total * weight, one)
        for part in law.parts
        for weight, one in _parts(part.law)
    ]


@dataclass(frozen=True)
class Either:
    """Now one law, now another, by weight."""

    parts: tuple[tuple[float, Arrival], ...]
    scaled: ClassVar[bool] = True

    def hazard(self, time: FloatArray, base: FloatArray) -> FloatArray:
        survival, distribution = np.zeros((2, *np.broadcast(time, base).shape))
        for weight, part in self.parts:
            hazard = part.hazard(time, base)
            survival -= weight * np.expm1(-hazard)
            distribution += weight * np.exp(-hazard)
        return hazard_from(survival, distribution)

    def excess(self, time: FloatArray, base: FloatArray) -> FloatArray:
        mean = self.mean(base)
        above, below, late, ready = np.zeros((4, *np.broadcast(time, base).shape))
        for weight, part in self.parts:
            hazard, lost, own = part.hazard(time, base), part.excess(time, base), part.mean(base)
            is_late, is_ready = -weight * np.expm1(-hazard), weight * np.exp(-hazard)
            above += lost * is_ready + (own - mean) * is_late
            below += (own - lost) * is_ready
            late += is_late
            ready += is_ready
        safe = np.where(ready > 0.0, ready, 1.0)
        early = np.where(ready > 0.0, mean - below / safe, mean - time)
        return np.where(late < 0.5, above / safe, early)

    def quantile(self, survival: FloatArray, base: FloatArray) -> FloatArray:
        every = np.stack([part.quantile(survival, base) for _, part in self.parts])
        return np.asarray(np.where(survival < 0.5, every.max(axis=0), every.min(axis=0)))

    def mean(self, base: FloatArray) -> FloatArray:
        return np.asarray(np.sum([w * part.mean(base) for w, part in self.parts], axis=0))

    def breaks(self, base: FloatArray) -> FloatArray:
        return np.concatenate([part.breaks(base) for _, part in self.parts], axis=1)

    def last(self, base: FloatArray) -> FloatArray:
        every = np.stack([part.last(base) for _, part in self.parts])
        return np.asarray(every.max(axis=0), np.float64)

    @property
    def is_smooth(self) -> bool:
        return self.breaks(np.ones(1)).size <= 1

    def deviation(self) -> float:
        return max(part.deviation() for _, part in self.parts)
