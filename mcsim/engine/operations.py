"""Draws of the operations of pipelines: one for every device in every pass of a microbatch.

A device's operations of a step are numbered as steps are elsewhere, a multiple of eight to a step,
and drawn as the times of all devices are (`devices`): by tables, in float32, and from the law
itself where those have no value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.compile import kernel
from mcsim.engine.devices import CHUNK, Floats, eight_values
from mcsim.engine.draws import complete
from mcsim.engine.philox import Purpose, Word, key_of, word_3
from mcsim.engine.quantile_table import Cells, QuantileTable
from mcsim.laws import FloatArray
from mcsim.model.hazard import Quantiles
from mcsim.model.plan import Plan


@dataclass(frozen=True, eq=False)
class Operations:
    """What a law gives each operation. purpose: of the draws."""

    plan: Plan
    law: Quantiles
    table: QuantileTable
    purpose: Purpose
    operations: int

    @classmethod
    def of(cls, plan: Plan, law: Quantiles, purpose: Purpose, operations: int) -> Operations:
        return cls(plan, law, QuantileTable.of(law), purpose, operations)

    def values(self, replicate: int, identity: int, step: int, start: int, size: int) -> Floats:
        """Of the devices (or units) from `start` on; shape (operations, size).

        start: a multiple of CHUNK.
        """
        eights = -(-self.operations // 8)
        out = np.empty((8 * eights, size), np.float32)
        last = word_3(replicate, self.purpose)
        key = key_of(self.plan.seed)
        fill(start, step * eights, np.uint32(identity), last, *key, self.table.cells, out)
        out = out[: self.operations]
        if self.table.marked:
            operation, device = np.nonzero(np.isnan(out))
            number = (operation + 8 * eights * step).astype(np.uint32)
            drawn, _ = complete(device + start, number, np.uint32(identity), last, *key)
            out[operation, device] = self.law.quantile(drawn)
        return out


@kernel
def fill(
    start: int,
    first_eight: int,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
    cells: Cells,
    out: Floats,
) -> None:
    """What a law gives devices in eights of operations, not a number where its table has none.

    out: shape (8 * eights, devices).
    """
    words = np.empty((8, CHUNK), np.uint32)
    value = np.empty((8, CHUNK), np.float32)
    for at in range(0, out.shape[1], CHUNK):
        size = min(CHUNK, out.shape[1] - at)
        for eight in range(out.shape[0] // 8):
            eight_values(
                start + at,
                size,
                first_eight + eight,
                identity,
                last,
                k0,
                k1,
                cells,
                words,
                value,
            )
            for j in range(8):
                into = out[8 * eight + j, at : at + size]
                for l in range(size):
                    into[l] = value[j, l]


@kernel
def slowest_of_units(
    tensor: int,
    base: FloatArray,
    factor: Floats,
    forward: float,
    backward: float,
    stall: FloatArray,
    stalled: NDArray[np.int64],
    times: FloatArray,
    spent: FloatArray,
) -> None:
    """How long each operation takes on the slowest device of each unit.

    tensor: devices of a unit, whose number they are a multiple of. base: shape (devices,), s, all
    operations of each, undisturbed. factor: shape (operations, devices), or no devices where
    nothing varies. forward, backward: what part of it each pass is. stall: shape (devices,), s,
    added to the operation `stalled`; or no devices. times: shape (units, operations), s, is
    filled. spent: shape (devices,), s, is filled with the sum of each.
    """
    operations = times.shape[1]
    varies, stalls = factor.shape[1] > 0, stall.size > 0
    time = np.empty(base.size)
    for l in range(base.size):
        spent[l] = 0.0
    for operation in range(operations):
        share = forward if 2 * operation < operations else backward
        if varies:
            drawn = factor[operation]
            for l in range(base.size):
                time[l] = base[l] * share * np.float64(drawn[l])
        else:
            for l in range(base.size):
                time[l] = base[l] * share
        if stalls:
            for l in range(base.size):
                time[l] += stall[l] if stalled[l] == operation else 0.0
        for l in range(base.size):
            spent[l] += time[l]
        for unit in range(base.size // tensor):
            latest = time[unit * tensor]
            for l in range(unit * tensor + 1, (unit + 1) * tensor):
                latest = max(latest, time[l])
            times[unit, operation] = latest
