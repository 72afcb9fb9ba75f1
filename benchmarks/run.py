"""All benchmarks in one run: `python -m benchmarks [--quick] [--output docs/performance.md]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks import machine, report, sections
from benchmarks.work import Fleet
from mcsim.threads import available_threads

PREFACE = """# How fast

All of this was measured by one command, `make bench`, which writes it here. PyTorch, oneMKL and
SimPy take part where they are installed (`pip install --group bench`).
"""


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="under a minute, and rougher")
    arguments.add_argument("--devices", type=int, default=220_000)
    arguments.add_argument("--threads", type=int, default=available_threads())
    arguments.add_argument(
        "--output", type=Path, help="write between the markers of this document, not to the screen"
    )
    asked = arguments.parse_args()
    effort = sections.QUICK if asked.quick else sections.FULL
    fleet, threads = Fleet(asked.devices), asked.threads
    start = time.perf_counter()
    lines = machine.description()
    for name, section in {
        "first calls and memory": lambda: sections.process(effort),
        "who is last": lambda: sections.last_arrival(fleet, threads, effort),
        "full statistics": lambda: sections.full_statistics(fleet, threads, effort),
        "pipelines": lambda: sections.pipelines(threads, effort),
        "slow states": lambda: sections.slow_for_a_while(fleet, threads, effort),
        "growth": lambda: sections.growing(fleet, threads, effort),
    }.items():
        print(f"{time.perf_counter() - start:4.0f} s: {name}", file=sys.stderr, flush=True)
        lines += ["", *section()]
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    lines += ["", f"Measured in {time.perf_counter() - start:.0f} s by `{command}`."]
    if asked.output is None:
        print("\n".join(lines))
    else:
        report.insert(asked.output, lines, PREFACE)


if __name__ == "__main__":
    main()
