"""Pipeline schedules: in which order a stage works, and when all of it is done.

A stage does one operation at a time, in an order that the schedule fixes. A forward pass waits for
that of the stage before, a backward pass for that of the stage after, and in a stage each waits for
the one before it in the order: a max-plus recursion,

    end = max(end of the one before in the stage, end of what it needs + transfer) + time.

With `chunks` virtual stages on each device (interleaved), the model is cut into stages * chunks
pieces; piece c of stage s is number c * stages + s.
Sources: Narayanan et al., "Efficient large-scale language model training on GPU clusters using
Megatron-LM", SC 2021, section 2.2; for 1F1B without chunks, Narayanan et al., "Memory-efficient
pipeline-parallel DNN training", ICML 2021 (PipeDream-Flush).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray
from mcsim.model.hazard import Indices


class Operation(NamedTuple):
    """A forward or backward pass of a microbatch through a piece of the model."""

    backward: bool
    microbatch: int
    chunk: int


@dataclass(frozen=True, eq=False)
class Schedule:
    """All operations of a step, in an order in which none comes before what it waits for.

    stage, microbatch, chunk: shape (operations,). backward: shape (operations,). before: the
    operation that comes before in the stage; needs: the one of another stage, or of the same
    microbatch, whose result it takes; -1 where there is none. transferred: shape (operations,),
    whether that result comes from another stage.
    """

    stages: int
    microbatches: int
    chunks: int
    stage: Indices
    microbatch: Indices
    chunk: Indices
    backward: NDArray[np.bool_]
    before: Indices
    needs: Indices
    transferred: NDArray[np.bool_]

    @classmethod
    def of(cls, stages: int, microbatches: int, chunks: int = 1) -> Schedule:
        """1F1B, interleaved if there are several chunks. Raises ValueError where none exists."""
        if chunks > 1 and microbatches % stages:
            raise ValueError(
                f"{microbatches} microbatches are no multiple of the {stages} stages, as the"
                " interleaved schedule needs"
            )
        orders = [_order(stages, microbatches, chunks, stage) for stage in range(stages)]
        return _sorted(stages, microbatches, chunks, orders)

    def ends(self, time: FloatArray, transfer: FloatArray | float = 0.0) -> FloatArray:
        """When each operation ends, s; shape (operations, ...).

        time: shape (operations, ...), s, of each, in the schedule's order. transfer: s, broadcast
        to the same; of the results that come from other stages.
        """
        end = np.empty(time.shape)
        passed = np.broadcast_to(transfer, time.shape)
        none = np.zeros(time.shape[1:])
        for index in range(len(time)):
            before, needs = self.before[index], self.needs[index]
            ready = end[before] if before >= 0 else none
            if needs >= 0:
                there = end[needs] + passed[index] if self.transferred[index] else end[needs]
                ready = np.maximum(ready, there)
            end[index] = ready + time[index]
        return end

    def last_of_stage(self) -> Indices:
        """The last operation of each stage; shape (stages,)."""
        last = np.zeros(self.stages, np.intp)
        last[self.stage] = np.arange(self.stage.size)
        return last


def bubble_fraction(stages: int, microbatches: int, chunks: int = 1) -> float:
    """The time that a stage waits over the time it works, where all operations take the same.

    Source: Narayanan et al., SC 2021: (p - 1) / (v m).
    """
    return (stages - 1) / (chunks * microbatches)


def _order(stages: int, microbatches: int, chunks: int, stage: int) -> list[Operation]:
    """What a stage does, one after the other: forwards to warm up, then one of each in turn."""
    total = microbatches * chunks
    later = stages - stage - 1
    ahead = min(later if chunks == 1 else 2 * later + (chunks - 1) * stages, total)
    forward = [_numbered(stages, chunks, k, backward=False) for k in range(total)]
    backward = [_numbered(stages, chunks, k, backward=True) for k in range(total)]
    order = forward[:ahead]
    for k in range(total - ahead):
        order += [forward[ahead + k], backward[k]]
    return order + backward[total - ahead :]


def _numbered(stages: int, chunks: int, k: int, *, backward: bool) -> Operation:
    """The k-th forward or backward pass of a stage: groups of `stages` microbatches by chunk."""
    if chunks == 1:
        return Operation(backward, k, 0)
    group, place = divmod(k, stages * chunks)
    chunk, within = divmod(place, stages)
    if backward:
        chunk = chunks - 1 - chunk
    return Operation(backward, group * stages + within, chunk)


def _sorted(stages: int, microbatches: int, chunks: int, orders: list[list[Operation]]) -> Schedule:
    """All operations, each after those that it waits for."""
    number: dict[tuple[int, Operation], int] = {}
    before, needs, transferred = [], [], []
    place = [0] * stages
    last = [-1] * stages
    total = sum(len(order) for order in orders)
    while len(number) < total:
        count = len(number)
        for stage, order in enumerate(orders):
            while place[stage] < len(order):
                one = order[place[stage]]
                source = _source(stages, chunks, stage, one)
                if source is not None and source not in number:
                    break
                needs.append(-1 if source is None else number[source])
                transferred.append(source is not None and source[0] != stage)
                before.append(last[stage])
                last[stage] = number[stage, one] = len(number)
                place[stage] += 1
        if len(number) == count:
            raise ValueError("the operations wait for each other in a circle")
    every = list(number)
    return Schedule(
        stages,
        microbatches,
        chunks,
        np.array([stage for stage, _ in every], np.intp),
        np.array([one.microbatch for _, one in every], np.intp),
        np.array([one.chunk for _, one in every], np.intp),
        np.array([one.backward for _, one in every], np.bool_),
        np.array(before, np.intp),
        np.array(needs, np.intp),
        np.array(transferred, np.bool_),
    )


def _source(stages: int, chunks: int, stage: int, one: Operation) -> tuple[int, Operation] | None:
    """Where an operation takes its input from: a stage and its operation; None for the first."""
    piece = one.chunk * stages + stage
    if one.backward:
        if piece == stages * chunks - 1:
            return stage, Operation(False, one.microbatch, one.chunk)
        piece += 1
    elif piece == 0:
        return None
    else:
        piece -= 1
    return piece % stages, Operation(one.backward, one.microbatch, piece // stages)
