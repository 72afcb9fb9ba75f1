"""`mcsim collective` as people use it, against the formulas."""

from __future__ import annotations

import re
import subprocess

import pytest
from warm import MCSIM

from mcsim.model.collectives import COLLECTIVES
from mcsim.units import parse, show

FLAT = ["--ranks", 220_000, "--payload", "1 GB", "--bandwidth", "50 GB/s", "--latency", "5 us"]
LEVELS = ["--level", "8,1us,450GB/s", "--level", "27500, 5 us, 50 GB/s"]


def collective(*arguments):
    command = [MCSIM, "collective", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rows(text):
    """The cells of all tables, by the first."""
    lines = [re.split(r"  +", line.strip()) for line in text.splitlines() if "  " in line]
    return {cells[0]: cells[1:] for cells in lines}


def seconds(*cells):
    return [parse(cell, "time") for cell in cells]


@pytest.mark.parametrize("name", COLLECTIVES)
def test_every_collective_is_shown_by_each_of_its_algorithms(name):
    done = collective(name, *FLAT)
    assert (done.returncode, done.stderr) == (0, "")
    found = rows(done.stdout)
    for algorithm, known in COLLECTIVES[name].items():
        rounds, latency, bandwidth, total = found[algorithm]
        assert int(rounds.replace(",", "")) == known.rounds(220_000)
        assert latency == show(known.rounds(220_000) * 5e-6, "time")
        assert bandwidth == show(known.volume(220_000) * 1e9 / 50e9, "time")
        assert total == show(known.seconds(220_000, 1e9, 5e-6, 50e9), "time")


def test_a_flat_ring_of_220_000_costs_seconds_and_a_hierarchy_does_not():
    done = collective("all-reduce", "--payload", "1 GB", *LEVELS)
    assert (done.returncode, done.stderr) == (0, "")
    found = rows(done.stdout)
    _, latency, _, total = found["flat ring of 220,000 over level 2"]
    assert latency == "2.2 s"
    assert total == "2.24 s"
    _, latency, bandwidth, total = found["level by level"]
    latency, bandwidth, total = seconds(latency, bandwidth, total)
    assert total == pytest.approx(latency + bandwidth, rel=0.01)
    assert total < 0.01
    # Down, across and up again.
    assert re.findall(r"^(\d) +(\S+)", done.stdout, re.MULTILINE) == [
        ("1", "reduce-scatter"),
        ("2", "all-reduce"),
        ("1", "all-gather"),
    ]


def test_an_algorithm_may_be_chosen():
    found = rows(collective("all-reduce", *FLAT, "--algorithm", "ring").stdout)
    assert "ring" in found
    assert "rabenseifner" not in found
    done = collective("all-reduce", "--payload", 1e9, *LEVELS, "--algorithm", "ring").stdout
    assert done.count("  ring  ") == 3


def test_what_auto_takes_is_said():
    assert (
        "auto takes double-binary-tree, the shortest of" in collective("all-reduce", *FLAT).stdout
    )
    few = collective(
        "all-reduce", "--ranks", 8, "--payload", "1 GB", "--latency", 1e-6, "--bandwidth", 450e9
    )
    assert "auto takes ring" in few.stdout
    assert rows(few.stdout)["ring"] == ["14", "14 us", "3.89 ms", "3.9 ms"]


def test_one_rank_costs_nothing():
    done = collective("broadcast", *FLAT, "--ranks", 1)
    assert done.returncode == 0
    assert rows(done.stdout)["binomial-tree"] == ["0", "0 s", "0 s", "0 s"]
    assert collective("all-reduce", "--payload", 1, "--level", "1,0s,1B/s").returncode == 0


ONE = ["--payload", "1 GB", "--level"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["all-reduc", *FLAT], 'did you mean "all-reduce"?'),
        (["gather", *FLAT], "there are all-reduce, reduce-scatter, all-gather, all-to-all and"),
        (["all-reduce", *FLAT, "--algorithm", "rign"], '(did you mean "ring"?)'),
        (["all-to-all", *FLAT, "--algorithm", "ring"], "it has auto, pairwise and bruck"),
        (["all-reduce", *FLAT, "--ranks", "0"], "0 ranks: must be from 1"),
        (["all-reduce", *FLAT, "--ranks", "8.5"], '"8.5" is not a whole number'),
        (["all-reduce", *FLAT, "--ranks", "9" * 5000], "is not a whole number"),
        (["all-reduce", *FLAT, "--payload", "1 XB"], 'the unknown unit "XB"'),
        (["all-reduce", *FLAT, "--payload", "-1"], "must be at least 0"),
        (["all-reduce", *FLAT, "--payload", "nan"], "nan is not finite"),
        (["all-reduce", *FLAT, "--latency", "5 km"], "where a time is wanted"),
        (["all-reduce", *FLAT, "--bandwidth", "0"], "must be above 0"),
        (["all-reduce", *ONE, "8,1us"], "has 2 fields; write RANKS,LATENCY,BANDWIDTH"),
        (["all-reduce", *ONE, "8"], "has one field"),
        (["all-reduce", *ONE, "8,1GB/s,1us"], "is a data rate, where a time is wanted"),
        (["all-reduce", *ONE, "0,1us,1GB/s"], "0 ranks"),
        (["all-reduce", *ONE, "2000000000,0s,1B/s", *ONE[2:], "2,0s,1B/s"], "4,000,000,000 ranks"),
        (["all-reduce", *FLAT, "--level", "8,1us,1GB/s"], "give either --level or --ranks"),
        (["all-reduce", "--payload", "1 GB", "--ranks", 8], "give --ranks, --latency and"),
        (["all-reduce", "--ranks", 8], "Missing option '--payload'"),
        (["broadcast", "--payload", "1 GB", *LEVELS], "only an all-reduce goes level by level"),
    ],
)
def test_what_is_wrong_is_said_and_exits_with_2(arguments, message):
    done = collective(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_help_knows_every_collective():
    done = collective("--help")
    assert all(name in " ".join(done.stdout.split()) for name in COLLECTIVES)
