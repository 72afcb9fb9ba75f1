"""Many devices stood for by few: bins of like base times, each by three of its Gauss points.

The three points of a bin have the weights and places that give the bin's own sums of every power
of the base time up to the fifth, so that the sum of any function over the bin's devices that is
nearly a polynomial there comes out right.

See Also: Golub & Welsch 1969, Mathematics of Computation 23, 221-230.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.arrival import Arrival
from mcsim.model.hazard import Indices

_KEPT = 384
"""So many different base times, or fewer, are all kept."""
_CHUNKED_BEYOND = 2**18
_NEVER_CHUNKED = 2**14
_PROBES = 160
_RELEVANT = 1e-10
_STEEPNESS = 0.6
"""Of a bin: its width by the slope of the logarithm of the hazard."""


class Bases(NamedTuple):
    """Base times of a group, ascending, s, and how many devices each stands for."""

    value: FloatArray
    weight: FloatArray

    @property
    def few(self) -> bool:
        """Whether all are kept."""
        return self.value.size <= _KEPT


def bases_of(base: FloatArray) -> Bases:
    """The base times of devices, shape (devices,), equal ones together.

    Of very many, a thousandth of their neighbours' distance apart, those that are not among the
    largest are averaged by few.
    """
    value = np.sort(base)
    new = np.diff(value) > 0
    if np.count_nonzero(new) < _KEPT:
        start = np.flatnonzero(np.append(True, new))
        return Bases(value[start], np.diff(np.append(start, value.size)).astype(np.float64))
    if value.size <= _CHUNKED_BEYOND:
        return Bases(value, np.ones(value.size))
    size = -(-value.size // (_CHUNKED_BEYOND // 2))
    together = (value.size - _NEVER_CHUNKED) // size
    chunks = value[: together * size].reshape(together, size).mean(axis=1)
    alone = value[together * size :]
    weight = np.repeat([float(size), 1.0], [together, alone.size])
    return Bases(np.concatenate([chunks, alone]), weight)


def sketch(bases: Bases) -> Bases:
    """A few of the base times for all: the largest, and others for their neighbours."""
    count = bases.value.size
    if count <= 96:
        return bases
    start = np.unique(
        np.concatenate(
            [
                np.linspace(0, count - 32, 32, endpoint=False).astype(np.intp),
                count - np.round(np.geomspace(32, count, 32)).astype(np.intp),
                np.arange(count - 32, count),
            ]
        )
    )
    weight = np.add.reduceat(bases.weight, start)
    return Bases(np.add.reduceat(bases.weight * bases.value, start) / weight, weight)


class Bins(NamedTuple):
    """Where bins of base times begin; ascending indices, the first 0."""

    start: Indices


def bins_for(
    bases: Bases, arrival: Arrival, time: FloatArray, hazard: FloatArray, fine: float, ranks: float
) -> Bins:
    """Bins over each of which the hazard of a device is nearly a polynomial of its base time.

    time: falling, s. hazard: of the last arrival at these times; who adds nothing to it may stand
    with any other. fine: how many times narrower than usual. ranks: if above 0, a bin holds at
    most about a `ranks`-th of those that are slower than it.
    """
    if bases.few:
        return Bins(np.arange(bases.value.size))
    place = np.log(bases.value) if arrival.scaled else bases.value
    count = bases.value.size
    probe = np.unique(
        np.concatenate(
            [
                np.linspace(0, count - 1, _PROBES // 2).astype(np.intp),
                count - np.round(np.geomspace(1, count, _PROBES // 2)).astype(np.intp),
            ]
        )
    )
    steep = _steepness(arrival, bases.value[probe], time, hazard, bases.weight.sum())
    width = np.diff(place[probe])
    need = np.append(0.0, np.cumsum(width * np.maximum(steep[1:], steep[:-1])))
    number = fine / _STEEPNESS * np.interp(place, place[probe], need)
    if ranks > 0:
        slower = np.cumsum(bases.weight[::-1])[::-1] - bases.weight
        number -= ranks * np.log(slower + ranks)
    number = np.floor(number - number[0])
    return Bins(np.flatnonzero(np.append(True, np.diff(number) > 0)))


def _steepness(
    arrival: Arrival, base: FloatArray, time: FloatArray, hazard: FloatArray, devices: float
) -> FloatArray:
    """The largest slope of the log hazard of devices over their place, where it matters."""
    own = arrival.hazard(time[:, None], base)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_own = np.log(np.clip(own, 1e-300, 1e3))
        along = np.log(time) if arrival.scaled and (time > 0).all() else time
        slope = np.abs(np.diff(log_own, axis=0) / np.diff(along)[:, None])
    if arrival.scaled and not (time > 0).all():
        slope = slope * np.abs(time[1:, None])
    relevant = (devices * own > _RELEVANT * hazard[:, None]) & (own > 0)
    relevant = relevant[1:] & relevant[:-1] & np.isfinite(slope)
    return np.asarray(np.where(relevant, slope, 0.0).max(axis=0))


def nodes_of(bases: Bases, bins: Bins, scaled: bool) -> Bases:
    """The Gauss points of the bins; bins of up to three stay as they are."""
    size = np.diff(np.append(bins.start, bases.value.size))
    kept = size <= 3
    alone = np.repeat(kept, size)
    if alone.all():
        return bases
    value, weight = bases.value[~alone], bases.weight[~alone]
    place = np.log(value) if scaled else value
    length = size[~kept]
    start = np.append(0, np.cumsum(length)[:-1])
    middle = 0.5 * (place[start] + place[start + length - 1])
    half = np.maximum(0.5 * (place[start + length - 1] - place[start]), 1e-300)
    u = (place - np.repeat(middle, length)) / np.repeat(half, length)
    own, share = _gauss(u, weight, start, length)
    found = middle[:, None] + half[:, None] * own
    found = np.exp(found) if scaled else found
    return Bases(
        np.concatenate([found.ravel(), bases.value[alone]]),
        np.concatenate([share.ravel(), bases.weight[alone]]),
    )


def _gauss(
    u: FloatArray, weight: FloatArray, start: Indices, length: Indices
) -> tuple[FloatArray, FloatArray]:
    """Three points and weights for each bin of u, from -1 to 1; shape (bins, 3)."""

    def total(x: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(x, start))

    def spread(x: FloatArray) -> FloatArray:
        return np.repeat(x, length)

    norm = total(weight)
    center = total(weight * u) / norm
    first = u - spread(center)
    squares = weight * first * first
    norm_1 = total(squares)
    safe = np.where(norm_1 > 1e-20 * norm, norm_1, 1.0)
    center_1 = np.where(norm_1 > 1e-20 * norm, total(u * squares) / safe, center)
    step_1 = np.where(norm_1 > 1e-20 * norm, norm_1 / norm, 0.0)
    second = (u - spread(center_1)) * first - spread(step_1)
    squares = weight * second * second
    norm_2 = total(squares)
    enough = norm_2 > 1e-12 * norm_1
    center_2 = np.where(enough, total(u * squares) / np.where(enough, norm_2, 1.0), center)
    step_2 = np.where(enough, norm_2 / safe, 0.0)
    matrix = np.zeros((start.size, 3, 3))
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2] = center, center_1, center_2
    matrix[:, 0, 1] = matrix[:, 1, 0] = np.sqrt(step_1)
    matrix[:, 1, 2] = matrix[:, 2, 1] = np.sqrt(step_2)
    node, vector = np.linalg.eigh(matrix)
    return node, norm[:, None] * vector[:, 0, :] ** 2
