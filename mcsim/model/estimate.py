"""What a scenario means and what running it costs, without running it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from mcsim.errors import Problem
from mcsim.laws import Law
from mcsim.model.choice import choose, cpu_seconds, why_no_law, why_not_exact
from mcsim.model.dividing import training_of
from mcsim.model.division import Division
from mcsim.model.lower import lower
from mcsim.model.pipeline import bubble_fraction
from mcsim.model.plan import LinkPlan, Messages, Plan, Shock, Slow
from mcsim.model.training import Training
from mcsim.scenario import Scenario
from mcsim.scenario.remedy import Remedy
from mcsim.scenario.schema import OF_SITES
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
_BYTES_PER_OPERATION = 40
_FILE_BYTES_PER_REPLICATE = 5e3
_FILE_BYTES_PER_GROUP_COUNTED = 4e3


def draws(plan: Plan) -> int:
    """Random draws of devices in all steps."""
    return plan.draws * plan.inner * plan.steps * plan.replicates


def seconds(plan: Plan, threads: int, *, start: float = _START_SECONDS) -> float:
    """Expected wall time of a run on so many threads, once the kernels are compiled.

    start: s, until it begins; 0 for one of many runs of a process.
    """
    alone = plan.steps * plan.replicates * _SECONDS_ALONE_PER_STEP
    if plan.stale is not None:
        # Of a cluster each step needs the one before.
        threads = min(threads, plan.replicates)
    return start + cpu_seconds(plan, choose(plan).engine) / threads + alone + _check(plan)


def _check(plan: Plan) -> float:
    """Seconds of the self-check."""
    checked = dataclasses.replace(plan, steps=_CHECKED_STEPS, replicates=1, keep="summary")
    if why_no_law(plan) is not None:
        return 0.0
    return cpu_seconds(checked, "exact") + cpu_seconds(checked, "sampled")


def memory(plan: Plan, threads: int) -> float:
    """Expected bytes of memory, in proportion to devices and threads, not to steps."""
    kept = _BYTES_PER_KEPT_STEP * plan.steps * plan.replicates if plan.keep_steps else 0.0
    kept += _BYTES_PER_REPLICATE * plan.replicates
    if plan.division is not None:
        units = plan.devices / plan.division.parallel.tensor
        kept += _BYTES_PER_OPERATION * units * plan.division.operations * threads
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

    Raises ScenarioError where the engine that is asked for cannot do it.
    """
    plan = lower(scenario)
    refused = why_not_exact(plan) if plan.engine == "exact" else None
    if refused is not None:
        message = f'"exact" cannot do this: {refused}; use "auto" or "sampled"'
        raise scenario.error([Problem("run.engine", message)])
    return _remarks(scenario, plan)


def _remarks(scenario: Scenario, plan: Plan) -> list[str]:
    said: list[str] = []
    for name, law, groups in _laws_in_use(plan):
        below = float(law.distribution(np.array([-5e-324]))[0])
        if below > 0:
            which = f"{100 * below:.3g} % of its draws (a {type(law).name} law)"
            said.append(f"{name} of {groups} is negative in {which}")
        of_steps = name in ("step", "operation", "stall")
        if (of_steps or plan.replicates > 1) and not law.variance() < math.inf:
            which = "no standard error" if of_steps else "none over several clusters"
            said.append(f"{name} of {groups} has an infinite variance: {which} is valid")
    free = scenario.network is None and not scenario.link
    if free and (scenario.workload.gradient is not None or scenario.workload.model is not None):
        said.append("the gradient costs nothing: there is neither a [network] nor a [[link]]")
    training = training_of(scenario)
    if training is not None:
        said += _about_model(training)
    if plan.division is not None:
        said += _about_division(scenario, plan.division)
    if plan.stale is not None and plan.steps < 100 * min(plan.stale.bound, plan.steps):
        said.append(
            "replicas that get ahead of others count as progress, which they can only once: in few"
            " steps they gain more than in the long run"
        )
    used = {site.name for site in plan.sites}
    said += [f"site {s.name} has no devices" for s in scenario.site if s.name not in used]
    return said


def _about_model(training: Training) -> Iterator[str]:
    layers = training.model.layers
    pieces = training.parallel.pipeline * training.parallel.chunks
    if layers % pieces:
        yield (
            f"{layers} layers do not divide into {pieces} pieces: each counts as"
            f" {layers / pieces:.3g} layers"
        )
    if abs(training.sequences - round(training.sequences)) > 1e-9 * training.sequences:
        yield f"a microbatch of a replica has {training.sequences:.6g} sequences, not whole ones"


def _about_division(scenario: Scenario, division: Division) -> Iterator[str]:
    parallel, workload = division.parallel, scenario.workload
    if workload.model is None and parallel.tensor > 1:
        yield "collectives among the devices of a layer cost nothing: there is no [workload.model]"
    if workload.model is None and parallel.pipeline > 1 and parallel.activation is None:
        yield "what stages hand on costs nothing: neither `activation` nor [workload.model]"
    sites = division.placement.site[division.placement.unit]
    spanning = int((sites != sites[:, :1]).any(axis=1).sum())
    if spanning:
        yield f"{spanning:,} of {len(sites):,} replicas have stages at several sites"
    group = division.placement.group[division.placement.unit]
    mixed = int((group != group[:, :1]).any(axis=1).sum())
    if mixed and not spanning:
        yield f"{mixed:,} of {len(sites):,} replicas have stages on several groups"


def _laws_in_use(plan: Plan) -> Iterator[tuple[str, Law, str]]:
    """Each law by the key it stands under, with the groups that have it."""
    for name in ("persistent", "node", "rack", "site_factor", "step", "operation", "stall"):
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
        *_policy(scenario, plan),
        *_remedy(scenario),
        *_disturbances(plan),
        *_division(scenario, plan),
        *_network(plan, scenario.workload.gradient),
        f"ideal step      {show(plan.ideal_step_time, 'time')}"
        " (nothing disturbs, work by speed, free network)",
        f"clock           {show(plan.clock, 'time')}"
        " (nothing disturbs, equal work, with pipeline and network)",
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
    return "\n".join(lines)


def _policy(scenario: Scenario, plan: Plan) -> list[str]:
    """What a step is, if not one, and whom it waits for, if not for everybody."""
    sync = scenario.sync
    said = []
    if sync.steps_a_round > 1:
        said.append(f"a step, here, is a round of {sync.steps_a_round:,} inner steps")
    if sync.wait_for is not None:
        said.append(f"a step ends with the first {sync.wait_for:,} of {plan.replicas:,} replicas")
    if sync.timeout is not None:
        said.append(f"a step waits for {show(sync.timeout, 'time')} at most")
    if sync.policy in OF_SITES:
        said.append(f"{len(plan.sites):,} sites meet once in {sync.steps_a_round:,} step(s)")
    if sync.quorum is not None:
        grace = show(sync.grace or 0.0, "time")
        said.append(f"the first {sync.quorum:,} of them are waited for, the others for {grace}")
    if sync.fragments is not None:
        said.append(
            f"in {sync.fragments:,} fragment(s), each behind {sync.overlap_steps or 0:,} step(s)"
        )
    if sync.staleness is not None:
        said.append(f"a replica may be {sync.staleness:,} step(s) ahead of the slowest")
    if sync.policy == "async":
        said.append("no replica waits for another; a step is an update of each, on average")
    if sync.statistical_efficiency is not None:
        said.append(f"a sample is worth {sync.statistical_efficiency:g} of one, as is given")
    return [f"{sync.policy if not line else '':<15} {one}" for line, one in enumerate(said)]


def _remedy(scenario: Scenario) -> list[str]:
    """What is done about slow devices."""
    remedy = scenario.remedy
    if remedy is None or remedy == Remedy():
        return []
    kept = {field.name: getattr(remedy, field.name) for field in dataclasses.fields(Remedy)}
    said = [f"{key} {value}" for key, value in kept.items() if value != getattr(Remedy(), key)]
    return [f"remedy          {', '.join(said)}"]


def _division(scenario: Scenario, plan: Plan) -> list[str]:
    """The model, its replicas and what an operation takes."""
    lines = []
    training = training_of(scenario)
    if training is not None:
        memory = training.memory()
        parts = ", ".join(f"{name} {show(size, 'data')}" for name, size in memory.items())
        lines += [
            f"model           {training.operations_per_token:.4g} operations a token,"
            f" {training.tokens:,.6g} tokens a microbatch",
            f"memory          {show(sum(memory.values()), 'data')} a device: {parts}",
        ]
    division = plan.division
    if division is None:
        return lines
    parallel, placement = division.parallel, division.placement
    schedule = division.schedule
    bubble = bubble_fraction(schedule.stages, schedule.microbatches, schedule.chunks)
    lines += [
        f"replicas        {placement.replicas:,} of {placement.stages} stage(s) of"
        f" {parallel.tensor} device(s), {parallel.placement}",
        f"pipeline        {parallel.schedule}, {schedule.microbatches:,} microbatch(es), bubble"
        f" {100 * bubble:.3g} % of the work",
    ]
    for what, times in (("tensor", division.tensor_time), ("expert", division.expert_time)):
        if max(times) > 0.0:
            lines.append(f"{what:<15} {show(max(times), 'time')} of collectives in a forward pass")
    if max(division.gather) > 0.0:
        lines.append(f"parameters      gathered in {show(max(division.gather), 'time')}")
    used = sorted(set(division.handing[:, : max(placement.stages - 1, 1)].ravel().tolist()))
    lines += [
        f"handing on      {show(way.latency + way.busy, 'time')} from stage to stage"
        for way in (division.ways[index] for index in used)
        if way.latency + way.busy > 0.0
    ]
    if division.barriers:
        taken = [max(b.up) + b.across + max(b.down) for b in division.barriers]
        lines.append(
            f"gradient        {show(parallel.buckets * max(taken), 'time')} in"
            f" {parallel.buckets:,} bucket(s)"
        )
    return lines


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
    lines += _slow_lines(plan)
    return lines or ["disturbances    none"]


def _slow_lines(plan: Plan) -> list[str]:
    """What differs between steps: memory, slow states, shocks and the daily swing."""
    said: dict[str, list[str]] = {}
    for group in plan.groups:
        if group.correlation > 0:
            line = f"{'correlation':<15} {group.correlation:g} from step to step"
            said.setdefault(line, []).append(group.name)
        for slow in group.slow:
            said.setdefault(_slow_line(slow), []).append(group.name)
    lines = [
        f"{line} ({'all' if len(names) == len(plan.groups) else ', '.join(names)})"
        for line, names in said.items()
    ]
    lines += [f"{_slow_line(slow)} (each alike)" for slow in plan.slow_sites]
    if plan.daily is not None:
        lines.append(f"{'daily':<15} all times swing by {100 * plan.daily.amplitude:g} %")
    return lines


def _slow_line(slow: Slow | Shock) -> str:
    key = "slow" if isinstance(slow, Slow) else "shock"
    key += "" if slow.level == "device" else f"_{slow.level}"
    factor = f"{type(slow.factor).name}: mean {show(slow.factor.expectation(), None)}"
    return f"{key:<15} {factor}, {100 * slow.share:.3g} % of the time"


def _network(plan: Plan, payload: float | None) -> list[str]:
    barrier = plan.barrier
    if plan.division is not None:
        return []
    if barrier is None or payload is None:
        return ["network         free: no payload, or no [network] and no [[link]]"]
    once = "all-reduced each step"
    if plan.rounds is not None:
        parts = plan.rounds.fragments
        once += f" inside the sites, and among them in {parts:,} part(s) a round"
    lines = [f"payload         {show(payload, 'data')}, {once}"]
    lines += [
        f"network         {site.name}: {show(up + down, 'time')} of all-reduce inside the site"
        for site, up, down in zip(plan.sites, barrier.up, barrier.down, strict=True)
    ]
    if len(plan.sites) > 1:
        lines.append(f"                {show(barrier.across, 'time')} between the sites")
    for delay in barrier.delays:
        for messages in delay.messages:
            lines += _delay(messages, delay.rounds)
    lines += [
        f"link            {link.name}: {state}" for link in barrier.links for state in _states(link)
    ]
    return [*lines, f"overlap         {100 * barrier.overlap:g} % of the compute time"]


def _states(link: LinkPlan) -> Iterator[str]:
    """What a link suffers for spells of time."""
    if link.lane_down is not None:
        share = 100 * link.lane_down.share
        yield f"each of {link.lanes} lane(s) is down {share:.3g} % of the time"
    if link.slow is not None:
        law = type(link.slow.factor).name
        yield (
            f"has less bandwidth {100 * link.slow.share:.3g} % of the time, by a factor of mean"
            f" {link.slow.factor.expectation():.3g} ({law})"
        )


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
