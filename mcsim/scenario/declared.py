"""What a key of a scenario holds and measures, also where it is inside a law."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from mcsim.fields import Kind
from mcsim.laws import Law
from mcsim.laws.mixture import WeightedLaw
from mcsim.scenario.decode import specs_of
from mcsim.scenario.paths import EVERY, split
from mcsim.scenario.scenario import Scenario
from mcsim.units import Dimension


class Declared(NamedTuple):
    """A key: its value, and what its declaration says of it."""

    value: Any
    kind: Kind
    dimension: Dimension | None
    doc: str


def declared(scenario: Scenario, path: str) -> Declared:
    """The key at a path that the scenario has; of `[*]` that of the first table.

    What a declaration calls "own", a law's parameter, measures what the law is used for.
    Raises KeyError where there is no such key, as inside a table that says nothing.
    """
    here: Any = scenario
    kind: Kind = "table"
    own: Dimension | None = None
    dimension: Dimension | None = None
    doc = ""
    for part in split(path):
        if isinstance(here, tuple):
            here = here[_number(here, part)]
            continue
        if isinstance(here, WeightedLaw) and part != "weight":
            here = here.law
        if not dataclasses.is_dataclass(here) or isinstance(here, type):
            raise KeyError(path)
        spec = specs_of(type(here)).get(str(part))
        if spec is None or part == "shapes":
            here = dict(getattr(here, "shapes", ()))[str(part)]
            kind, dimension, doc = "quantity", None, f"shape parameter {part}"
            continue
        kind, doc = spec.kind, spec.doc
        dimension = own if spec.dimension == "own" else spec.dimension
        here = getattr(here, str(part))
        if isinstance(here, Law):
            own = dimension
    return Declared(here, kind, dimension, doc)


def _number(tables: tuple[Any, ...], part: str | int) -> int:
    if part == EVERY:
        return 0
    names = [getattr(table, "name", None) for table in tables]
    return names.index(part) if part in names else int(part)
