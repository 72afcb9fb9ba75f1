"""Changing single keys of a scenario by their path: `--set run.steps=100`, `replace({...})`."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from mcsim.errors import Problem, ScenarioError
from mcsim.fields import Spec
from mcsim.scenario.decode import specs_of
from mcsim.scenario.paths import EVERY, join, quoted, split
from mcsim.suggest import did_you_mean


def assign(
    raw: Mapping[str, Any], changes: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """A copy of `raw` in which each path of `changes` holds the new value, and those places.

    The values are checked later, when the table is decoded; None takes the key away. A place is
    the path with names of tables replaced by their numbers, as problems have it; `[*]` stands for
    each table of an array. Of each place the path that led there is given.
    Raises ScenarioError with every path that leads nowhere.
    """
    root: dict[str, Any] = copy.deepcopy(dict(raw))
    places: dict[str, str] = {}
    problems: list[Problem] = []
    for path, value in changes.items():
        try:
            places |= dict.fromkeys(_put(root, "", split(path), path, value), path)
        except ScenarioError as error:
            problems += error.problems
    if problems:
        raise ScenarioError("", problems)
    return root, places


def places_of(raw: Mapping[str, Any], path: str) -> list[str]:
    """The places that a path leads to, as `assign` calls them. Raises ScenarioError."""
    return list(assign(raw, {path: True})[1])


def _put(here: Any, place: str, parts: Sequence[str | int], path: str, value: Any) -> list[str]:
    """Put a value where `parts` lead from a table or an array, which is at `place`."""
    part, *inner = parts
    if isinstance(here, list):
        if part == EVERY and not here:
            raise ScenarioError("", [Problem(path, f"{place} has no tables")])
        numbers = range(len(here)) if part == EVERY else [_index(here, part, path)]
        places = []
        # From the end: what is taken away moves what follows.
        for number in reversed(numbers):
            there = f"{place}[{number}]"
            places.append(_set(here, number, there, inner, path, value))
        return [one for some in reversed(places) for one in some]
    if not isinstance(here, dict) or not isinstance(part, str):
        kind = "an array" if isinstance(part, int) else "a table"
        raise ScenarioError("", [Problem(path, f"{place or 'a scenario'} is not {kind}")])
    there = join(place, quoted(part))
    if part not in here:
        if value is None:
            return [there]
        if inner:
            here[part] = {}
    return _set(here, part, there, inner, path, value)


def _set(
    here: Any, key: Any, place: str, inner: Sequence[str | int], path: str, value: Any
) -> list[str]:
    """Put a value at `inner` of what a table or an array holds under a key, or there itself."""
    if inner:
        return _put(here[key], place, inner, path, value)
    if value is None:
        del here[key]
    else:
        # A copy: with `[*]` several tables get it, of which one may be changed further.
        here[key] = copy.deepcopy(value)
    return [place]


def _index(tables: Sequence[Any], part: str | int, path: str) -> int:
    """The number of the table of an array that a name or a number points to."""
    names = [table.get("name") if isinstance(table, Mapping) else None for table in tables]
    if part in names:
        return names.index(part)
    if isinstance(part, int) or (part.isdecimal() and len(part) < 10):
        if int(part) < len(tables):
            return int(part)
        problem = f"there are only {len(tables)}, counted from 0"
    else:
        known = [name for name in names if isinstance(name, str)]
        problem = f'none is named "{part}"{did_you_mean(part, known)}'
        problem += f"; there are {', '.join(known)}" if known else "; use a number, as in link[0]"
    raise ScenarioError("", [Problem(path, problem)])


def spec_at(cls: type, path: str) -> Spec | None:
    """The declaration of the key at `path`, starting from the part `cls`; None inside laws."""
    spec: Spec | None = None
    item: type | None = cls
    selects = False
    for part in split(path):
        if not selects:
            spec = specs_of(item).get(str(part)) if item is not None else None
            if spec is None:
                return None
            item = spec.item
        # What follows the name of an array of tables selects one of them.
        selects = not selects and spec is not None and spec.kind == "tables"
    return spec


def typed(cls: type, path: str, text: str) -> Any:
    """The value that `--set path=text` means, by the kind of key that `path` names.

    A key that holds text takes it as it is; any other takes a TOML value (`100`, `true`,
    `{ law = "constant", value = 1 }`) or, where that is none, a quantity (`50 us`).
    """
    spec = spec_at(cls, path)
    if spec is not None and spec.kind in ("text", "choice") and text[:1] not in ('"', "'"):
        return text
    try:
        read = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return read["value"] if read.keys() == {"value"} else text
