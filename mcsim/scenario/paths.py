"""Key paths such as `fleet[2].jitter.step.alpha`: how problems and `--set` name places.

`link[*].age` means the key of every table of an array.
"""

from __future__ import annotations

import json
import re

from mcsim.errors import Problem, ScenarioError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SEGMENT = re.compile(
    r'(?:("(?:[^"\\]|\\.)*")|([^.\[\]"]+))((?:\[(?:[0-9]{1,9}|\*)\])*)(?:\.|\Z)', re.DOTALL
)

EVERY = -1
"""The number that stands for all tables of an array."""


def join(path: str, inner: str) -> str:
    """The path of what `inner` is inside the table at `path`."""
    return f"{path}.{inner}" if path and inner else path + inner


def quoted(key: str) -> str:
    """A key as it stands in a path: as it is, or between quotation marks where it must be."""
    if _BARE.fullmatch(key):
        return key
    return json.dumps(key, ensure_ascii=not key.isprintable())


def split(path: str) -> list[str | int]:
    """`fleet[2].jitter` as ["fleet", 2, "jitter"]; a key with a dot or bracket is quoted.

    `*`, in brackets or as a key that is not quoted, becomes EVERY.

    Raises ScenarioError, naming the path, where it is none.
    """
    parts: list[str | int] = []
    at = 0
    try:
        while at < len(path):
            match = _SEGMENT.match(path, at)
            if match is None:
                break
            if match[1] is None:
                parts.append(EVERY if match[2] == "*" else match[2])
            else:
                parts.append(json.loads(match[1], strict=False))
            indices = re.findall(r"[0-9]+|\*", match[3])
            parts.extend(EVERY if index == "*" else int(index) for index in indices)
            at = match.end()
    except json.JSONDecodeError:
        parts = []
    if not parts or at < len(path) or path.endswith("."):
        where = path if path.isprintable() else json.dumps(path)
        raise ScenarioError("", [Problem(where, "is not a key path such as fleet[0].count")])
    return parts
