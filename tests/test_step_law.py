"""The law of the step time against drawn steps and closed forms."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy import integrate

from mcsim.laws import (
    Constant,
    Exponential,
    LogNormal,
    Mixture,
    Pareto,
    Uniform,
    WeightedLaw,
)
from mcsim.model.barrier import slowest_of, step_end
from mcsim.model.exchange import Exchange
from mcsim.model.maximum import Members, maximum_law
from mcsim.model.plan import Barrier, Delay, Messages
from mcsim.model.step_law import StepLaw, mixture_of

DRAWS = 1_000_000
PROBABILITY = np.array([1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999])


def site(count, step, stall=None, scale=1.0):
    base = scale * np.exp(0.02 * np.random.default_rng(count).standard_normal(count))
    return maximum_law([Members(base, step, stall)])


def delay(level, where, law, participants=1, rounds=1):
    return Delay(where, rounds, (Messages(level, 0, law, participants),))


def links(*laws, rounds=1):
    return Delay(None, rounds, tuple(Messages("link", 0, law, 1) for law in laws))


@cache
def arrivals(law, place):
    return law.quantile(np.random.default_rng(100 + place).random(DRAWS))


def waited(delay, random):
    total = np.zeros(DRAWS)
    for _ in range(delay.rounds):
        total += np.max(
            [
                one.law.quantile(slowest_of(random.random(DRAWS), one.participants))
                for one in delay.messages
            ],
            axis=0,
            initial=0.0,
        )
    return total


def drawn(sites, barrier):
    random = np.random.default_rng(5)
    ready = np.stack([arrivals(law, place) for place, law in enumerate(sites)], axis=1)
    delays = np.empty((DRAWS, 0))
    if barrier is not None and barrier.delays:
        delays = np.stack([waited(one, random) for one in barrier.delays], axis=1)
    return step_end(barrier, ready, delays)


JITTER = LogNormal(mean=1.0, cv=0.03)
ONE = [site(1000, JITTER)]
TWO = [*ONE, site(500, JITTER, scale=1.01)]
STILL = maximum_law([Members(np.ones(5), None, None)])
LINK = delay("link", None, LogNormal(median=0.01, sigma=0.8))
SWITCH = delay("site", 0, LogNormal(median=1e-3, sigma=0.8), 1000)
NODE = delay("node", 0, Exponential(0.002), 1000)
ODD = Mixture((WeightedLaw(0.9, Constant(0.0)), WeightedLaw(0.1, Constant(0.1))))

CASES = {
    "one site": (ONE, None),
    "two sites": (TWO, None),
    "fixed costs": (TWO, Barrier((0.1, 0.2), (0.1, 0.05), Exchange(0.05), 0.0, ())),
    "fixed costs, half hidden": (TWO, Barrier((0.1, 0.2), (0.1, 0.05), Exchange(0.05), 0.31, ())),
    "link": (TWO, Barrier((0.1, 0.2), (0.1, 0.05), Exchange(0.05), 0.0, (LINK,))),
    "link, half hidden": (TWO, Barrier((0.1, 0.2), (0.1, 0.05), Exchange(0.05), 0.31, (LINK,))),
    "three links": (
        TWO,
        Barrier(
            (0.1, 0.2),
            (0.1, 0.05),
            Exchange(0.05),
            0.31,
            (links(LogNormal(median=0.01, sigma=0.8), Exponential(0.02), Constant(0.005)),),
        ),
    ),
    "two links, four rounds": (
        TWO,
        Barrier(
            (0.1, 0.2),
            (0.1, 0.05),
            Exchange(0.05),
            0.31,
            (links(LogNormal(median=0.01, sigma=0.8), Exponential(0.02), rounds=4),),
        ),
    ),
    "rounds inside a site": (
        ONE,
        Barrier(
            (0.1,),
            (0.1,),
            Exchange(0.0),
            0.2,
            (delay("site", 0, LogNormal(median=1e-3, sigma=0.8), 1000, 7),),
        ),
    ),
    "site": (ONE, Barrier((0.1,), (0.1,), Exchange(0.0), 0.0, (SWITCH,))),
    "site, half hidden": (ONE, Barrier((0.1,), (0.1,), Exchange(0.0), 0.2, (SWITCH,))),
    "site and nodes, half hidden": (
        ONE,
        Barrier((0.1,), (0.1,), Exchange(0.0), 0.25, (SWITCH, NODE)),
    ),
    "all hidden by compute": (ONE, Barrier((0.5,), (0.5,), Exchange(0.0), 1.0, (SWITCH,))),
    "still site": (
        [STILL, TWO[1]],
        Barrier((0.1, 0.2), (0.1, 0.05), Exchange(0.05), 0.34, (LINK,)),
    ),
    "still, delays alone": ([STILL], Barrier((0.1,), (0.1,), Exchange(0.05), 0.25, (SWITCH,))),
    "sites and links": (
        TWO,
        Barrier(
            (0.1, 0.2),
            (0.1, 0.05),
            Exchange(0.05),
            0.3,
            (delay("site", 1, Uniform(0.0, 0.01), 3), LINK),
        ),
    ),
    "heavy tails": (
        [site(1000, Pareto(1.0, 2.2)), TWO[1]],
        Barrier(
            (0.1, 0.2), (0.1, 0.05), Exchange(0.05), 0.1, (delay("link", None, Pareto(0.1, 1.5)),)
        ),
    ),
    "now and then": (
        TWO,
        Barrier(
            (0.1, 0.2),
            (0.1, 0.05),
            Exchange(0.05),
            0.31,
            (delay("link", None, ODD), delay("node", 1, ODD, 2)),
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_law_is_that_of_drawn_steps(name):
    sites, barrier = CASES[name]
    law = StepLaw.of(sites, barrier)
    steps = drawn(sites, barrier)
    time = law.quantile(PROBABILITY)
    share = (steps[:, None] <= time).mean(axis=0)
    error = np.sqrt(PROBABILITY * (1 - PROBABILITY) / DRAWS)
    assert np.all(np.abs(share - PROBABILITY) < 5 * error)
    assert law.distribution(time) == pytest.approx(PROBABILITY, rel=1e-9)
    assert law.survival(time) == pytest.approx(1 - PROBABILITY, rel=1e-9)
    if math.isfinite(law.std()):
        assert abs(steps.mean() - law.mean()) < 5 * law.std() / math.sqrt(DRAWS)
        assert law.std() == pytest.approx(steps.std(), rel=0.05)


@pytest.mark.parametrize("name", CASES)
def test_the_density_integrates_to_one_and_to_the_mean(name):
    law = StepLaw.of(*CASES[name])
    edges = law.quantile(np.concatenate([2.0 ** -np.arange(23.0, 1.0, -0.25), [0.5]]))
    far = law.law.curve.time(np.arange(-0.4, -38.0, -0.25))
    edges = np.unique(np.concatenate([edges, far, law.law.curve.axis.time(law.law.curve.y.edges)]))
    node, weight = np.polynomial.legendre.leggauss(12)
    half = 0.5 * np.diff(edges)[:, None]
    time = edges[:-1, None] + half * (1 + node)
    density = law.density(time) * weight * half
    assert density.sum() == pytest.approx(1.0, abs=3e-7)
    if name != "heavy tails":
        assert (density * time).sum() == pytest.approx(law.mean(), rel=1e-6)


def test_one_exponential_device_behind_an_exponential_link_is_their_sum():
    ready = [maximum_law([Members(np.ones(1), Exponential(1.0), None)])]
    link = (delay("link", None, Exponential(0.5)),)
    law = StepLaw.of(ready, Barrier((0.25,), (0.0,), Exchange(0.125), 0.0, link))
    time = np.array([0.01, 0.3, 1.0, 5.0, 20.0, 35.0])
    late = 2 * np.exp(-time) - np.exp(-2 * time)
    assert law.survival(time + 0.375) == pytest.approx(late, rel=1e-6)
    assert law.density(time + 0.375) == pytest.approx(
        2 * np.exp(-time) * -np.expm1(-time), rel=1e-4
    )
    assert law.mean() == pytest.approx(1.875, rel=1e-6)
    assert law.std() == pytest.approx(math.sqrt(1.25), rel=1e-5)


def test_a_delay_that_compute_may_hide_shortens_nothing_else():
    # By hand: max(R, (1 - o) R + X), R and X uniform, from a two-dimensional integral.
    ready = [maximum_law([Members(np.ones(1), Uniform(1.0, 2.0), None)])]
    late = (delay("site", 0, Uniform(0.0, 1.0)),)
    law = StepLaw.of(ready, Barrier((0.0,), (0.0,), Exchange(0.0), 0.4, late))
    for time in (1.1, 1.4, 1.7, 1.95, 2.1):
        exact = integrate.quad(
            lambda r, t=time: min(max(t - 0.6 * r, 0.0), 1.0),
            1.0,
            min(time, 2.0),
            points=[min(max((time - 1) / 0.6, 1.0), min(time, 2.0))],
            epsabs=1e-12,
        )[0]
        assert law.distribution(time) == pytest.approx(exact, abs=1e-8)


def test_without_any_chance_a_step_always_takes_the_same():
    law = StepLaw.of([STILL, STILL], Barrier((0.1, 0.2), (0.1, 0.1), Exchange(0.3), 0.0, ()))
    assert law.quantile(0.3) == pytest.approx(1.6)
    assert (law.mean(), law.std()) == (pytest.approx(1.6), 0.0)
    assert law.distribution([1.5, 1.7]).tolist() == [0.0, 1.0]
    assert law.density(1.0) == 0.0


def test_constant_devices_are_a_floor_of_the_step():
    floor = maximum_law([Members(np.array([1.1]), None, None), Members(np.ones(10), JITTER, None)])
    law = StepLaw.of([floor, TWO[1]], None)
    steps = drawn([floor, TWO[1]], None)
    both = floor.distribution(np.array([1.1])) * TWO[1].distribution(np.array([1.1]))
    assert law.distribution(1.1) == pytest.approx(both[0], rel=1e-6)
    assert law.distribution(1.0999) == 0.0
    assert law.mean() == pytest.approx(steps.mean(), abs=5 * steps.std() / math.sqrt(DRAWS))


def test_the_ends_of_the_law():
    endless = StepLaw.of(ONE, None)
    assert endless.quantile(1.0) == np.inf
    ended = StepLaw.of([site(10, Uniform(0.9, 1.1))], None)
    last = 1.1 * np.exp(0.02 * np.random.default_rng(10).standard_normal(10)).max()
    assert ended.quantile(1.0) == pytest.approx(last, rel=1e-12)
    with pytest.raises(ValueError, match="from 0 to 1"):
        endless.quantile(1.5)


def test_a_heavy_tail_has_a_mean_and_no_standard_deviation():
    law = StepLaw.of([maximum_law([Members(np.ones(400), Pareto(1.0, 1.5), None)])], None)
    exact = 400 * math.exp(math.lgamma(400) + math.lgamma(1 / 3) - math.lgamma(400 + 1 / 3))
    assert law.mean() == pytest.approx(exact, rel=1e-6)
    assert law.std() == np.inf
    with_variance = StepLaw.of([maximum_law([Members(np.ones(1), Pareto(1.0, 2.5), None)])], None)
    assert with_variance.std() == pytest.approx(Pareto(1.0, 2.5).variance() ** 0.5, rel=1e-6)


def test_extreme_quantiles_are_right_to_a_millionth():
    law = StepLaw.of([maximum_law([Members(np.ones(1000), JITTER, None)])], None)
    for p in (1e-6, 1e-3, 0.5, 1 - 1e-9):
        one = -np.expm1(np.log(p) / 1000) if p < 0.9 else -np.expm1(np.log1p(-1e-9) / 1000)
        exact = JITTER.quantile(np.array([one]))[0]
        assert law.quantile(p) == pytest.approx(exact, rel=1e-9 if p < 0.9 else 1e-8)


def test_a_mixture_of_clusters_is_each_of_them_as_often():
    laws = [StepLaw.of([site(100, JITTER, scale=s)], None) for s in (1.0, 1.05, 1.5)]
    laws.append(StepLaw.of([STILL], Barrier((0.0,), (0.0,), Exchange(0.1), 0.0, ())))
    mixed = mixture_of(laws)
    time = np.array([1.02, 1.0999, 1.1001, 1.15, 1.3, 1.6, 1.7])
    assert mixed.survival(time) == pytest.approx(
        np.mean([law.survival(time) for law in laws], axis=0), rel=1e-6
    )
    assert mixed.density(time) == pytest.approx(
        np.mean([law.density(time) for law in laws], axis=0), rel=1e-4, abs=1e-6
    )
    assert mixed.mean() == pytest.approx(np.mean([law.mean() for law in laws]), rel=1e-7)
    square = np.mean([law.std() ** 2 + law.mean() ** 2 for law in laws])
    assert mixed.std() == pytest.approx(math.sqrt(square - mixed.mean() ** 2), rel=1e-6)
    assert mixed.distribution(mixed.quantile(0.9)) == pytest.approx(0.9, rel=1e-9)
    assert mixture_of(laws[:1]) is laws[0]
    still = [StepLaw.of([maximum_law([Members(np.full(3, t), None, None)])], None) for t in (1, 2)]
    assert mixture_of(still).quantile([0.3, 0.7]) == pytest.approx([1.0, 2.0])
    assert mixture_of(still).mean() == pytest.approx(1.5)
