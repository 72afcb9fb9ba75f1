"""What a scenario's keys may hold, declared where each key is defined.

A part of a scenario (a run, a site, a law ...) is a frozen dataclass; each of its fields is made
by one of the functions below and carries a `Spec`. Reading, checking, printing and documenting a
scenario all follow these declarations: a new key is one line in one place.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from mcsim.units import Dimension

Kind = Literal["integer", "quantity", "text", "choice", "names", "numbers", "table", "tables"]

REQUIRED: Any = dataclasses.MISSING


@dataclass(frozen=True)
class Spec:
    """What one key may hold.

    dimension: of a quantity or of numbers; "own" stands for the dimension of the place where the
        law is used (a factor, or a time), and None for a pure number.
    above, at_least, below, at_most: the bounds, in SI units.
    reason: why a bound is there, shown when it is broken.
    item: the dataclass of a table, or of each of several tables (None: a law).
    """

    kind: Kind
    doc: str
    dimension: Dimension | Literal["own"] | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    reason: str = ""
    choices: tuple[str, ...] = ()
    item: type | None = None
    length: int | None = None


def spec_of(field: dataclasses.Field[Any]) -> Spec:
    """The declaration that a field carries."""
    spec: Spec = field.metadata["spec"]
    return spec


def _field(spec: Spec, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"spec": spec})


def integer(
    doc: str, *, default: Any = REQUIRED, at_least: int, at_most: int, reason: str = ""
) -> Any:
    """A whole number within bounds; true, 1.0 and "1" are not one."""
    spec = Spec("integer", doc, at_least=at_least, at_most=at_most, reason=reason)
    return _field(spec, default)


def quantity(
    doc: str,
    dimension: Dimension | Literal["own"] | None,
    *,
    default: Any = REQUIRED,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    reason: str = "",
) -> Any:
    """A finite real number, given as SI or as text with a unit."""
    return _field(
        Spec(
            "quantity",
            doc,
            dimension=dimension,
            above=above,
            at_least=at_least,
            below=below,
            at_most=at_most,
            reason=reason,
        ),
        default,
    )


def text(doc: str, *, default: Any = REQUIRED) -> Any:
    """Any text that is not empty."""
    return _field(Spec("text", doc), default)


def choice(doc: str, choices: tuple[str, ...], *, default: Any = REQUIRED) -> Any:
    """One of a few words."""
    return _field(Spec("choice", doc, choices=choices), default)


def names(doc: str, *, length: int | None = None, default: Any = REQUIRED) -> Any:
    """Names, so many or any number of them, kept as a tuple."""
    return _field(Spec("names", doc, length=length), default)


def numbers(
    doc: str, dimension: Dimension | Literal["own"] | None, *, default: Any = REQUIRED
) -> Any:
    """A list of finite numbers, kept as a tuple of floats."""
    return _field(Spec("numbers", doc, dimension=dimension), default)


def table(doc: str, item: type, *, default: Any = REQUIRED) -> Any:
    """A table of keys of its own."""
    return _field(Spec("table", doc, item=item), default)


def tables(doc: str, item: type, *, default: Any = REQUIRED) -> Any:
    """An array of tables, kept as a tuple."""
    return _field(Spec("tables", doc, item=item), default)


def law(doc: str, dimension: Dimension | None, *, default: Any = None) -> Any:
    """A probability law whose values have the given dimension (None: a factor)."""
    return _field(Spec("table", doc, dimension=dimension), default)


def laws(doc: str, item: type, *, default: Any = REQUIRED) -> Any:
    """Several weighted laws of the same dimension as the law that holds them."""
    return _field(Spec("tables", doc, dimension="own", item=item), default)
