"""Delays that take a few values only, against all of their combinations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mcsim.laws import Constant, Exponential, Mixture, WeightedLaw
from mcsim.model.delays import Slowest, latest, total

ONE = {0.0: 0.9, 1.0: 0.08, 2.5: 0.02}
OTHER = {0.5: 0.7, 1.5: 0.3}
THIRD = {0.0: 0.999, 1.2: 0.001}


def mixture(values):
    return Mixture(tuple(WeightedLaw(w, Constant(v)) for v, w in values.items()))


@pytest.mark.parametrize(("combine", "outcome"), [(total, math.fsum), (latest, max)])
def test_sums_and_maxima_of_few_values_are_exact(combine, outcome):
    chances = {}
    for each in itertools.product(ONE.items(), OTHER.items(), THIRD.items()):
        value = round(outcome(v for v, _ in each), 9)
        chances[value] = chances.get(value, 0.0) + math.prod(w for _, w in each)
    law = combine([mixture(ONE), mixture(OTHER), mixture(THIRD)])
    for value in chances:
        at_most = math.fsum(w for v, w in chances.items() if v <= value)
        beyond = math.fsum(w for v, w in chances.items() if v > value)
        around = np.array([value + 1e-9, value + 0.05])
        assert law.distribution(around) == pytest.approx([at_most] * 2, rel=1e-12)
        assert law.survival(around) == pytest.approx([beyond] * 2, rel=1e-12, abs=1e-18)
    drawn = law.quantile(np.random.default_rng(1).random(10_000))
    assert np.abs(drawn[:, None] - list(chances)).min(axis=1).max() < 1e-12


def test_a_few_values_and_a_density_are_still_a_curve():
    law = total([mixture(ONE), Exponential(1.0)])
    expected = sum(w * np.exp(-max(3.0 - v, 0.0)) for v, w in ONE.items())
    assert law.survival(np.array([3.0]))[0] == pytest.approx(expected, rel=1e-6)


def test_weights_that_sum_to_a_last_bit_more_than_one_are_a_certainty():
    sixtieths = mixture({float(value): 1 / 60 for value in range(60)})
    assert sixtieths.survival(np.array([-1.0]))[0] > 1.0
    law = Slowest(sixtieths, 8)
    assert law.survival(np.array([-1.0]))[0] == 1.0
    assert np.all(np.isfinite(total([law, Exponential(1.0)]).quantile(np.array([0.9, 1e-9]))))
