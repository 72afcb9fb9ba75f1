"""Whether a sweep is one: its keys, its method, and how many points it has."""

from __future__ import annotations

from collections.abc import Mapping

from mcsim.scenario import Scenario, places_of
from mcsim.study.ranges import MOST_POINTS, Over, Range, refusal

METHODS = ("grid", "lhs", "sobol")

_NOT_SWEPT = {
    "name": "names the result and changes nothing",
    "run.seed": "all points have the same, so that they differ by their keys alone; for more"
    " clusters sweep with more run.replicates",
    "run.target": "changes no result",
}


def require_sound(
    asked: Mapping[str, Over], method: str, points: int | None, indices: bool
) -> None:
    """Raise ScenarioError where keys, values, the method and the number of points do not agree."""
    if method not in METHODS:
        raise refusal("", f'method "{method}" is none of {", ".join(METHODS)}')
    if not asked:
        raise refusal("", "there is no key to sweep over; say for example link[*].bandwidth=1,2")
    for key, values in asked.items():
        if key in _NOT_SWEPT:
            raise refusal(key, f"is not swept: {_NOT_SWEPT[key]}")
        if values == ():
            raise refusal(key, "has no values to sweep over")
        if not isinstance(values, Range) and None in values:
            raise refusal(key, "has the value None; only values that a file can hold are swept")
        if isinstance(values, Range) and (values.count is None) == (method == "grid"):
            ends = f"{values.low}..{values.high}"
            how = "say how many values" if method == "grid" else f'"{method}" chooses the values'
            raise refusal(key, f"{how}: {ends}{'/5' if method == 'grid' else ''}")
    if (points is None) != (method == "grid"):
        how = "a grid has as many points as values" if points else f'"{method}" needs a number'
        raise refusal("", f"{how} of points (--points)" if not points else f"{how}; no --points")
    if points is not None and not 1 <= points <= MOST_POINTS:
        raise refusal(
            "", f"{points} points (--points) must be at least 1 and at most {MOST_POINTS:,}"
        )
    if method == "sobol" and points and points & (points - 1):
        near = 1 << points.bit_length()
        message = f"{points} points (--points): Sobol's sequence is balanced for powers of two"
        raise refusal("", f"{message}, as {near // 2} or {near}")
    if indices and (method != "sobol" or any(not isinstance(one, Range) for one in asked.values())):
        raise refusal("", 'indices need the method "sobol", and ranges of all keys')


def require_apart(base: Scenario, asked: Mapping[str, Over]) -> None:
    """Raise where two keys are the same, or one is inside the other."""
    table = base.to_dict()
    seen: dict[str, str] = {}
    for key in asked:
        for place in places_of(table, key):
            for other, name in seen.items():
                if (place + ".").startswith((other + ".", other + "[")) or other.startswith(
                    (place + ".", place + "[")
                ):
                    raise refusal(key, f"is swept twice: {name} changes {place} too")
        seen |= dict.fromkeys(places_of(table, key), key)
