"""The sampled engine against what people write instead, side by side in one run.

    python benchmarks/sampled.py [--devices N] [--steps N] [--rounds N]

Work: the slowest of N devices in each step, with a persistent speed of each device and lognormal
jitter in each step. NumPy draws all of it with its fastest generator; naive Numba uses
`np.random` in a parallel loop; the Philox limit draws one 32-bit word a device and step and does
nothing with it. Rounds are interleaved, and medians and ratios reported.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

import mcsim
from mcsim.engine import simulate
from mcsim.engine.compile import kernel
from mcsim.engine.philox import key_of, philox
from mcsim.model import lower
from mcsim.threads import available_threads

CV = 0.02


@numba.njit(parallel=True)
def naive_numba(base, sigma, steps, out):
    for step in numba.prange(steps):
        latest = 0.0
        for device in range(base.size):
            time = base[device] * np.random.lognormal(0.0, sigma)  # noqa: NPY002 - what people write
            latest = max(latest, time)
        out[step] = latest


@kernel
def words_only(blocks, first, steps, k0, k1):
    """One 32-bit word a device and step, as four words a call, and nothing done with them."""
    mixed = np.uint32(0)
    for step in range(first, first + steps):
        for block in range(blocks):
            a, b, c, d = philox(
                np.uint32(block), np.uint32(step), np.uint32(0), np.uint32(0), k0, k1
            )
            mixed ^= a ^ b ^ c ^ d
    return mixed


def numpy_maximum(base: np.ndarray, sigma: float, steps: int, kind: type) -> np.ndarray:
    """The best idiom of NumPy: float32 or float64 draws of the fastest generator, in place."""
    random = np.random.Generator(np.random.SFC64(1))
    base = base.astype(kind)
    out = np.empty(steps)
    draws = np.empty_like(base)
    for step in range(steps):
        random.standard_normal(out=draws, dtype=kind)
        draws *= kind(sigma)
        np.exp(draws, out=draws)
        draws *= base
        out[step] = draws.max()
    return out


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--devices", type=int, default=220_000)
    arguments.add_argument("--steps", type=int, default=2_000)
    arguments.add_argument("--rounds", type=int, default=5)
    asked = arguments.parse_args()
    n, steps, threads = asked.devices, asked.steps, available_threads()
    jitter = {"law": "lognormal", "mean": 1, "cv": CV}
    thirds = [n // 3, n // 3, n - 2 * (n // 3)]
    fleet = [
        {
            "name": name,
            "device": "custom",
            "compute": compute,
            "count": count,
            "jitter": {"persistent": jitter, "step": jitter},
        }
        for name, compute, count in zip("abc", (1.0, 0.98, 0.5), thirds, strict=True)
    ]
    plan = lower(
        mcsim.Scenario.from_dict({"name": "bench", "run": {"steps": steps}, "fleet": fleet})
    )
    base = np.random.default_rng(1).lognormal(0, CV, n)
    key = key_of(1)

    def philox_limit() -> None:
        tile = max(1, steps // (4 * threads))
        with ThreadPoolExecutor(threads) as pool:
            list(
                pool.map(lambda first: words_only(n // 4, first, tile, *key), range(0, steps, tile))
            )

    fewer = max(1, steps // 50)
    contenders: dict[str, tuple[Callable[[], object], int]] = {
        f"mcsim, {threads} thread(s), all included": (lambda: simulate(plan), steps),
        "mcsim, 1 thread": (lambda: simulate(plan, threads=1), steps),
        f"Philox words alone, {threads} thread(s)": (philox_limit, steps),
        "NumPy float32": (lambda: numpy_maximum(base, CV, fewer, np.float32), fewer),
        "NumPy float64": (lambda: numpy_maximum(base, CV, fewer, np.float64), fewer),
        f"naive Numba, {threads} thread(s)": (
            lambda: naive_numba(base, CV, fewer, np.empty(fewer)),
            fewer,
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for work, _ in contenders.values():
        work()
    for _ in range(asked.rounds):
        for name, (work, done) in contenders.items():
            start = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - start) / done / n * 1e9)
    ours = statistics.median(times[next(iter(times))])
    print(f"{n:,} devices, {steps:,} steps, median of {asked.rounds} interleaved rounds")
    print(f"{'':44}  ns a device-step   times mcsim")
    for name, each in times.items():
        median = statistics.median(each)
        print(f"{name:44}  {median:16.3f}  {median / ours:12.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process: {peak:,.0f} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
