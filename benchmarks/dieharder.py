"""Dieharder on the words of the generator, in the orders in which a run walks through them.

    python -m benchmarks.dieharder [--quick] [--orders devices steps] [--tests 0 1 ...]

Needs the program `dieharder` (Debian, Ubuntu: apt-get install dieharder). Each test reads the raw
words of one order from their beginning, as many as it wants. Exits with 1 where a test fails.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count

import numpy as np

from mcsim.engine.philox import Purpose, key_of, raw_words, word_3

DEVICES = 220_000
STEPS = 100_000
IDENTITY = 0x9BC41E21

TESTS = [*range(5), *range(8, 14), 15, 16, 17, 100, 101, 102, *range(200, 210)]
"""All but four: 5, 6 and 7 are suspect and 14 must not be used, says dieharder itself."""
TUPLES = {200: [1, 2, 4, 8, 12], 201: [2, 3, 4, 5], 202: [2, 3, 4, 5], 203: [0, 1, 3, 7, 31]}
"""Tests that are made with several sizes: of tuples in bits, dimensions, ranks and lags."""
QUICK = [0, 2, 8, 15, 100, 101]
RAW_STDIN = "200"


def in_order(order: str, seed: int) -> Iterator[memoryview]:
    """Raw words without end: all devices of a step after another, or all steps of a device."""
    inner, outer, length = {"devices": (0, 1, DEVICES), "steps": (1, 0, STEPS)}[order]
    counters = np.zeros((length, 4), np.uint32)
    counters[:, inner] = np.arange(length)
    counters[:, 2] = IDENTITY
    counters[:, 3] = word_3(0, min(Purpose))
    for row in count():
        counters[:, outer] = row
        yield memoryview(raw_words(counters, *key_of(seed))).cast("B")


def assess(test: int, size: int, words: Iterator[memoryview]) -> list[list[str]]:
    """Run one test; its lines: name, size, samples, p-values, p-value of those, assessment.

    -Y 1: where a p-value is ambiguous, dieharder takes more samples until it is not.
    """
    command = ["dieharder", "-g", RAW_STDIN, "-d", str(test), "-n", str(size), "-Y", "1"]
    command += ["-c", "|", "-D", "default"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # The pipe breaks when the test has read enough, and once more on what was left in it.
        with contextlib.suppress(BrokenPipeError):
            for block in words:
                process.stdin.write(block)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        output = process.stdout.read().decode()
    lines = [[cell.strip() for cell in line.split("|")] for line in output.splitlines()]
    return [cells for cells in lines if cells[-1] in ("PASSED", "WEAK", "FAILED")]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="a few short tests")
    arguments.add_argument("--orders", nargs="+", default=["devices", "steps"])
    arguments.add_argument("--tests", nargs="+", type=int, help="dieharder's numbers")
    arguments.add_argument("--seed", type=int, default=7)
    asked = arguments.parse_args()
    if shutil.which("dieharder") is None:
        print(
            "the program dieharder is not installed (Debian, Ubuntu: apt-get install dieharder; "
            "Fedora: dnf install dieharder)",
            file=sys.stderr,
        )
        return 2
    failed = 0
    for order in asked.orders:
        chosen = asked.tests or (QUICK if asked.quick else TESTS)
        for test, size in [(number, size) for number in chosen for size in TUPLES.get(number, [0])]:
            start = time.perf_counter()
            lines = assess(test, size, in_order(order, asked.seed))
            taken = time.perf_counter() - start
            for name, size_used, _, _, p, assessment in lines:
                print(f"{order:8} {name:24} {size_used:>3} {p} {assessment}", flush=True)
            print(f"{order:8} test {test}, size {size}: {taken:.0f} s", file=sys.stderr, flush=True)
            # A test that says nothing has failed too.
            failed += not lines or any(cells[-1] == "FAILED" for cells in lines)
    print(f"{failed} tests failed")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
