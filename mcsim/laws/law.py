"""What a probability law is: its quantile function, taken at the survival probability."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from mcsim.errors import McsimError
from mcsim.units import Dimension

FloatArray = NDArray[np.float64]


class LawFault(McsimError, ValueError):  # noqa: N818 - it reads as what it is
    """A law's parameter is wrong. `key` names it, relative to the law."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        self.message = message
        super().__init__(f"{key}: {message}" if key else message)


class Law(ABC):
    """A distribution of a factor or of a time.

    A law is a frozen dataclass whose fields are its parameters, as the scenario names them.
    Everything is a function of the *survival* probability s = P(X > x), so that the upper tail,
    where stragglers live, keeps all its digits: s = 2^-64 is as exact as s = 0.5.
    """

    name: ClassVar[str]
    """As the scenario calls it. To be asked of the class, `type(law).name`: an instance of the
    law `scipy` has a parameter of that name."""
    source: ClassVar[str]
    """Where the formulas come from."""
    forms: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """The sets of parameters that determine the law, where there is more than one."""
    takes_any_number: ClassVar[bool] = False
    """Whether keys that are not fields are collected as numbers into the field `shapes`."""

    @abstractmethod
    def quantile(self, survival: FloatArray) -> FloatArray:
        """The value exceeded with probability `survival`, never increasing in it.

        survival: any shape, each in (0, 1). Result: the same shape.
        Accurate to 1e-12 relative from 1 - 2^-53 down to 2^-65.
        """

    @abstractmethod
    def survival(self, x: FloatArray) -> FloatArray:
        """P(X > x); any shape."""

    def distribution(self, x: FloatArray) -> FloatArray:
        """P(X <= x); any shape. A law that can keeps the digits of its lower tail here."""
        return 1.0 - self.survival(x)

    @abstractmethod
    def expectation(self) -> float:
        """The mean; infinite or not a number where there is none."""

    @abstractmethod
    def variance(self) -> float:
        """The variance; infinite or not a number where there is none."""

    def jumps(self) -> FloatArray:
        """Survival probabilities at which the quantile function jumps or has a kink."""
        return np.empty(0)

    def knots(self) -> FloatArray:
        """Values that have a probability of their own, and finite ends of the support."""
        return np.empty(0)

    def faults(self) -> Iterable[tuple[str, str]]:
        """What is wrong with the parameters taken together, as (key, message).

        Here: not exactly one of the `forms` is given, or not the whole of it.
        """
        keys = {key for form in self.forms for key in form}
        given = {key for key in keys if getattr(self, key) is not None}
        if self.forms and not any(given == set(form) for form in self.forms):
            wanted = ", or ".join(" and ".join(form) for form in self.forms)
            have = ", ".join(f"`{key}`" for key in sorted(given)) or "none of them"
            yield "", f"a {type(self).name} law takes either {wanted}; given: {have}"

    def resolved(self, directory: Path, dimension: Dimension | None) -> Law:
        """The law with all that it needs from files and catalogues read in.

        directory: what relative paths start from; dimension: of the law's values.
        Raises LawFault.
        """
        return self


def as_array(numbers: FloatArray) -> FloatArray:
    """As float64, one after the other in memory, of the same shape.

    NumPy's log, exp and power of a strided array differ in the last bit from those of a compact
    one; a law must give the same bits for the same number wherever it stands.
    """
    return np.asarray(numbers, dtype=np.float64, order="C")


LawType = TypeVar("LawType", bound=type[Law])

_registry: dict[str, type[Law]] = {}

LAWS: Mapping[str, type[Law]] = MappingProxyType(_registry)
"""Every law by its name in a scenario."""


def law(name: str, *, source: str) -> Callable[[LawType], LawType]:
    """Make a law known under `name`."""

    def register(cls: LawType) -> LawType:
        cls.name = name
        cls.source = source
        _registry[name] = cls
        return cls

    return register
