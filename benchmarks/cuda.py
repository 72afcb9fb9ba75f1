"""The CUDA target on this machine's GPU: `python -m benchmarks.cuda [--output FILE]`.

Checks first that the GPU finds what the processor does, then times with events of the device,
beside limits that it measures itself: bare Philox words, whole-number operations, and copies.
`compute-sanitizer python -m benchmarks.cuda --devices 20000 --steps 64 --check` looks for races.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.work import Fleet
from mcsim.engine.engines import engine_of
from mcsim.engine.targets import found_targets
from mcsim.errors import TargetError
from mcsim.model import lower
from mcsim.tables import table
from mcsim.threads import available_threads

ROUNDS = 5
_CALLS, _ROUNDS_OF_INTEGERS = 64, 1024
_THREADS = 256


def main() -> None:
    options = _options()
    cuda = next(target for target in found_targets() if target.name == "cuda")
    if not cuda.is_usable:
        sys.exit(f"nothing to measure: {cuda.what}")
    fleet = Fleet(options.devices)
    lines = [f"{cuda.what}; {available_threads()} threads of the processor", ""]
    lines += [_checked(fleet, options.steps), ""]
    if not options.check:
        lines.append(table(["on the GPU", "", ""], _measured(fleet, options), left=(0,)))
    text = "\n".join(lines)
    print(text)
    if options.output is not None:
        heading = "# The CUDA target, measured\n\nBy `make bench-cuda`.\n\n"
        options.output.write_text(f"{heading}```\n{text}\n```\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=220_000)
    parser.add_argument("--steps", type=int, default=1_000, help="that both targets compare")
    parser.add_argument("--timed", type=int, default=8_192, help="steps of a call that is timed")
    parser.add_argument("--words", type=int, default=1 << 20, help="threads of the limits")
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def _checked(fleet: Fleet, steps: int) -> str:
    """That both targets find the same; raises AssertionError where they do not."""
    for keep in ("summary", "devices"):
        plan = lower(fleet.scenario(steps, keep=keep))
        one, other = (
            engine_of("sampled", plan, target).draw(0).sample(0, steps)
            for target in ("cpu", "cuda")
        )
        for name in ("time", "ready", "culprit", "draw", "device"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        means = float(np.max(np.abs(other.busy / one.busy - 1)))
        assert means < 1e-6, means
        if keep == "devices":
            counts = (
                (one.devices.times, other.devices.times),
                (one.devices.waits, other.devices.waits),
            )
            moved = max(int(np.abs(a - b).sum()) // 2 for a, b in counts)
            assert all(a.sum() == b.sum() for a, b in counts)
            assert moved <= 1e-5 * one.devices.times.sum(), moved
    return (
        f"{fleet.devices:,} devices x {steps:,} steps: last arrivals, culprits and draws equal bit"
        f" for bit; means to {means:.1g};"
        f" {moved:,} of {one.devices.times.sum():,} times in another bin"
    )


def _measured(fleet: Fleet, options: argparse.Namespace) -> list[list[str]]:
    steps, work = options.timed, fleet.devices * options.timed
    words, integers, bandwidth = _limits(options.words)
    plan = lower(fleet.scenario(steps))
    drawn = {target: engine_of("sampled", plan, target).draw(0) for target in ("cpu", "cuda")}
    cluster, gpu = drawn["cuda"].cluster, drawn["cuda"].accelerator
    screens = cluster.screens(drawn["cuda"].start)[1]

    def find() -> None:
        for index, screened in enumerate(screens):
            gpu.search(cluster, index, screened, 0, steps, 64)

    looked_at = sum(
        thresholds.blocks.size * steps + thresholds.usual.size * steps / 2
        for screened in screens
        for thresholds in (screened.step, screened.stall)
        if thresholds is not None
    )
    found = _of_device(find)
    whole = _on_the_clock(lambda: drawn["cuda"].sample(0, steps))
    few = max(steps // 8, 1)
    here = _on_the_clock(lambda: drawn["cpu"].sample(0, few)) * steps / few
    counting = lower(fleet.scenario(steps, keep="devices"))
    counter = engine_of("sampled", counting, "cuda").draw(0)
    last = np.full(min(steps, 1024), 1.2)

    def count() -> None:
        for index in range(len(counting.groups)):
            gpu.count(counter.cluster, index, counter.tables[index], 0, last)

    counted = _of_device(count) / last.size * steps
    return [
        ["bare Philox words", f"{words:.3g} /s", ""],
        ["whole-number multiplications and additions", f"{integers:.3g} /s", ""],
        ["bytes copied, read and written", f"{bandwidth:.3g} /s", ""],
        [
            "words of the search",
            f"{looked_at / found:.3g} /s",
            f"{looked_at / found / words:.2f} of bare",
        ],
        ["device-steps searched", f"{work / found:.3g} /s", f"{found / steps * 1e6:.3g} us a step"],
        [
            "device-steps, last arrivals and culprits, all",
            f"{work / whole:.3g} /s",
            f"{whole / steps * 1e6:.3g} us a step",
        ],
        ["times one thread of the processor", f"{here / whole:.3g}", ""],
        ["device-steps, full statistics", f"{work / counted:.3g} /s", ""],
    ]


def _limits(threads: int) -> tuple[float, float, float]:
    """Words, whole-number operations, and bytes a second."""
    from benchmarks import limits
    from mcsim.engine.cuda import cuda

    out = cuda.device_array(threads, np.uint32)
    many, other = (cuda.device_array(256 * threads, np.uint32) for _ in range(2))
    grid = -(-threads // _THREADS)
    of_words = _of_device(lambda: limits.words[grid, _THREADS](out, _CALLS))
    of_integers = _of_device(lambda: limits.integers[grid, _THREADS](out, _ROUNDS_OF_INTEGERS))
    of_copies = _of_device(lambda: limits.copied[256 * grid, _THREADS](many, other))
    return (
        4 * _CALLS * threads / of_words,
        8 * _ROUNDS_OF_INTEGERS * threads / of_integers,
        2 * 4 * 256 * threads / of_copies,
    )


def _of_device(launch: Callable[[], object]) -> float:
    """s, between events of the device around what is launched; the median."""
    from mcsim.engine.cuda import cuda

    launch()
    taken = []
    for _ in range(ROUNDS):
        cuda.synchronize()
        start, end = cuda.event(), cuda.event()
        start.record()
        launch()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1000)
    return statistics.median(taken)


def _on_the_clock(call: Callable[[], object]) -> float:
    call()
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    try:
        main()
    except TargetError as error:
        sys.exit(str(error))
