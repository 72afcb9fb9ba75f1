"""Changing single keys of a scenario by their path: `--set run.steps=100`, `replace({...})`."""

from __future__ import annotations

import copy
import dataclasses
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from mcsim.errors import Problem, ScenarioError
from mcsim.fields import Spec, spec_of
from mcsim.scenario.decode import did_you_mean

_SEGMENT = re.compile(r'(?:"([^"]*)"|([^.\[\]"]+))((?:\[\d+\])*)(?:\.|$)')


def split(path: str) -> list[str | int]:
    """`fleet[2].jitter` as ["fleet", 2, "jitter"]; a segment with a dot is quoted."""
    parts: list[str | int] = []
    at = 0
    while at < len(path):
        match = _SEGMENT.match(path, at)
        if match is None:
            break
        parts.append(match[1] if match[1] is not None else match[2])
        parts.extend(int(index) for index in re.findall(r"\d+", match[3]))
        at = match.end()
    if not parts or at < len(path) or path.endswith("."):
        raise ScenarioError(path, [Problem("", "is not a key path such as fleet[0].count")])
    return parts


def _into(tables: list[Any], part: str | int, path: str) -> Any:
    """The table of an array that an index or a name points to."""
    if isinstance(part, int) or part.isdigit():
        if int(part) < len(tables):
            return tables[int(part)]
        problem = f"there are only {len(tables)}, counted from 0"
    else:
        named = {item.get("name"): item for item in tables if isinstance(item, dict)}
        if part in named:
            return named[part]
        known = [str(name) for name in named if name is not None]
        problem = f'none is named "{part}"{did_you_mean(part, known)}'
        problem += f"; there are {', '.join(known)}" if known else "; use a number, as in link[0]"
    raise ScenarioError("", [Problem(path, problem)])


def assign(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `raw` in which each path of `changes` holds the new value.

    The values are checked later, when the table is decoded; None takes the key away.
    Raises ScenarioError where a path leads nowhere.
    """
    root: dict[str, Any] = copy.deepcopy(dict(raw))
    for path, value in changes.items():
        parts = split(path)
        here: Any = root
        for part in parts[:-1]:
            if isinstance(here, list):
                here = _into(here, part, path)
            elif isinstance(here, dict):
                here = here.setdefault(part, {})
            else:
                raise ScenarioError("", [Problem(path, "leads into a value that is no table")])
        last = parts[-1]
        if isinstance(here, list) and isinstance(last, int) and last < len(here):
            here[last] = value
        elif not isinstance(here, dict):
            raise ScenarioError("", [Problem(path, "does not name a key of a table")])
        elif value is None:
            here.pop(last, None)
        else:
            here[last] = value
    return root


def spec_at(cls: type, path: str) -> Spec | None:
    """The declaration of the key at `path`, starting from the part `cls`; None inside laws."""
    spec: Spec | None = None
    item: type | None = cls
    for part in split(path):
        if spec is not None and spec.kind == "tables" and spec.item is item and _selects(part, item):
            continue
        if item is None:
            return None
        found = [field for field in dataclasses.fields(item) if field.name == part]
        if not found:
            return None
        spec = spec_of(found[0])
        item = spec.item
    return spec


def _selects(part: str | int, item: type | None) -> bool:
    """Whether a segment after an array of tables selects one of them."""
    return item is not None and (
        isinstance(part, int) or part not in {field.name for field in dataclasses.fields(item)}
    )


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
