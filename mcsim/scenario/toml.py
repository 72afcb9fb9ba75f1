"""The canonical text of a scenario: fixed order, SI numbers, nothing left to defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def _text(value: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _scalar(value: object) -> str:
    match value:
        case str():
            return _text(value)
        case bool():
            return "true" if value else "false"
        case int():
            return repr(value)
        case float():
            # -0.0 equals 0.0, so it is printed alike.
            return repr(value + 0.0)
        case list() | tuple():
            return f"[{', '.join(_scalar(item) for item in value)}]"
    raise TypeError(f"no TOML for {value!r}")


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def _lines(table: Mapping[str, Any], path: str) -> list[str]:
    lines = [
        f"{key} = {_scalar(value)}"
        for key, value in table.items()
        if not isinstance(value, Mapping) and not _is_tables(value)
    ]
    for key, value in table.items():
        inner = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            # A table that only holds tables needs no header of its own.
            header = [] if value and all(map(_holds_tables, value.values())) else [f"[{inner}]"]
            lines += [*([""] if header else []), *header, *_lines(value, inner)]
        elif _is_tables(value):
            for item in value:
                lines += ["", f"[[{inner}]]", *_lines(item, inner)]
    return lines


def _holds_tables(value: object) -> bool:
    return isinstance(value, Mapping) or _is_tables(value)


def dumps(table: Mapping[str, Any]) -> str:
    """The table as TOML text; scalars first, then tables, each in the order of `table`.

    Keys are those of the schema and need no quotes. Floats are printed with all their digits,
    so that reading the text gives the same table.
    """
    return "\n".join(_lines(table, "")) + "\n"
