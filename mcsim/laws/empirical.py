"""The law of measured values: a file's column, a list, or a table of the catalogue.

See Also: numpy.quantile, with its default method "linear"; mcsim.laws.polyline.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcsim import fields
from mcsim.catalogue import distribution
from mcsim.errors import McsimError, UnitError
from mcsim.laws.column import MAX_ROWS, read_column
from mcsim.laws.law import FloatArray, Law, LawFault, as_array, law
from mcsim.laws.polyline import Polyline
from mcsim.units import Dimension, parse


class ParetoTail(NamedTuple):
    """P(X > x) = share (joint / x)^(1 / gamma) above the joint, which `share` of all exceed."""

    joint: float
    share: float
    gamma: float


@law(
    "empirical",
    source="Hyndman & Fan 1996, definition 7; tail: Hill 1975, Annals of Statistics 3, 1163-1174",
)
@dataclass(frozen=True)
class Empirical(Law):
    """Measured values, with straight lines between their quantiles.

    The k-th smallest of n values (from 0) is the quantile at k / (n - 1); or `probabilities` says
    where each value stands. Nothing below the smallest value occurs, and nothing above the
    largest, unless `tail` is "pareto": then a Pareto tail replaces the largest k = sqrt(n) values
    (rounded down, at least 2), from the next smaller value on, its exponent being Hill's estimate.
    """

    file: str | None = fields.text(
        "a CSV file with a header, relative to the scenario", default=None
    )
    column: str | None = fields.text("the file's column; needed if it has several", default=None)
    unit: str | None = fields.text("of the file's numbers, such as us; absent: SI", default=None)
    values: tuple[float, ...] = fields.numbers(
        "the values themselves; a file is then not read", "own", default=()
    )
    probabilities: tuple[float, ...] = fields.numbers(
        "of each value not to be exceeded, from 0 to 1", None, default=()
    )
    table: str | None = fields.text("a distribution of the catalogue", default=None)
    tail: str = fields.choice(
        "what lies above the largest values", ("none", "pareto"), default="none"
    )

    def quantile(self, survival: FloatArray) -> FloatArray:
        survival = as_array(survival)
        x = self._line.quantile(survival)
        if self._tail is not None:
            joint, share, gamma = self._tail
            beyond = survival < share
            x[~beyond] = np.minimum(x[~beyond], joint)
            x[beyond] = joint * (share / survival[beyond]) ** gamma
        return x

    def survival(self, x: FloatArray) -> FloatArray:
        x = as_array(x)
        result = self._line.survival(x)
        if self._tail is not None:
            joint, share, gamma = self._tail
            # From the joint on the ratio is below 1, so that an infinite alpha leaves nothing.
            alpha = np.inf if gamma == 0.0 else 1.0 / gamma
            beyond = share * (joint / np.maximum(x, np.nextafter(joint, np.inf))) ** alpha
            result = np.where(x < joint, result, beyond)
        return np.asarray(result)

    def distribution(self, x: FloatArray) -> FloatArray:
        x = as_array(x)
        result = self._line.distribution(x)
        if self._tail is not None:
            result = np.where(x < self._tail.joint, result, 1.0 - self.survival(x))
        return np.asarray(result)

    def expectation(self) -> float:
        mean = self._body.first_moment()
        if self._tail is not None:
            mean += self._tail.share * self._tail.joint / (1.0 - self._tail.gamma)
        return mean

    def variance(self) -> float:
        mean = self.expectation()
        variance = self._body.second_moment(mean)
        if self._tail is not None:
            joint, weight, gamma = self._tail
            if gamma >= 0.5:
                return float("inf")
            center = joint / (1.0 - gamma)
            own = (center * gamma) ** 2 / (1.0 - 2.0 * gamma)
            variance += weight * (own + (center - mean) ** 2)
        return variance

    def jumps(self) -> FloatArray:
        above = self._line.above[1:-1]
        return above if self._tail is None else above[above >= self._tail.share]

    def knots(self) -> FloatArray:
        value = self._line.value
        if self._tail is not None:
            value = value[value <= self._tail.joint]
        repeated = value[1:][np.diff(value) == 0.0]
        return np.unique(np.concatenate([value[:1], repeated, value[-1:]]))

    def faults(self) -> Iterable[tuple[str, str]]:
        if self.file is not None and self.table is not None:
            yield "table", "give either `file` or `table`, not both"
        for key in ("column", "unit"):
            if getattr(self, key) is not None and self.file is None:
                yield key, "belongs to a `file`, and there is none"
        if self.values:
            yield from self._data_faults()
        elif self.file is None and self.table is None:
            yield "", "an empirical law needs a `file`, `values` or a `table`"
        elif self.table is not None and self.probabilities:
            yield "probabilities", "a `table` brings its own"

    def resolved(self, directory: Path, dimension: Dimension | None) -> Law:
        for key, message in self.faults():
            raise LawFault(key, message)
        values, probabilities = self.values, self.probabilities
        if not values and self.table is not None:
            values, probabilities = self._from_catalogue(self.table, dimension)
        elif not values:
            values = self._from_file(directory, dimension)
        if not probabilities:
            values = tuple(sorted(values))
        whole = dataclasses.replace(self, values=values, probabilities=probabilities)
        for key, message in whole.faults():
            raise LawFault(key, message)
        return whole

    def _from_file(self, directory: Path, dimension: Dimension | None) -> tuple[float, ...]:
        assert self.file is not None
        size = 1.0
        if self.unit is not None:
            if dimension is None:
                raise LawFault("unit", f'"{self.unit}": this law is of a factor, without unit')
            try:
                size = parse(f"1 {self.unit}", dimension)
            except UnitError as error:
                raise LawFault("unit", str(error)) from None
        numbers = read_column(directory / self.file, self.column)
        if size < 1.0:
            # By the inverse, which is a whole number: 5 us is 5e-6 then, and not its neighbour.
            return tuple(x / round(1.0 / size) for x in numbers)
        return tuple(x * size for x in numbers)

    @staticmethod
    def _from_catalogue(
        name: str, dimension: Dimension | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        try:
            found = distribution(name)
        except McsimError as error:
            raise LawFault("table", str(error)) from None
        if found.dimension != dimension:
            held, wanted = (kind or "pure number" for kind in (found.dimension, dimension))
            raise LawFault("table", f'"{name}" is of a {held}; this law must be of a {wanted}')
        return tuple(map(float, found.values)), tuple(map(float, found.probabilities))

    def _data_faults(self) -> Iterable[tuple[str, str]]:
        if len(self.values) > MAX_ROWS:
            yield "values", f"more than {MAX_ROWS:,}; give quantiles with their `probabilities`"
        if not all(map(math.isfinite, self.values)):
            yield "values", "must all be finite"
        elif self.probabilities:
            yield from self._probability_faults()
        elif self.tail == "pareto":
            yield from self._tail_faults()

    def _probability_faults(self) -> Iterable[tuple[str, str]]:
        p = self.probabilities
        if len(p) != len(self.values):
            yield "probabilities", f"are {len(p)}, for {len(self.values)} values"
        if not (p[0] == 0.0 and p[-1] == 1.0 and all(a < b for a, b in pairwise(p))):
            yield "probabilities", "must increase from 0 to 1"
        if not all(a <= b for a, b in pairwise(self.values)):
            yield "values", "must not decrease where `probabilities` are given"
        if self.tail == "pareto":
            yield "tail", "is estimated from single values, not from values with `probabilities`"

    def _tail_faults(self) -> Iterable[tuple[str, str]]:
        count = _tail_count(len(self.values))
        if count >= len(self.values):
            yield "tail", "a Pareto tail needs at least 3 values"
            return
        joint = self._line.value[-1 - count]
        if joint <= 0.0:
            yield "tail", f"a Pareto tail cannot start at {joint:.6g}, which is not above 0"
        elif self._tail is not None and self._tail.gamma >= 1.0:
            alpha = 1.0 / self._tail.gamma
            yield (
                "tail",
                f"the {count} largest values give alpha = {alpha:.3g}; "
                "it must be above 1, or the mean is infinite",
            )

    @cached_property
    def _line(self) -> Polyline:
        if not self.values:
            raise LawFault("", "the data of this empirical law has not been read (see `resolved`)")
        return Polyline.of(self.values, self.probabilities)

    @cached_property
    def _tail(self) -> ParetoTail | None:
        if self.tail == "none":
            return None
        line = self._line
        joint_at = line.value.size - 1 - _tail_count(line.value.size)
        joint = float(line.value[joint_at])
        gamma = float(np.mean(np.log(line.value[joint_at + 1 :] / joint)))
        return ParetoTail(joint, float(line.above[joint_at]), gamma)

    @cached_property
    def _body(self) -> Polyline:
        """What lies below the tail."""
        if self._tail is None:
            return self._line
        return self._line.lowest(self._line.value.size - _tail_count(self._line.value.size))


def _tail_count(size: int) -> int:
    """How many of the largest values the Pareto tail replaces."""
    return max(2, math.isqrt(size))
