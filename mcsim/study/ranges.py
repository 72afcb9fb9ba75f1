"""What a key is swept over: some values, or a range of numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcsim.errors import Problem, ScenarioError, UnitError
from mcsim.scenario import Declared, Scenario, typed
from mcsim.units import parse

_RANGE = re.compile(r"(.+?)\.\.(.+?)(?:/(\d{1,9}))?(,\s*log)?", re.DOTALL)
MOST_POINTS = 1_000_000


@dataclass(frozen=True)
class Range:
    """Numbers from one to another, ends included.

    count: how many, evenly spaced, for a grid. logarithmic: whether their logarithms are.
    """

    low: Any
    high: Any
    count: int | None = None
    logarithmic: bool = False


Over = tuple[Any, ...] | Range
"""Values as a scenario file has them, or a range."""


def refusal(key: str, message: str) -> ScenarioError:
    """The error that a key cannot be swept so."""
    return ScenarioError("sweep", [Problem(key, message)])


def read(key: str, given: str | Sequence[Any]) -> Over:
    """What a key is swept over, from text as `1,2,5`, `1..10/4` or `1..100/5,log`, or from values.

    Raises ScenarioError.
    """
    if not isinstance(given, str):
        return tuple(given)
    match = _RANGE.fullmatch(given.strip())
    if match is None or _is_text(key):
        return tuple(typed(Scenario, key, text) for text in _separate(key, given))
    low, high, count, logarithmic = match.groups()
    low, high = (typed(Scenario, key, text.strip()) for text in (low, high))
    return Range(low, high, None if count is None else int(count), logarithmic is not None)


def _is_text(key: str) -> bool:
    return isinstance(typed(Scenario, key, "1"), str)


def _separate(key: str, text: str) -> list[str]:
    """The values between the commas, but for those inside brackets and quotation marks."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    values = [part.strip() for part in parts]
    if "" in values:
        raise refusal(key, f"{text!r} has no value" + (" between commas" if text.strip() else ""))
    return values


def first_of(over: Over) -> Any:
    """A value that the key may have, before anything is known of it."""
    return over.low if isinstance(over, Range) else over[0]


@dataclass(frozen=True)
class Span:
    """A range as numbers in SI units. whole: whether of whole numbers only."""

    low: float
    high: float
    logarithmic: bool
    whole: bool

    def at(self, share: float) -> float | int:
        """The number so far along the range; share: 0 to 1. Of whole numbers each is as likely."""
        if self.whole and not self.logarithmic:
            return min(int(self.low + share * (self.high - self.low + 1)), int(self.high))
        found = self.real(share)
        return round(found) if self.whole else found

    def real(self, share: float) -> float:
        """The same without rounding; the ends are exact."""
        if share in (0.0, 1.0):
            return (self.low, self.high)[int(share)]
        if self.logarithmic:
            return float(self.low ** (1 - share) * self.high**share)
        return self.low + share * (self.high - self.low)

    def share(self, number: float) -> float:
        """How far along the range a number is."""
        if self.logarithmic:
            return float(np.log(number / self.low) / np.log(self.high / self.low))
        return (number - self.low) / (self.high - self.low)

    def spaced(self, count: int) -> list[float | int]:
        """So many numbers, evenly spaced; of whole numbers those that differ."""
        if count == 1:
            raise ValueError("one value is no range")
        reals = [self.real(number / (count - 1)) for number in range(count)]
        return list(dict.fromkeys(map(round, reals))) if self.whole else list(reals)


def span_of(key: str, over: Range, about: Declared) -> Span:
    """A range of a key in SI units. Raises ScenarioError."""
    if about.kind not in ("integer", "quantity"):
        raise refusal(key, "holds no number, and cannot be swept over a range; give its values")
    ends = []
    for given in (over.low, over.high):
        try:
            number = parse(given, about.dimension)
        except UnitError as error:
            raise refusal(key, str(error)) from None
        if about.kind == "integer" and number != int(number):
            raise refusal(key, f"{given} must be a whole number")
        ends.append(number)
    low, high = ends
    if not low < high:
        raise refusal(key, f"the range {over.low}..{over.high} must ascend")
    if over.logarithmic and not low > 0:
        raise refusal(key, f"the range {over.low}..{over.high} is logarithmic and must be above 0")
    return Span(low, high, over.logarithmic, about.kind == "integer")
