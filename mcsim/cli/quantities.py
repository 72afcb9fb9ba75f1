"""Quantities as options of commands: "1 GB", "5us", and levels of a network."""

from __future__ import annotations

import math
from collections.abc import Callable

import click

from mcsim.errors import UnitError
from mcsim.units import Dimension, parse

MOST_RANKS = 2**31 - 1

_LEVEL = "RANKS,LATENCY,BANDWIDTH, as in 8,1us,450GB/s"


def quantity(
    dimension: Dimension,
) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """The callback of an option that is a quantity; a bare number is SI."""

    def callback(
        context: click.Context, parameter: click.Parameter, given: str | None
    ) -> float | None:
        return None if given is None else _quantity(given, dimension)

    return callback


def finite(context: click.Context, parameter: click.Parameter, given: float | None) -> float | None:
    """The callback of an option that is a number, of which "nan" and "inf" are none."""
    if given is not None and not math.isfinite(given):
        raise click.BadParameter(f"{given} is no number of seconds")
    return given


def ranks(context: click.Context, parameter: click.Parameter, given: str | None) -> int | None:
    """The callback of an option that is a number of ranks."""
    return None if given is None else _ranks(given)


def levels(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> list[tuple[int, float, float]]:
    """The callback of an option that is a level, and may be repeated."""
    found = []
    for one in given:
        fields = [field.strip() for field in one.split(",")]
        if len(fields) != 3:
            number = "one field" if len(fields) == 1 else f"{len(fields)} fields"
            raise click.BadParameter(f'"{one}" has {number}; write {_LEVEL}')
        try:
            latency, bandwidth = _quantity(fields[1], "time"), _quantity(fields[2], "rate")
            found.append((_ranks(fields[0]), latency, bandwidth))
        except click.BadParameter as error:
            raise click.BadParameter(f'"{one}" is not {_LEVEL}: {error.message}') from None
    return found


def _quantity(text: str, dimension: Dimension) -> float:
    try:
        bare: str | float = float(text)
    except ValueError:
        bare = text
    try:
        value = parse(bare, dimension)
    except UnitError as error:
        raise click.BadParameter(str(error)) from None
    if value < 0.0 or (value == 0.0 and dimension == "rate"):
        bound = "above 0" if dimension == "rate" else "at least 0"
        raise click.BadParameter(f'"{text}" must be {bound}')
    return value


def _ranks(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        raise click.BadParameter(f'"{text}" is not a whole number of ranks') from None
    if not 1 <= count <= MOST_RANKS:
        raise click.BadParameter(f"{text} ranks: must be from 1 to {MOST_RANKS:,}")
    return count
