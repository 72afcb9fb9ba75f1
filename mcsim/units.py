"""Quantities as people write them, "50 us", "400 Gb/s", "16 km", and the same in SI."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from numbers import Real
from types import MappingProxyType
from typing import Literal, NamedTuple

from mcsim.errors import UnitError

Dimension = Literal["time", "length", "data", "rate"]
"""What a quantity measures; None, where it is allowed, stands for a pure number."""

SI_UNIT: Mapping[Dimension, str] = MappingProxyType(
    {"time": "s", "length": "m", "data": "B", "rate": "B/s"}
)
"""The unit of every value inside mcsim. Data counts in bytes, which are not SI but as fixed."""


class _About(NamedTuple):
    noun: str
    units: str
    example: str


_ABOUT: Mapping[Dimension | None, _About] = {
    None: _About("a pure number", "without a unit, or in %", "0.5"),
    "time": _About("a time", "in ns, us, ms, s, min, h, d or yr", "2.5 s"),
    "length": _About("a length", "in m, km, ft or mi", "16 km"),
    "data": _About("an amount of data", "in B, kB, MB, GB, TB, GiB ..., or Gb for bits", "628 GB"),
    "rate": _About("a data rate", "in MB/s, GB/s ..., or Gb/s for bits", "400 Gb/s"),
}

_TIMES = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "\u00b5s": Fraction(1, 10**6),  # the micro sign
    "\u03bcs": Fraction(1, 10**6),  # the Greek letter, which looks the same
    "ms": Fraction(1, 10**3),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
    **dict.fromkeys(("d", "day", "days"), Fraction(86400)),
    **dict.fromkeys(("yr", "year", "years"), Fraction(31_557_600)),  # Julian: 365.25 days
}
_LENGTHS = {
    "m": Fraction(1),
    "km": Fraction(1000),
    "ft": Fraction(3048, 10**4),
    "mi": Fraction(1609344, 1000),
}
_DATA = {
    prefix + unit: multiple * size
    for prefix, multiple in (
        ("", 1),
        *((letter, 1000**power) for power, letter in enumerate("kMGTP", start=1)),
        *((letter + "i", 1024**power) for power, letter in enumerate("KMGTP", start=1)),
    )
    for unit, size in (("B", Fraction(1)), ("b", Fraction(1, 8)))
}
_RATES = {unit + per: factor for per in ("/s", "ps") for unit, factor in _DATA.items()}

_FACTORS: Mapping[Dimension | None, Mapping[str, Fraction]] = {
    None: {"%": Fraction(1, 100)},
    "time": _TIMES,
    "length": _LENGTHS,
    "data": _DATA,
    "rate": _RATES,
}

_SHOWN: Mapping[Dimension, tuple[str, ...]] = {
    "time": ("d", "h", "min", "s", "ms", "us", "ns"),
    "length": ("km", "m"),
    "data": ("PB", "TB", "GB", "MB", "kB", "B"),
    "rate": ("PB/s", "TB/s", "GB/s", "MB/s", "kB/s", "B/s"),
}

_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]+(?:_[0-9]+)*\.?(?:[0-9]+(?:_[0-9]+)*)?|\.[0-9]+(?:_[0-9]+)*))"
    r"(?:[eE]([+-]?[0-9]+))?"
    r"\s*(.*)",
    re.DOTALL,
)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf)(inity)?\b", re.IGNORECASE)

_LONGEST = 100
_EXTREME = 1000
"""Beyond this exponent a number of at most 100 characters is out of range, whatever its unit."""

_SPELLINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), unit)
    for pattern, unit in (
        (r"nano", "n"),
        (r"micro", "u"),
        (r"milli", "m"),
        (r"kilo", "k"),
        (r"mega", "M"),
        (r"giga", "G"),
        (r"tera", "T"),
        (r"bits?", "b"),
        (r"bytes?", "B"),
        (r"sec(ond)?s?", "s"),
        (r"min(ute)?s?", "min"),
        (r"h(ou)?rs?", "h"),
        (r"days?", "d"),
        (r"met(er|re)s?", "m"),
        (r"miles?", "mi"),
        (r"feet|foot", "ft"),
        (r"per ?cent", "%"),
    )
)


def parse(value: object, dimension: Dimension | None) -> float:
    """A bare number is in SI; text is a number and a unit, and its value is correctly rounded.

    value: a real number (not a boolean), or text such as "50 us", "1_000 ns", "400 Gb/s" (bits),
        "400 GB/s" (bytes), "16 km", "80 GiB", "3 h"; for a pure number "0.05" or "5 %".
    dimension: what is wanted; None for a pure number.
    Result: finite, in SI_UNIT[dimension].
    Raises UnitError, with a message of one line that quotes the value.

    Units distinguish upper and lower case: b is a bit and B a byte, m a metre and M a million.
    """
    if isinstance(value, str):
        return _read(value, dimension)
    about = _ABOUT[dimension]
    if isinstance(value, bool) or not isinstance(value, Real):
        given = str(value).lower() if isinstance(value, bool) else f"a {type(value).__name__}"
        raise UnitError(f"{given} is not {about.noun}; write for example {_form(dimension)}")
    try:
        number = float(value)
    except OverflowError:
        raise UnitError("the number is too large: above 1.8e308") from None
    if not math.isfinite(number):
        raise UnitError(f"{number} is not finite")
    return number


def show(value: float, dimension: Dimension | None) -> str:
    """Three digits in the largest unit that leaves at least one whole: "79 us", "16.1 km".

    value: in SI_UNIT[dimension]. Result: text that `parse` reads back, if the value is finite.
    """
    if dimension is None:
        return _digits(value)
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {SI_UNIT[dimension]}"
    factors = _FACTORS[dimension]
    scaled = {unit: value / float(factors[unit]) for unit in _SHOWN[dimension]}
    # Rounded first, so that 999.9 us becomes 1 ms and not 1000 us.
    whole = (unit for unit, number in scaled.items() if float(f"{abs(number):.3g}") >= 1)
    unit = next(whole, _SHOWN[dimension][-1])
    return f"{_digits(scaled[unit])} {unit}"


def _digits(number: float) -> str:
    """Three significant digits, and all that stand before the point of a number below a million."""
    return f"{number:.0f}" if 999.5 <= abs(number) < 999_999.5 else f"{number:.3g}"


def _read(text: str, dimension: Dimension | None) -> float:
    if len(text) > _LONGEST:
        start = _quoted(text[:20] + "...")
        raise UnitError(f"{start} has {len(text)} characters; a quantity has at most {_LONGEST}")
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        if _NOT_FINITE.match(text.strip()):
            raise UnitError(f"{_quoted(text)} is not finite")
        raise UnitError(
            f"{_quoted(text)} does not begin with a number; write for example {_form(dimension)}"
        )
    mantissa, exponent, unit = match.groups()
    power = max(-_EXTREME, min(_EXTREME, int(exponent or 0)))
    number = Fraction(mantissa.replace("_", "")) * Fraction(10) ** power
    factor = _factor(text, text.strip().removesuffix(unit).strip(), unit, dimension)
    try:
        value = float(number * factor)
    except OverflowError:
        raise UnitError(f"{_quoted(text)} is too large: above 1.8e308 in SI") from None
    if value == 0 and number != 0:
        raise UnitError(f"{_quoted(text)} is too small: below 5e-324 in SI")
    return value


def _factor(text: str, number: str, unit: str, dimension: Dimension | None) -> Fraction:
    """What one `unit` is in SI; everything that can be wrong with it ends here."""
    known = _FACTORS[dimension].get(unit)
    if known is not None:
        return known
    if not unit:
        if dimension is None:
            return Fraction(1)
        si = SI_UNIT[dimension]
        raise UnitError(
            f'{_quoted(text)} has no unit; write "{number} {si}" or the bare number {number} '
            f"(in {si})"
        )
    if unit.startswith(","):
        raise UnitError(f"{_quoted(text)} has a comma; write fractions with a point, 1000 as 1_000")
    noun, units, _ = _ABOUT[dimension]
    guess = _meant(unit, dimension)
    other = next((kind for kind, factors in _FACTORS.items() if unit in factors), dimension)
    if other != dimension:
        problem = f"{_quoted(text)} is {_ABOUT[other].noun}, where {noun} is wanted"
    elif dimension is None:
        problem = f"{_quoted(text)} is not {noun}"
    else:
        problem = f"{_quoted(text)} has the unknown unit {_quoted(unit)}"
        guess = guess or next(iter(difflib.get_close_matches(unit, _FACTORS[dimension], n=1)), None)
    if guess is None:
        raise UnitError(f"{problem}; write {noun} {units}")
    raise UnitError(f'{problem}; did you mean "{number} {guess}"?')


def _meant(unit: str, dimension: Dimension | None) -> str | None:
    """The unit of the dimension that another spelling or other capitals stand for, if any."""
    factors = _FACTORS[dimension]
    spelled = unit
    for pattern, short in _SPELLINGS:
        spelled = pattern.sub(short, spelled)
    for guess in (spelled, spelled + "/s"):
        alike = [known for known in factors if known.casefold() == guess.casefold()]
        if alike:
            return max(alike, key=partial(_in_common, guess))
    return None


def _in_common(one: str, other: str) -> int:
    """In how many places two texts agree: "KB" is nearer to kB than to kb."""
    return sum(a == b for a, b in zip(one, other, strict=False))


def _form(dimension: Dimension | None) -> str:
    example = _ABOUT[dimension].example
    return example if dimension is None else f'"{example}" or a number in {SI_UNIT[dimension]}'


def _quoted(text: str) -> str:
    """The text between quotation marks, on one line."""
    return f'"{text}"' if text.isprintable() else repr(text)
