"""Which points of a scenario a sweep looks at: on a grid, or spread over ranges."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcsim.errors import Problem, ScenarioError
from mcsim.results import UNITS, Axis
from mcsim.scenario import Declared, Scenario, declared, places_of
from mcsim.scenario.decode import written
from mcsim.study.ranges import MOST_POINTS, Over, Range, first_of, read, refusal
from mcsim.study.sound import require_apart, require_sound
from mcsim.study.spread import choices_of, picker_of, spread

_TAKEN = (
    "point",
    "replicate",
    "quantile",
    "group",
    "site",
    "component",
    "stage",
    "key",
    "statistic",
)
"""Dimensions that a sweep's Dataset has anyway."""


@dataclass(frozen=True)
class Design:
    """The points of a sweep.

    base: the scenario at the first point. points: each the values of its keys, as `replace` takes
    them. axes: the keys with the values in SI units: those along its dimension of a grid, else that
    of every point. indices: whether the points are laid out for Sobol indices.
    """

    base: Scenario
    method: str
    points: tuple[Mapping[str, Any], ...]
    axes: tuple[Axis, ...]
    indices: bool = False

    def scenario(self, number: int) -> Scenario:
        """The scenario of a point. Raises ScenarioError, naming the point's keys."""
        return at(self.base, self.points[number])

    @property
    def only_network(self) -> bool:
        """Whether all points have the same devices, step by step."""
        return only_network([axis.key for axis in self.axes])


def only_network(keys: Sequence[str]) -> bool:
    """Whether keys change the network alone."""
    return all(re.match(r"(link|network)\b", key) for key in keys)


def at(base: Scenario, point: Mapping[str, Any]) -> Scenario:
    """A scenario with some keys changed. Raises ScenarioError, naming them and their values."""
    try:
        return base.replace(point)
    except ScenarioError as error:
        raise ScenarioError("sweep", [_told(base, point, one) for one in error.problems]) from None


def _told(base: Scenario, point: Mapping[str, Any], problem: Problem) -> Problem:
    """A problem of a point's scenario, with the key that caused it, or all if it is unknown."""
    causes = [key for key in point if problem.path in (key, *_places(base, key))]
    said = " ".join(f"{key}={written(point[key])}" for key in causes or point)
    return Problem(problem.path, problem.message, setting=f"over {said}")


def _places(scenario: Scenario, key: str) -> list[str]:
    try:
        return places_of(scenario.to_dict(), key)
    except ScenarioError:
        return []


def design(
    scenario: Scenario,
    over: Mapping[str, str | Sequence[Any]],
    method: str = "grid",
    points: int | None = None,
    *,
    indices: bool = False,
) -> Design:
    """The points of a sweep, each checked as a scenario.

    over: for each key its values, or text as `read` takes it. points: how many, but on a grid.
    indices: for Sobol indices; then there are `points` times two more than keys.
    Raises ScenarioError, with all that is wrong with any point.
    """
    asked = {key: read(key, given) for key, given in over.items()}
    require_sound(asked, method, points, indices)
    base = _first(scenario, asked)
    require_apart(base, asked)
    of_key = {key: about(base, key) for key in asked}
    if method == "grid":
        choices = [choices_of(key, values, of_key[key]) for key, values in asked.items()]
        found = list(itertools.islice(itertools.product(*choices), MOST_POINTS + 1))
    else:
        cube = spread(method, len(asked), points or 0, base.run.seed, indices)
        pick = [picker_of(key, values, of_key[key]) for key, values in asked.items()]
        found = [tuple(p(float(u)) for p, u in zip(pick, row, strict=True)) for row in cube]
    if len(found) > MOST_POINTS:
        raise refusal(next(iter(asked)), f"a sweep has at most {MOST_POINTS:,} points")
    every = tuple(dict(zip(asked, values, strict=True)) for values in found)
    measured = _measured(base, every)
    columns = [[row[number] for row in measured] for number in range(len(asked))]
    if method == "grid":
        shape = [len(one) for one in choices]
        columns = [_along(number, shape, column) for number, column in enumerate(columns)]
        for key, column, given in zip(asked, columns, choices, strict=True):
            _require_distinct(key, column, given)
    axes: list[Axis] = []
    for key, column in zip(asked, columns, strict=True):
        axes.append(axis_of(key, of_key[key], column, [axis.name for axis in axes]))
    return Design(base, method, every, tuple(axes), indices)


def _first(scenario: Scenario, asked: Mapping[str, Over]) -> Scenario:
    """The scenario at the first point; where it cannot be, all values of all keys are looked at."""
    first = {key: first_of(values) for key, values in asked.items()}
    try:
        return at(scenario, first)
    except ScenarioError as error:
        problems = dict.fromkeys(error.problems)
    for key, values in asked.items():
        for value in () if isinstance(values, Range) else values:
            try:
                at(scenario, {**first, key: value})
            except ScenarioError as error:
                problems |= dict.fromkeys(error.problems)
    raise ScenarioError("sweep", list(problems))


def about(base: Scenario, key: str) -> Declared:
    """The key of a scenario, also where its table says nothing."""
    try:
        return declared(base, key)
    except KeyError:
        # A table that says nothing is not there.
        return Declared(None, "table", None, "")


def _measured(base: Scenario, points: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """The values of all keys at each point, as the scenario has them: in SI units.

    Raises ScenarioError with the problems of all points.
    """
    problems: dict[Problem, None] = {}
    found = []
    for point in points:
        try:
            scenario = at(base, point)
        except ScenarioError as error:
            problems |= dict.fromkeys(error.problems)
            continue
        found.append([_value(scenario, key, given) for key, given in point.items()])
    if problems:
        raise ScenarioError("sweep", list(problems))
    return found


def _value(scenario: Scenario, key: str, given: Any) -> float | int | str:
    value = about(scenario, key).value
    if isinstance(value, float | int | str) and not isinstance(value, bool):
        return value
    return written(given)


def _along(number: int, shape: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """Of a value at every point of a grid, those along one dimension."""
    stride = math.prod(shape[number + 1 :])
    return list(values[: shape[number] * stride : stride])


def _require_distinct(key: str, values: Sequence[Any], given: Sequence[Any]) -> None:
    first: dict[Any, Any] = {}
    for value, said in zip(values, given, strict=True):
        if value in first:
            raise refusal(
                key, f"has the value {written(said)} twice: {written(first[value])} is it too"
            )
        first[value] = said


def axis_of(key: str, about: Declared, values: Sequence[Any], others: Sequence[str] = ()) -> Axis:
    """The key with its values, and a name that no other dimension has."""
    if any(isinstance(value, str) for value in values):
        values = [str(value) for value in values]
    units = "1" if about.dimension is None else UNITS[about.dimension]
    name = _dimension(key)
    if name in (*_TAKEN, *others):
        name = f"{name}_{len(others) + 1}"
    said = key.rpartition(".")[2]
    return Axis(key, name, units, f"{said}: {about.doc}" if about.doc else said, tuple(values))


def _dimension(key: str) -> str:
    """A name that NetCDF and all its readers take: letters, digits and _."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", key).strip("_")
    return name if name[:1].isalpha() else f"key_{name}"
