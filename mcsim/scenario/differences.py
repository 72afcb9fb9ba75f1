"""In what two scenarios differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import zip_longest
from typing import Any

from mcsim.scenario.paths import join, quoted
from mcsim.scenario.scenario import Scenario

_LONGEST = 60


def first_difference(
    one: Scenario, other: Scenario, besides: Collection[str] = ()
) -> tuple[str, str, str] | None:
    """The first key in which two scenarios differ, and what each has there; None if they agree.

    besides: keys that may differ, as "run.steps".
    """
    for path, a, b in _differences(one.to_dict(), other.to_dict(), ""):
        if path not in besides:
            return path, _shown(a), _shown(b)
    return None


def _differences(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(key for key in b if key not in a)]:
            yield from _differences(a.get(key), b.get(key), join(path, quoted(key)))
    elif isinstance(a, list) and isinstance(b, list):
        for number, pair in enumerate(zip_longest(a, b)):
            yield from _differences(*pair, f"{path}[{number}]")
    elif a != b or type(a) is not type(b):
        yield path, a, b


def _shown(value: Any) -> str:
    if value is None:
        return "absent"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
