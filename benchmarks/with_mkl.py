"""oneMKL's vectorised Philox, through ctypes: its numbers alone, and with NumPy's maximum."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks.measure import Contender
from benchmarks.work import SIGMA, Fleet, Last, Worker, last_of, side_by_side

MISSING = "oneMKL is not installed"
PHILOX = 16 << 20  # VSL_BRNG_PHILOX4X32X10
METHODS = {"Box-Muller": 0, "inverse": 1}  # VSL_RNG_METHOD_LOGNORMAL_BOXMULLER2, _ICDF
GAUSSIAN_INVERSE = 2  # VSL_RNG_METHOD_GAUSSIAN_ICDF


@cache
def library() -> Any:
    """libmkl_rt of the package `mkl`, or None."""
    os.environ.setdefault("MKL_THREADING_LAYER", "SEQUENTIAL")
    try:
        files = metadata.files("mkl") or []
        path = next(file for file in files if file.name.startswith("libmkl_rt"))
        return ctypes.CDLL(str(path.locate()))
    except (metadata.PackageNotFoundError, StopIteration, OSError):
        return None


def lognormal(fleet: Fleet, method: str, threads: int) -> Contender:
    """The numbers alone."""

    def worker(seed: int) -> Worker:
        # A call a step: shorter ones are not faster on one thread, and let two wait for each other.
        draws = np.empty(fleet.devices, np.float32)
        fill = _filler("vsRngLognormal", METHODS[method], seed, (0.0, SIGMA, 0.0, 1.0), draws)

        def work(steps: int) -> None:
            for _ in range(steps):
                fill()
            # A wrong call must not be timed: the numbers are lognormal about 1.
            if not abs(np.median(draws) - 1) < SIGMA:
                raise RuntimeError("oneMKL's numbers are wrong")

        return work

    return _contender(f"oneMKL lognormal, {method}, float32", fleet, threads, worker, True)


def normals(seed: int, draws: np.ndarray) -> Callable[[], None]:
    """What fills an array, float32, with normal numbers of deviation SIGMA, the fastest way."""
    return _filler("vsRngGaussian", GAUSSIAN_INVERSE, seed, (0.0, SIGMA), draws)


def normal_maximum(fleet: Fleet, threads: int) -> Contender:
    """The whole work, in logarithms."""

    def worker(seed: int) -> Worker:
        log_base = fleet.log_base.astype(np.float32)
        time = np.empty_like(log_base)
        fill = normals(seed, time)

        def work(steps: int) -> Last:
            latest, culprit = np.empty(steps), np.empty(steps, np.int64)
            for step in range(steps):
                fill()
                np.add(time, log_base, out=time)
                culprit[step] = time.argmax()
                latest[step] = time[culprit[step]]
            return last_of(latest, culprit, fleet)

        return work

    return _contender("oneMKL normals, NumPy maximum, float32", fleet, threads, worker, False)


def _contender(
    name: str, fleet: Fleet, threads: int, worker: Callable[[int], Worker], numbers_only: bool
) -> Contender:
    if library() is None:
        return Contender(name, threads, fleet.devices, None, MISSING)
    workers = [worker(seed) for seed in range(threads)]
    return Contender(
        name,
        threads,
        fleet.devices,
        lambda steps: side_by_side(workers, steps),
        numbers_only=numbers_only,
    )


def _filler(
    function: str, method: int, seed: int, parameters: tuple[float, ...], draws: np.ndarray
) -> Callable[[], None]:
    """Fills `draws`, float32, from a stream of its own; ctypes lets other threads run meanwhile."""
    stream = ctypes.c_void_p()
    _check(library().vslNewStream(ctypes.byref(stream), ctypes.c_int(PHILOX), ctypes.c_uint(seed)))
    draw = getattr(library(), function)
    law = [ctypes.c_float(parameter) for parameter in parameters]
    where = (ctypes.c_int(draws.size), ctypes.c_void_p(draws.ctypes.data))

    def fill() -> None:
        _check(draw(ctypes.c_int(method), stream, *where, *law))

    return fill


def _check(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"oneMKL: status {status}")
