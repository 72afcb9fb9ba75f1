"""The laws in closed form against mpmath, and what holds for every law."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.fields import spec_of
from mcsim.laws import (
    LAWS,
    Constant,
    Empirical,
    Exponential,
    FloatArray,
    FromSciPy,
    Gamma,
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

TAILS = [2.0**-65, 2.0**-64, 2.0**-53, 2.0**-33, 1e-12, 1e-6]
BULK = [0.01, 0.25, 0.5, 0.75, 0.99, 1 - 2.0**-20, 1 - 2.0**-53]
SURVIVALS = np.array([*TAILS, *BULK])
ACCURACY = 1e-12


def relative_errors(law: Law, exact: Callable[[Any], Any], size: float = 0.0) -> FloatArray:
    """Of the quantile at SURVIVALS; `size`: what errors are relative to near zero."""
    with mp.workdps(50):
        true = [exact(mp.mpf(float(s))) for s in SURVIVALS]
        found = law.quantile(SURVIVALS)
        return np.array(
            [
                float(abs(mp.mpf(float(x)) - t) / max(abs(t), size))
                for x, t in zip(found, true, strict=True)
            ]
        )


def score(s: Any) -> Any:
    """The standard normal value exceeded with probability s."""
    return mp.sqrt(2) * mp.erfinv(1 - 2 * s)


def mixture(*parts: tuple[float, Law]) -> Mixture:
    return Mixture(tuple(WeightedLaw(weight, law) for weight, law in parts))


TWO_SPEEDS = mixture((0.995, LogNormal(mean=1.0, cv=0.02)), (0.005, LogNormal(mean=1.1, cv=0.05)))
MEASURED = tuple(np.random.default_rng(5).lognormal(0.0, 0.3, 400).round(2).tolist())

EVERY_LAW: list[Law] = [
    Constant(1.5),
    Uniform(1.0, 1.2),
    Uniform(-0.3, 0.7),
    Exponential(0.002),
    Exponential(0.0),
    Normal(1.0, 0.05),
    Normal(1.0, 0.0),
    LogNormal(mean=1.0, cv=0.02),
    LogNormal(median=2e-5, sigma=0.8),
    Gamma(1.0, 0.01),
    Gamma(1.0, 0.1),
    Gamma(1.0, 0.11),
    Gamma(1.0, 0.5),
    Gamma(1.0, 0.7),
    Gamma(1.0, 1.0),
    Gamma(3.0, 5.0),
    Weibull(1.0, 0.3),
    Weibull(2.0, 10.0),
    Pareto(1.0, 6.0),
    Pareto(1.0, 1.5),
    mixture((0.995, Constant(1.0)), (0.005, Constant(1.1))),
    TWO_SPEEDS,
    mixture((0.9, Constant(0.0)), (0.1, Exponential(0.002))),
    mixture((0.25, TWO_SPEEDS), (0.75, Uniform(0.9, 2.0))),
    Empirical(values=(7.0,)),
    Empirical(values=MEASURED),
    Empirical(values=MEASURED, tail="pareto"),
    Empirical(values=(1.0, 1.0, 2.0, 5.0), probabilities=(0.0, 0.5, 0.99, 1.0)),
    FromSciPy("invgauss", (("mu", 0.2),), scale=3.0),
    FromSciPy("f", (("dfd", 30.0), ("dfn", 10.0))),
]
LAW_IDS = [f"{type(law).name}-{index}" for index, law in enumerate(EVERY_LAW)]
every_law = pytest.mark.parametrize("law", EVERY_LAW, ids=LAW_IDS)
survivals = st.one_of(
    st.floats(2.0**-65, 1 - 2.0**-53),
    st.floats(1.0, 65.0).map(lambda e: 2.0**-e),
    st.floats(1.0, 53.0).map(lambda e: 1.0 - 2.0**-e),
)


@pytest.mark.parametrize("mean", [1.0, 2e-3, 1e9])
def test_exponential_is_minus_the_logarithm(mean: float) -> None:
    assert max(relative_errors(Exponential(mean), lambda s: -mean * mp.log(s))) < 1e-15


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 1.1), (1e-6, 3.0), (-1.0, 0.0)])
def test_uniform_is_linear_and_exact_at_both_ends(low: float, high: float) -> None:
    def exact(s: Any) -> Any:
        return mp.mpf(low) * s + mp.mpf(high) * (1 - s)

    assert max(relative_errors(Uniform(low, high), exact, size=2.0**-52 * (high - low))) < 1e-15


def test_uniform_around_zero_is_accurate_relative_to_its_width() -> None:
    errors = relative_errors(
        Uniform(-0.3, 0.7), lambda s: mp.mpf(0.7) - (mp.mpf(0.7) - mp.mpf(-0.3)) * s, size=1.0
    )
    assert max(errors) < 1e-15


@pytest.mark.parametrize(("mean", "sd"), [(1.0, 0.05), (0.0, 1.0), (-3.0, 1e-4), (1e-6, 2e-3)])
def test_normal_matches_the_inverse_error_function(mean: float, sd: float) -> None:
    errors = relative_errors(Normal(mean, sd), lambda s: mean + sd * score(s), abs(mean) + sd)
    assert max(errors) < ACCURACY


@pytest.mark.parametrize("sigma", [1e-4, 0.02, 0.8, 3.0])
def test_lognormal_by_median_matches_the_inverse_error_function(sigma: float) -> None:
    law = LogNormal(median=2e-5, sigma=sigma)
    exact = relative_errors(law, lambda s: mp.mpf(2e-5) * mp.exp(sigma * score(s)))
    assert max(exact) < ACCURACY


@pytest.mark.parametrize("cv", [1e-4, 0.02, 1.0, 30.0])
def test_lognormal_by_mean_matches_the_inverse_error_function(cv: float) -> None:
    def exact(s: Any) -> Any:
        square = mp.log(1 + mp.mpf(cv) ** 2)
        return 3 * mp.exp(mp.sqrt(square) * score(s) - square / 2)

    assert max(relative_errors(LogNormal(mean=3.0, cv=cv), exact)) < ACCURACY


@pytest.mark.parametrize("shape", [0.3, 1.0, 2.5, 10.0])
def test_weibull_is_a_power_of_the_exponential(shape: float) -> None:
    errors = relative_errors(Weibull(3.0, shape), lambda s: 3 * (-mp.log(s)) ** (1 / mp.mpf(shape)))
    assert max(errors) < ACCURACY


@pytest.mark.parametrize("alpha", [1.01, 1.5, 3.0, 50.0])
def test_pareto_is_a_power_of_the_survival(alpha: float) -> None:
    errors = relative_errors(Pareto(3.0, alpha), lambda s: 3 * s ** (-1 / mp.mpf(alpha)))
    assert max(errors) < ACCURACY


@pytest.mark.parametrize(
    "law",
    [
        Constant(2.0),
        Uniform(2.0, 2.0),
        Normal(2.0, 0.0),
        Gamma(2.0, 0.0),
        LogNormal(mean=2.0, cv=0.0),
        LogNormal(median=2.0, sigma=0.0),
        Empirical(values=(2.0,)),
        mixture((0.5, Constant(2.0)), (0.5, Normal(2.0, 0.0))),
    ],
)
def test_a_law_without_spread_is_a_constant(law: Law) -> None:
    assert (law.quantile(SURVIVALS) == 2.0).all()
    assert law.survival(np.array([1.999, 2.0, 2.001])).tolist() == [1.0, 0.0, 0.0]
    assert law.distribution(np.array([1.999, 2.0, 2.001])).tolist() == [0.0, 1.0, 1.0]
    assert (law.expectation(), law.variance()) == (2.0, 0.0)
    assert set(law.knots()) == {2.0}


def test_an_exponential_of_mean_zero_is_always_zero() -> None:
    assert (Exponential(0.0).quantile(SURVIVALS) == 0.0).all()
    assert Exponential(0.0).survival(np.array([-1.0, 0.0])).tolist() == [1.0, 0.0]


@every_law
def test_survival_and_distribution_add_up_and_invert_the_quantile(law: Law) -> None:
    s = np.concatenate([2.0 ** -np.linspace(1, 60, 200), 1 - 2.0 ** -np.linspace(1, 30, 100)])
    x = law.quantile(s)
    assert law.survival(x) + law.distribution(x) == pytest.approx(1.0, abs=1e-14)
    # A small step in x, which changes the survival of a narrow law by much more.
    step = (1e-12 if isinstance(law, FromSciPy) else 1e-14) * abs(x)
    below, above = x - step, x + step
    assert (law.survival(above) <= s * (1 + 1e-11)).all()
    assert (law.survival(below) >= s * (1 - 1e-11))[
        x > law.quantile(np.array([1 - 2.0**-53]))
    ].all()
    assert (law.distribution(above) >= (1 - s) * (1 - 1e-11)).all()


def integral(law: Law, power: int, center: float) -> float:
    """Of (quantile - center)^power over the survival, cut where the law says it is not smooth."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    total = 0.0
    jumps = law.jumps()
    # By t = -ln of the nearer tail; the rest beyond exp(-43) is below 1e-9 for all laws tested.
    for tail, cuts in ((lambda p: p, jumps), (lambda p: 1.0 - p, 1.0 - jumps)):
        inner = -np.log(cuts[(cuts > 0.0) & (cuts < 0.5)])
        end = 43.0 if tail(0.25) == 0.25 else 36.0
        grid = np.union1d(np.linspace(math.log(2.0), end, 400), inner[inner < end])
        half = np.diff(grid)[:, None] / 2
        t = grid[:-1, None] + half * (1 + nodes)
        value = (law.quantile(tail(np.exp(-t))) - center) ** power * np.exp(-t)
        total += float((half * weights * value).sum())
    return total


@pytest.mark.parametrize(
    "law", [law for law in EVERY_LAW if law.variance() < math.inf], ids=lambda law: type(law).name
)
def test_moments_are_those_of_the_quantile_function(law: Law) -> None:
    mean, variance = law.expectation(), law.variance()
    assert integral(law, 1, 0.0) == pytest.approx(mean, rel=1e-9)
    assert integral(law, 2, mean) == pytest.approx(variance, rel=2e-6, abs=1e-30)


def test_a_wrong_sigma_would_be_noticed() -> None:
    law, mutant = LogNormal(median=1.0, sigma=0.02), LogNormal(median=1.0, sigma=0.0202)
    assert max(relative_errors(mutant, lambda s: mp.exp(mp.mpf(0.02) * score(s)))) > 1e-4
    assert integral(mutant, 2, 1.0) != pytest.approx(law.variance(), rel=1e-2)


def test_moments_that_do_not_exist_are_infinite() -> None:
    assert Pareto(1.0, 2.0).variance() == math.inf
    assert Pareto(1.0, 1.5).expectation() == pytest.approx(3.0)
    assert LogNormal(median=1.0, sigma=100.0).expectation() == math.inf
    assert LogNormal(median=1.0, sigma=100.0).variance() == math.inf
    assert Weibull(1.0, 1e-3).expectation() == math.inf


def test_the_variance_of_a_narrow_weibull_does_not_cancel() -> None:
    with mp.workdps(50):
        inverse = 1 / mp.mpf(1e4)
        true = mp.gamma(1 + 2 * inverse) - mp.gamma(1 + inverse) ** 2
    assert Weibull(1.0, 1e4).variance() == pytest.approx(float(true), rel=1e-9)


def rises(law: Law, s: FloatArray) -> float:
    """By how much the quantile rises at most from one survival to the next float, relatively."""
    low, high = law.quantile(np.nextafter(s, 1.0)), law.quantile(s)
    size = np.maximum(np.abs(high), law.variance() ** 0.5 if isinstance(law, Normal) else 1e-300)
    return float(np.max((low - high) / size))


@every_law
def test_the_quantile_never_rises_with_the_survival(law: Law) -> None:
    rng = np.random.default_rng(1)
    s = np.concatenate(
        [
            rng.random(4000),
            2.0 ** -rng.uniform(1, 65, 4000),
            1 - 2.0 ** -rng.uniform(1, 52, 4000),
            0.5 + 2.0**-53 * np.arange(-100, 100),
            math.exp(-2) + 2.0**-55 * np.arange(-100, 100),
            1 - math.exp(-2) + 2.0**-53 * np.arange(-100, 100),
            np.exp(-0.5 * rng.choice([64.0, 36.0, 8.0], 100)) * (1 + 2.0**-52 * np.arange(-50, 50)),
        ]
    )
    # libm and Cephes are good to about one unit in the last place, and may dip by that; other
    # distributions of SciPy by more.
    assert rises(law, s) <= (1e-13 if isinstance(law, FromSciPy) else 1e-15)


def test_a_wide_lognormal_rises_by_no_more_than_the_last_bit_of_its_score() -> None:
    s = 2.0 ** -np.random.default_rng(1).uniform(1, 65, 50_000)
    assert rises(LogNormal(median=1.0, sigma=3.0), s) <= 3 * 2.0**-50


@every_law
@given(pair=st.tuples(survivals, survivals))
def test_a_smaller_survival_has_no_smaller_value(law: Law, pair: tuple[float, float]) -> None:
    low, high = law.quantile(np.array(sorted(pair, reverse=True)))
    assert low <= high + (1e-13 if isinstance(law, FromSciPy) else 1e-15) * (abs(high) + 0.05)


@pytest.mark.parametrize(
    ("law", "double"),
    [
        (Uniform(0.3, 0.7), Uniform(0.6, 1.4)),
        (Exponential(0.3), Exponential(0.6)),
        (Normal(0.3, 0.7), Normal(0.6, 1.4)),
        (LogNormal(mean=0.3, cv=0.7), LogNormal(mean=0.6, cv=0.7)),
        (LogNormal(median=0.3, sigma=0.7), LogNormal(median=0.6, sigma=0.7)),
        (Gamma(0.3, 0.07), Gamma(0.6, 0.07)),
        (Gamma(0.3, 0.7), Gamma(0.6, 0.7)),
        (Weibull(0.3, 0.7), Weibull(0.6, 0.7)),
        (Pareto(0.3, 1.7), Pareto(0.6, 1.7)),
        (Empirical(values=MEASURED), Empirical(values=tuple(2 * x for x in MEASURED))),
        (FromSciPy("gamma", (("a", 2.0),), 0.1, 0.3), FromSciPy("gamma", (("a", 2.0),), 0.2, 0.6)),
    ],
    ids=lambda law: type(law).name,
)
@given(s=survivals)
def test_doubling_the_scale_doubles_every_bit(law: Law, double: Law, s: float) -> None:
    at = np.array([s])
    assert double.quantile(at)[0] == 2 * law.quantile(at)[0]


@every_law
def test_a_value_does_not_depend_on_its_company(law: Law) -> None:
    rng = np.random.default_rng(2)
    s = np.concatenate([rng.random(80), 2.0 ** -rng.uniform(1, 65, 80)])
    x = law.quantile(s)
    assert (law.quantile(s[::-1]) == x[::-1]).all()
    assert (law.quantile(s[::3]) == x[::3]).all()
    assert [law.quantile(s[i : i + 1])[0] for i in range(0, 160, 8)] == x[::8].tolist()
    assert (law.survival(x[::-1]) == law.survival(x)[::-1]).all()


@every_law
def test_shapes_are_kept(law: Law) -> None:
    for shape in ((), (0,), (3,), (2, 3), (2, 1, 2)):
        assert law.quantile(np.full(shape, 0.3)).shape == shape
        assert np.shape(law.survival(np.full(shape, 1.0))) == shape
        assert np.shape(law.distribution(np.full(shape, 1.0))) == shape


@every_law
def test_laws_are_equal_by_parameters_hashable_and_picklable(law: Law) -> None:
    law.quantile(SURVIVALS)
    again = dataclasses.replace(law)
    assert again == law
    assert hash(again) == hash(law)
    assert pickle.loads(pickle.dumps(law)) == law
    assert law != Constant(-1.0)


@every_law
def test_jumps_are_survival_probabilities(law: Law) -> None:
    assert ((law.jumps() > 0.0) & (law.jumps() < 1.0)).all()


@every_law
def test_no_law_of_the_list_has_faults(law: Law) -> None:
    assert list(law.faults()) == []


def test_every_law_has_a_name_a_source_and_declared_fields() -> None:
    for name, cls in LAWS.items():
        assert cls.name == name
        assert cls.source
        assert cls.__doc__
        assert all(spec_of(field).doc for field in dataclasses.fields(cls))
        assert all(hasattr(cls, key) for form in cls.forms for key in form)
    assert {type(law) for law in EVERY_LAW} == set(LAWS.values())


def test_a_pareto_law_of_infinite_mean_is_out_of_bounds() -> None:
    spec = spec_of(next(f for f in dataclasses.fields(Pareto) if f.name == "alpha"))
    assert spec.above == 1.0
    assert spec.reason == "or the mean is infinite"


def test_uniform_bounds_must_be_in_order() -> None:
    assert list(Uniform(2.0, 1.0).faults()) == [("low", "2.0 must not be above high, 1.0")]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"mean": 1.0},
        {"cv": 0.1},
        {"mean": 1.0, "sigma": 0.1},
        {"mean": 1.0, "cv": 0.1, "median": 1.0},
        {"median": 1.0, "sigma": 1.0, "cv": 0.0},
    ],
)
def test_a_lognormal_takes_exactly_one_form(parameters: dict[str, float]) -> None:
    law = LogNormal(**parameters)
    [(key, message)] = law.faults()
    assert key == ""
    assert "either mean and cv, or median and sigma" in message
    with pytest.raises(LawFault, match="either mean and cv"):
        law.quantile(SURVIVALS)
