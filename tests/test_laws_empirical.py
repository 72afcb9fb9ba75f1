"""The empirical law: numpy's quantiles, exact moments, and reading of data with clear refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_laws import SURVIVALS, survivals

from mcsim.catalogue import distributions
from mcsim.laws import Empirical, LawFault, column
from mcsim.units import Dimension

numbers = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=1, max_size=30)


@given(values=numbers, s=survivals)
def test_quantiles_are_those_of_numpy(values: list[float], s: float) -> None:
    law = Empirical(values=tuple(values))
    expected = np.quantile(values, 1.0 - s)
    size = max(map(abs, values))
    assert law.quantile(np.array([s]))[0] == pytest.approx(expected, rel=1e-13, abs=1e-13 * size)


@given(values=numbers, s=survivals)
def test_nothing_lies_outside_what_was_measured(values: list[float], s: float) -> None:
    x = Empirical(values=tuple(values)).quantile(np.array([s]))[0]
    assert min(values) <= x <= max(values)


def test_the_largest_values_keep_their_digits() -> None:
    law = Empirical(values=(0.0, 1.0, 3.0))
    assert law.quantile(np.array([2.0**-65, 2.0**-30])).tolist() == [3.0, 3.0 - 2.0**-28]
    # The distance from a largest value of zero shows what counting from the top keeps.
    top = Empirical(values=(-3.0, -1.0, 0.0))
    assert top.quantile(np.array([2.0**-65]))[0] == -(2.0**-64)
    bottom = Empirical(values=(0.0, 1.0, 3.0))
    assert bottom.quantile(np.array([1 - 2.0**-53]))[0] == 2.0**-52


def test_one_value_is_a_constant() -> None:
    assert (Empirical(values=(7.0,)).quantile(SURVIVALS) == 7.0).all()


def test_the_order_of_the_values_does_not_matter() -> None:
    values = (3.0, 1.0, 2.0)
    assert Empirical(values=values).quantile(np.array([0.5]))[0] == 2.0
    resolved = Empirical(values=values).resolved(Path(), None)
    assert resolved == Empirical(values=(1.0, 2.0, 3.0))


def test_probabilities_say_where_values_stand() -> None:
    law = Empirical(values=(1.0, 2.0, 10.0), probabilities=(0.0, 0.9, 1.0))
    s = np.array([1 - 2.0**-53, 0.55, 0.1, 0.05, 0.01, 2.0**-65])
    assert law.quantile(s) == pytest.approx([1.0, 1.5, 2.0, 6.0, 9.2, 10.0], rel=1e-13)
    assert law.expectation() == pytest.approx(0.9 * 1.5 + 0.1 * 6.0, rel=1e-15)
    assert law.jumps() == pytest.approx([0.1], rel=1e-15)


def test_equidistant_probabilities_change_nothing() -> None:
    values = tuple(np.sort(np.random.default_rng(4).normal(size=129)).tolist())
    plain = Empirical(values=values)
    table = Empirical(values=values, probabilities=tuple(k / 128 for k in range(129)))
    s = np.concatenate([SURVIVALS, np.random.default_rng(5).random(1000)])
    assert (plain.quantile(s) == table.quantile(s)).all()
    assert plain.variance() == pytest.approx(table.variance(), rel=1e-14)


def test_repeated_values_have_a_probability_of_their_own() -> None:
    law = Empirical(values=(1.0, 2.0, 2.0, 2.0, 4.0))
    x = np.array([0.9, 1.0, 1.5, 2.0 - 1e-9, 2.0, 3.0, 4.0, 5.0])
    expected = [1.0, 1.0, 0.875, 0.75, 0.25, 0.125, 0.0, 0.0]
    assert law.survival(x) == pytest.approx(expected, abs=1e-9)
    assert law.distribution(x) == pytest.approx([1.0 - s for s in expected], abs=1e-9)
    assert law.knots().tolist() == [1.0, 2.0, 4.0]


def test_moments_are_exact_for_straight_lines() -> None:
    two = Empirical(values=(1.0, 3.0))
    assert two.expectation() == 2.0
    assert two.variance() == pytest.approx(4.0 / 12.0, rel=1e-15)
    # A large offset does not cancel.
    assert Empirical(values=(1e9, 1e9 + 2)).variance() == pytest.approx(4.0 / 12.0, rel=1e-12)


def pareto_sample(alpha: float, size: int) -> tuple[float, ...]:
    return tuple(np.random.default_rng(6).random(size) ** (-1 / alpha))


def test_a_pareto_tail_goes_on_from_the_joint() -> None:
    values = pareto_sample(2.5, 10_000)
    law, body = Empirical(values=values, tail="pareto"), Empirical(values=values)
    ordered = np.sort(values)
    joint, share = ordered[-101], 100 / 9999
    alpha = 1.0 / np.mean(np.log(ordered[-100:] / joint))
    assert alpha == pytest.approx(2.5, rel=0.3)
    s = np.array([1e-3, 1e-6, 2.0**-65])
    assert law.quantile(s) == pytest.approx(joint * (share / s) ** (1 / alpha), rel=1e-12)
    assert law.survival(law.quantile(s)) == pytest.approx(s, rel=1e-12)
    around = np.array([share * (1 + 1e-12), share, share * (1 - 1e-12)])
    assert law.quantile(around) == pytest.approx(joint, rel=1e-9)
    assert (np.diff(law.quantile(around)) >= 0).all()
    inside = np.linspace(share, 0.999, 500)
    assert (law.quantile(inside) == np.minimum(body.quantile(inside), joint)).all()
    assert law.survival(np.array([joint]))[0] == pytest.approx(share, rel=1e-14)


def test_a_pareto_tail_of_few_values_takes_at_least_two() -> None:
    law = Empirical(values=(1.0, 2.0, 2.1), tail="pareto")
    # Beyond the smallest of three values everything is tail, from P(X > 1) = 1 on.
    gamma = (math.log(2.0) + math.log(2.1)) / 2
    assert law.quantile(np.array([0.25]))[0] == pytest.approx(4.0**gamma, rel=1e-14)
    assert law.expectation() == pytest.approx(1.0 / (1.0 - gamma), rel=1e-14)


def test_equal_largest_values_have_no_tail_to_estimate() -> None:
    law = Empirical(values=(1.0, 2.0, 2.0, 2.0), tail="pareto")
    assert list(law.faults()) == []
    assert law.quantile(np.array([0.9, 1e-9]))[1] == 2.0
    assert law.survival(np.array([1.9, 2.0])).tolist()[1] == 0.0
    assert law.expectation() == pytest.approx(1.5 / 3 + 2.0 * 2 / 3)


def test_a_pareto_tail_of_infinite_variance_says_so() -> None:
    law = Empirical(values=pareto_sample(1.5, 10_000), tail="pareto")
    assert law.variance() == math.inf
    assert math.isfinite(law.expectation())


@pytest.mark.parametrize(
    ("law", "key", "part"),
    [
        (Empirical(), "", "needs a `file`, `values` or a `table`"),
        (Empirical(file="a.csv", table="b"), "table", "not both"),
        (Empirical(values=(1.0,), file="a.csv", table="b"), "table", "not both"),
        (Empirical(values=(1.0,), unit="us"), "unit", "belongs to a `file`"),
        (Empirical(table="a", column="x"), "column", "belongs to a `file`"),
        (Empirical(table="a", probabilities=(0.0, 1.0)), "probabilities", "brings its own"),
        (Empirical(values=(1.0, math.nan)), "values", "finite"),
        (Empirical(values=(1.0, math.inf)), "values", "finite"),
        (Empirical(values=(1.0,) * 1_000_001), "values", "more than 1,000,000"),
        (Empirical(values=(1.0, 2.0), probabilities=(0.0, 0.5, 1.0)), "probabilities", "are 3"),
        (Empirical(values=(1.0, 2.0), probabilities=(0.1, 1.0)), "probabilities", "from 0 to 1"),
        (Empirical(values=(1.0, 2.0), probabilities=(0.0, 0.9)), "probabilities", "from 0 to 1"),
        (Empirical(values=(1.0,), probabilities=(1.0,)), "probabilities", "from 0 to 1"),
        (
            Empirical(values=(1.0, 2.0, 3.0), probabilities=(0.0, 0.0, 1.0)),
            "probabilities",
            "increase",
        ),
        (Empirical(values=(2.0, 1.0), probabilities=(0.0, 1.0)), "values", "not decrease"),
        (
            Empirical(values=(1.0, 2.0), probabilities=(0.0, 1.0), tail="pareto"),
            "tail",
            "single values",
        ),
        (Empirical(values=(1.0, 2.0), tail="pareto"), "tail", "at least 3 values"),
        (Empirical(values=(-1.0, 2.0, 3.0), tail="pareto"), "tail", "not above 0"),
        (Empirical(values=pareto_sample(0.7, 10_000), tail="pareto"), "tail", "mean is infinite"),
    ],
)
def test_what_is_wrong_with_the_parameters_is_said(law: Empirical, key: str, part: str) -> None:
    [(found, message)] = law.faults()
    assert found == key
    assert part in message
    with pytest.raises(LawFault) as caught:
        law.resolved(Path(), None)
    assert (caught.value.key, caught.value.message) == (key, message)


def test_a_law_without_its_data_cannot_be_used() -> None:
    with pytest.raises(LawFault, match="has not been read"):
        Empirical(file="delays.csv").quantile(SURVIVALS)


def resolve(
    directory: Path, text: str, dimension: Dimension | None = "time", **keys: str | Sequence[float]
) -> Empirical:
    (directory / "delays.csv").write_text(text, encoding="utf-8")
    law = Empirical(file="delays.csv", **keys).resolved(directory, dimension)  # type: ignore[arg-type]
    assert isinstance(law, Empirical)
    return law


def test_a_column_is_read_in_its_unit_and_sorted(tmp_path: Path) -> None:
    text = "host,us\na,3\n\nb, 1.5 \nc,2e0\n"
    law = resolve(tmp_path, text, column="us", unit="us")
    assert law.values == pytest.approx((1.5e-6, 2e-6, 3e-6), rel=1e-15)
    assert law.file == "delays.csv"
    assert law.probabilities == ()


@pytest.mark.parametrize(
    "text", ["s\n2\n1\n", "2\n1\n", "2\n1", "\ufeffs\r\n2\r\n1\r\n", '"2"\n1\n']
)
def test_a_single_column_needs_no_name(tmp_path: Path, text: str) -> None:
    assert resolve(tmp_path, text).values == (1.0, 2.0)


def test_a_factor_is_read_without_unit(tmp_path: Path) -> None:
    assert resolve(tmp_path, "1.0\n1.1\n", None).values == (1.0, 1.1)


def test_a_table_of_quantiles_can_stand_in_a_file(tmp_path: Path) -> None:
    law = resolve(tmp_path, "1\n2\n4\n", probabilities=(0.0, 0.9, 1.0))
    assert (law.values, law.probabilities) == ((1.0, 2.0, 4.0), (0.0, 0.9, 1.0))


def test_a_law_with_values_does_not_read_its_file(tmp_path: Path) -> None:
    law = Empirical(file="gone.csv", column="us", unit="us", values=(1e-6, 2e-6))
    assert law.resolved(tmp_path, "time") == law


@pytest.mark.parametrize(
    ("text", "keys", "key", "part"),
    [
        ("a,b\n1,2\n", {}, "column", 'is missing; "DIR/delays.csv" has "a", "b"'),
        ("delay,b\n1,2\n", {"column": "dealy"}, "column", '(did you mean "delay"?)'),
        ("a,b\n1,2\n", {"column": "zzz"}, "column", 'no column "zzz"; there are "a", "b"'),
        ("a,a\n1,2\n", {"column": "a"}, "column", "more than one column"),
        ("1\n2\n", {"column": "a"}, "column", "without a header"),
        ("a\n1\nfast\n", {}, "file", 'line 3 of "DIR/delays.csv": "fast" is not a number'),
        ("a\n1_000\n", {}, "file", '"1_000" is not a number'),
        ("a\n1\nnan\n", {}, "file", "line 3"),
        ("a\n1\n-inf\n", {}, "file", "not finite"),
        ("a,b\n1,2\n3\n", {"column": "b"}, "file", "has 1 cells, the first line 2"),
        ("a\n1,5\n", {"column": "a"}, "file", "has 2 cells, the first line 1"),
        ("a,b\n1,\n", {"column": "b"}, "file", 'line 2 of "DIR/delays.csv": "" is not a number'),
        ("", {}, "file", "holds no numbers"),
        ("\n\n", {}, "file", "holds no numbers"),
        ("a\n", {}, "file", "holds no numbers"),
        ("1\n", {"unit": "parsec"}, "unit", "parsec"),
        ("1\n", {"unit": "GB"}, "unit", "GB"),
        ("1\n3\n2\n", {"probabilities": (0.0, 0.5, 1.0)}, "values", "not decrease"),
        ("1\n3\n", {"probabilities": (0.0, 0.5, 1.0)}, "probabilities", "are 3, for 2"),
        ("1\n2\n", {"tail": "pareto"}, "tail", "at least 3"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, text: str, keys: dict[str, str], key: str, part: str
) -> None:
    with pytest.raises(LawFault) as caught:
        resolve(tmp_path, text, **keys)
    assert caught.value.key == key
    assert part.replace("DIR", str(tmp_path)) in caught.value.message


def test_a_factor_has_no_unit(tmp_path: Path) -> None:
    with pytest.raises(LawFault, match="of a factor") as caught:
        resolve(tmp_path, "1\n2\n", None, unit="us")
    assert caught.value.key == "unit"


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("Verzögerung\n1\n".encode("latin-1"))
    (tmp_path / "long.csv").write_text("a\n" + "1" * 200_000 + "\n")
    (tmp_path / "folder").mkdir()
    for name, part in (
        ("gone.csv", "does not exist"),
        ("folder", "is a directory"),
        ("latin.csv", "is not UTF-8 text"),
        ("long.csv", "cannot be read"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(LawFault, match=part) as caught:
            Empirical(file=name).resolved(tmp_path, "time")
        assert caught.value.key == "file"


def test_more_rows_than_a_million_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column, "MAX_ROWS", 3)
    assert len(resolve(tmp_path, "a\n1\n2\n3\n").values) == 3
    with pytest.raises(LawFault, match="more than 3 rows; give a table of quantiles"):
        resolve(tmp_path, "a\n1\n2\n3\n4\n")


@pytest.mark.parametrize("name", sorted(distributions()))
def test_every_table_of_the_catalogue_can_be_used(name: str) -> None:
    entry = distributions()[name]
    law = Empirical(table=name).resolved(Path(), entry.dimension)
    assert isinstance(law, Empirical)
    assert (law.values, law.probabilities) == (entry.values, entry.probabilities)
    assert law.resolved(Path(), entry.dimension) == law
    assert list(law.faults()) == []
    x = law.quantile(np.concatenate([SURVIVALS, np.linspace(0.001, 0.999, 999)]))
    assert min(entry.values) <= x.min() <= x.max() <= max(entry.values)


def test_a_table_must_exist_and_be_of_the_law_s_dimension() -> None:
    factor = next(name for name, entry in distributions().items() if entry.dimension is None)
    with pytest.raises(LawFault, match="this law must be of a time") as caught:
        Empirical(table=factor).resolved(Path(), "time")
    assert caught.value.key == "table"
    with pytest.raises(LawFault, match="unknown distribution") as caught:
        Empirical(table="nonesuch").resolved(Path(), "time")
    assert caught.value.key == "table"


def test_very_many_values_can_be_used() -> None:
    values = tuple(np.random.default_rng(7).random(300_000).tolist())
    law = Empirical(values=values)
    s = np.random.default_rng(8).random(100_000)
    assert law.quantile(s) == pytest.approx(1 - s, abs=0.005)
    assert law.survival(law.quantile(s)) == pytest.approx(s, rel=1e-9)
