"""A model divided among devices: what each operation of a pipeline takes besides computing.

An *operation* is a forward or backward pass of a microbatch through a device's piece of the model.
Devices that share layers (tensor parallelism) or experts meet in every layer, so an operation
takes as long as on the slowest of them, and then what their collectives take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mcsim.errors import Problem, ScenarioError
from mcsim.laws import Law
from mcsim.model.buckets import deciding_buckets
from mcsim.model.hazard import Indices
from mcsim.model.pipeline import Schedule
from mcsim.model.placement import Placement, placement_of
from mcsim.model.plan import Barrier, Delay, Group, Messages
from mcsim.scenario.workload import Parallel

MOST_OPERATIONS = 1_000_000
"""Of a pipeline in a step; putting them in order takes three seconds."""


@dataclass(frozen=True)
class Handing:
    """How results go from a stage to the next, at one distance.

    latency, busy: s, that a message takes, and that it keeps the next one waiting. delays: each of
    which it is late by. among_sites: whether they go over links.
    """

    latency: float = 0.0
    busy: float = 0.0
    delays: tuple[Messages, ...] = ()
    among_sites: bool = False


@dataclass(frozen=True, eq=False)
class Division:
    """How the model is divided among the devices of a plan.

    forward, backward: the part of a device's compute time that an operation is. tensor_time,
    expert_time: s, shape (groups,), of the collectives of a forward pass on a device of the group.
    tensor_delay, expert_delay: of the same, the random delays. collectives_back: so many times as
    often they go on in a backward pass. gather: s, shape (stages,), at
    least so long takes an operation, whose parameters are gathered meanwhile. handing: shape
    (replicas, stages), how results leave a stage, as an index of `ways`. barriers: of a bucket of
    each stage's gradient; none where it costs nothing. link_times: s of a step in which each link
    carries what stages hand on, undisturbed.
    """

    parallel: Parallel
    placement: Placement
    schedule: Schedule
    forward: float
    backward: float
    tensor_time: tuple[float, ...]
    expert_time: tuple[float, ...]
    tensor_delay: Delay | None
    expert_delay: Delay | None
    gather: tuple[float, ...]
    handing: Indices
    ways: tuple[Handing, ...]
    barriers: tuple[Barrier, ...]
    collectives_back: int = 1
    link_times: Mapping[str, float] = field(default_factory=dict)

    @property
    def operations(self) -> int:
        """Of a device in a step."""
        return 2 * self.schedule.microbatches * self.schedule.chunks

    @property
    def deciding(self) -> tuple[int, ...]:
        """The buckets of gradients that may decide when all are summed."""
        return deciding_buckets(self.parallel.buckets, self.parallel.chunks)

    @property
    def delay_laws(self) -> list[Law]:
        """Of all messages."""
        delays = [one for one in (self.tensor_delay, self.expert_delay) if one is not None]
        messages = [one for delay in delays for one in delay.messages]
        return [one.law for one in (*messages, *(m for way in self.ways for m in way.delays))]

    @property
    def number(self) -> Indices:
        """Of each operation of the schedule among those of its device: forward passes first."""
        one = self.schedule
        within = one.chunk * one.microbatches + one.microbatch
        return np.asarray(np.where(one.backward, within + self.operations // 2, within))


def free_of_network(
    groups: Sequence[Group], parallel: Parallel | None = None, again: int = 0
) -> Division:
    """A division whose devices send each other nothing that takes time; default: each a replica.

    again: forward passes that each backward pass begins with.
    """
    parallel = parallel or Parallel()
    operations = 2 * parallel.pipeline * parallel.microbatches * parallel.chunks
    if operations > MOST_OPERATIONS:
        message = (
            f"a pipeline does {operations:,} operations a step (two for each stage, microbatch and"
            f" piece); at most {MOST_OPERATIONS:,} are simulated"
        )
        problem = Problem("workload.parallel.microbatches", message)
        raise ScenarioError("scenario", [problem])
    schedule = Schedule.of(parallel.pipeline, parallel.microbatches, parallel.chunks)
    pieces = parallel.microbatches * parallel.chunks
    backward = parallel.backward + again
    together = 1.0 + backward
    placement = placement_of(parallel, groups)
    nothing = (0.0,) * len(groups)
    return Division(
        parallel=parallel,
        placement=placement,
        schedule=schedule,
        forward=1.0 / together / pieces,
        backward=backward / together / pieces,
        tensor_time=nothing,
        expert_time=nothing,
        tensor_delay=None,
        expert_delay=None,
        gather=(0.0,) * placement.stages,
        handing=np.zeros(placement.unit.shape, np.intp),
        ways=(Handing(),),
        barriers=(),
        collectives_back=1 + again,
    )
