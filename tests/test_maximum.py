"""The law of the last arrival against closed forms, all devices, quadrature and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from mcsim.laws import (
    Constant,
    Empirical,
    Exponential,
    FromSciPy,
    Gamma,
    LogNormal,
    Mixture,
    Normal,
    Pareto,
    Uniform,
    Weibull,
    WeightedLaw,
)
from mcsim.model.maximum import MaximumLaw, Members, NotExact, maximum_law, reason_against

SURVIVAL = np.array([2.0**-64, 1e-15, 1e-9, 1e-4, 0.03, 0.5, 0.97, 0.9999])
LOGNORMAL = LogNormal(mean=1.0, cv=0.015)
ATOMS = Mixture((WeightedLaw(0.9, Constant(1.0)), WeightedLaw(0.1, Constant(1.1))))
GAP = Mixture((WeightedLaw(0.999, LOGNORMAL), WeightedLaw(0.001, LogNormal(mean=1.3, cv=0.01))))


def lottery(count, cv=0.02, seed=1):
    return np.exp(cv * np.random.default_rng(seed).standard_normal(count))


def alike(count, step, stall=None):
    return maximum_law([Members(np.ones(count), step, stall)])


def hazard(law, x):
    with np.errstate(divide="ignore"):
        survival = law.survival(x)
        return np.where(
            survival < 0.5, -np.log1p(-np.minimum(survival, 0.5)), -np.log(law.distribution(x))
        )


def drawn(law: MaximumLaw, survival):
    """What a kernel draws from the table: times and points, by the guide."""
    y = np.log(-np.log1p(-survival))
    cell = law.guide[((y - law.first) / law.spacing).astype(int)].astype(int)
    while np.any(further := y >= law.level[cell + 1]):
        cell += further
    part = (y - law.level[cell]) / (law.level[cell + 1] - law.level[cell])
    return law.time[cell] + part * (law.time[cell + 1] - law.time[cell]), cell, part


@pytest.mark.parametrize("count", [1, 2, 5, 1000, 4_000_000])
@pytest.mark.parametrize(
    "step",
    [
        LogNormal(mean=1.0, cv=0.1),
        Exponential(1.0),
        Weibull(1.0, 3.0),
        Weibull(1.0, 0.5),
        Normal(1.0, 0.1),
        Normal(0.0, 1.0),
        Pareto(1.0, 1.5),
        Gamma(1.0, 0.5),
    ],
    ids=lambda law: type(law).__name__,
)
def test_like_devices_are_as_late_as_one_at_the_root_of_the_probability(count, step):
    law = alike(count, step)
    one = -np.expm1(np.log1p(-SURVIVAL) / count)
    one = np.maximum(one, 2.0**-65)
    truth = step.quantile(one)
    exact = -np.expm1(count * np.log1p(-one))
    assert law.quantile(exact) == pytest.approx(truth, rel=2e-7, abs=1e-9)
    assert law.survival(truth) == pytest.approx(exact, rel=1e-6)
    assert law.hazard(truth) == pytest.approx(count * hazard(step, truth), rel=1e-6)


@pytest.mark.parametrize("count", [1, 3, 220_000])
def test_the_table_is_within_a_millionth_of_the_law(count):
    for step in (LOGNORMAL, Exponential(1.0), Pareto(1.0, 1.5), Uniform(0.9, 1.1), GAP):
        law = maximum_law([Members(lottery(count), step, None)])
        assert law.deviation < 1e-6
        survival = np.concatenate([2.0 ** -np.arange(2, 64.5), 1 - 2.0 ** -np.arange(1, 30.5)])
        survival = np.concatenate([survival, np.random.default_rng(0).random(4000)])
        time, cell, part = drawn(law, survival)
        assert np.all((part >= 0) & (part <= 1))
        assert np.all(law.time[cell] >= law.time[cell + 1])
        found = law.distribution(time * (1 + 1e-15))
        below = law.distribution(time * (1 - 1e-15))
        low, high = 1 - survival - 1e-6, 1 - survival + 1e-6
        assert np.all((below <= high) & (found >= low))


def test_the_slowest_of_exponential_devices_waits_for_a_harmonic_number():
    for count in (1, 2, 7, 5000):
        harmonic = math.fsum(1 / k for k in range(1, count + 1))
        assert alike(count, Exponential(3.0)).mean() == pytest.approx(3.0 * harmonic, rel=1e-8)


def test_means_have_their_closed_forms():
    assert alike(9, Uniform(1.0, 2.0)).mean() == pytest.approx(1.9, rel=1e-8)
    assert alike(2, Normal(0.0, 1.0)).mean() == pytest.approx(1 / math.sqrt(math.pi), rel=1e-8)
    # Inclusion and exclusion: a sum over how many devices are late.
    terms = [(-1) ** (k + 1) * math.comb(12, k) / math.sqrt(k) for k in range(1, 13)]
    weibull = math.fsum(terms) * math.gamma(1.5)
    assert alike(12, Weibull(1.0, 2.0)).mean() == pytest.approx(weibull, rel=1e-8)
    for alpha in (1.05, 1.5, 3.0):
        exact = 500 * math.exp(
            math.lgamma(500) + math.lgamma(1 - 1 / alpha) - math.lgamma(501 - 1 / alpha)
        )
        assert alike(500, Pareto(1.0, alpha)).mean() == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize(
    ("step", "stall"),
    [
        (LOGNORMAL, None),
        (LogNormal(mean=1.0, cv=0.002), None),
        (Gamma(1.0, 0.05), None),
        (Weibull(1.0, 3.0), None),
        (Uniform(0.9, 1.1), None),
        (Pareto(1.0, 1.5), None),
        (GAP, None),
        (None, Exponential(0.01)),
        (None, Uniform(0.0, 0.02)),
        (LOGNORMAL, Constant(0.5)),
        (Constant(2.0), Gamma(0.01, 1.0)),
    ],
)
def test_unlike_devices_are_as_late_as_all_of_them_together(step, stall):
    base = lottery(220_000)
    law = maximum_law([Members(base, step, stall)])
    time = law.quantile(np.array([1e-15, 1e-9, 1e-5, 0.01, 0.3, 0.8, 0.99, 1 - 1e-7]))
    law_of_one, scale, shift = step, base, 0.0
    if stall is not None and step is None:
        law_of_one, scale, shift = stall, 1.0, base
    elif isinstance(step, Constant):
        law_of_one, scale, shift = stall, 1.0, 2.0 * base
    elif isinstance(stall, Constant):
        shift = 0.5
    exact = np.array([hazard(law_of_one, (t - shift) / scale).sum() for t in time])
    assert law.hazard(time) == pytest.approx(exact, rel=1e-5)
    assert np.exp(-law.hazard(time)) == pytest.approx(np.exp(-exact), abs=2e-7)


@pytest.mark.parametrize("count", [1, 2, 5, 400])
def test_few_unlike_devices_are_all_counted(count):
    base = lottery(count, 0.3)
    measured = Empirical(
        values=(0.9, 0.97, 1.0, 1.01, 1.1, 1.6), probabilities=(0.0, 0.1, 0.5, 0.9, 0.99, 1.0)
    )
    steps = [measured, Uniform(0.5, 2.0), GAP, Exponential(1.0), Pareto(1.0, 1.5)]
    for step in steps:
        law = maximum_law([Members(base, step, None)])
        time = law.quantile(np.array([1e-12, 1e-4, 0.1, 0.5, 0.9, 0.999]))
        time = np.concatenate([time, 0.5 * (time[1:] + time[:-1])])
        exact = hazard(step, time[:, None] / base).sum(axis=1)
        assert np.exp(-law.hazard(time)) == pytest.approx(np.exp(-exact), rel=1e-6, abs=1e-7)
        upper = exact < 1
        assert law.hazard(time)[upper] == pytest.approx(exact[upper], rel=1e-6, abs=1e-14)


def test_measured_values_with_a_pareto_tail_keep_it():
    values = tuple(np.random.default_rng(3).pareto(2.5, 2000) + 1.0)
    step = Empirical(values=values, tail="pareto")
    base = lottery(5000)
    law = maximum_law([Members(base, step, None)])
    time = law.quantile(np.array([1e-15, 1e-6, 0.01, 0.5, 0.99]))
    exact = hazard(step, time[:, None] / base).sum(axis=1)
    assert law.hazard(time) == pytest.approx(exact, rel=2e-6)


def test_one_device_more_or_a_wider_law_shows():
    base = lottery(1000)
    time = np.array([1.08, 1.1])
    law = maximum_law([Members(base, LOGNORMAL, None)]).hazard(time)
    fewer = maximum_law([Members(np.sort(base)[:-1], LOGNORMAL, None)]).hazard(time)
    wider = LogNormal(mean=1.0, cv=0.01515)
    assert np.all(fewer < 0.999 * law)
    assert np.all(maximum_law([Members(base, wider, None)]).hazard(time) > 1.01 * law)


THREE = [
    Members(lottery(3, 0.1, 1), LogNormal(mean=1.0, cv=0.1), None),
    Members(lottery(2, 0.1, 2), Gamma(1.0, 0.2), None),
    Members(lottery(4, 0.1, 3), None, Exponential(0.1)),
]


def laws_of_devices(groups):
    """Frozen laws of all devices and their groups."""
    found = []
    for index, group in enumerate(groups):
        for base in group.base:
            if isinstance(group.step, LogNormal):
                sigma = math.sqrt(math.log1p(group.step.cv**2))
                one = stats.lognorm(sigma, scale=base * math.exp(-sigma * sigma / 2))
            elif isinstance(group.step, Gamma):
                shape = 1 / group.step.cv**2
                one = stats.gamma(shape, scale=base / shape)
            else:
                one = stats.expon(loc=base, scale=group.stall.mean)
            found.append((index, one))
    return found


def test_the_culprits_group_is_that_with_the_share_of_the_hazard():
    law = maximum_law(THREE)
    devices = laws_of_devices(THREE)
    weight = np.exp(-np.exp(law.level))
    cells = weight[:-1] - weight[1:]
    found = law.share @ cells

    def rate(t, index):
        ready = math.prod(one.cdf(t) for _, one in devices)
        return ready * sum(one.pdf(t) / one.cdf(t) for i, one in devices if i == index)

    low = law.time[-1]
    exact = [
        integrate.quad(rate, low, 4.0, (i,), epsabs=1e-9, limit=500, points=[1.3, 1.4])[0]
        for i in range(3)
    ]
    assert law.share.sum(axis=0) == pytest.approx(np.ones(cells.size))
    assert found == pytest.approx(exact, abs=2e-6)


def test_devices_are_busy_as_long_as_the_last_arrival_lets_them():
    law = maximum_law(THREE)
    devices = laws_of_devices(THREE)
    for point in np.searchsorted(law.level, [-8.0, -1.0, 0.5, 1.5]):
        t = law.time[point]
        mean, last = np.zeros(3), np.zeros(3)
        hazards = np.array([one.pdf(t) / one.cdf(t) for _, one in devices])
        for (index, one), rate in zip(devices, hazards, strict=True):
            low = one.support()[0]
            middle = one.median()
            under = sum(
                integrate.quad(one.cdf, a, b, epsabs=1e-13)[0]
                for a, b in ((low, min(middle, t)), (min(middle, t), t))
            ) / one.cdf(t)
            mean[index] += (t - under) / THREE[index].base.size
            last[index] += rate / hazards.sum() * under / THREE[index].base.size
        assert law.busy[:, point] == pytest.approx(mean + last, rel=1e-6)


@pytest.mark.parametrize(
    "groups",
    [
        [Members(lottery(4, 0.1), LogNormal(mean=1.0, cv=0.1), Exponential(0.1))],
        [Members(lottery(3, 0.1), GAP, None), Members(lottery(5, 0.02), Uniform(0.8, 1.2), None)],
        [Members(np.array([1.1, 1.3]), None, None), Members(np.ones(3), Exponential(1.0), None)],
        [
            Members(np.ones(2), LOGNORMAL, ATOMS),
            Members(2.05 * lottery(2, 0.01), None, Pareto(0.1, 3.0)),
        ],
    ],
    ids=["stalls", "kinks", "floor", "atoms"],
)
def test_the_table_draws_what_a_simulation_of_all_devices_draws(groups):
    random = np.random.default_rng(11)
    count = 100_000
    law = maximum_law(groups)
    times = []
    for group in groups:
        one = np.broadcast_to(group.base, (count, group.base.size)).copy()
        if group.step is not None:
            one *= group.step.quantile(random.random(one.shape))
        if group.stall is not None:
            one += group.stall.quantile(random.random(one.shape))
        times.append(one)
    last = np.max([one.max(axis=1) for one in times], axis=0)
    time, cell, part = drawn(law, random.random(count))
    time = np.maximum(time, law.floor)
    assert stats.ks_2samp(last, time).pvalue > 1e-6
    for index, one in enumerate(times):
        ours = law.busy[index, cell] + part * np.diff(law.busy[index])[cell]
        busy = one.mean(axis=1)
        error = math.hypot(busy.std(), ours.std()) / math.sqrt(count)
        assert abs(busy.mean() - ours.mean()) < 5 * error + 1e-12
        # Not only on average, but also given an early or a late last arrival.
        for chosen, own in ((last < np.median(last), time < np.median(last)),):
            error = math.hypot(busy[chosen].std(), ours[own].std()) / math.sqrt(chosen.sum() + 1)
            if chosen.any():
                assert abs(busy[chosen].mean() - ours[own].mean()) < 5 * error + 1e-12
        won = np.mean(one.max(axis=1) == last)
        chance = np.where(time > law.floor, law.share[index, cell], law.floor_share[index])
        assert abs(won - chance.mean()) < 5 * math.sqrt(0.25 / count) + 1e-12


def test_devices_of_constant_time_are_a_floor():
    groups = [
        Members(np.array([1.0, 1.2, 1.2]), None, None),
        Members(np.ones(5), LOGNORMAL, None),
        Members(np.array([0.6]), Constant(2.0), None),
        Members(np.array([0.9, 0.7]), None, Constant(0.3)),
    ]
    law = maximum_law(groups)
    assert law.floor == 1.2
    assert law.floor_share == pytest.approx([0.5, 0, 0.25, 0.25])
    assert law.quantile(np.array([0.5])) == 1.2
    assert law.distribution(np.array([1.1999])) == 0
    assert law.share[[0, 2, 3]].max() == 0
    assert law.busy[[0, 2, 3], 7] == pytest.approx([3.4 / 3, 1.2, 1.1])
    assert law.survival(np.array([1.2])) == pytest.approx(5 * LOGNORMAL.survival(np.array([1.2])))
    only = maximum_law(groups[:1])
    assert np.all(only.time == 1.2)
    assert only.mean() == 1.2
    assert only.quantile(np.array([0.1, 0.9])).tolist() == [1.2, 1.2]


def test_tails_keep_their_digits():
    law = alike(3, Exponential(1.0))
    time = np.array([1e-5, 40.0])
    assert law.distribution(time)[0] == pytest.approx(1e-15, rel=1e-4)
    assert law.survival(time)[1] == pytest.approx(3 * math.exp(-40), rel=1e-6)


def test_a_long_tail_beside_a_narrow_group_hides_nothing_of_it():
    narrow = Members(1.2 * lottery(30_000), Normal(1.0, 0.001), LogNormal(mean=0.05, cv=0.01))
    few = Members(lottery(3, cv=0.2), Pareto(1.0, 1.3), None)
    both = maximum_law([few, narrow])
    alone = [maximum_law([few]), maximum_law([narrow])]
    time = alone[1].quantile(np.linspace(0.001, 0.999, 50))
    expected = alone[0].distribution(time) * alone[1].distribution(time)
    assert both.distribution(time) == pytest.approx(expected, abs=2e-6)
    assert both.tabulated(time) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("count", [1, 3, 100, 1_000, 220_000])
@pytest.mark.parametrize(
    "step",
    [
        Uniform(0.5, 1.5),
        Uniform(1.0, 1.1),
        Empirical(values=(1.0, 1.1, 1.2, 1.5, 2.0)),
        FromSciPy("beta", (("a", 2.0), ("b", 1.0)), 0.0, 1.0),
    ],
)
def test_laws_are_followed_up_to_their_end(step, count):
    law = maximum_law([Members(np.ones(count), step, None)])
    time = step.quantile(-np.expm1(np.log(np.linspace(0.01, 0.99, 25)) / count))
    assert law.distribution(time) == pytest.approx(np.linspace(0.01, 0.99, 25), abs=1e-6)


@pytest.mark.parametrize(
    "step",
    [
        LogNormal(median=1.0, sigma=1e-15),
        Weibull(scale=1.0, shape=1e15),
        Uniform(low=1.0, high=1.000000000000002),
        Pareto(scale=1.0, alpha=1e15),
        FromSciPy("beta", (("a", 0.1), ("b", 0.1)), 1.0, 1.0),
        FromSciPy("semicircular", (), 2.0, 1.0),
    ],
)
def test_times_that_doubles_cannot_tell_apart_are_refused(step):
    with pytest.raises(NotExact, match=r"doubles cannot tell|gaps in its distribution"):
        maximum_law([Members(np.ones(1000), step, None)])


def test_what_cannot_be_tabulated_is_refused_with_the_reason():
    repeated = Empirical(values=(1.0, 1.01, 1.01, 1.02))
    assert reason_against(LOGNORMAL, ATOMS) is None
    assert reason_against(repeated, Exponential(1.0)) is None
    assert reason_against(None, None) is None
    assert reason_against(Constant(2.0), Constant(0.1)) is None
    assert reason_against(Empirical(values=(1.0, 2.0, 4.0)), None) is None
    for step, stall in ((ATOMS, None), (repeated, Constant(0.1)), (None, ATOMS), (ATOMS, ATOMS)):
        assert "single values with a probability" in reason_against(step, stall)
        with pytest.raises(NotExact, match="single values"):
            maximum_law([Members(np.ones(3), step, stall)])
    with pytest.raises(NotExact, match="not above 0"):
        maximum_law([Members(np.array([1.0, -1.0]), LOGNORMAL, None)])
    maximum_law([Members(np.array([1.0, -1.0]), None, Exponential(1.0))])
