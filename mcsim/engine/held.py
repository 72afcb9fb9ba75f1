"""Draws that devices keep from step to step: step jitter with a memory.

In each step a device draws its jitter anew, with a given probability, or keeps that of the step
before: the process DAR(1), whose marginal law is any and whose autocorrelation is that of an AR(1)
process, correlation^k (Jacobs & Lewis 1978, as cited in `mcsim.engine.states`). A draw that is kept
is the draw of the step of its *refresh*, at the address that it has there anyway. So the search
for those who may be last looks at the same few draws as without memory, and each that it finds is
kept until the device's next refresh. In step 0 all devices draw.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.candidates import CODES, STALL, USUAL
from mcsim.engine.compile import kernel, lane
from mcsim.engine.draws import complete
from mcsim.engine.philox import Purpose, Word, Words, key_of, word_3
from mcsim.engine.screening import Thresholds
from mcsim.engine.states import next_refresh, pace
from mcsim.model.plan import Group, Plan

IntArray = NDArray[np.int64]


class Refreshes(NamedTuple):
    """When the devices of a group draw anew, as the kernels below take it.

    block, per_gap: as of `states.find_spells`. identity, last, k0, k1: of the addresses.
    """

    block: int
    per_gap: float
    identity: Word
    last: Word
    k0: Word
    k1: Word


def refreshes_of(plan: Plan, group: Group, replicate: int) -> Refreshes | None:
    """None where all devices draw in every step."""
    if group.correlation == 0.0:
        return None
    last = word_3(replicate, Purpose.REFRESH)
    name = np.uint32(group.identity)
    return Refreshes(*pace(1.0 - group.correlation), name, last, *key_of(plan.seed))


class Found(NamedTuple):
    """Candidates one after the other by step: devices, steps, codes (see `candidates`), and how
    many there are in each step."""

    device: IntArray
    step: Words
    code: IntArray
    number: IntArray


def held(
    plan: Plan,
    group: Group,
    replicate: int,
    refreshes: Refreshes,
    thresholds: Thresholds,
    found: Found,
    first: int,
) -> Found:
    """The candidates of the steps from `first` on, with draws that are kept.

    found: the candidates if all devices drew in each of these steps. thresholds: of the draws of
    the step.
    """
    count = found.number.size
    device, code = found.device, found.code
    start = found.step.astype(np.int64)
    until = kept_until(device, start, code, first + count, *refreshes)
    if first > 0:
        earlier, code_of_earlier = _from_before(
            plan, group, replicate, refreshes, thresholds, first
        )
        before = np.full(earlier.size, first - 1)
        still = refreshed_after(earlier, before, first + count, *refreshes)
        device = np.concatenate([earlier, device])
        code = np.concatenate([code_of_earlier, code])
        start = np.concatenate([before + 1, start])
        until = np.concatenate([still, until])
    length = until - start
    of = np.repeat(np.arange(length.size), length)
    step = np.arange(of.size) - (np.cumsum(length) - length)[of] + start[of]
    # An order that does not depend on where the steps are entered.
    order = np.lexsort((code[of], step))
    step, of = step[order], of[order]
    number = np.bincount(step - first, minlength=count)
    return Found(device[of], step.astype(np.uint32), code[of], number)


def _from_before(
    plan: Plan,
    group: Group,
    replicate: int,
    refreshes: Refreshes,
    thresholds: Thresholds,
    first: int,
) -> tuple[IntArray, IntArray]:
    """The devices whose draws in the step before `first` are below their thresholds, and their
    codes."""
    device = np.arange(group.count)
    step = drawn_at(device, np.full(group.count, first - 1), *refreshes)
    last = word_3(replicate, Purpose.STEP)
    name = np.uint32(group.identity)
    survival, rare = complete(device, step, name, last, *key_of(plan.seed))
    below = np.flatnonzero(survival < thresholds.threshold[thresholds.entry])
    return below, CODES * below + np.where(rare[below], 0, USUAL)


@lane
def _last_refresh(
    device: int,
    step: int,
    block: int,
    per_gap: float,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
) -> int:
    """The step, `step` or before, of a device's last refresh."""
    start = step // block * block
    end = step + 1
    found = -1
    while True:
        slot = start
        at = start - 1
        while True:
            gap, _ = next_refresh(device, slot, per_gap, identity, last, k0, k1)
            at += 1 + gap
            if at >= end:
                break
            found = at
            slot += 1
        if found >= 0 or start == 0:
            return max(found, 0)
        end = start
        start -= block


@lane
def _refresh_after(
    device: int,
    step: int,
    end: int,
    block: int,
    per_gap: float,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
) -> int:
    """The step of a device's first refresh after `step`; `end` if there is none before."""
    start = step // block * block
    while start < end:
        slot = start
        at = start - 1
        stop = min(start + block, end)
        while True:
            gap, _ = next_refresh(device, slot, per_gap, identity, last, k0, k1)
            at += 1 + gap
            if at >= stop:
                break
            if at > step:
                return at
            slot += 1
        start += block
    return end


@kernel
def drawn_at(
    device: IntArray,
    step: IntArray,
    block: int,
    per_gap: float,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
) -> Words:
    """The steps whose draws some devices have in some steps; all shape (n,)."""
    out = np.empty(device.size, np.uint32)
    for i in range(device.size):
        out[i] = _last_refresh(device[i], step[i], block, per_gap, identity, last, k0, k1)
    return out


@kernel
def refreshed_after(
    device: IntArray,
    step: IntArray,
    end: int,
    block: int,
    per_gap: float,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
) -> IntArray:
    """The first refresh of some devices after some steps; `end` where there is none before."""
    out = np.empty(device.size, np.int64)
    for i in range(device.size):
        out[i] = _refresh_after(device[i], step[i], end, block, per_gap, identity, last, k0, k1)
    return out


@kernel
def kept_until(
    device: IntArray,
    step: IntArray,
    code: IntArray,
    end: int,
    block: int,
    per_gap: float,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
) -> IntArray:
    """Until which step, at most `end`, what is found at `step` counts: of stalls, which none keeps,
    the next; of the draw of a step without a refresh the step itself, so that it never does."""
    out = np.empty(device.size, np.int64)
    for i in range(device.size):
        here = step[i]
        if code[i] & STALL != 0:
            out[i] = here + 1
        elif _last_refresh(device[i], here, block, per_gap, identity, last, k0, k1) < here:
            out[i] = here
        else:
            out[i] = _refresh_after(device[i], here, end, block, per_gap, identity, last, k0, k1)
    return out
