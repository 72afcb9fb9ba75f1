"""The gamma law, whose quantile has no closed form, against mpmath."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy.special import gammainccinv, gammaincinv
from test_laws import ACCURACY, SURVIVALS, relative_errors, rises

from mcsim.laws import FloatArray, Gamma, large_shape, small_shape


def exact_quantile(cv: float) -> Any:
    """The quantile of Gamma(1, cv) as a function of the survival, by Newton's method in ln x.

    Both tails come from the lower incomplete gamma function, whose series has positive terms; with
    60 digits the upper keeps at least 40.
    """
    a = 1 / mp.mpf(cv) ** 2

    def at(survival: Any) -> Any:
        s, p = float(survival), float(1 - survival)
        start = gammainccinv(float(a), s) if s < 0.5 else gammaincinv(float(a), p)
        with mp.workdps(60):
            # Below the smallest double, only the first term of the series is left.
            first = (mp.log(1 - survival) + mp.loggamma(a + 1)) / a
            y = mp.log(start) if start > 1e-290 else first
            for _ in range(20):
                x = mp.exp(y)
                density = mp.exp(a * y - x - mp.loggamma(a))
                below = density / a * mp.hyp1f1(1, a + 1, x, maxterms=10**6)
                if s < 0.5:
                    step = mp.log((1 - below) / survival) * (1 - below) / density
                else:
                    step = mp.log((1 - survival) / below) * below / density
                y += step
                if abs(step) < 1e-30:
                    return mp.exp(y) / a
        raise AssertionError("the oracle did not converge")

    return at


@pytest.mark.parametrize("cv", [5.0, 2.0, 1.0, 0.7, 0.5, 0.3, 0.15, 0.1001, 0.1, 0.03, 0.01])
def test_gamma_matches_the_incomplete_gamma_function(cv: float) -> None:
    smallest_normal = 1e-300
    errors = relative_errors(Gamma(1.0, cv), exact_quantile(cv), size=smallest_normal)
    assert max(errors) < 2e-14 < ACCURACY


def test_gamma_of_a_million_causes_matches_the_incomplete_gamma_function() -> None:
    law, exact = Gamma(1.0, 1e-3), exact_quantile(1e-3)
    for s in (2.0**-65, 0.25, 1 - 2.0**-53):
        with mp.workdps(50):
            true = exact(mp.mpf(s))
            assert abs(mp.mpf(float(law.quantile(np.array(s)))) / true - 1) < ACCURACY


def test_gamma_of_unit_cv_is_exponential() -> None:
    assert max(relative_errors(Gamma(1.0, 1.0), lambda s: -mp.log(s))) < 1e-14


def test_a_narrow_gamma_tends_to_the_normal_law() -> None:
    z = (Gamma(1.0, 1e-7).quantile(SURVIVALS) - 1.0) / 1e-7
    with mp.workdps(40):
        normal = [float(mp.sqrt(2) * mp.erfinv(1 - 2 * mp.mpf(float(s)))) for s in SURVIVALS]
    # The next term of the Cornish-Fisher expansion is cv (z^2 - 1) / 3.
    assert z == pytest.approx(np.array(normal), abs=1e-5)


@pytest.mark.parametrize("cv", [1e-3, 0.02, 0.1, 0.1001, 0.5, 1.0, 3.0])
def test_survival_and_distribution_match_the_incomplete_gamma_function(cv: float) -> None:
    law, a = Gamma(2.0, cv), 1 / mp.mpf(cv) ** 2
    for s in (1e-18, 1e-5, 0.3, 0.8, 1 - 1e-12):
        x = float(law.quantile(np.array(s)))
        with mp.workdps(50):
            argument = mp.mpf(x) / 2 * a
            first = mp.exp(a * mp.log(argument) - argument - mp.loggamma(a + 1))
            below = first * mp.hyp1f1(1, a + 1, argument, maxterms=10**6)
        assert float(law.survival(np.array(x))) == pytest.approx(float(1 - below), rel=1e-12)
        assert float(law.distribution(np.array(x))) == pytest.approx(float(below), rel=1e-12)


def coefficients_of_x(count: int) -> list[Any]:
    """Of x as a power series of eta, from x' (x - 1) = eta x (Temme 1992, equation 2.3)."""
    m = [mp.mpf(0), mp.mpf(1)]
    for n in range(2, count):
        products = sum(m[i] * (n + 1 - i) * m[n + 1 - i] for i in range(2, n))
        m.append((m[n - 1] - products) / (n + 1))
    return [mp.mpf(1), *m[1:]]


def test_the_coefficients_of_the_expansion_are_those_of_its_equations() -> None:
    x = coefficients_of_x(len(large_shape.X_OF_ETA))
    assert [float(c) for c in x] == pytest.approx(list(large_shape.X_OF_ETA), rel=1e-14)
    # Temme 1992, section 5, gives the first ones of each order.
    published = [[-1 / 3, 1 / 36, 1 / 1620, -7 / 6480, 5 / 18144], [-7 / 405, -7 / 2592]]
    published += [[449 / 102060, -63149 / 20995200, 29233 / 36741600]]
    for row, known in zip(large_shape.CORRECTIONS, published, strict=False):
        assert list(row[: len(known)]) == pytest.approx(known, rel=1e-14)


def neighbours(s: float, count: int = 60) -> FloatArray:
    """Consecutive doubles around s."""
    return np.clip(s + np.spacing(s) * np.arange(-count, count), 2.0**-66, 1 - 2.0**-52)


@pytest.mark.parametrize("cv", [5.0, 2.0, 1.0, 0.7, 0.5, 0.11, 0.1, 0.02])
def test_no_branch_lets_the_quantile_rise(cv: float) -> None:
    law = Gamma(1.0, cv)
    switches = [0.5, 2.0**-64, float(law.survival(np.array(small_shape.SERIES_BELOW * cv * cv)))]
    # The nodes of the tables.
    switches += (2.0**-1 * np.exp(-small_shape.STEP * np.arange(0, 2000, 37))).tolist()
    switches += (1 - 2.0**-1 * np.exp(-small_shape.STEP * np.arange(0, 1500, 37))).tolist()
    for s in switches:
        assert rises(law, neighbours(s)) <= 1e-15


def test_beyond_the_table_the_quantile_goes_on() -> None:
    s = np.array([2.0**-60, 2.0**-65, 2.0**-66, 2.0**-67, 2.0**-80, 1e-200])
    for cv in (5.0, 0.5, 0.1, 0.01):
        law = Gamma(1.0, cv)
        assert (np.diff(law.quantile(s)) > 0).all()
        assert law.survival(law.quantile(s)) == pytest.approx(s, rel=1e-10)


@pytest.mark.parametrize("cv", [1000.0, 30.0, 1e-5, 1e-8, 1e-17, 1e-160])
def test_extreme_shapes_stay_finite_and_ordered(cv: float) -> None:
    law = Gamma(2.0, cv)
    s = np.concatenate([2.0 ** -np.arange(1.0, 66.0), 1 - 2.0 ** -np.arange(1.0, 54.0)])
    x = law.quantile(np.sort(s))
    assert np.isfinite(x).all()
    assert (np.diff(x) <= 0).all()
    survival = law.survival(np.array([-1.0, 0.0, 2.0, 1e300]))
    assert survival[[0, -1]].tolist() == [1.0, 0.0]
    assert (np.diff(survival) <= 0).all()
