"""What all tables of a scenario have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import ClassVar

MAX_COUNT = 2**31 - 1

SHORTEST, LONGEST = 1e-15, 1e15
"""Bounds of times of compute, s; what is beyond them is a slip of units."""


class Part:
    """One table of a scenario. Subclasses are frozen dataclasses with fields from mcsim.fields."""

    later: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Keys of the design that this version does not know yet, and what they are for."""
    elsewhere: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Keys that stand in another table, and why."""

    def faults(self) -> Iterable[tuple[str, str]]:
        """What is wrong with the keys taken together, as (key, message).

        Any key may be UNREADABLE and then has a problem already; the others are still checked,
        so that all problems come out at once.
        """
        return ()
