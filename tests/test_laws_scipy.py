"""Laws from scipy.stats: accurate where SciPy can be, refused with a reason where it cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy import stats
from test_laws import ACCURACY, SURVIVALS, relative_errors

from mcsim.laws import (
    Exponential,
    FromSciPy,
    Law,
    LawFault,
    LogNormal,
    Mixture,
    Normal,
    Pareto,
    Uniform,
    Weibull,
    WeightedLaw,
)


def from_scipy(name: str, loc: float = 0.0, scale: float = 1.0, **shapes: float) -> FromSciPy:
    return FromSciPy(name, tuple(sorted(shapes.items())), loc, scale)


@pytest.mark.parametrize(
    ("law", "same"),
    [
        (from_scipy("expon", scale=2.0), Exponential(2.0)),
        (from_scipy("norm", 1.0, 0.1), Normal(1.0, 0.1)),
        (from_scipy("lognorm", scale=3.0, s=0.8), LogNormal(median=3.0, sigma=0.8)),
        (from_scipy("weibull_min", scale=3.0, c=0.3), Weibull(3.0, 0.3)),
        (from_scipy("uniform", 1.0, 2.0), Uniform(1.0, 3.0)),
    ],
)
def test_laws_that_exist_twice_agree(law: FromSciPy, same: Law) -> None:
    assert list(law.faults()) == []
    assert law.quantile(SURVIVALS) == pytest.approx(same.quantile(SURVIVALS), rel=ACCURACY)
    x = same.quantile(SURVIVALS[6:-2])
    assert law.survival(x) == pytest.approx(same.survival(x), rel=1e-12)
    assert law.distribution(x) == pytest.approx(same.distribution(x), rel=1e-12)
    assert law.expectation() == pytest.approx(same.expectation(), rel=1e-14)
    assert law.variance() == pytest.approx(same.variance(), rel=1e-14)


def test_the_upper_tail_of_a_pareto_law_agrees() -> None:
    # Its lower tail does not: SciPy computes (1 - p)^(-1/b) there, as good as 1e-16 of the scale.
    law, same = from_scipy("pareto", b=1.5), Pareto(1.0, 1.5)
    assert law.quantile(SURVIVALS) == pytest.approx(same.quantile(SURVIVALS), rel=1e-12)


@pytest.mark.parametrize(
    ("law", "exact"),
    [
        # The survival functions of these have no inverse in SciPy, or one that fails.
        (from_scipy("moyal"), lambda x: mp.erf(mp.exp(-x / 2) / mp.sqrt(2))),
        (from_scipy("f", dfn=2.0, dfd=8.0), lambda x: (1 + x / 4) ** -4),
        (from_scipy("logistic"), lambda x: 1 / (1 + mp.exp(x))),
        (from_scipy("gumbel_r"), lambda x: -mp.expm1(-mp.exp(-x))),
        (from_scipy("burr", c=3.0, d=2.0), lambda x: 1 - (1 + x**-3) ** -2),
        (from_scipy("fisk", c=3.0), lambda x: 1 / (1 + x**3)),
        (
            from_scipy("invgauss", mu=0.2),
            lambda x: (
                mp.erfc((x / mp.mpf(0.2) - 1) / mp.sqrt(2 * x)) / 2
                - mp.exp(2 / mp.mpf(0.2)) * mp.erfc((x / mp.mpf(0.2) + 1) / mp.sqrt(2 * x)) / 2
            ),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, FromSciPy) else "",
)
def test_the_upper_tail_keeps_its_digits(law: FromSciPy, exact: Callable[[Any], Any]) -> None:
    assert list(law.faults()) == []
    for s in (2.0**-65, 2.0**-53, 1.02141316e-17, 1e-12, 1e-6, 0.01, 0.3):
        with mp.workdps(60):
            x = mp.mpf(float(law.quantile(np.array(s))))
            step = x * mp.mpf("1e-11")
            assert exact(x + step) < s < exact(x - step)


def test_every_distribution_that_is_accepted_has_finite_tails() -> None:
    accepted = []
    names = {key for key, value in vars(stats).items() if isinstance(value, stats.rv_continuous)}
    # With all shapes at 2.5, for those that are quick and allow it.
    for name in sorted(names - {"studentized_range", "ksone", "kstwo", "recipinvgauss"}):
        shapes = getattr(stats, name).shapes
        law = from_scipy(name, **dict.fromkeys(shapes.split(", ") if shapes else [], 2.5))
        if not list(law.faults()):
            accepted.append(name)
            x = law.quantile(np.sort(SURVIVALS))
            assert np.isfinite(x).all(), name
            assert (np.diff(x) <= 0).all(), name
    assert len(accepted) > 60
    assert {"norm", "gamma", "t", "beta", "invgauss", "burr12", "exponnorm"} <= set(accepted)


@pytest.mark.parametrize(
    ("law", "key", "part"),
    [
        (from_scipy("lognrm", s=1.0), "name", '(did you mean "lognorm"?)'),
        (from_scipy("xyzzy"), "name", 'scipy.stats has no distribution "xyzzy"'),
        (from_scipy("norm.pdf"), "name", "no distribution"),
        (from_scipy("describe"), "name", "no distribution"),
        (from_scipy("multivariate_normal"), "name", "no distribution"),
        (from_scipy("poisson", mu=1.0), "name", "discrete"),
        (from_scipy("gamma"), "", "`a` missing; gamma takes a"),
        (from_scipy("beta"), "", "`a`, `b` missing; beta takes a and b"),
        (from_scipy("gamma", a=2.0, b=1.0), "b", "unknown; gamma takes a"),
        (from_scipy("norm", sigma=1.0), "sigma", "norm takes no shape parameters"),
        (from_scipy("gamma", a=-1.0), "a", "gamma does not allow a = -1"),
        (from_scipy("beta", a=1.0, b=0.0), "", "beta does not allow a = 1, b = 0"),
        (from_scipy("cauchy"), "", "no finite mean"),
        (from_scipy("t", df=1.0), "", "no finite mean"),
        (from_scipy("pareto", b=1.0), "", "no finite mean"),
        (from_scipy("rice", b=1.0), "name", "beyond 1e-16"),
        (from_scipy("levy_stable", alpha=1.8, beta=0.5), "name", "beyond 1e-16"),
        (from_scipy("powernorm", c=4.0), "name", "infinite"),
    ],
    ids=lambda value: value.name if isinstance(value, FromSciPy) else "",
)
def test_what_is_wrong_is_said(law: FromSciPy, key: str, part: str) -> None:
    [(found, message)] = law.faults()
    assert found == key
    assert part in message


def test_a_misspelt_shape_is_recognised() -> None:
    faults = dict(from_scipy("f", dfn=2.0, dfdd=8.0).faults())
    assert '(did you mean "dfd"?)' in faults["dfdd"]
    assert "`dfd` missing" in faults[""]


@pytest.mark.parametrize("law", [from_scipy("xyzzy"), from_scipy("gamma")])
def test_an_impossible_law_cannot_be_used(law: FromSciPy) -> None:
    with pytest.raises(LawFault, match=r"no distribution|missing"):
        law.quantile(SURVIVALS)


def test_the_ends_of_the_support_are_knots() -> None:
    assert from_scipy("beta", 1.0, 2.0, a=2.0, b=3.0).knots().tolist() == [1.0, 3.0]
    assert from_scipy("gamma", 1.0, a=2.0).knots().tolist() == [1.0]
    assert from_scipy("norm").knots().tolist() == []


def test_a_distribution_can_be_part_of_a_mixture() -> None:
    law = Mixture((WeightedLaw(0.5, from_scipy("expon")), WeightedLaw(0.5, Exponential(1.0))))
    assert law.quantile(SURVIVALS) == pytest.approx(-np.log(SURVIVALS), rel=ACCURACY)


def test_scipy_s_slow_parts_are_imported_only_when_used() -> None:
    code = (
        "import sys, numpy, mcsim.laws as laws; laws.Gamma(1.0, 0.5).quantile(numpy.array([0.5]));"
        "print([m for m in ('scipy.stats', 'scipy.optimize') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_coarse_tail_would_be_noticed() -> None:
    class Coarse(FromSciPy):
        def quantile(self, survival: Any) -> Any:
            return stats.expon.ppf(np.minimum(1.0 - survival, 1.0 - 2.0**-53))

    errors = relative_errors(Coarse("expon"), lambda s: -mp.log(s))
    assert max(errors) > 0.1
