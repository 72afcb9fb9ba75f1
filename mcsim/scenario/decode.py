"""Plain data to typed parts, strictly: every key known, every value of its kind, all at once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from mcsim.errors import Problem, UnitError
from mcsim.fields import Spec, spec_of
from mcsim.laws import LAWS, Law, LawFault
from mcsim.scenario.paths import join, quoted
from mcsim.suggest import did_you_mean
from mcsim.units import Dimension, parse

MAX_TEXT_LENGTH = 1_000

_ANY_NUMBER = Spec("quantity", "")


def specs_of(cls: type) -> dict[str, Spec]:
    """The declarations of a part's or a law's keys."""
    return {field.name: spec_of(field) for field in dataclasses.fields(cls)}


def listing(words: Iterable[str]) -> str:
    """`"ring", "tree" or "auto"`."""
    quoted = [f'"{word}"' for word in words]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def shown(value: object) -> str:
    """A value as its TOML would show it, on one line, cut where it is long."""
    text = written(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def written(value: object) -> str:
    """A value as its TOML would show it, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case Integral():
            # Python refuses to print integers of thousands of digits.
            number = int(value)
            return str(number) if abs(number) < 10**60 else "a number of more than 60 digits"
        case float():
            return repr(float(value))
        case str():
            return f'"{value}"' if value.isprintable() else json.dumps(value)
        case Mapping():
            pairs = (f"{quoted(str(key))} = {written(item)}" for key, item in value.items())
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
        case list() | tuple():
            return f"[{', '.join(written(item) for item in value)}]"
        case dt.date() | dt.time():
            return str(value)
    return repr(value)


def _bound(bound: float | None) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


class Unreadable:
    """Stands for a value that has a problem of its own already."""


UNREADABLE: Any = Unreadable()


class Decoder:
    """Turns tables into parts and collects every problem on the way.

    directory: what relative paths of files start from.
    What has a problem becomes UNREADABLE, and so remains out of later checks; the caller
    raises if `problems` is not empty.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.problems: list[Problem] = []

    def refuse(self, path: str, message: str) -> Any:
        self.problems.append(Problem(path, message))
        return UNREADABLE

    def part(self, cls: type, raw: object, path: str, dimension: Dimension | None = None) -> Any:
        """An instance of the dataclass `cls` from the table `raw`.

        dimension: what "own" stands for among the fields. A part is made and checked even where
        some of its keys are UNREADABLE, a law only if it is whole.
        """
        if not isinstance(raw, Mapping):
            return self.refuse(path, f"must be a table, not {shown(raw)}")
        before = len(self.problems)
        specs = specs_of(cls)
        later: Mapping[str, str] = getattr(cls, "later", {})
        elsewhere: Mapping[str, str] = getattr(cls, "elsewhere", {})
        values: dict[str, Any] = {}
        shapes: dict[str, float] = {}
        for key, value in raw.items():
            here = join(path, quoted(str(key)))
            if key in specs and key != "shapes":
                values[key] = self.value(specs[key], value, here, dimension)
            elif "shapes" in specs and str(key).isidentifier():
                shapes[key] = self.quantity(_ANY_NUMBER, value, here, None)
            elif key in later:
                self.refuse(here, f"({later[key]}) is not available in this version")
            elif key in elsewhere:
                self.refuse(here, elsewhere[key])
            else:
                self.refuse(here, f"unknown key{did_you_mean(str(key), specs)}")
        for field in dataclasses.fields(cls):
            if field.name not in raw and field.default is dataclasses.MISSING:
                values[field.name] = self.refuse(
                    path, f"`{field.name}` is missing ({specs[field.name].doc})"
                )
        if shapes:
            values["shapes"] = tuple(sorted(shapes.items()))
        is_law = issubclass(cls, Law)
        if is_law and len(self.problems) > before:
            return UNREADABLE
        made = cls(**values)
        for key, message in made.faults():
            self.refuse(join(path, key), message)
        return UNREADABLE if is_law and len(self.problems) > before else made

    def value(self, spec: Spec, raw: object, path: str, own: Dimension | None) -> Any:
        """One key's value, checked against its declaration."""
        dimension = own if spec.dimension == "own" else spec.dimension
        match spec.kind:
            case "integer":
                return self.integer(spec, raw, path)
            case "quantity":
                return self.quantity(spec, raw, path, dimension)
            case "text":
                return self.text(raw, path)
            case "choice":
                return self.choice(spec, raw, path)
            case "names":
                return self.names(spec, raw, path)
            case "numbers":
                return self.numbers(raw, path, dimension)
            case "table" if spec.item is None:
                return self.law(raw, path, dimension)
            case "table":
                return self.table(spec, raw, path)
            case "tables":
                return self.tables(spec, raw, path, dimension)

    def integer(self, spec: Spec, raw: object, path: str) -> Any:
        if isinstance(raw, bool) or not isinstance(raw, Integral):
            whole = isinstance(raw, float) and math.isfinite(raw) and raw == int(raw)
            hint = f"; write {int(raw)}" if whole else ""  # type: ignore[call-overload]
            return self.refuse(path, f"{shown(raw)} must be a whole number{hint}")
        number = int(raw)
        return number if self.within(spec, number, path, raw) else UNREADABLE

    def quantity(self, spec: Spec, raw: object, path: str, dimension: Dimension | None) -> Any:
        try:
            number = parse(raw, dimension)
        except UnitError as error:
            return self.refuse(path, str(error))
        return number if self.within(spec, number, path, raw) else UNREADABLE

    def within(self, spec: Spec, number: float, path: str, raw: object) -> bool:
        bounds = [
            (spec.above is None or number > spec.above, f"above {_bound(spec.above)}"),
            (spec.at_least is None or number >= spec.at_least, f"at least {_bound(spec.at_least)}"),
            (spec.below is None or number < spec.below, f"below {_bound(spec.below)}"),
            (spec.at_most is None or number <= spec.at_most, f"at most {_bound(spec.at_most)}"),
        ]
        broken = [bound for holds, bound in bounds if not holds]
        if broken:
            because = f", {spec.reason}" if spec.reason else ""
            self.refuse(path, f"{shown(raw)} must be {' and '.join(broken)}{because}")
        return not broken

    def text(self, raw: object, path: str) -> Any:
        if not isinstance(raw, str):
            return self.refuse(path, f"{shown(raw)} must be text")
        if not raw.strip():
            return self.refuse(path, "must not be empty")
        if len(raw) > MAX_TEXT_LENGTH:
            return self.refuse(path, f"{shown(raw)} is longer than {MAX_TEXT_LENGTH} characters")
        if not raw.isprintable():
            return self.refuse(path, f"{shown(raw)} has characters that cannot be printed")
        return raw

    def choice(self, spec: Spec, raw: object, path: str) -> Any:
        if isinstance(raw, str) and raw in spec.choices:
            return raw
        near = did_you_mean(raw, spec.choices) if isinstance(raw, str) else ""
        return self.refuse(path, f"{shown(raw)} must be {listing(spec.choices)}{near}")

    def names(self, spec: Spec, raw: object, path: str) -> Any:
        if not isinstance(raw, list | tuple) or len(raw) != (spec.length or len(raw)):
            many = "" if spec.length is None else f"{spec.length} "
            return self.refuse(path, f"{shown(raw)} must be a list of {many}names")
        return tuple(self.text(item, f"{path}[{index}]") for index, item in enumerate(raw))

    def numbers(self, raw: object, path: str, dimension: Dimension | None) -> Any:
        if not isinstance(raw, list | tuple) or not raw:
            return self.refuse(path, f"{shown(raw)} must be a list of numbers")
        return tuple(
            self.quantity(_ANY_NUMBER, item, f"{path}[{index}]", dimension)
            for index, item in enumerate(raw)
        )

    def table(self, spec: Spec, raw: object, path: str) -> Any:
        """A part; None where it says no more than an absent table."""
        assert spec.item is not None
        made = self.part(spec.item, raw, path)
        silent = made is not UNREADABLE and all(value is None for value in vars(made).values())
        return None if silent else made

    def tables(self, spec: Spec, raw: object, path: str, own: Dimension | None) -> Any:
        if isinstance(raw, Mapping):
            return self.refuse(path, f"must be an array of tables: write [[{path}]]")
        if not isinstance(raw, list | tuple) or not raw:
            return self.refuse(path, f"must be one or more tables, not {shown(raw)}")
        assert spec.item is not None
        return tuple(
            self.part(spec.item, item, f"{path}[{index}]")
            if spec.dimension is None
            else self.weighted_law(spec.item, item, f"{path}[{index}]", own)
            for index, item in enumerate(raw)
        )

    def law(self, raw: object, path: str, dimension: Dimension | None) -> Any:
        """A law with its files read in; `dimension` is that of its values."""
        if not isinstance(raw, Mapping):
            example = '{ law = "lognormal", mean = 1, cv = 0.02 }'
            return self.refuse(path, f"must be a law such as {example}, not {shown(raw)}")
        name = raw.get("law")
        if not isinstance(name, str) or name not in LAWS:
            what = "`law` is missing" if name is None else f"unknown law {shown(name)}"
            near = did_you_mean(name, LAWS) if isinstance(name, str) else ""
            there = ", ".join(sorted(LAWS))
            where = path if name is None else join(path, "law")
            return self.refuse(where, f"{what}{near}; there are {there}")
        parameters = {key: value for key, value in raw.items() if key != "law"}
        law = self.part(LAWS[name], parameters, path, dimension)
        if law is UNREADABLE:
            return law
        try:
            return law.resolved(self.directory, dimension)
        except LawFault as fault:
            return self.refuse(join(path, fault.key), fault.message)

    def weighted_law(self, cls: type, raw: object, path: str, dimension: Dimension | None) -> Any:
        """A law whose table also holds the `weight` that it has among others."""
        if not isinstance(raw, Mapping):
            return self.refuse(path, f"must be a law with a weight, not {shown(raw)}")
        spec = specs_of(cls)["weight"]
        if "weight" not in raw:
            self.refuse(path, f"`weight` is missing ({spec.doc})")
        law = self.law({k: v for k, v in raw.items() if k != "weight"}, path, dimension)
        weight = self.quantity(spec, raw.get("weight", 1.0), join(path, "weight"), None)
        return cls(weight=weight, law=law)
