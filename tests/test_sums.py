"""The law of base * C + D against closed forms, quadrature by others, and all devices."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from mcsim.laws import (
    Constant,
    Empirical,
    Exponential,
    Gamma,
    LogNormal,
    Mixture,
    Normal,
    Pareto,
    Uniform,
    Weibull,
    WeightedLaw,
)
from mcsim.model.columns import LOG_HAZARD
from mcsim.model.convolution import Scale, hazard_of_sum
from mcsim.model.excess import excess_of
from mcsim.model.maximum import Members, maximum_law
from mcsim.model.sums import sum_of
from mcsim.model.tabulated import Tabulated

LOGNORMAL = LogNormal(mean=1.0, cv=0.015)
SOMETIMES = Mixture((WeightedLaw(0.99, Constant(0.0)), WeightedLaw(0.01, Exponential(0.02))))


def hazard(step, stall, time, base=1.0):
    return hazard_of_sum(Scale.of(step), Scale.of(stall), base, np.asarray(time))


@pytest.mark.parametrize("mean", [1e-6, 0.01, 0.5, 0.999, 3.0, 1e4])
def test_the_sum_of_two_exponentials_has_its_closed_form(mean):
    time = np.geomspace(1e-6, 60.0, 60) * max(mean, 1.0)
    with mpmath.workdps(50):
        exact = []
        for t in map(mpmath.mpf, time.tolist()):
            b = mpmath.mpf(mean)
            late = (mpmath.exp(-t) - b * mpmath.exp(-t / b)) / (1 - b)
            exact.append(float(-mpmath.log(1 - late)))
    assert hazard(Exponential(1.0), Exponential(mean), time) == pytest.approx(exact, rel=1e-9)


def test_the_sum_of_two_normals_is_normal_in_both_tails():
    z = np.linspace(-7.0, 11.0, 60)
    for own, other in ((0.02, 0.05), (1e-6, 0.05), (0.5, 1e-4)):
        width = math.hypot(2 * own, other)
        found = hazard(Normal(1.0, own), Normal(0.1, other), 2.1 + width * z, base=2.0)
        # The sum of 2 and a width of 1e-4 has lost its last digits, and laws know their values
        # near survival 1 to 1e-16 of probability.
        exact = -stats.norm.logcdf(z)
        assert np.exp(-found) == pytest.approx(np.exp(-exact), rel=1e-5, abs=1e-15)
        assert found[exact < 10] == pytest.approx(exact[exact < 10], rel=1e-9 + 1e-14 / width)


@pytest.mark.parametrize(("scale", "alpha"), [(1e-3, 2.0), (0.2, 1.2)])
def test_a_heavy_tail_over_a_narrow_law_is_right_far_out(scale, alpha):
    step, stall = LogNormal(median=1.0, sigma=0.015), Pareto(scale, alpha)
    time = np.array([0.97 + scale, 1.0 + scale, 1.02 + scale, 1.5, 10.0, 1e4, 1e8])
    exact = []
    with mpmath.workdps(30):
        sigma = mpmath.mpf("0.015")

        def density(z):
            return mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)

        for t in map(mpmath.mpf, time.tolist()):
            edge = mpmath.log(t - scale) / sigma if t > scale else mpmath.mpf(-13)
            cuts = sorted({-13, -6, -3, 0, 3, 6, 13, min(max(edge, -13), 13)})

            def late(z, t=t):
                rest = t - mpmath.exp(sigma * z)
                return density(z) * ((scale / rest) ** alpha if rest > scale else 1)

            exact.append(float(-mpmath.log1p(-mpmath.quad(late, cuts))))
    assert hazard(step, stall, time) == pytest.approx(exact, rel=2e-9)


@pytest.mark.parametrize("mean", [1e-5, 0.01, 3.0])
def test_values_with_a_probability_of_their_own_are_kept_apart(mean):
    step = Empirical(values=(1.0, 1.01, 1.01, 1.02, 1.5))
    time = np.concatenate([np.linspace(1.0001, 1.6, 25), 1.5 + mean * np.linspace(0.1, 30, 9)])
    late = np.zeros(time.shape)
    for low, high in ((1.0, 1.01), (1.01, 1.01), (1.01, 1.02), (1.02, 1.5)):
        if low == high:
            late += 0.25 * np.where(time < low, 1.0, np.exp(-np.maximum(time - low, 0) / mean))
        else:
            until = np.clip(time, low, high)
            decay = np.exp(-np.maximum(time - until, 0) / mean) * -np.expm1((low - until) / mean)
            late += 0.25 * (high - until + mean * decay) / (high - low)
    with np.errstate(divide="ignore"):
        exact = -np.log1p(-late)
    assert hazard(step, Exponential(mean), time) == pytest.approx(exact, rel=1e-8)


PAIRS = [
    (LOGNORMAL, Exponential(0.002)),
    (LOGNORMAL, Pareto(1e-3, 2.0)),
    (Gamma(1.0, 0.1), LogNormal(mean=0.01, cv=2.0)),
    (Exponential(1.0), Exponential(0.5)),
    (Weibull(1.0, 3.0), Weibull(0.01, 0.5)),
    (Uniform(0.9, 1.1), Exponential(0.01)),
]


@pytest.mark.parametrize(("step", "stall"), PAIRS[:3] + PAIRS[5:])
def test_the_table_of_a_sum_is_right_between_its_base_times(step, stall):
    table = Tabulated(step, stall)
    random = np.random.default_rng(4)
    for base in np.exp(random.uniform(0.0, 0.25, 4)):
        column = table._columns(np.array([base])).time[0]
        time = np.interp(random.uniform(-50.0, 2.5, 30), LOG_HAZARD, column)
        found = table.hazard(time[:, None], np.array([base]))[:, 0]
        exact = hazard(step, stall, time, base)
        assert np.exp(-found) == pytest.approx(np.exp(-exact), abs=3e-7)
        assert found == pytest.approx(exact, rel=1e-5)
    assert table.deviation() < 3e-7


@pytest.mark.parametrize(
    ("step", "stall"), [(LOGNORMAL, Exponential(0.002)), (LOGNORMAL, SOMETIMES)]
)
def test_what_a_device_is_held_back_by_its_stalls_is_the_mean_of_what_is_left(step, stall):
    law = sum_of(step, stall)
    base = np.array([1.1])
    time = np.linspace(1.05, 1.3, 4001)
    hazards = law.hazard(time[:, None], base)[:, 0]
    # E[T] - E[T | T <= t] = (int_t S - (E[T] - t) S) / F, the integral by the trapezoidal rule.
    late = -np.expm1(-hazards)
    beyond = np.append(np.cumsum((0.5 * (late[1:] + late[:-1]) * np.diff(time))[::-1])[::-1], 0)
    mean = law.mean(base)[0]
    exact = (beyond + (time - mean) * late) / np.exp(-hazards)
    found = law.excess(time[:, None], base)[:, 0]
    chosen = slice(400, 2000, 200)
    end = 4e-4 if stall is SOMETIMES else 0.0
    assert found[chosen] == pytest.approx(exact[chosen], rel=2e-3, abs=1e-9 + end * late[-1])


def test_the_excess_of_a_law_has_its_closed_forms():
    x = np.array([1.2, 2.0, 10.0, 1e6])
    alpha = 2.5
    pareto = Pareto(1.0, alpha)
    mean = alpha / (alpha - 1)
    below = mean * (1 - x ** (1 - alpha)) / (1 - x**-alpha)
    assert excess_of(pareto, x) == pytest.approx(mean - below, rel=1e-8)
    x = np.array([1e-6, 0.1, 1.0, 40.0])
    assert excess_of(Exponential(1.0), x) == pytest.approx(x / np.expm1(x), rel=1e-8)
    gap = Mixture((WeightedLaw(0.5, Uniform(0.0, 1.0)), WeightedLaw(0.5, Uniform(2.0, 3.0))))
    assert excess_of(gap, np.array([0.5, 1.0, 1.7, 2.0, 2.5])) == pytest.approx(
        [1.25, 1.0, 1.0, 1.0, 1.5 - (0.25 + 0.25 * 2.25) / 0.75], rel=1e-9
    )


@pytest.mark.parametrize(("step", "stall"), PAIRS)
def test_unlike_devices_with_stalls_are_as_late_as_all_of_them(step, stall):
    base = np.exp(0.02 * np.random.default_rng(5).standard_normal(40))
    law = maximum_law([Members(base, step, stall)])
    time = law.quantile(np.array([1e-12, 1e-6, 0.01, 0.5, 0.9, 0.999]))
    exact = sum(hazard(step, stall, time, one) for one in base.tolist())
    assert law.deviation < 1e-6
    assert np.exp(-law.hazard(time)) == pytest.approx(np.exp(-exact), abs=1e-6)
    assert law.hazard(time) == pytest.approx(exact, rel=1e-5)


def test_many_devices_with_stalls_are_as_late_as_all_of_them():
    base = np.exp(0.02 * np.random.default_rng(6).standard_normal(100_000))
    for stall in (Exponential(0.002), SOMETIMES):
        law = maximum_law([Members(base, LOGNORMAL, stall)])
        time = law.quantile(np.array([1e-9, 0.01, 0.5, 0.99]))
        # The hazard is smooth in the base time: 400 of them say what all of them do.
        some = np.linspace(base.min(), base.max(), 400)
        parts = [(1.0, stall)] if stall is not SOMETIMES else [(0.01, Exponential(0.02))]
        late = np.zeros((time.size, some.size))
        for weight, part in parts:
            one = np.stack([hazard(LOGNORMAL, part, time, b) for b in some.tolist()], axis=1)
            late -= weight * np.expm1(-one)
        if stall is SOMETIMES:
            late += 0.99 * LOGNORMAL.survival(time[:, None] / some)
        log_hazard = np.log(-np.log1p(-late))
        exact = [np.exp(np.interp(base, some, row)).sum() for row in log_hazard]
        assert law.hazard(time) == pytest.approx(exact, rel=3e-4)
