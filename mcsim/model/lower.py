"""From a scenario to a plan: units, catalogue and defaults resolved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mcsim import catalogue
from mcsim.errors import Problem, ScenarioError
from mcsim.laws import LAWS
from mcsim.model.clock import clock_of, timed
from mcsim.model.dividing import division_of, require_memory, require_sequences, training_of
from mcsim.model.network import barrier_of
from mcsim.model.plan import (
    LEAST_BEYOND,
    QUANTILES_BY_NAME,
    Chain,
    Daily,
    Group,
    Level,
    Plan,
    Shock,
    SitePlan,
    Slow,
    Target,
    identity_of,
    require_distinct,
)
from mcsim.model.remedies import remedied, until_evicted
from mcsim.model.rounds import of_rounds
from mcsim.model.syncing import cutoff_of, of_fragments, rounds_of, stale_of
from mcsim.model.training import Training
from mcsim.model.wear import link_name
from mcsim.scenario import Scenario
from mcsim.scenario.jitter import CommonJitter, DailySwing, Jitter, Shocks, SlowState
from mcsim.scenario.schema import CUSTOM, MAX_STEPS, Fleet, Run

DEFAULT_SITE = "main"
"""The site of a scenario that names none."""

MOST_STEPS, MOST_REPLICATES = 10_000_000, 10_000
"""Where a run with a target stops, if it is not said."""


def lower(scenario: Scenario, clock: float | None = None) -> Plan:
    """All that an engine needs to know of a scenario.

    clock: s, in which what is given in time is looked at once; default: an undisturbed step.
    Sites without devices take no part. Raises ScenarioError where the sites of the devices are
    not connected, where they do not divide as the model is to be, or where two names have the same
    identity.
    """
    try:
        return _lowered(scenario, clock)
    except ScenarioError as error:
        raise scenario.error(error.problems) from None


def _lowered(scenario: Scenario, clock: float | None) -> Plan:
    known = [site.name for site in scenario.site] or [DEFAULT_SITE]
    place = {group.name: group.site or known[0] for group in scenario.fleet}
    names = [name for name in known if name in place.values()]
    sites = tuple(SitePlan(name, identity_of(name)) for name in names)
    averaged, inner = scenario.sync.steps_averaged, scenario.sync.steps_a_round
    rounds = rounds_of(scenario.sync, len(sites))
    groups = tuple(
        of_rounds(scenario, index, _group(scenario, fleet, names.index(place[fleet.name])))
        for index, fleet in enumerate(scenario.fleet)
    )
    require_distinct("fleet", (group.name for group in groups))
    require_distinct("site", names)
    jitter = scenario.jitter or CommonJitter()
    _require_steps(scenario)
    require_distinct("link", (link_name(link) for link in scenario.link))
    division = division_of(scenario, sites, groups)
    training, ideal = training_of(scenario), balanced_time(groups) * (inner // averaged)
    barrier = None
    if division is None:
        barrier = barrier_of(
            scenario.network,
            scenario.link,
            _gradient(scenario),
            # Only behind the last of the inner steps.
            scenario.workload.overlap / averaged,
            sites,
            groups,
        )
        barrier = of_fragments(barrier, rounds)
    # What links suffer in time needs the clock, which needs the links as they are undisturbed.
    every = 1 if rounds is None else rounds.inner // rounds.fragments
    clock = clock or clock_of(groups, len(sites), barrier, division, every)
    if barrier is not None:
        (barrier,) = timed([barrier], 1, scenario.link, clock, every)
    if division is not None:
        buckets = division.parallel.buckets
        barriers = timed(division.barriers, buckets, scenario.link, clock)
        division = replace(division, barriers=barriers)
    groups = tuple(
        replace(group, slow=_slow_of(scenario, fleet, clock))
        for group, fleet in zip(groups, scenario.fleet, strict=True)
    )
    plan = Plan(
        seed=scenario.run.seed,
        steps=scenario.run.steps,
        replicates=scenario.run.replicates,
        engine=scenario.run.engine,
        keep=scenario.run.keep,
        groups=groups,
        sites=sites,
        barrier=barrier,
        ideal_step_time=ideal,
        clock=clock,
        target=_target(scenario.run),
        slow_sites=_slow([("site", jitter.slow_site)], [("site", jitter.shock_site)], clock),
        daily=_daily(jitter.daily, clock),
        division=division,
        ideal_mfu=None if training is None else _ideal_mfu(scenario, training, ideal / inner),
        rounds=rounds,
        stale=stale_of(scenario.sync),
        statistical_efficiency=scenario.sync.statistical_efficiency,
    )
    plan = remedied(scenario, plan)
    plan = replace(plan, cutoff=cutoff_of(scenario.sync, plan.replicas))
    _require_alike(scenario, plan, averaged)
    _require_no_network(scenario, plan)
    _require_all_there(scenario, plan)
    if training is not None:
        require_sequences(training)
        require_memory(scenario, training.memory())
    _require_addresses(scenario, plan)
    _require_reachable(scenario, plan)
    _require_countable(scenario, plan)
    return plan


def _require_steps(scenario: Scenario) -> None:
    """Raise ScenarioError where a jitter is to be kept from step to step that does not exist."""
    common = scenario.jitter or CommonJitter()
    own = [(index, fleet.jitter or Jitter()) for index, fleet in enumerate(scenario.fleet)]
    paths = [
        f"fleet[{index}].jitter.correlation"
        for index, one in own
        if one.correlation and one.step is None and common.step is None
    ]
    if common.correlation and common.step is None and not any(one.step for _, one in own):
        paths.append("jitter.correlation")
    if paths:
        message = "changes nothing: it keeps the factor of `step`, which is not given"
        raise ScenarioError("scenario", [Problem(path, message) for path in paths])


def _require_alike(scenario: Scenario, plan: Plan, inner: int) -> None:
    """Raise ScenarioError where the inner steps of a round are not alike and independent."""
    if inner > 1 and plan.division is not None:
        message = "of a model that is divided among devices are not available in this version"
        raise scenario.error([Problem("sync.inner_steps", message)])
    if inner > 1 and (plan.is_disturbed or plan.slow_sites):
        message = "with slow states, shocks or a daily swing are not available in this version"
        raise scenario.error([Problem("sync.inner_steps", message)])


def _require_no_network(scenario: Scenario, plan: Plan) -> None:
    """Raise ScenarioError where replicas with clocks of their own were to meet."""
    if plan.stale is not None and plan.barriers:
        message = (
            f'"{scenario.sync.policy}" does not know yet what updates take on the network: take'
            " workload.gradient (or the network and the links) away"
        )
        raise scenario.error([Problem("sync.policy", message)])


def _require_all_there(scenario: Scenario, plan: Plan) -> None:
    """Raise ScenarioError where some of those that a policy counts are left out, or count more."""
    if plan.remedies is None or not (plan.stale or plan.tracked):
        return
    if plan.remedies.leaves_out or plan.remedies.shares != "equal":
        keys = "shares, drop_..., spares"
        message = f'{keys}: not available with policy = "{scenario.sync.policy}" yet'
        raise scenario.error([Problem("remedy", message)])


def _require_countable(scenario: Scenario, plan: Plan) -> None:
    """Raise ScenarioError where all devices are to be counted and some are slow for a while, or
    left out."""
    message = ""
    if plan.division is not None:
        message = '"devices" does not know [workload.parallel] yet'
    elif plan.remedies is not None and plan.remedies.leaves_out:
        message = '"devices" does not know those that [remedy] leaves out yet'
    elif not plan.is_plain:
        message = f'"devices" does not know policy = "{scenario.sync.policy}" yet'
    elif plan.is_disturbed:
        message = '"devices" does not know slow states, shocks, a daily swing or a correlation yet'
    if plan.keep == "devices" and message:
        raise scenario.error([Problem("run.keep", message)])


def _require_addresses(scenario: Scenario, plan: Plan) -> None:
    """Raise ScenarioError where there are more operations than words to number them, or laws of
    operations where there are none."""
    operations = plan.division.operations if plan.division is not None else 0
    steps = max(plan.steps, plan.target.max_steps if plan.target else 0)
    if steps * plan.inner > MAX_STEPS:
        message = (
            f"{steps:,} rounds of {plan.inner:,} steps each are more than {MAX_STEPS:,} steps,"
            " which is all that can be numbered"
        )
        raise scenario.error([Problem("run.steps", message)])
    if operations and steps * (operations + 7) > MAX_STEPS:
        message = (
            f"{steps:,} steps of {operations:,} operations each are more than"
            f" {MAX_STEPS:,} operations of a device, which is all that can be numbered"
        )
        raise scenario.error([Problem("run.steps", message)])
    named = [group.name for group in plan.groups if group.operation is not None]
    if named and plan.division is None:
        message = f"is of passes through a pipeline ({named[0]}); it needs [workload.parallel]"
        raise scenario.error([Problem("jitter.operation", message)])


def _gradient(scenario: Scenario) -> float | None:
    """Bytes that every device has a gradient of, where each is a replica."""
    training, given = training_of(scenario), scenario.workload.gradient
    if given is not None or training is None:
        return given
    return training.dense * training.gradient_width


def _require_reachable(scenario: Scenario, plan: Plan) -> None:
    """Raise ScenarioError where the target is an error that does not exist."""
    if plan.target is None:
        return
    statistic = plan.target.statistic
    within = plan.has_finite_variance or statistic in QUANTILES_BY_NAME
    among = plan.target.max_replicates == 1 or plan.clusters_have_variance
    if within and among:
        _require_enough(scenario, plan.target)
        return
    advice = (
        'take a quantile, as target_statistic = "step_time_p50"' if among else "take one cluster"
    )
    message = f"a law has an infinite variance, so {statistic} has no standard error; {advice}"
    raise scenario.error([Problem("run.target_relative_error", message)])


def _require_enough(scenario: Scenario, target: Target) -> None:
    """Raise ScenarioError where the most steps are too few for an error of the quantile."""
    p = QUANTILES_BY_NAME.get(target.statistic)
    if p is not None and min(p, 1 - p) * target.max_steps < LEAST_BEYOND:
        message = (
            f"{target.max_steps:,} steps are too few for an error of {target.statistic};"
            f" at least {LEAST_BEYOND / min(p, 1 - p):,.0f}"
        )
        raise scenario.error([Problem("run.max_steps", message)])


def _target(run: Run) -> Target | None:
    if run.target_relative_error is None:
        return None
    clusters = MOST_REPLICATES if run.replicates > 1 else 1
    return Target(
        run.target_relative_error,
        run.target_statistic,
        run.max_steps or max(MOST_STEPS, run.steps),
        run.max_replicates or max(clusters, run.replicates),
    )


def _ideal_mfu(scenario: Scenario, training: Training, ideal: float) -> float | None:
    """Operations of the model in an ideal step over what the fleet's peak would do in it."""
    peak = 0.0
    for fleet in scenario.fleet:
        if fleet.device == CUSTOM:
            return None
        peak += fleet.count * catalogue.device(fleet.device).peak[scenario.workload.precision]
    return training.operations_per_token * training.model.batch / (peak * ideal)


def balanced_time(groups: tuple[Group, ...]) -> float:
    """Seconds of a step in which each device has work in proportion to its speed.

    The harmonic mean of the devices' undisturbed times.
    """
    speed = sum(group.count / group.compute for group in groups)
    return sum(group.count for group in groups) / speed


def compute_time(scenario: Scenario, fleet: Fleet) -> float:
    """Seconds of one undisturbed step on a device of the group: work / (peak x efficiency)."""
    if fleet.device == CUSTOM:
        assert fleet.compute is not None
        return fleet.compute / fleet.efficiency
    workload = scenario.workload
    assert workload.reference is not None
    reference = catalogue.device(workload.reference).peak[workload.precision]
    peak = catalogue.device(fleet.device).peak[workload.precision]
    compute, training = workload.compute, training_of(scenario)
    if compute is None:
        assert training is not None
        compute = training.operations / (training.model.mfu * reference)
    return compute * (reference / peak) / fleet.efficiency


def _group(scenario: Scenario, fleet: Fleet, site: int) -> Group:
    """Without what makes it slow for a while."""
    own, common = fleet.jitter or Jitter(), scenario.jitter or CommonJitter()
    device = None if fleet.device == CUSTOM else catalogue.device(fleet.device)
    return Group(
        name=fleet.name,
        identity=identity_of(fleet.name),
        site=site,
        count=fleet.count,
        compute=compute_time(scenario, fleet),
        devices_per_node=fleet.devices_per_node or (device.devices_per_node if device else 1),
        nodes_per_rack=fleet.nodes_per_rack or (device.nodes_per_rack if device else 1),
        scale_up=device.scale_up_bandwidth if device else math.inf,
        persistent=own.persistent or common.persistent,
        node=own.node or common.node,
        rack=own.rack or common.rack,
        site_factor=own.site or common.site,
        step=own.step or common.step,
        operation=own.operation or common.operation,
        stall=own.stall or common.stall,
        correlation=_correlation(own, common),
    )


def _slow_of(scenario: Scenario, fleet: Fleet, clock: float) -> tuple[Slow | Shock, ...]:
    """What makes devices of a group slow for a while."""
    own, common = fleet.jitter or Jitter(), scenario.jitter or CommonJitter()
    return _slow(
        (
            ("device", own.slow or common.slow),
            ("node", own.slow_node or common.slow_node),
            ("rack", own.slow_rack or common.slow_rack),
        ),
        (
            ("device", own.shock or common.shock),
            ("node", own.shock_node or common.shock_node),
            ("rack", own.shock_rack or common.shock_rack),
        ),
        clock,
        scenario.remedy.evict_after if scenario.remedy else None,
    )


def _correlation(own: Jitter, common: Jitter) -> float:
    """Of the jitter of steps; where there is none, there is nothing to keep."""
    if own.step is None and common.step is None:
        return 0.0
    return (common.correlation if own.correlation is None else own.correlation) or 0.0


def _slow(
    states: Iterable[tuple[Level, SlowState | None]],
    shocks: Iterable[tuple[Level, Shocks | None]],
    clock: float,
    evict_after: float | None = None,
) -> tuple[Slow | Shock, ...]:
    """What makes units slow for a while, looked at once in the time of an undisturbed step.

    evict_after: s, until a unit in a slow state is replaced; None: never.
    """
    return (
        *(_chain(level, state, clock, evict_after) for level, state in states if state),
        *(_shock(level, shock, clock) for level, shock in shocks if shock),
    )


def _chain(level: Level, state: SlowState, clock: float, evict_after: float | None) -> Slow:
    every, duration, factor = (_figure(state, key) for key in ("every", "duration", "factor"))
    chain = Chain.of(every, until_evicted(duration, evict_after), clock)
    evicted = 0.0 if evict_after is None else math.exp(-evict_after / duration)
    return Slow(chain.refresh, chain.share, factor, level, evicted)


def _figure(part: SlowState | DailySwing, key: str, default: float | None = None) -> Any:
    """What a part says, or else the catalogue's disturbance that it names; a time or a law."""
    said = getattr(part, key)
    if said is not None:
        return said
    figures = catalogue.disturbance(part.catalogue).figures if part.catalogue else {}
    if key not in figures:
        return default
    value = figures[key].value
    if not isinstance(value, Mapping):
        return value
    parameters = {name: parameter for name, parameter in value.items() if name != "law"}
    return LAWS[value["law"]](**parameters)


def _shock(level: Level, shocks: Shocks, clock: float) -> Shock:
    assert shocks.factor is not None
    return Shock(level, -math.expm1(-clock / shocks.every), shocks.factor)


def _daily(daily: DailySwing | None, clock: float) -> Daily | None:
    if daily is None:
        return None
    period = _figure(daily, "period", 86_400.0)
    peak = _figure(daily, "peak", 0.0)
    return Daily(_figure(daily, "amplitude"), clock / period, peak / period)
