"""Values of keys: evenly spaced for a grid, or spread over ranges by a design."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mcsim.laws import FloatArray
from mcsim.scenario import Declared
from mcsim.study.ranges import MOST_POINTS, Over, Range, refusal, span_of


def choices_of(key: str, values: Over, about: Declared) -> Sequence[Any]:
    """The values of a key on a grid. Raises ScenarioError."""
    if not isinstance(values, Range):
        return values
    assert values.count is not None
    if not 2 <= values.count <= MOST_POINTS:
        raise refusal(key, f"{values.count} values of a range: at least 2, at most {MOST_POINTS:,}")
    return span_of(key, values, about).spaced(values.count)


def picker_of(key: str, values: Over, about: Declared) -> Callable[[float], Any]:
    """From a number in [0, 1) to a value; of several given ones each has as large a part."""
    if isinstance(values, Range):
        return span_of(key, values, about).at
    return lambda u: values[min(int(u * len(values)), len(values) - 1)]


def spread(method: str, keys: int, points: int, seed: int, indices: bool) -> FloatArray:
    """Points in the unit cube, shape (points, keys), from the seed of the scenario.

    For indices: of each point two, and each key of the second put into the first, one row after the
    other as SALib's analyses have it (Saltelli et al., Computer Physics Communications 181, 2010).
    """
    from scipy.stats import qmc

    chance = np.random.default_rng(seed)
    if method == "lhs":
        return np.asarray(qmc.LatinHypercube(keys, rng=chance).random(points))
    if not indices:
        return np.asarray(qmc.Sobol(keys, rng=chance).random(points))
    pairs = np.asarray(qmc.Sobol(2 * keys, rng=chance).random(points))
    one, other = pairs[:, :keys], pairs[:, keys:]
    mixed = np.repeat(one[:, None], keys, axis=1)
    every = np.arange(keys)
    mixed[:, every, every] = other
    rows = np.concatenate([one[:, None], mixed, other[:, None]], axis=1)
    return np.asarray(rows.reshape(-1, keys))
