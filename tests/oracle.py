"""The slow obvious version: every device draws in full, the largest time wins."""

from __future__ import annotations

from typing import Any

import numpy as np

import mcsim
from mcsim.engine.cluster import Cluster, draw_cluster
from mcsim.engine.draws import complete
from mcsim.engine.held import drawn_at, refreshes_of
from mcsim.engine.philox import Purpose, key_of, word_3
from mcsim.engine.screening import GroupLaws
from mcsim.engine.shared import shared_factors
from mcsim.engine.states import spells_of
from mcsim.engine.steps import Steps
from mcsim.model import Plan
from mcsim.model.remedies import ABSENT


def cluster_of(plan: Plan, replicate: int = 0) -> Cluster:
    """The replicate's cluster, ready to be sampled."""
    laws = tuple(GroupLaws(group.step, group.stall) for group in plan.groups)
    return draw_cluster(plan, laws, replicate)


def arrivals(cluster: Cluster, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per group, the times of all devices in a step and the draws of their jitter."""
    plan = cluster.plan
    out = []
    for index, group in enumerate(plan.groups):
        device = np.arange(group.count)
        steps = np.full(group.count, step, np.uint32)

        def draws(purpose: Purpose, steps: np.ndarray) -> np.ndarray:
            last = word_3(cluster.replicate, purpose)
            return complete(device, steps, np.uint32(group.identity), last, *key_of(plan.seed))[0]  # noqa: B023

        refreshes = refreshes_of(plan, group, cluster.replicate)
        drawn = steps if refreshes is None else drawn_at(device, steps.astype(np.int64), *refreshes)
        survival = draws(Purpose.STEP, drawn)
        time = cluster.base[index].copy()
        spells = spells_of(plan, index, cluster.replicate, step, 1)
        if spells is not None:
            _, slow, factor = spells.steps(step, 1)
            time[slow] *= factor
        if group.step is not None:
            time = time * group.step.quantile(survival)
        if group.stall is not None:
            time = time + group.stall.quantile(draws(Purpose.STALL, steps))
        out.append((time, survival))
    return out


def last_arrivals(cluster: Cluster, first: int, count: int) -> Steps:
    """`ready`, `culprit`, `draw` and `busy` of some steps; `time` is the last arrival."""
    plan = cluster.plan
    ready = np.full((count, len(plan.sites)), -np.inf)
    draw = np.ones(ready.shape)
    culprit, device = np.zeros(ready.shape, np.int64), np.zeros(ready.shape, np.int64)
    busy = np.empty((count, len(plan.groups)))
    for row in range(count):
        for index, (time, survival) in enumerate(arrivals(cluster, first + row)):
            site = plan.groups[index].site
            busy[row, index] = time[cluster.base[index] > ABSENT].mean()
            order = np.lexsort((-survival, time))[-1]
            found = (time[order], -survival[order])
            if found > (ready[row, site], -draw[row, site]):
                ready[row, site], draw[row, site] = time[order], survival[order]
                culprit[row, site], device[row, site] = index, order
    factors = shared_factors(plan, cluster.replicate, first, count)
    if factors is not None:
        ready = ready * factors
        busy = busy * factors[:, [group.site for group in plan.groups]]
    return Steps(ready.max(axis=1), ready, culprit, draw, busy, device=device)


def scenario(*fleet: dict[str, Any], **parts: Any) -> mcsim.Scenario:
    """A scenario of custom groups; keys of `run` may be given flat as steps, seed and so on."""
    run = {key: parts.pop(key) for key in ("seed", "steps", "replicates", "keep") if key in parts}
    groups = [
        {"name": f"group-{index}", "device": "custom", "compute": 1.0, **group}
        for index, group in enumerate(fleet)
    ]
    return mcsim.Scenario.from_dict({"name": "test", "run": run, "fleet": groups, **parts})
