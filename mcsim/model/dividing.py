"""From a scenario to a division: the model, its replicas, and what their collectives take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mcsim import catalogue
from mcsim.errors import Problem, ScenarioError
from mcsim.model.collectives import AUTO, Level, phase
from mcsim.model.division import Division, free_of_network
from mcsim.model.gradients import barriers_of, gather_times
from mcsim.model.handing import ways_of
from mcsim.model.network import require_known
from mcsim.model.plan import Delay, Group, Messages, SitePlan
from mcsim.model.sharing import Members, messages_of, messages_of_a_node
from mcsim.model.training import EXPERT_COLLECTIVES, TENSOR_COLLECTIVES, Training
from mcsim.model.work import Work
from mcsim.scenario import Scenario
from mcsim.scenario.schema import CUSTOM
from mcsim.scenario.workload import Parallel
from mcsim.units import show


def training_of(scenario: Scenario) -> Training | None:
    """The model of a scenario as it is divided; None where none is described."""
    workload = scenario.workload
    if workload.model is None:
        return None
    parallel = workload.parallel or Parallel()
    ranks = parallel.tensor * parallel.pipeline
    replicas = sum(fleet.count for fleet in scenario.fleet) // ranks
    # Where it does not divide, `placement_of` says so.
    return Training(workload.model, parallel, max(replicas, 1))


def division_of(
    scenario: Scenario, sites: Sequence[SitePlan], groups: Sequence[Group]
) -> Division | None:
    """None where every device is a replica of its own. Raises ScenarioError."""
    parallel = scenario.workload.parallel
    if parallel is None:
        return None
    if scenario.workload.overlap:
        raise _problem(
            "workload.overlap", "is of devices without [workload.parallel]; there, use `buckets`"
        )
    training = training_of(scenario)
    free = free_of_network(groups, parallel, training.again if training else 0)
    work = Work(scenario, parallel, free.placement, training, sites, groups)
    tensor_time, tensor_delay = _tensor(work)
    expert_time, expert_delay = _experts(work)
    handing, ways, link_times = ways_of(work)
    return replace(
        free,
        tensor_time=tensor_time,
        expert_time=expert_time,
        tensor_delay=tensor_delay,
        expert_delay=expert_delay,
        gather=gather_times(work),
        handing=handing,
        ways=ways,
        link_times=link_times,
        barriers=barriers_of(work),
    )


def _tensor(work: Work) -> tuple[tuple[float, ...], Delay | None]:
    """The all-reduces among the devices that share layers: of a forward pass, s by group."""
    node, ranks = work.network.node, work.parallel.tensor
    if node is None or work.training is None or ranks == 1:
        return (0.0,) * len(work.groups), None
    number = TENSOR_COLLECTIVES * work.layers
    each = [
        phase(
            "all-reduce",
            node.algorithm,
            Level(ranks, node.latency, node.bandwidth or group.scale_up),
            work.training.activation,
            level="node",
        )
        for group in work.groups
    ]
    messages = messages_of_a_node("node", node, work.sites[0], ranks)
    return tuple(number * one.seconds for one in each), _delay(messages, number * each[0].rounds)


def _experts(work: Work) -> tuple[tuple[float, ...], Delay | None]:
    """The all-to-alls among the replicas that share experts: of a forward pass, s by group."""
    ranks, training = work.parallel.expert, work.training
    if ranks == 1:
        return (0.0,) * len(work.groups), None
    if training is None or training.model.experts is None:
        raise _problem("workload.parallel.expert", "needs a [workload.model] with `experts`")
    if training.model.experts % ranks:
        raise _problem(
            "workload.parallel.expert",
            f"{ranks} does not divide the {training.model.experts} experts",
        )
    together = work.placement.unit.reshape(-1, ranks, work.placement.stages)
    site, node = (where[together] for where in (work.placement.site, work.placement.node))
    if not (site == site[:, :1]).all():
        raise _problem(
            "workload.parallel.expert",
            f"{ranks} replicas share experts, and some of them are at different sites; the groups'"
            " counts or the placement must keep them together",
        )
    level = "node" if (node == node[:, :1]).all() else "site"
    at = work.network.node if level == "node" else work.network.site
    if at is None:
        return (0.0,) * len(work.groups), None
    number = EXPERT_COLLECTIVES * work.layers
    each = [
        phase(
            "all-to-all",
            AUTO,
            Level(ranks, at.latency, at.bandwidth or group.scale_up),
            training.routed,
            level=level,
        )
        for group in work.groups
    ]
    if level == "node":
        messages = messages_of_a_node(level, at, work.sites[0], ranks * work.parallel.tensor)
    else:
        # Like stages of several replicas are taken to be in racks of their own.
        members = Members(1, ranks, ranks, 1, math.inf)
        messages = messages_of(level, at, work.sites[0], [members], work.parallel.tensor)
    return tuple(number * one.seconds for one in each), _delay(messages, number * each[0].rounds)


def _delay(messages: Messages | None, rounds: float) -> Delay | None:
    if messages is None or round(rounds) == 0:
        return None
    require_known(messages)
    return Delay(None, round(rounds), (messages,))


def require_sequences(training: Training) -> None:
    """Raise ScenarioError where a microbatch is less than a sequence."""
    model, parallel = training.model, training.parallel
    if training.sequences < 1 - 1e-9:
        microbatches = training.replicas * parallel.microbatches
        raise _problem(
            "workload.model.batch",
            f"{model.batch:,} tokens are {training.tokens:,.6g} of each of {microbatches:,}"
            f" microbatch(es) ({training.replicas:,} replica(s) of {parallel.microbatches:,}), less"
            f" than a sequence of {model.sequence:,}; at least"
            f" {microbatches * model.sequence:,}",
        )


def require_memory(scenario: Scenario, memory: dict[str, float]) -> None:
    """Raise ScenarioError where a device of the model's does not fit."""
    total = sum(memory.values())
    for fleet in scenario.fleet:
        if fleet.device == CUSTOM:
            continue
        there = catalogue.device(fleet.device).memory
        if total > there:
            parts = ", ".join(f"{name} {show(size, 'data')}" for name, size in memory.items())
            raise _problem(
                "workload.model",
                f"needs {show(total, 'data')} on each device ({parts}), and {fleet.device} has"
                f" {show(there, 'data')}; raise tensor, pipeline, microbatches or zero",
            )


def _problem(path: str, message: str) -> ScenarioError:
    return ScenarioError("scenario", [Problem(path, message)])
