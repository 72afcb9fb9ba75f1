"""The CUDA target: what lies on the GPU, and which kernels look at it for the sampled engine.

A cluster's devices, their thresholds and the tables of the laws are copied to the GPU once; a call
sends no more than where it begins, for thousands of steps at a time, and gets back what may be the
last arrival of each step. Each thread of the processor has a stream of its own, so that one scores
while the GPU works for another.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from mcsim.engine import cuda as kernels
from mcsim.engine.accelerator import Contenders, IntArray
from mcsim.engine.candidates import STALL, USUAL
from mcsim.engine.cluster import Cluster
from mcsim.engine.cuda import ROUNDS, THREADS, WINDOW, cuda
from mcsim.engine.devices import BINS, Counted, DeviceTables, bin_of_times, room_for_missed
from mcsim.engine.draws import DEVICES_PER_BLOCK, first_not_below
from mcsim.engine.philox import Purpose, key_of, word_3
from mcsim.engine.quantile_table import ACCURACY, QuantileTable
from mcsim.engine.screening import GroupScreen, Thresholds
from mcsim.errors import TargetError
from mcsim.laws import FloatArray

Value = TypeVar("Value")

_ROOM_FOR_ERRORS = np.float32(4.0 * ACCURACY)
"""Of two times that are compared, each with an error of a table and of some roundings."""
_UNITS = 2.0**40
"""Of the largest surplus that is summed on the GPU: 2^22 of them fit into 64 bits."""
_LARGE = 8.0
"""A surplus beyond so many of the longest expected time is summed by the processor."""
_HANDED_BACK = 8
_STEPS_OF_A_BLOCK = 64
"""Eights of steps that a block of threads counts, before it adds to the counts of all."""


@contextmanager
def _reported() -> Iterator[None]:
    """What goes wrong on the GPU, as an error that says what can be done."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("numba.cuda", "numba_cuda", "cuda.")):
            raise
        lines = [line.strip(" .:") for line in str(error).splitlines() if line.strip(" .:")]
        what = ": ".join(lines[:2]) or type(error).__name__
        begins = isinstance(error, ImportError)
        happened = "no GPU of CUDA can be used" if begins else "the GPU failed"
        raise TargetError(f"{happened}: {what}; --target cpu does without it") from error


class Gpu:
    """A GPU of CUDA that samples for the threads of this process. Raises TargetError where there is
    none, and in all calls where it fails."""

    name = "cuda"

    def __init__(self) -> None:
        with _reported():
            device = cuda.get_current_device()
            # The simulator's has no name.
            found = getattr(device, "name", "simulated")
        self.description = found.decode() if isinstance(found, bytes) else str(found)
        self._lock = threading.Lock()
        self._kept: MutableMapping[object, dict[Hashable, Any]] = weakref.WeakKeyDictionary()
        self._of_thread = threading.local()

    @_reported()
    def kept(
        self, cluster: Cluster, index: int, screened: GroupScreen, first: int, count: int
    ) -> tuple[IntArray, IntArray]:
        """The codes of what is kept in each step, in their order, and their number.

        Shapes (steps, capacity) and (steps,); see `candidates`.
        """
        kept, _, number = self._find(cluster, index, screened, first, count)
        codes = kept.copy_to_host(stream=self._own.stream)
        self._own.stream.synchronize()
        codes = codes.astype(np.int64)
        codes[np.arange(codes.shape[1]) >= number[:, None]] = np.iinfo(np.int64).max
        return np.sort(codes, axis=1), number

    @_reported()
    def contenders(
        self,
        cluster: Cluster,
        index: int,
        screened: GroupScreen,
        tables: DeviceTables,
        first: int,
        count: int,
    ) -> Contenders:
        """What the processor has to score itself to find the last arrivals of some steps."""
        own, stream = self._own, self._own.stream
        kept, kept_count, _ = self._find(cluster, index, screened, first, count)
        base = self._of(cluster, ("base", index), lambda: _single(cluster.base[index]))
        expected = self._of(screened, "expected", lambda: _single(screened.expected))
        longest = float(cluster.base[index].max(initial=0.0))
        large = _power_of_two(_LARGE * max(float(np.abs(screened.expected).max()), longest))
        most = np.float32(large)
        units = np.float32(_UNITS / large)
        absolute = float(_ROOM_FOR_ERRORS) * (longest * tables.step.scale + tables.stall.scale)
        time = own.empty("time", kept.shape, np.float32)
        latest = own.filled("latest", count, np.int32, np.iinfo(np.int32).min)
        surplus = own.filled("surplus", count, np.int64, 0)
        slots = -(-kept.shape[0] * kept.shape[1] // THREADS)
        step_last, stall_last = (
            word_3(cluster.replicate, purpose) for purpose in (Purpose.STEP, Purpose.STALL)
        )
        stall = screened.stall or screened.step
        kernels.score[slots, THREADS, stream](
            kept,
            kept_count,
            np.uint32(first),
            np.uint32(cluster.plan.groups[index].identity),
            step_last,
            stall_last,
            *key_of(cluster.plan.seed),
            base,
            expected,
            *self._thresholds(screened.step).bounds,
            *self._cells(tables.step),
            screened.stall is not None,
            *self._thresholds(stall).bounds,
            *self._cells(tables.stall),
            most,
            units,
            time,
            latest,
            surplus,
        )
        capacity = _HANDED_BACK
        while True:
            chosen = own.empty("chosen", (count, capacity), np.uint32)
            chosen_count = own.filled("chosen_count", count, np.int32, 0)
            kernels.hand_back[slots, THREADS, stream](
                kept,
                kept_count,
                time,
                latest,
                expected,
                _ROOM_FOR_ERRORS,
                np.float32(absolute),
                most,
                chosen,
                chosen_count,
            )
            number = chosen_count.copy_to_host(stream=stream)
            codes = chosen.copy_to_host(stream=stream)
            sums = surplus.copy_to_host(stream=stream)
            stream.synchronize()
            if number.max() <= capacity:
                break
            capacity = int(number.max())
        filled = np.arange(codes.shape[1]) < number[:, None]
        codes[~filled] = np.iinfo(np.uint32).max
        ordered = np.sort(codes, axis=1)[filled].astype(np.int64)
        step = np.repeat(np.arange(first, first + count, dtype=np.uint32), number)
        missing = ordered & 1 != 0
        # A power of two: exact.
        of_all = sums / float(units)
        return Contenders(ordered >> 1, step, missing, number.astype(np.int64), of_all)

    def _find(
        self, cluster: Cluster, index: int, screened: GroupScreen, first: int, count: int
    ) -> tuple[Any, Any, IntArray]:
        """What is kept, and its number, on the GPU and here."""
        capacity = int(screened.kept + 8 * screened.kept**0.5) + 16
        while True:
            kept, kept_count = self.search(cluster, index, screened, first, count, capacity)
            number = kept_count.copy_to_host(stream=self._own.stream)
            self._own.stream.synchronize()
            most = int(number.max())
            if most <= capacity:
                return kept, kept_count, number.astype(np.int64)
            capacity = most

    def search(
        self,
        cluster: Cluster,
        index: int,
        screened: GroupScreen,
        first: int,
        count: int,
        capacity: int,
    ) -> tuple[Any, Any]:
        """Launch the search for what may be last: arrays on the GPU that are being filled.

        See `candidates.find_rare`. capacity: of a step.
        """
        own = self._own
        kept = own.empty("kept", (count, capacity), np.uint32)
        kept_count = own.filled("kept_count", count, np.int32, 0)
        pieces: list[tuple[Thresholds, Purpose, int]] = [(screened.step, Purpose.STEP, 0)]
        if screened.stall is not None:
            pieces.append((screened.stall, Purpose.STALL, STALL))
        fours = ((first + count + 3) >> 2) - (first >> 2)
        eights = ((first + count + 7) >> 3) - (first >> 3)
        for thresholds, purpose, mark in pieces:
            here = self._thresholds(thresholds)
            address = (
                np.uint32(cluster.plan.groups[index].identity),
                word_3(cluster.replicate, purpose),
                *key_of(cluster.plan.seed),
            )
            span = np.uint32(first), np.uint32(count)
            if thresholds.blocks.size:
                grid = -(-thresholds.blocks.size * fours // (THREADS * ROUNDS))
                found = here.blocks, here.entry, here.rare
                kernels.find_rare[grid, THREADS, own.stream](
                    *found, *span, *address, np.uint32(mark), kept, kept_count
                )
            if thresholds.usual.size:
                grid = -(-thresholds.usual.size * eights // THREADS)
                kernels.screen[grid, THREADS, own.stream](
                    *(here.usual, here.usual_threshold),
                    *(*span, *address, np.uint32(mark + USUAL), kept, kept_count),
                )
        return kept, kept_count

    @_reported()
    def count(
        self,
        cluster: Cluster,
        index: int,
        tables: DeviceTables,
        first: int,
        latest: FloatArray,
    ) -> Counted:
        """The counts of a group in some steps."""
        own, stream, group = self._own, self._own.stream, cluster.plan.groups[index]
        base = self._of(cluster, ("base", index), lambda: _single(cluster.base[index]))
        middle, last = np.median(cluster.base[index]), latest.max()
        bins = bin_of_times(np.array([middle, last]))
        starts = np.clip(bins - [WINDOW // 2, WINDOW], 0, BINS - WINDOW).astype(np.int32)
        room = room_for_missed(cluster, index, tables, latest.size)
        eights = ((first + latest.size + 7) >> 3) - (first >> 3)
        grid = -(-group.count // DEVICES_PER_BLOCK), -(-eights // _STEPS_OF_A_BLOCK)
        while True:
            counts = [own.filled(name, BINS, np.int64, 0) for name in ("times", "waits")]
            missed = own.empty("missed", (room, 2), np.uint32)
            lost = own.filled("lost", 1, np.int64, 0)
            kernels.count_devices[grid, DEVICES_PER_BLOCK, stream](
                base,
                *self._cells(tables.step),
                group.stall is not None,
                *self._cells(tables.stall),
                np.uint32(first),
                np.uint32(latest.size),
                np.uint32(_STEPS_OF_A_BLOCK),
                cuda.to_device(latest.astype(np.float32), stream=stream),
                np.uint32(group.identity),
                word_3(cluster.replicate, Purpose.STEP),
                word_3(cluster.replicate, Purpose.STALL),
                *key_of(cluster.plan.seed),
                starts[0],
                starts[1],
                *counts,
                missed,
                lost,
            )
            times, waits = (found.copy_to_host(stream=stream) for found in counts)
            (left,) = lost.copy_to_host(stream=stream)
            stream.synchronize()
            if left <= room:
                break
            room = int(left)
        of_law = missed.copy_to_host(stream=stream) if left else np.empty((0, 2), np.uint32)
        stream.synchronize()
        return times, waits, of_law[: int(left)].astype(np.int64)

    def _thresholds(self, thresholds: Thresholds) -> _Thresholds:
        return self._of(thresholds, "thresholds", lambda: _Thresholds(thresholds))

    def _cells(self, table: QuantileTable) -> tuple[Any, Any, np.float32, np.float32]:
        def copied() -> tuple[Any, Any]:
            return cuda.to_device(table.cells.value), cuda.to_device(table.cells.bend)

        return *self._of(table, "cells", copied), table.cells.upper, table.cells.lower

    def _of(self, owner: object, name: Hashable, make: Callable[[], Value]) -> Value:
        """What is kept on the GPU for as long as its owner lives here."""
        with self._lock:
            mine = self._kept.setdefault(owner, {})
            if name not in mine:
                mine[name] = make()
            found: Value = mine[name]
            return found

    @property
    def _own(self) -> _Own:
        if not hasattr(self._of_thread, "own"):
            self._of_thread.own = _Own()
        found: _Own = self._of_thread.own
        return found


class _Own:
    """What a thread has on the GPU: a stream, and memory that is used again in every call."""

    def __init__(self) -> None:
        self.stream: Any = cuda.stream()
        self._arrays: dict[str, Any] = {}

    def empty(self, name: str, shape: tuple[int, ...], kind: type) -> Any:
        """An array that holds anything, valid until the next one of its name."""
        size = math.prod(shape)
        if name not in self._arrays or self._arrays[name].size < size:
            self.stream.synchronize()
            self._arrays[name] = cuda.device_array(size, kind)
        return self._arrays[name][:size].reshape(shape)

    def filled(self, name: str, size: int, kind: type, value: int) -> Any:
        """The same, in one dimension, of equal values."""
        array = self.empty(name, (size,), kind)
        array.copy_to_device(np.full(size, value, kind), stream=self.stream)
        return array


class _Thresholds:
    """The thresholds of a group's devices on the GPU."""

    def __init__(self, of: Thresholds) -> None:
        self.entry = cuda.to_device(of.entry)
        self.rare, self._usual = (
            cuda.to_device(first_not_below(of.threshold, rare=rare)) for rare in (True, False)
        )
        self._of = of

    @property
    def bounds(self) -> tuple[Any, Any, Any]:
        """The entry of each device, and the bounds of rare draws and of others."""
        return self.entry, self.rare, self._usual

    @cached_property
    def blocks(self) -> Any:
        return cuda.to_device(self._of.blocks)

    @cached_property
    def usual(self) -> Any:
        return cuda.to_device(self._of.usual)

    @cached_property
    def usual_threshold(self) -> Any:
        return cuda.to_device(self._of.usual_threshold)


def _single(values: FloatArray) -> Any:
    return cuda.to_device(values.astype(np.float32))


def _power_of_two(value: float) -> float:
    """The next one, so that products with it are exact."""
    return float(2.0 ** np.ceil(np.log2(value))) if value > 0.0 else 1.0
