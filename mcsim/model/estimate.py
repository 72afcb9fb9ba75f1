"""What a scenario means and what running it costs, without running it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator

import numpy as np

from mcsim.errors import Problem, ScenarioError
from mcsim.laws import Law
from mcsim.model.choice import choose, cpu_seconds, why_no_law, why_not_exact
from mcsim.model.lower import lower
from mcsim.model.plan import Messages, Plan
from mcsim.scenario import Scenario
from mcsim.tables import table
from mcsim.threads import available_threads
from mcsim.units import Dimension, show

# Measured on two cores at 2.6 GHz, rounded up; other machines differ.
_START_SECONDS = 1.2
_SECONDS_ALONE_PER_STEP = 0.2e-6
_CHECKED_STEPS = 4096
_START_BYTES = 250e6
_BYTES_PER_DEVICE = 120
_BYTES_PER_THREAD = 100e6
_BYTES_PER_KEPT_STEP = 24
_BYTES_PER_REPLICATE = 20e3
_BYTES_PER_GROUP_COUNTED = 1.1e6
_FILE_BYTES_PER_REPLICATE = 5e3
_FILE_BYTES_PER_GROUP_COUNTED = 4e3


def draws(plan: Plan) -> int:
    """Random draws of devices in all steps."""
    return plan.draws * plan.steps * plan.replicates


def seconds(plan: Plan, threads: int) -> float:
    """Expected wall time of a run on so many threads, once the kernels are compiled."""
    alone = plan.steps * plan.replicates * _SECONDS_ALONE_PER_STEP
    return _START_SECONDS + cpu_seconds(plan, choose(plan).engine) / threads + alone + _check(plan)


def _check(plan: Plan) -> float:
    """Seconds of the self-check."""
    checked = dataclasses.replace(plan, steps=_CHECKED_STEPS, replicates=1, keep="summary")
    law = 0.0 if why_no_law(plan) else cpu_seconds(checked, "exact")
    return law + cpu_seconds(checked, "sampled")


def memory(plan: Plan, threads: int) -> float:
    """Expected bytes of memory, in proportion to devices and threads, not to steps."""
    kept = _BYTES_PER_KEPT_STEP * plan.steps * plan.replicates if plan.keep_steps else 0.0
    kept += _BYTES_PER_REPLICATE * plan.replicates
    if plan.keep == "devices":
        kept += _BYTES_PER_GROUP_COUNTED * len(plan.groups) * (plan.replicates + threads)
    return _START_BYTES + _BYTES_PER_DEVICE * plan.devices + _BYTES_PER_THREAD * threads + kept


def file_size(plan: Plan) -> float:
    """Expected bytes of the result file."""
    kept = 8.0 * plan.steps * plan.replicates if plan.keep_steps else 0.0
    if plan.keep == "devices":
        kept += _FILE_BYTES_PER_GROUP_COUNTED * len(plan.groups) * plan.replicates
    return 50e3 + _FILE_BYTES_PER_REPLICATE * plan.replicates + kept


def before_running(scenario: Scenario) -> list[str]:
    """What is allowed, but perhaps not meant: said, not refused.

    Raises ScenarioError where even one thread would not fit into the memory of this machine.
    """
    plan = lower(scenario)
    refused = why_not_exact(plan) if plan.engine == "exact" else None
    if refused is not None:
        message = f'"exact" cannot do this: {refused}; use "auto" or "sampled"'
        raise ScenarioError(scenario.name, [Problem("run.engine", message)])
    excess = _beyond_memory(plan, 1)
    if excess:
        raise ScenarioError(scenario.name, [Problem("", excess)])
    return _remarks(scenario, plan)


def fits(plan: Plan, threads: int) -> bool:
    """Whether a run on so many threads is likely to fit into the memory of this machine."""
    return not _beyond_memory(plan, threads)


def _beyond_memory(plan: Plan, threads: int) -> str:
    needed = memory(plan, threads)
    there = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    if needed <= there:
        return ""
    return (
        f"a run needs about {show(needed, 'data')} of memory, and this machine has"
        f' {show(there, "data")}; take fewer devices or replicates, or keep = "summary"'
    )


def _remarks(scenario: Scenario, plan: Plan) -> list[str]:
    said = []
    for name, law, groups in _laws_in_use(plan):
        below = float(law.distribution(np.array([-5e-324]))[0])
        if below > 0:
            which = f"{100 * below:.3g} % of its draws (a {type(law).name} law)"
            said.append(f"{name} of {groups} is negative in {which}")
        of_steps = name in ("step", "stall")
        if (of_steps or plan.replicates > 1) and not law.variance() < math.inf:
            which = "no standard error" if of_steps else "none over several clusters"
            said.append(f"{name} of {groups} has an infinite variance: {which} is valid")
    if scenario.workload.gradient is not None and plan.barrier is None:
        said.append("the gradient costs nothing: there is neither a [network] nor a [[link]]")
    used = {site.name for site in plan.sites}
    said += [f"site {s.name} has no devices" for s in scenario.site if s.name not in used]
    return said


def _laws_in_use(plan: Plan) -> Iterator[tuple[str, Law, str]]:
    """Each law by the key it stands under, with the groups that have it."""
    for name in ("persistent", "node", "rack", "site_factor", "step", "stall"):
        laws: dict[Law, list[str]] = {}
        for group in plan.groups:
            law = getattr(group, name)
            if law is not None:
                laws.setdefault(law, []).append(group.name)
        for law, groups in laws.items():
            whose = "all" if len(groups) == len(plan.groups) else ", ".join(groups)
            yield name.removesuffix("_factor"), law, whose


def explain(scenario: Scenario, threads: int | None = None) -> str:
    """What a scenario means: devices, groups, network, draws, expected time and bytes."""
    plan = lower(scenario)
    threads = threads or available_threads()
    rows = [
        [
            group.name,
            plan.sites[group.site].name,
            f"{group.count:,}",
            f"{group.nodes:,}",
            f"{group.racks:,}",
            show(group.compute, "time"),
        ]
        for group in plan.groups
    ]
    choice = choose(plan)
    groups = table(["group", "site", "devices", "nodes", "racks", "one step"], rows, left=(0, 1))
    lines = [
        f"{scenario.name}: {plan.devices:,} devices in {len(plan.groups)} group(s)"
        f" at {len(plan.sites)} site(s)",
        "",
        groups,
        "",
        *_disturbances(plan),
        *_network(plan, scenario.workload.gradient),
        f"ideal step      {show(plan.ideal_step_time, 'time')}"
        " (nothing disturbs, work by speed, free network)",
        f"run             {plan.steps:,} steps of each of {plan.replicates:,} cluster(s),"
        f" seed {plan.seed}",
        f"engine          {choice.engine}: {choice.reason}",
        *_goal(plan),
        f"draws           {draws(plan):,}",
        f"expected        {show(seconds(plan, threads), 'time')} on {threads} thread(s),"
        f" {show(memory(plan, threads), 'data')} of memory,"
        f" {show(file_size(plan), 'data')} of file",
        f"hash            {scenario.hash}",
        *(f"note: {remark}" for remark in _remarks(scenario, plan)),
    ]
    excess = _beyond_memory(plan, threads)
    if excess:
        lines.append(f"too large: {excess}")
    return "\n".join(lines)


def _goal(plan: Plan) -> list[str]:
    target = plan.target
    if target is None:
        return []
    return [
        f"goes on         until the relative standard error of {target.statistic} is"
        f" {target.relative_error:g}; at most {target.max_steps:,} steps of each of"
        f" {target.max_replicates:,} cluster(s)"
    ]


def _disturbances(plan: Plan) -> list[str]:
    lines = []
    for name, law, groups in _laws_in_use(plan):
        unit: Dimension | None = "time" if name == "stall" else None
        moments = f"mean {show(law.expectation(), unit)}, sd {show(law.variance() ** 0.5, unit)}"
        lines.append(f"{name:<15} {type(law).name}: {moments} ({groups})")
    return lines or ["disturbances    none"]


def _network(plan: Plan, payload: float | None) -> list[str]:
    barrier = plan.barrier
    if barrier is None or payload is None:
        return ["network         free: no payload, or no [network] and no [[link]]"]
    lines = [f"payload         {show(payload, 'data')}, all-reduced each step"]
    lines += [
        f"network         {site.name}: {show(up + down, 'time')} of all-reduce inside the site"
        for site, up, down in zip(plan.sites, barrier.up, barrier.down, strict=True)
    ]
    if len(plan.sites) > 1:
        lines.append(f"                {show(barrier.across, 'time')} between the sites")
    for delay in barrier.delays:
        for messages in delay.messages:
            lines += _delay(messages, delay.rounds)
    return [*lines, f"overlap         {100 * barrier.overlap:g} % of the compute time"]


def _delay(messages: Messages, rounds: int) -> list[str]:
    return [
        f"delay           {messages.level}: {rounds:,} round(s), each the slowest of"
        f" {messages.count:,}, {type(messages.law).name}, mean of one"
        f" {show(messages.law.expectation(), 'time')}",
        *(
            f"                and by {name}, {number:,} of them: {type(law).name}, mean"
            f" {show(law.expectation(), 'time')}"
            for (name, law), number in messages.shared.items()
        ),
    ]
