"""Sums of many delays against a transform of their density."""

from __future__ import annotations

import numpy as np
import pytest

from mcsim.laws import Empirical
from mcsim.model.delays import Slowest, sum_of_many

# The table hdr200-same-rack.
MEASURED = Empirical(
    values=(1.75e-06, 1.75e-06, 2.65e-06, 5.85e-06, 1.11e-05, 2.465e-05),
    probabilities=(0.0, 0.5, 0.99, 0.999, 0.9999, 1.0),
)


def by_transform(law, number, low, high, time):
    """P(sum > time) of so many draws, by the Fourier transform of what is between two values."""
    cells = 2**20
    width = (high - low) / cells
    edges = low + width * np.arange(cells + 1)
    mass = np.diff(law.distribution(edges), prepend=0.0)[1:]
    one = np.fft.rfft(mass)
    summed = np.cumsum(np.fft.irfft(one**number, cells))
    # The masses lie in the middle of their cells.
    ends = number * (low + 0.5 * width) + width * (np.arange(cells) + 0.5)
    return 1.0 - np.interp(time, ends, summed)


@pytest.mark.parametrize("number", [2, 5, 8])
def test_the_sum_of_many_delays_with_kinks_has_their_law(number):
    law = Slowest(MEASURED, 64)
    found = sum_of_many(law, number)
    survival = np.concatenate([np.geomspace(1e-6, 0.5, 60), 1 - np.geomspace(1e-6, 0.5, 60)])
    time = found.quantile(survival)
    exact = by_transform(law, number, 1.75e-6, 3.6e-4, time)
    assert survival == pytest.approx(exact, abs=4e-6)
    assert found.survival(time) == pytest.approx(survival, abs=1e-6)


def test_the_quantiles_of_a_sum_are_those_of_its_curve():
    found = sum_of_many(Slowest(MEASURED, 64), 4)
    survival = np.concatenate([np.geomspace(1e-18, 0.5, 999), 1 - np.geomspace(1e-12, 0.5, 999)])
    exact = found.curve.time(np.log(-np.log1p(-survival)))
    assert found.quantile(survival) == pytest.approx(exact, rel=1e-8)
