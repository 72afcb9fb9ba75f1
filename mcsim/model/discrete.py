"""Laws that take a few values only: their sums and maxima, without any table.

A curve through the distribution function makes steep slopes of its steps, and sums of such curves
blur them; a sum of few values is a few values again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcsim.laws import Constant, FloatArray, Mixture, WeightedLaw
from mcsim.model.hazard import Quantiles, probability_between

MOST_VALUES = 64


def is_discrete(law: Quantiles, values: FloatArray) -> bool:
    """Whether a law takes no other values than these."""
    return bool(values.size <= MOST_VALUES and abs(_own(law, values).sum() - 1.0) < 1e-12)


def sum_of_discrete(
    one: Quantiles, values: FloatArray, other: Quantiles, others: FloatArray
) -> Mixture:
    """The law of X + Y, independent, of laws that take these values."""
    probability = np.outer(_own(one, values), _own(other, others))
    return _mixture((values[:, None] + others).ravel(), probability.ravel())


def last_of_discrete(laws: Sequence[Quantiles], values: Sequence[FloatArray]) -> Mixture:
    """The law of the maximum of independent draws from laws that take these values."""
    every = np.unique(np.concatenate(values))
    with np.errstate(divide="ignore"):
        late = -np.expm1(np.sum([np.log1p(-law.survival(every)) for law in laws], axis=0))
    ready = np.prod([law.distribution(every) for law in laws], axis=0)
    own = np.where(late < 0.5, -np.diff(late, prepend=1.0), np.diff(ready, prepend=0.0))
    return _mixture(every, own)


def _own(law: Quantiles, values: FloatArray) -> FloatArray:
    return probability_between(law, np.nextafter(values, -np.inf), values)


def _mixture(values: FloatArray, probability: FloatArray) -> Mixture:
    """Of constants; those that rounding alone tells apart are one."""
    order = np.argsort(values)
    values, probability = values[order], probability[order]
    grain = 16.0 * np.spacing(np.abs(values).max())
    first = np.flatnonzero(np.diff(values, prepend=-np.inf) > grain)
    weight = np.add.reduceat(probability, first)
    parts = [
        WeightedLaw(float(w), Constant(float(v)))
        for v, w in zip(values[first], weight, strict=True)
        if w > 0.0
    ]
    return Mixture(tuple(parts))
