"""Which engine samples a plan, and why: the cheapest that is exact for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcsim.model.maximum import reason_against
from mcsim.model.plan import Group, Plan, Slow

# Measured on two cores at 2.6 GHz by `make bench`, rounded up; other machines differ.
_SAMPLED_PER_DRAW = 0.15e-6
_SAMPLED_PER_REPLICATE = 10e-3
_SAMPLED_PER_GROUP_AND_STEP = 1e-6
_SAMPLED_PER_SITE_AND_STEP = 1.5e-6
_SAMPLED_PER_DRAW_AND_STEP = 0.025e-9
_SPARE = 300e-9
_CLOCK_PER_DRAW = 100e-9
_CLOCK_PER_STEP = 500e-6
_TOO_LATE = 100e-9
_COUNTED_PER_DRAW_AND_STEP = 2.5e-9
_SLOW_PER_DEVICE_AND_STEP = 110e-9
_REFRESH_OF_A_UNIT = 50e-9
_KEPT_PER_DEVICE_AND_STEP = 0.08e-9
_OPERATION = 1e-9
_OPERATION_DRAWN = 2e-9
_OPERATION_PASSED = 15e-9
_DELAY_DRAWN = 50e-9
_LINK_LOOKED_AT = 1e-6
_EXACT_STALLS_PER_GROUP = 140e-3
_EXACT_PER_SITE = 40e-3
_EXACT_PER_DEVICE = 0.3e-6
_EXACT_PER_SITE_AND_STEP = 0.35e-6

_SPECIMENS = (np.arange(256) + 0.5) / 256
"""Survival probabilities at which devices are looked at for how many are late."""

_MOST_DRAWN = 64
"""Rounds of messages that are drawn one by one; of more the sum, by its law."""
MOST_A_BLOCK = 1024
"""Steps that are summed together where a step is short."""
_LONGEST_BLOCK = 4.0
"""s, that a block may take on one core: what is lost, at most, where a run is killed."""


@dataclass(frozen=True)
class Choice:
    """An engine, "sampled" or "exact", and why it."""

    engine: str
    reason: str


def why_not_exact(plan: Plan) -> str | None:
    """The reason why the exact engine cannot do a plan; None where it can, as far as is known
    before a cluster is drawn."""
    if plan.keep == "devices":
        return 'keep = "devices" asks for the time of every device, which it does not draw'
    if plan.stale is not None:
        return "replicas have clocks of their own, and steps depend on all before them"
    if plan.cutoff is not None:
        return "steps do not wait for everybody, and it draws the last arrival alone"
    for group in plan.groups:
        if group.correlation > 0:
            return f"{group.name}: its jitter is kept from step to step, and it draws each anew"
    return _why_not_tabulated(plan)


def why_no_law(plan: Plan) -> str | None:
    """The reason why the law of the steps of a plan cannot be tabulated; None if it can."""
    if plan.slow_sites:
        return "its sites have slow states or shocks, so its steps differ in law"
    if plan.daily is not None:
        return "all times swing daily, so its steps differ in law"
    return _why_not_tabulated(plan)


def _why_not_tabulated(plan: Plan) -> str | None:
    """The reason against the law of the last arrivals, but for what whole sites share."""
    if plan.division is not None:
        return "[workload.parallel]: its pipelines have no law that can be tabulated"
    for group in plan.groups:
        if group.slow:
            return f"{group.name}: it has a slow state or shocks, so its steps differ in law"
        reason = reason_against(group.step, group.stall)
        if reason is not None:
            return f"{group.name}: {reason}"
    return None


def why_no_step_law(plan: Plan) -> str | None:
    """The reason why the law of the step time cannot be tabulated; None if it can."""
    if not plan.is_plain:
        return "only the law of a full barrier is tabulated, and [sync] has another policy"
    if plan.barrier is not None and plan.barrier.degrading:
        link = plan.barrier.degrading[0].name
        return f"the link {link} degrades for spells of time, so steps remember those before"
    return why_no_law(plan)


def choose(plan: Plan) -> Choice:
    """The engine of a plan.

    What is asked for, or the one that is likely to take less time: both draw from the same
    distribution. The exact engine may still find that it cannot do a drawn cluster.
    """
    if plan.engine == "sampled":
        return Choice("sampled", "asked for")
    reason = why_not_exact(plan)
    if plan.engine == "exact":
        return Choice("exact", "asked for")
    if reason is not None:
        return Choice("sampled", f"the exact engine cannot do this: {reason}")
    sampled, exact = cpu_seconds(plan, "sampled"), cpu_seconds(plan, "exact")
    if exact < sampled:
        return Choice("exact", f"about {sampled / exact:.2g} times cheaper than to sample")
    return Choice("sampled", f"about {exact / sampled:.2g} times cheaper than the law's tables")


def cpu_seconds(plan: Plan, engine: str) -> float:
    """Expected time of all steps on one core, once the kernels are compiled; s."""
    steps = float(plan.steps * plan.replicates)
    if engine == "exact":
        sites = len(plan.sites)
        stalls = sum(group.stall is not None for group in plan.groups)
        each = _EXACT_PER_SITE * sites + _EXACT_PER_DEVICE * plan.devices
        each += _EXACT_STALLS_PER_GROUP * stalls
        per_step = _EXACT_PER_SITE_AND_STEP * sites + _network_seconds(plan)
        return plan.replicates * each + steps * plan.inner * per_step
    each = _SAMPLED_PER_REPLICATE
    if plan.division is None:
        each += _SAMPLED_PER_DRAW * plan.draws
    return plan.replicates * each + steps * sampled_seconds(plan)


def sampled_seconds(plan: Plan) -> float:
    """Expected time of one step on one core, sampled; s."""
    if plan.division is not None:
        units = plan.devices / plan.division.parallel.tensor
        per_operation = _OPERATION * plan.devices + _OPERATION_PASSED * units
        return per_operation * plan.division.operations + _OPERATION_DRAWN * plan.draws
    if plan.stale is not None:
        return _CLOCK_PER_DRAW * plan.draws + _CLOCK_PER_STEP
    seconds = _network_seconds(plan) + _SAMPLED_PER_GROUP_AND_STEP * len(plan.groups)
    seconds += _SAMPLED_PER_SITE_AND_STEP * len(plan.sites)
    seconds += _SAMPLED_PER_DRAW_AND_STEP * plan.draws + _seconds_of_late(plan)
    for group in plan.groups:
        seconds += _KEPT_PER_DEVICE_AND_STEP * group.count * (group.correlation > 0)
        for slow in group.slow:
            refresh = slow.refresh if isinstance(slow, Slow) else slow.share
            seconds += _SLOW_PER_DEVICE_AND_STEP * slow.share * group.count
            seconds += _REFRESH_OF_A_UNIT * refresh * group.units(slow.level)
    if plan.keep == "devices":
        seconds += _COUNTED_PER_DRAW_AND_STEP * plan.draws
    return plan.inner * seconds


def _seconds_of_late(plan: Plan) -> float:
    """Expected time to look at those that a step does not wait for, s."""
    if plan.cutoff is None:
        return 0.0
    late = sum(group.count * _share_late(group, plan.cutoff.timeout) for group in plan.groups)
    return _TOO_LATE * late + _SPARE * plan.cutoff.spare * len(plan.sites)


def _share_late(group: Group, timeout: float) -> float:
    """How likely a device is late for a timeout, about: with specimens, but as if places were
    alike."""
    base = np.array([group.compute])
    if group.persistent is not None:
        base = group.compute * group.persistent.quantile(_SPECIMENS)
    base = base[base > 0.0]
    if group.step is None:
        left = timeout - base
        late = left < 0.0 if group.stall is None else group.stall.survival(left)
    else:
        stall = 0.0 if group.stall is None else group.stall.expectation()
        late = group.step.survival((timeout - stall) / base)
    return float(np.sum(late)) / max(base.size, 1)


def _network_seconds(plan: Plan) -> float:
    """Expected time of the network of one step: delays of messages, and states of links; s."""
    seconds = 0.0
    for barrier in plan.barriers:
        for delay in barrier.delays:
            seconds += _DELAY_DRAWN * min(delay.rounds, _MOST_DRAWN) * len(delay.messages)
        seconds += _LINK_LOOKED_AT * len(barrier.degrading)
    return seconds


def steps_a_block(plan: Plan) -> int:
    """Steps that are summed together, the least that a run can be divided into.

    A power of two. It depends on the cost of a step, not on how many there are, nor on who samples
    them, so that neither does a bit of a result.
    """
    affordable = int(_LONGEST_BLOCK / sampled_seconds(plan))
    return min(1 << max(affordable.bit_length() - 1, 0), MOST_A_BLOCK)
