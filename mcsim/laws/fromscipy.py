"""Any continuous distribution of scipy.stats. See Also: its own documentation.

scipy.stats is imported when such a law is first used, since it takes half a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from mcsim import fields
from mcsim.laws.law import FloatArray, Law, LawFault, as_array, law
from mcsim.suggest import did_you_mean

DEEPEST = 2.0**-65
"""The survival down to which a law must know its tail."""


@law("scipy", source="scipy.stats")
@dataclass(frozen=True)
class FromSciPy(Law):
    """A continuous distribution of scipy.stats, by its name there.

    Its shape parameters stand beside `name` under their own names. The quantile is as accurate as
    SciPy's own functions. Where SciPy only has the survival function, it is inverted here; where
    it has not even that, and the tail has no end, the law is refused.
    """

    takes_any_number: ClassVar[bool] = True

    # Hides the class's own `name`, as Law.name says.
    name: str = fields.text("of the distribution in scipy.stats")  # type: ignore[misc]
    shapes: tuple[tuple[str, float], ...] = fields.numbers(
        "shape parameters under their own names", None, default=()
    )
    loc: float = fields.quantity("added to every value", "own", default=0.0)
    scale: float = fields.quantity("multiplies every value", "own", default=1.0, above=0.0)

    def quantile(self, survival: FloatArray) -> FloatArray:
        survival = as_array(survival)
        upper = survival < 0.5
        x = np.empty_like(survival)
        with _quiet():
            # 1 - s is exact from 1/2 up, and there ppf has more digits than isf.
            x[~upper] = self._scipy.ppf(1.0 - survival[~upper], *self._arguments)
            x[upper] = self._upper(survival[upper])
            # Rounding must not let the upper half dip below the lower.
            middle = self._scipy.ppf(0.5, *self._arguments)
        x[upper] = np.maximum(x[upper], middle)
        return self.loc + self.scale * x

    def survival(self, x: FloatArray) -> FloatArray:
        with _quiet():
            return np.asarray(self._scipy.sf(self._standard(x), *self._arguments))

    def distribution(self, x: FloatArray) -> FloatArray:
        with _quiet():
            return np.asarray(self._scipy.cdf(self._standard(x), *self._arguments))

    def expectation(self) -> float:
        with _quiet():
            return self.loc + self.scale * float(self._scipy.mean(*self._arguments))

    def variance(self) -> float:
        with _quiet():
            return self.scale * self.scale * float(self._scipy.var(*self._arguments))

    def knots(self) -> FloatArray:
        ends = self.loc + self.scale * np.array(self._support)
        return ends[np.isfinite(ends)]

    def faults(self) -> Iterable[tuple[str, str]]:
        wrong = list(self._name_faults()) or list(self._shape_faults())
        if wrong:
            yield from wrong
        elif not self._knows_its_tail:
            yield (
                "name",
                f"SciPy has no survival function of its own for {self.name}, so that nothing is "
                "known of its tail beyond 1e-16",
            )
        elif not self._is_orderly:
            yield (
                "name",
                f"SciPy's quantiles of {self.name} are infinite or out of order near the ends",
            )
        elif not np.isfinite(self.expectation()):
            yield "", f"this {self.name} law has no finite mean"

    def _name_faults(self) -> Iterable[tuple[str, str]]:
        from scipy import stats

        found = getattr(stats, self.name, None)
        if isinstance(found, stats.rv_discrete):
            yield (
                "name",
                f"{self.name} is discrete, and only continuous distributions are taken; "
                "a mixture of constants gives single values",
            )
        elif not isinstance(found, stats.rv_continuous):
            known = [key for key, value in vars(stats).items() if _is_continuous(value)]
            yield (
                "name",
                f'scipy.stats has no distribution "{self.name}"{did_you_mean(self.name, known)}',
            )

    def _shape_faults(self) -> Iterable[tuple[str, str]]:
        wanted = self._shape_names
        which = f"{self.name} takes {' and '.join(wanted) or 'no shape parameters'}"
        given = dict(self.shapes)
        for key in given:
            if key not in wanted:
                yield key, f"unknown{did_you_mean(key, wanted)}; {which}"
        missing = [key for key in wanted if key not in given]
        if missing:
            yield "", f"`{'`, `'.join(missing)}` missing; {which}"
        elif set(given) == set(wanted) and np.isnan(self._support).any():
            said = ", ".join(f"{key} = {value:g}" for key, value in self.shapes)
            yield wanted[0] if len(wanted) == 1 else "", f"{self.name} does not allow {said}"

    @cached_property
    def _scipy(self) -> Any:
        """The distribution, as scipy.stats has it."""
        from scipy import stats

        for key, message in self._name_faults():
            raise LawFault(key, message)
        return getattr(stats, self.name)

    @cached_property
    def _shape_names(self) -> tuple[str, ...]:
        names = self._scipy.shapes
        return () if names is None else tuple(name.strip() for name in names.split(","))

    @cached_property
    def _arguments(self) -> tuple[float, ...]:
        given = dict(self.shapes)
        if set(given) != set(self._shape_names):
            for key, message in self._shape_faults():
                raise LawFault(key, message)
        return tuple(given[name] for name in self._shape_names)

    @cached_property
    def _support(self) -> tuple[float, float]:
        """The smallest and the largest value of the standard law; nan where there is no law."""
        with _quiet():
            low, high = self._scipy.support(*self._arguments)
        return float(low), float(high)

    def _has(self, method: str) -> bool:
        """Whether the distribution brings this method itself; the general ones lose the tail."""
        from scipy import stats

        return getattr(type(self._scipy), method) is not getattr(stats.rv_continuous, method)

    @cached_property
    def _has_sharp_survival(self) -> bool:
        """Whether sf keeps its digits in the tail; that of burr and fisk does not."""
        if not (self._has("_sf") or self._has("_logsf")):
            return False
        with _quiet():
            x = self._inverse_survival(np.array([DEEPEST]))[0]
            around = self._scipy.logsf(x * np.array([1 - 1e-6, 1 + 1e-6]), *self._arguments)
        return bool(max(around) >= np.log(DEEPEST) >= min(around) > -np.inf)

    @cached_property
    def _has_inverse(self) -> bool:
        """Whether isf reaches into the tail."""
        with _quiet():
            deepest = self._scipy.isf(DEEPEST, *self._arguments)
        return self._has("_isf") and bool(np.isfinite(deepest))

    @cached_property
    def _knows_its_tail(self) -> bool:
        ends = bool(np.isfinite(self._support[1]))
        return ends or self._has_sharp_survival or self._has_inverse

    @cached_property
    def _is_orderly(self) -> bool:
        """Whether the quantile stays finite and in order; gausshyper's integrals do not."""
        powers = np.arange(1.0, 66.0, 4.0)
        x = self.quantile(np.concatenate([2.0 ** -powers[::-1], 1.0 - 2.0 ** -powers[1:14]]))
        return bool(np.isfinite(x).all() and (np.diff(x) <= 1e-12 * np.abs(x[1:])).all())

    def _upper(self, survival: FloatArray) -> FloatArray:
        """The quantile of the standard law for survival below 1/2."""
        if self._has_sharp_survival:
            return self._polished(survival)
        if self._has_inverse:
            return np.asarray(self._scipy.isf(survival, *self._arguments))
        # The tail has an end, which bounds the error.
        if self._has("_sf") or self._has("_logsf"):
            return self._inverse_survival(survival)
        return np.asarray(self._scipy.ppf(1.0 - survival, *self._arguments))

    def _polished(self, survival: FloatArray) -> FloatArray:
        """As isf has it, but never away from sf: that of invgauss was seen off by 3e-10."""
        if not self._has("_isf"):
            return self._inverse_survival(survival)
        x = np.asarray(self._scipy.isf(survival, *self._arguments))
        error = self._scipy.sf(x, *self._arguments) - survival
        step = error / self._scipy.pdf(x, *self._arguments)
        near = np.abs(step) < 1e-9 * np.abs(x)
        x = np.where(near, x + step, x)
        if not near.all():
            x[~near] = self._inverse_survival(survival[~near])
        return x

    def _inverse_survival(self, survival: FloatArray) -> FloatArray:
        from scipy.optimize.elementwise import find_root

        def excess(x: FloatArray, level: FloatArray) -> FloatArray:
            return np.asarray(np.maximum(self._scipy.logsf(x, *self._arguments), -1e3) - level)

        level = np.log(survival)
        median, quartile = self._scipy.ppf([0.5, 0.75], *self._arguments)
        low = np.full(survival.shape, median)
        width = np.full(survival.shape, quartile - median)
        # From 1/4 on in doubling strides; no float is 1100 doublings away from another.
        for _ in range(1100):
            high = np.minimum(median + width, self._support[1])
            short = (excess(high, level) > 0.0) & np.isfinite(high)
            if not short.any():
                break
            low[short] = high[short]
            width[short] *= 2.0
        found = find_root(excess, (low, high), args=(level,))
        # Where rounding leaves no change of sign, an end of the bracket is the root.
        end = np.where(excess(low, level) <= 0.0, low, high)
        return np.where(found.success, found.x, end)

    def _standard(self, x: FloatArray) -> FloatArray:
        return (as_array(x) - self.loc) / self.scale


def _is_continuous(value: object) -> bool:
    from scipy import stats

    return isinstance(value, stats.rv_continuous)


@contextmanager
def _quiet() -> Iterator[None]:
    """SciPy's own warnings (overflows, integrals hard to compute) are not the user's."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
