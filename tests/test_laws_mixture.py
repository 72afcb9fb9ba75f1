"""Mixtures: exact where they jump, accurate between, also at the edge of a gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_laws import ACCURACY, SURVIVALS, mixture, relative_errors, rises, survivals

from mcsim.laws import (
    Constant,
    Empirical,
    Exponential,
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


def tails(law: Law, x: Any) -> tuple[Any, Any]:
    """P(X > x) and P(X <= x) with all digits that mpmath has been asked for."""
    match law:
        case LogNormal(median=median, sigma=sigma) if median is not None:
            z = mp.log(x / mp.mpf(median)) / mp.mpf(sigma)
        case Normal(mean=mean, sd=sd):
            z = (x - mp.mpf(mean)) / mp.mpf(sd)
        case Exponential(mean=mean):
            below = -mp.expm1(-x / mp.mpf(mean)) if x > 0 else mp.mpf(0)
            return 1 - below, below
        case Pareto(scale=scale, alpha=alpha):
            above = (mp.mpf(scale) / x) ** mp.mpf(alpha) if x > scale else mp.mpf(1)
            return above, 1 - above
        case Uniform(low=low, high=high):
            share = (x - mp.mpf(low)) / (mp.mpf(high) - mp.mpf(low))
            below = min(max(share, mp.mpf(0)), mp.mpf(1))
            return 1 - below, below
        case Constant(value=value):
            return mp.mpf(x < value), mp.mpf(x >= value)
        case Mixture(parts=parts):
            pairs = [(mp.mpf(part.weight), tails(part.law, x)) for part in parts]
            return sum(w * t[0] for w, t in pairs), sum(w * t[1] for w, t in pairs)
        case _:
            raise NotImplementedError
    return mp.erfc(z / mp.sqrt(2)) / 2, mp.erfc(-z / mp.sqrt(2)) / 2


def bisected(law: Law, low: float, high: float, digits: int = 60) -> Any:
    """The quantile as a function of the survival, by bisection of the tail itself."""

    def at(s: Any) -> Any:
        a, b = mp.mpf(low), mp.mpf(high)
        with mp.workdps(digits):
            for _ in range(120):
                middle = (a + b) / 2
                above, below = tails(law, middle)
                # 1 - s is exact, and so the weights' sum, which is 1 only up to rounding.
                exceeds = above > s if s < 0.5 else below < 1 - s
                a, b = (middle, b) if exceeds else (a, middle)
        return b

    return at


NARROW = LogNormal(median=1.0, sigma=0.02)
SMOOTH = [
    (mixture((0.75, NARROW), (0.25, LogNormal(median=1.1, sigma=0.05))), 0.01, 1e3, 0.0),
    (mixture((0.9990234375, NARROW), (0.0009765625, Pareto(1.0, 1.5))), 0.01, 1e14, 0.0),
    (mixture((0.5, Normal(0.0, 1.0)), (0.5, Normal(0.5, 3.0))), -100.0, 100.0, 3.0),
    (mixture((0.5, Exponential(1.0)), (0.25, Uniform(0.5, 2.0)), (0.25, NARROW)), 0.0, 1e3, 0.0),
    (mixture((0.5, mixture((0.5, NARROW), (0.5, Exponential(0.1)))), (0.5, NARROW)), 0.0, 1e2, 0.0),
]


@pytest.mark.parametrize(("law", "low", "high", "size"), SMOOTH)
def test_a_mixture_matches_the_bisected_tail(
    law: Mixture, low: float, high: float, size: float
) -> None:
    assert max(relative_errors(law, bisected(law, low, high), size)) < ACCURACY


def test_the_edges_of_a_gap_keep_their_digits() -> None:
    law = mixture(
        (0.5, LogNormal(median=1.0, sigma=0.05)), (0.5, LogNormal(median=9.0, sigma=0.05))
    )
    # Within the gap the tails of the parts are as small as 1e-107.
    exact = bisected(law, 0.5, 20.0, digits=130)
    for s in (0.5, 0.5 - 2.0**-53, 0.5 + 2.0**-52, 0.5 - 1e-9, 0.501):
        with mp.workdps(50):
            error = mp.mpf(float(law.quantile(np.array(s)))) / exact(mp.mpf(s)) - 1
        assert abs(error) < ACCURACY


def test_constants_come_back_exactly_and_no_other_value() -> None:
    law = mixture((0.995, Constant(1.0)), (0.005, Constant(1.1)))
    s = np.concatenate([np.linspace(1e-3, 0.999, 10_001), SURVIVALS])
    s = np.concatenate([s, np.nextafter(0.005, [0.0, 1.0]), [0.005]])
    assert (law.quantile(s) == np.where(s < 0.005, 1.1, 1.0)).all()
    assert law.jumps().tolist() == [0.005]
    assert law.expectation() == pytest.approx(1.0005, rel=1e-15)
    assert law.variance() == pytest.approx(0.995 * 0.005 * 0.1**2, rel=1e-12)


@given(
    parts=st.lists(st.tuples(st.integers(1, 50), st.sampled_from([0.0, 1.0, 1.1, 2.0, 5.0])),
                   min_size=1, max_size=6),
    s=survivals,
)  # fmt: skip
def test_a_mixture_of_constants_is_the_generalised_inverse(
    parts: list[tuple[int, float]], s: float
) -> None:
    total = sum(weight for weight, _ in parts)
    law = mixture(*[(weight / total, Constant(value)) for weight, value in parts])
    values = sorted({value for _, value in parts})
    above = {v: sum(w for w, value in parts if value > v) / total for v in values}
    if all(abs(level - s) > 1e-12 for level in above.values()):
        assert law.quantile(np.array([s]))[0] == next(v for v in values if above[v] <= s)


def test_an_atom_among_continuous_parts_comes_back_exactly() -> None:
    law = mixture((0.25, Constant(1.0)), (0.75, Uniform(0.0, 3.0)))
    # S(1) = 0.75 * 2 / 3 = 0.5, and 0.25 more just below.
    x = law.quantile(np.array([0.49, 0.501, 0.6, 0.74, 0.76]))
    assert (x[1:4] == 1.0).all()
    assert x[0] == pytest.approx(3.0 - 3.0 * 0.49 / 0.75, rel=1e-14)
    assert x[4] == pytest.approx(3.0 * 0.24 / 0.75, rel=1e-14)
    for level in (0.5, 0.75):
        assert np.isclose(law.jumps(), level, rtol=1e-15).any()


def test_at_the_level_of_a_gap_the_quantile_is_where_the_gap_begins() -> None:
    law = mixture((0.5, Uniform(0.0, 1.0)), (0.5, Uniform(2.0, 3.0)))
    below, at, above = law.quantile(np.array([0.5 + 2.0**-50, 0.5, 0.5 - 2.0**-50]))
    assert at == 1.0
    assert below == pytest.approx(1.0, abs=1e-14)
    assert above == pytest.approx(2.0, abs=1e-14)
    assert below < 1.0 < 2.0 < above


def test_zero_or_a_stall_is_zero_or_the_stall() -> None:
    law = mixture((0.9, Constant(0.0)), (0.1, Exponential(0.002)))
    x = law.quantile(np.array([0.95, 0.1 + 1e-12, 0.05, 1e-6, 2.0**-65]))
    assert (x[:2] == 0.0).all()
    expected = 0.002 * -np.log(np.array([0.05, 1e-6, 2.0**-65]) / 0.1)
    assert x[2:] == pytest.approx(expected, rel=ACCURACY)
    near = law.quantile(np.array([0.1 - 1e-13]))[0]
    assert near == pytest.approx(0.002 * 1e-12, rel=1e-3)


def test_a_mixture_with_itself_is_the_law_itself() -> None:
    for law in (NARROW, Gamma(1.0, 0.5), Weibull(1.0, 0.3), Pareto(1.0, 2.0)):
        twice = mixture((0.3, law), (0.7, law))
        assert twice.quantile(SURVIVALS) == pytest.approx(law.quantile(SURVIVALS), rel=ACCURACY)


def test_repeated_measurements_stay_atoms_within_a_mixture() -> None:
    measured = Empirical(values=(1.0, 2.0, 2.0, 2.0, 4.0))
    law = mixture((0.5, measured), (0.5, Exponential(1.0)))
    s = np.linspace(0.01, 0.99, 2000)
    atom = law.quantile(s) == 2.0
    # Between 1/4 and 3/4 of (1, 2, 2, 2, 4) it is 2, with half the weight.
    assert atom.mean() == pytest.approx(0.25, abs=0.006)
    assert 2.0 in law.knots()


def test_weights_within_a_billionth_of_one_are_scaled() -> None:
    thirds = mixture(*[(0.3333333333, Constant(float(k))) for k in range(3)])
    assert list(thirds.faults()) == []
    assert thirds.expectation() == pytest.approx(1.0, rel=1e-15)
    assert thirds.survival(np.array([-1.0]))[0] == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize("weights", [(0.5, 0.4), (0.5, 0.5 + 1e-8), (1.0, 1.0)])
def test_weights_must_add_up_to_one(weights: tuple[float, float]) -> None:
    law = mixture(*[(weight, Constant(1.0)) for weight in weights])
    [(key, message)] = law.faults()
    assert key == "parts"
    assert "add up to 1" in message


def test_a_weight_must_be_positive() -> None:
    law = mixture((0.0, Constant(1.0)), (1.0, Constant(2.0)))
    assert list(law.faults()) == [("parts[0].weight", "0.0 must be above 0")]


def test_the_parts_of_a_mixture_are_read_in_too(tmp_path: Path) -> None:
    (tmp_path / "delays.csv").write_text("us\n3\n1\n2\n")
    part = Empirical(file="delays.csv", column="us", unit="us")
    law = mixture((0.5, Constant(1.0)), (0.5, mixture((1.0, part)))).resolved(tmp_path, "time")
    assert isinstance(law, Mixture)
    inner = law.parts[1].law
    assert isinstance(inner, Mixture)
    assert inner.parts[0].law.quantile(np.array([0.5]))[0] == pytest.approx(2e-6)
    missing = mixture((0.5, Constant(1.0)), (0.5, mixture((1.0, Empirical(file="gone.csv")))))
    with pytest.raises(LawFault) as caught:
        missing.resolved(tmp_path, "time")
    assert caught.value.key == "parts[1].parts[0].file"


@pytest.mark.parametrize(("law", "low", "high", "size"), SMOOTH)
def test_a_mixture_does_not_rise_between_neighbouring_survivals(
    law: Mixture, low: float, high: float, size: float
) -> None:
    rng = np.random.default_rng(3)
    s = np.concatenate([rng.random(3000), 2.0 ** -rng.uniform(1, 65, 3000)])
    x = law.quantile(np.array([s, np.nextafter(s, 1.0)]))
    assert (x[1] - x[0] <= 1e-15 * np.maximum(np.abs(x[0]), size)).all()
    if size == 0.0:
        assert rises(law, 0.5 + 2.0**-53 * np.arange(-50, 50)) <= 1e-15


def test_a_wrong_weight_would_be_noticed() -> None:
    mutant = Mixture(
        (WeightedLaw(0.76, NARROW), WeightedLaw(0.24, LogNormal(median=1.1, sigma=0.05)))
    )
    law, low, high, size = SMOOTH[0]
    assert max(relative_errors(mutant, bisected(law, low, high), size)) > 1e-4
