import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.errors import UnitError
from mcsim.units import SI_UNIT, parse, show

DIMENSIONS = (None, "time", "length", "data", "rate")

finite = st.floats(allow_nan=False, allow_infinity=False)
# Far from both ends of the range, so that no unit over- or underflows.
moderate = st.floats(min_value=1e-200, max_value=1e200)
dimensions = st.sampled_from(DIMENSIONS)
dimensions_with_a_unit = st.sampled_from(list(SI_UNIT))


def outcome(value, dimension):
    """What is read, or the error."""
    try:
        return parse(value, dimension)
    except UnitError as error:
        return error


def message(value, dimension):
    with pytest.raises(UnitError) as caught:
        parse(value, dimension)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("50 us", "time", 50e-6),
        ("50 us", "time", float("0.00005")),
        ("50 \u00b5s", "time", 50e-6),
        ("50 \u03bcs", "time", 50e-6),
        ("2.5s", "time", 2.5),
        ("1_000 ns", "time", 1e-6),
        ("  3 h ", "time", 10800.0),
        ("2 ms", "time", 2e-3),
        ("5 min", "time", 300.0),
        ("54 d", "time", 54 * 86400.0),
        ("1 day", "time", 86400.0),
        ("2 days", "time", 2 * 86400.0),
        ("1 yr", "time", 365.25 * 86400.0),
        ("1 year", "time", 365.25 * 86400.0),
        ("10 years", "time", 3652.5 * 86400.0),
        ("-.5e1 s", "time", -5.0),
        ("16 km", "length", 16000.0),
        ("10 mi", "length", 16093.44),
        ("100 ft", "length", 30.48),
        ("7 m", "length", 7.0),
        ("628 GB", "data", 628e9),
        ("80 GiB", "data", 80 * 2.0**30),
        ("1 Gb", "data", 1.25e8),
        ("1 kB", "data", 1e3),
        ("1 KiB", "data", 1024.0),
        ("1 PiB", "data", 2.0**50),
        ("400 Gb/s", "rate", 5e10),
        ("400 GB/s", "rate", 4e11),
        ("400 Gbps", "rate", 5e10),
        ("400 GBps", "rate", 4e11),
        ("3.35 TB/s", "rate", 3.35e12),
        ("5 %", None, 0.05),
        ("0.05", None, 0.05),
    ],
)
def test_text_is_a_number_and_a_unit(text, dimension, value):
    assert parse(text, dimension) == value


@given(finite, dimensions)
def test_a_bare_number_is_in_si_as_it_is(number, dimension):
    assert parse(number, dimension) == number


@pytest.mark.parametrize("number", [3, np.int64(3), np.float32(3), Fraction(3)])
def test_any_real_number_will_do(number):
    value = parse(number, "time")
    assert value == 3.0
    assert type(value) is float


@given(finite, dimensions_with_a_unit)
def test_the_si_unit_changes_nothing(number, dimension):
    assert parse(f"{number!r} {SI_UNIT[dimension]}", dimension) == number


@given(st.integers(-(10**12), 10**12), st.sampled_from([("ns", -9), ("us", -6), ("ms", -3)]))
def test_values_are_correctly_rounded(number, unit_and_power):
    unit, power = unit_and_power
    assert parse(f"{number} {unit}", "time") == float(f"{number}e{power}")


@given(moderate, st.sampled_from(["", "k", "M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti", "Pi"]))
def test_eight_bits_are_a_byte(number, prefix):
    assert 8 * parse(f"{number!r} {prefix}b", "data") == parse(f"{number!r} {prefix}B", "data")
    assert 8 * parse(f"{number!r} {prefix}b/s", "rate") == parse(f"{number!r} {prefix}B/s", "rate")


@given(moderate, st.sampled_from(["B", "Gb", "GB", "GiB"]))
def test_a_rate_is_data_a_second_however_it_is_written(number, unit):
    rate = parse(f"{number!r} {unit}/s", "rate")
    assert rate == parse(f"{number!r} {unit}ps", "rate") == parse(f"{number!r} {unit}", "data")


@given(moderate, moderate, st.sampled_from(["ns", "us", "ms", "s", "min", "h", "d"]))
def test_more_of_a_unit_is_never_less(one, other, unit):
    less, more = sorted((one, other))
    assert parse(f"{less!r} {unit}", "time") <= parse(f"{more!r} {unit}", "time")


@given(moderate)
def test_larger_units_are_larger(number):
    units = ["ns", "us", "ms", "s", "min", "h", "d"]
    values = [parse(f"{number!r} {unit}", "time") for unit in units]
    assert values == sorted(values)
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("given", "dimension", "meant"),
    [
        ("50 usec", "time", "50 us"),
        ("1 sec", "time", "1 s"),
        ("5 minutes", "time", "5 min"),
        ("3 hours", "time", "3 h"),
        ("2 MS", "time", "2 ms"),
        ("10 miles", "length", "10 mi"),
        ("16 kilometers", "length", "16 km"),
        ("1 KB", "data", "1 kB"),
        ("1 gigabyte", "data", "1 GB"),
        ("1 GBit/s", "rate", "1 Gb/s"),
        ("1 gb/s", "rate", "1 Gb/s"),
        ("400 Gb", "rate", "400 Gb/s"),
        ("5 percent", None, "5 %"),
        ("1 mss", "time", "1 ms"),
    ],
)
def test_a_wrong_unit_gets_the_right_one_suggested(given, dimension, meant):
    assert message(given, dimension).endswith(f'did you mean "{meant}"?')


def test_a_number_without_a_unit_is_told_both_ways_out():
    assert (
        message("2.0", "time") == '"2.0" has no unit; write "2.0 s" or the bare number 2.0 (in s)'
    )
    assert '"2.0 B/s"' in message("2.0", "rate")


@pytest.mark.parametrize(
    ("value", "dimension", "part"),
    [
        ("16 km", "time", "is a length, where a time is wanted"),
        ("5 %", "time", "is a pure number, where a time is wanted"),
        ("5 s", None, "is a time, where a pure number is wanted"),
        ("5 GB/s", "data", "is a data rate, where an amount of data is wanted"),
        ("5 M", "time", 'unknown unit "M"; write a time in ns, us, ms, s, min, h, d or yr'),
        ("5 zzz", None, "is not a pure number"),
        ("2,5 s", "time", "has a comma"),
        ("fast", "time", "does not begin with a number"),
        ("", "time", "does not begin with a number"),
        ("\u0665 s", "time", "does not begin with a number"),
        ("nan s", "time", "is not finite"),
        ("-Infinity", "time", "is not finite"),
        (math.nan, "time", "nan is not finite"),
        (-math.inf, None, "-inf is not finite"),
        (10**400, "time", "too large"),
        ("1e400 s", "time", "too large"),
        ("1e308 km", "length", "too large"),
        ("1e-400 s", "time", "too small"),
        ("5e-324 ns", "time", "too small"),
        (True, "time", "true is not a time"),
        (False, None, "false is not a pure number"),
        (None, "time", "is not a time"),
        ([1.0], "rate", "a list is not a data rate"),
        (1j, "time", "is not a time"),
    ],
)
def test_every_other_error_says_what_is_wrong(value, dimension, part):
    assert part in message(value, dimension)


@pytest.mark.parametrize("text", ["K", "S", "m", "b", "B", "gB", "Mb"])
def test_capitals_count(text):
    with pytest.raises(UnitError):
        parse(f"1 {text}", "time")


@given(st.text(), dimensions)
def test_any_text_is_read_or_refused_in_one_line(text, dimension):
    result = outcome(text, dimension)
    if isinstance(result, UnitError):
        assert len(str(result).splitlines()) == 1
        assert len(str(result)) < 1000
    else:
        assert math.isfinite(result)


@given(st.from_regex(r"\A[+-]?[0-9_.]{1,20}(e[+-]?[0-9]{1,12})? ?[a-zA-Z/%]{0,4}\Z"), dimensions)
def test_anything_like_a_quantity_is_read_or_refused(text, dimension):
    result = outcome(text, dimension)
    assert text in str(result) if isinstance(result, UnitError) else math.isfinite(result)


@pytest.mark.parametrize(
    "text",
    [
        "1" * 10**6,
        "1" * 10**6 + " s",
        "x" * 10**6,
        " " * 10**6,
        "1_" * 10**6,
        "1e999999999 s",
        "1e-999999999 s",
        "1e" + "9" * 90,
    ],
)
def test_absurd_text_costs_no_time(text):
    start = time.perf_counter()
    assert len(message(text, "time")) < 400
    assert time.perf_counter() - start < 0.5


def test_zero_stays_zero_whatever_its_exponent():
    assert parse("0e999999999 s", "time") == 0
    assert parse("0e-999999999 s", "time") == 0


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (2.5, "time", "2.5 s"),
        (79e-6, "time", "79 us"),
        (-3e-3, "time", "-3 ms"),
        (4680, "time", "1.3 h"),
        (999.9e-6, "time", "1 ms"),
        (59.96, "time", "60 s"),
        (1234 * 86400, "time", "1234 d"),
        (1e-15, "time", "1e-06 ns"),
        (628e9, "data", "628 GB"),
        (50e9, "rate", "50 GB/s"),
        (16093.44, "length", "16.1 km"),
        (0.95678, None, "0.957"),
        (220_000, None, "220000"),
        (0, "time", "0 s"),
        (0, None, "0"),
        (math.nan, "time", "nan s"),
        (-math.inf, "rate", "-inf B/s"),
        (math.inf, None, "inf"),
    ],
)
def test_quantities_are_shown_briefly(value, dimension, text):
    assert show(value, dimension) == text


@given(st.floats(min_value=1e-250, max_value=1e250), st.sampled_from([-1, 1]), dimensions)
def test_what_is_shown_reads_back_to_three_digits(magnitude, sign, dimension):
    value = sign * magnitude
    assert math.isclose(parse(show(value, dimension), dimension), value, rel_tol=0.0051)


@given(st.floats(min_value=1e-9, max_value=8.5e9), dimensions_with_a_unit)
def test_what_is_shown_is_short(value, dimension):
    assert len(show(value, dimension)) <= 14
