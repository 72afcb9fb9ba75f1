"""The sampled engine of a divided model: every operation of every device, and what waits for it.

In a step each unit (the devices that share layers) does the operations of its stage in the order
of the schedule, as `model.pipeline` tells; here many replicas at once, compiled. The replicas that
share experts meet in every operation, so each takes as long as on the slowest of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.cluster import base_times
from mcsim.engine.compile import kernel
from mcsim.engine.draws import complete
from mcsim.engine.ends import OVERFLOW, stage_ends
from mcsim.engine.held import drawn_at, refreshes_of
from mcsim.engine.operations import Operations, slowest_of_units
from mcsim.engine.philox import Purpose, key_of, survivals, word_3
from mcsim.engine.shared import shared_factors
from mcsim.engine.states import spells_of
from mcsim.engine.steps import Steps
from mcsim.laws import FloatArray
from mcsim.model.buckets import buckets_ready
from mcsim.model.delays import law_of_rounds, slowest, total
from mcsim.model.division import Division, Handing
from mcsim.model.hazard import Indices
from mcsim.model.plan import Delay, Plan
from mcsim.model.policy import Cutoff

_TOGETHER = 2048
"""Devices whose draws are made at a time: they stay in the cache."""


class PipelineEngine:
    """Every operation of every device is drawn."""

    name = "sampled"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        division = plan.division
        assert division is not None
        count = division.operations
        with np.errstate(**OVERFLOW):
            known = {
                law: Operations.of(plan, law, Purpose.OPERATION, count)
                for law in {g.operation for g in plan.groups if g.operation is not None}
            }
            self._operations = tuple(
                None if group.operation is None else known[group.operation] for group in plan.groups
            )
            delays = {
                Purpose.TENSOR_DELAY: division.tensor_delay,
                Purpose.EXPERT_DELAY: division.expert_delay,
            }
            self._delays = {
                purpose: tuple(
                    Operations.of(plan, law_of_rounds(rounds), purpose, count)
                    for rounds in _forward_and_back(delay, division.collectives_back)
                )
                for purpose, delay in delays.items()
                if delay is not None
            }
            self._ways = tuple(
                Operations.of(
                    plan,
                    total([slowest(messages) for messages in way.delays]),
                    Purpose.HANDING_DELAY,
                    count,
                )
                if way.delays
                else None
                for way in division.ways
            )

    def draw(self, replicate: int) -> PipelineReplicate:
        """The cluster of a replicate."""
        base = base_times(self._plan, replicate)
        return PipelineReplicate(
            self._plan, replicate, base, self._operations, self._delays, self._ways
        )


def _forward_and_back(delay: Delay, back: int) -> Iterator[Delay]:
    """Of a forward and, if there are more, of a backward pass."""
    yield delay
    if back > 1:
        yield replace(delay, rounds=back * delay.rounds)


class Times(NamedTuple):
    """What operations take in a step.

    compute: shape (units, operations), s. tensor, expert, handing: s, random delays of the
    collectives and of the messages that it waits for; the same shape, or no units.
    """

    compute: FloatArray
    tensor: FloatArray
    expert: FloatArray
    handing: FloatArray


class Passed(NamedTuple):
    """What became of pipelines; each shape (pipelines, stages), s, but for those of pieces.

    end: of the last operation. piece_end, piece_time: shape (pipelines, stages, chunks), of the
    last backward pass of each piece, in the order in which they are done. compute, tensor, expert:
    in all operations. whole: all of those, and waiting for parameters.
    """

    end: FloatArray
    piece_end: FloatArray
    piece_time: FloatArray
    compute: FloatArray
    tensor: FloatArray
    expert: FloatArray
    whole: FloatArray

    @classmethod
    def of(cls, pipelines: int, stages: int, chunks: int) -> Passed:
        """To be filled."""
        shape = (pipelines, stages)
        piece_end, piece_time = np.empty((2, *shape, chunks))
        end, compute, tensor, expert, whole = (np.empty(shape) for _ in range(5))
        return cls(end, piece_end, piece_time, compute, tensor, expert, whole)


class Latest(NamedTuple):
    """Of each stage at each site, the pipeline that is last; each shape (stages, sites).

    buckets: shape (buckets, stages, sites), s, when every pipeline has each of the buckets of
    gradients that decide. last_bucket: s, when they have all; -inf where there is none.
    slowest_stage: of the pipeline that is last. culprit, device: the
    group of the slowest device there, and its number in it. parts: (stages, sites, 5), s, what the
    pipeline's stage spent on computing, collectives of tensors, of experts, on waiting for
    parameters, and for what comes over links.
    """

    buckets: FloatArray
    last_bucket: FloatArray
    slowest_stage: Indices
    culprit: NDArray[np.int64]
    device: NDArray[np.int64]
    parts: FloatArray


@dataclass(frozen=True, eq=False)
class PipelineReplicate:
    """A cluster whose devices do operations. base: per group, shape (devices,), s."""

    plan: Plan
    replicate: int
    base: tuple[FloatArray, ...]
    operations: tuple[Operations | None, ...]
    delays: Mapping[Purpose, tuple[Operations, ...]]
    ways: tuple[Operations | None, ...]

    @property
    def division(self) -> Division:
        assert self.plan.division is not None
        return self.plan.division

    @property
    def first_device(self) -> Indices:
        """Of each group, numbered through all of them."""
        counts = np.array([group.count for group in self.plan.groups])
        return np.asarray(np.cumsum(counts) - counts)

    def sample(self, first: int, count: int) -> Steps:
        plan, division = self.plan, self.division
        stages, sites = division.placement.stages, len(plan.sites)
        shape = (count, stages, sites)
        last_bucket = np.full(shape, -np.inf)
        buckets = np.full((len(division.deciding), *shape), -np.inf)
        busy = np.empty((count, len(plan.groups)))
        slowest_stage = np.zeros(shape, np.intp)
        culprit, device = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        parts = np.zeros((*shape, 5))
        slow = [
            spells.steps(first, count) if spells is not None else None
            for spells in (
                spells_of(plan, index, self.replicate, first, count)
                for index in range(len(plan.groups))
            )
        ]
        factors = shared_factors(plan, self.replicate, first, count)
        with np.errstate(**OVERFLOW):
            for row in range(count):
                times, spent = self._times(first + row, row, slow)
                passed = self._pass(times)
                if plan.cutoff is not None:
                    factor = np.ones(sites) if factors is None else factors[row]
                    passed, spent = self._cut_short(plan.cutoff, passed, spent, factor)
                busy[row] = [each.mean() for each in np.split(spent, self.first_device[1:])]
                self._collect(
                    times,
                    spent,
                    passed,
                    self._without_links(times, passed),
                    Latest(
                        buckets[:, row],
                        last_bucket[row],
                        slowest_stage[row],
                        culprit[row],
                        device[row],
                        parts[row],
                    ),
                )
        if factors is not None:
            # What whole sites share multiplies all that their devices do.
            for values in (buckets, last_bucket):
                values *= factors[:, None, :]
            busy *= factors[:, [group.site for group in plan.groups]]
            parts *= factors[:, None, :, None]
        ends = stage_ends(plan, self.replicate, first, buckets, last_bucket)
        rows = np.arange(count)
        at = last_bucket[rows, ends.stage].argmax(axis=1)
        where = rows, ends.stage, at
        stage_of_site = last_bucket.argmax(axis=1)
        ready = last_bucket.max(axis=1)
        # Where every replica is late, they are interrupted with the others.
        ready = np.where(np.isneginf(ready), ready.max(axis=1, keepdims=True), ready)
        # The very last is what the step waited for, though others may have been ready later.
        of_site = np.array(stage_of_site)
        of_site[rows, at] = ends.stage
        culprits, devices = (
            np.take_along_axis(values, of_site[:, None], axis=1)[:, 0]
            for values in (culprit, device)
        )
        return Steps(
            ends.time,
            ready,
            culprits,
            np.where(np.arange(sites) == at[:, None], 0.25, 0.5),
            busy,
            self._components(ends.time, ends.among, last_bucket[where], parts[where]),
            devices,
            stage=slowest_stage[where],
            lost=self._lost(count),
        )

    def _lost(self, count: int) -> FloatArray | None:
        """The share of samples of replicas that some steps do not wait for."""
        if self.plan.cutoff is None:
            return None
        return np.full(count, self.plan.cutoff.spare / self.plan.replicas)

    def _cut_short(
        self, cutoff: Cutoff, passed: Passed, spent: FloatArray, factor: FloatArray
    ) -> tuple[Passed, FloatArray]:
        """What is left of a step that does not wait for the latest replicas: those have no end.

        Replicas that share experts end together. spent: shape (devices,), s, of each device until
        it is done or interrupted. factor: shape (sites,), of what sites share in the step.
        """
        placement = self.division.placement
        site = placement.site[placement.unit[:: self.division.parallel.expert]]
        whole = (passed.end * factor[site]).max(axis=1)
        late = np.argsort(whole, kind="stable")[whole.size - self._spare(cutoff) :]
        whole[late] = -np.inf
        ends, pieces = passed.end.copy(), passed.piece_end.copy()
        ends[late], pieces[late] = -np.inf, -np.inf
        counts = [group.count for group in self.plan.groups]
        limit = whole.max() / factor[[group.site for group in self.plan.groups]]
        return (
            passed._replace(end=ends, piece_end=pieces),
            np.minimum(spent, np.repeat(limit, counts)),
        )

    def _spare(self, cutoff: Cutoff) -> int:
        """Pipelines that are not waited for."""
        return cutoff.spare // self.division.parallel.expert

    def _without_links(self, times: Times, passed: Passed) -> FloatArray:
        """When stages would end if links took no time, shape (pipelines, stages), s."""
        if not self._over_links:
            return passed.end
        end = self._pass(times, links=False).end
        return np.where(np.isneginf(passed.end), -np.inf, end)

    def _components(
        self, time: FloatArray, among: FloatArray, ready: FloatArray, parts: FloatArray
    ) -> FloatArray:
        """Of the stage that a step waited for: what it did until its end; (steps, components)."""
        compute, tensor, expert, gathered, handed = parts.T
        exposed = time - ready
        bubble = ready - parts.sum(axis=1)
        sites = exposed * among
        found = {
            "compute": compute,
            "tensor": tensor,
            "expert": expert,
            "bubble": bubble,
            "data": exposed - sites + gathered,
            "sites": sites + handed,
        }
        return np.column_stack([found[name] for name in self.plan.components])

    def _times(self, step: int, row: int, slow: list[Slowness | None]) -> tuple[Times, FloatArray]:
        """What all operations of a step take, and each device's time, through all groups; s."""
        plan, division = self.plan, self.division
        tensor = division.parallel.tensor
        units = division.placement.group.size
        compute = np.empty((units, division.operations))
        spent = np.empty(plan.devices)
        first_unit = 0
        for index, group in enumerate(plan.groups):
            base = self._base(index, step, row, slow[index])
            stall, stalled = self._stalls(index, step)
            each = spent[self.first_device[index] :][: group.count]
            table = self.operations[index]
            times = compute[first_unit : first_unit + group.count // tensor]
            together = math.lcm(_TOGETHER, tensor)
            for start in range(0, group.count, together):
                here = slice(start, min(start + together, group.count))
                size = here.stop - start
                factor = (
                    np.empty((division.operations, 0), np.float32)
                    if table is None
                    else table.values(self.replicate, group.identity, step, start, size)
                )
                slowest_of_units(
                    tensor,
                    base[here],
                    factor,
                    division.forward,
                    division.backward,
                    stall[here],
                    stalled[here],
                    times[start // tensor : here.stop // tensor],
                    each[here],
                )
            first_unit += group.count // tensor
        tensor_delay = self._met(Purpose.TENSOR_DELAY, step)
        expert_delay = self._met(Purpose.EXPERT_DELAY, step)
        return Times(compute, tensor_delay, expert_delay, self._handing(step)), spent

    def _base(self, index: int, step: int, row: int, slow: Slowness | None) -> FloatArray:
        """The time of each device of a group in a step, without what varies in it, s."""
        group, base = self.plan.groups[index], self.base[index]
        if group.step is not None:
            base = base * group.step.quantile(self._draws(index, step, Purpose.STEP))
        if slow is not None:
            rows, device, factor = slow
            here = slice(*np.searchsorted(rows, [row, row + 1]))
            base = base.copy()
            base[device[here]] *= factor[here]
        return base

    def _stalls(self, index: int, step: int) -> tuple[FloatArray, NDArray[np.int64]]:
        """The stall of each device in a step, s, and the operation that it falls into."""
        group = self.plan.groups[index]
        if group.stall is None:
            return np.empty(0), np.empty(0, np.int64)
        stall = group.stall.quantile(self._draws(index, step, Purpose.STALL))
        every = np.arange(group.count, dtype=np.uint32)
        drawn = survivals(
            every,
            np.full_like(every, step),
            np.uint32(group.identity),
            word_3(self.replicate, Purpose.STALL_PLACE),
            *key_of(self.plan.seed),
        )
        return stall, (drawn * self.division.operations).astype(np.int64)

    def _draws(self, index: int, step: int, purpose: Purpose) -> FloatArray:
        group = self.plan.groups[index]
        every = np.arange(group.count)
        refreshes = refreshes_of(self.plan, group, self.replicate)
        at = np.full(every.size, step, np.uint32)
        if refreshes is not None and purpose == Purpose.STEP:
            at = drawn_at(every, at.astype(np.int64), *refreshes)
        drawn, _ = complete(
            every,
            at,
            np.uint32(group.identity),
            word_3(self.replicate, purpose),
            *key_of(self.plan.seed),
        )
        return drawn

    def _met(self, purpose: Purpose, step: int) -> FloatArray:
        """Random delays of the collectives of every operation, as of `_of_units`."""
        tables = self.delays.get(purpose, (None,))
        found = self._of_units(tables[0], step)
        if len(tables) > 1:
            back = slice(self.division.operations // 2, None)
            found[:, back] = self._of_units(tables[1], step)[:, back]
        return found

    def _of_units(self, table: Operations | None, step: int) -> FloatArray:
        """What a law gives every operation of every unit, shape (units, operations); no units
        where there is no law."""
        division = self.division
        if table is None:
            return np.empty((0, division.operations))
        found = np.empty((division.placement.group.size, division.operations))
        first_unit = 0
        for group in self.plan.groups:
            units = group.count // division.parallel.tensor
            for start in range(0, units, _TOGETHER):
                size = min(_TOGETHER, units - start)
                values = table.values(self.replicate, group.identity, step, start, size)
                at = first_unit + start
                found[at : at + size] = values.T
            first_unit += units
        return found

    def _handing(self, step: int) -> FloatArray:
        """How late what each operation waits for is, by the way it comes."""
        division = self.division
        if not any(self.ways):
            return np.empty((0, division.operations))
        unit, half = division.placement.unit, division.operations // 2
        found = np.zeros((division.placement.group.size, division.operations))
        forward, backward = np.zeros((2, len(found)), np.intp)
        forward[unit] = np.roll(division.handing, 1, axis=1)
        backward[unit] = division.handing
        for index, table in enumerate(self.ways):
            if table is not None:
                values = self._of_units(table, step)
                for way, columns in ((forward, slice(half)), (backward, slice(half, None))):
                    found[way == index, columns] = values[way == index, columns]
        return found

    def _inside_sites(self, late: FloatArray) -> FloatArray:
        """The same as `_handing`, where what comes over links is never late."""
        division = self.division
        if not len(late):
            return late
        late = late.copy()
        crossing = np.array([way.among_sites for way in division.ways])[division.handing]
        unit, half = division.placement.unit, division.operations // 2
        late[unit[np.roll(crossing, 1, axis=1)], :half] = 0.0
        late[unit[crossing], half:] = 0.0
        return late

    @property
    def _over_links(self) -> bool:
        """Whether pipelines hand anything on from site to site."""
        return any(way.among_sites for way in self.division.ways)

    def _pass(self, times: Times, *, links: bool = True) -> Passed:
        """Send all microbatches through all pipelines. links: whether links take time."""
        division = self.division
        one, group = division.schedule, division.placement.group
        pipelines = division.placement.replicas // division.parallel.expert
        ways = [way if links or not way.among_sites else Handing() for way in division.ways]
        if not links:
            times = times._replace(handing=self._inside_sites(times.handing))
        found = Passed.of(pipelines, division.placement.stages, one.chunks)
        run_pipelines(
            one.stage,
            division.number,
            one.before,
            one.needs,
            one.transferred,
            one.backward,
            one.chunk,
            division.placement.unit,
            division.parallel.expert,
            times,
            np.array(division.tensor_time)[group],
            np.array(division.expert_time)[group],
            division.collectives_back,
            np.array(division.gather),
            division.handing,
            np.array([way.latency for way in ways]),
            np.array([way.busy for way in ways]),
            found,
        )
        return found

    def _collect(
        self,
        times: Times,
        spent: FloatArray,
        passed: Passed,
        without_links: FloatArray,
        found: Latest,
    ) -> None:
        """Of each stage at each site, the pipeline that is last: when, why, and what it did.

        spent: shape (devices,), s, of each device through all groups. without_links: shape
        (pipelines, stages), s, when stages would end if links took no time. found: is filled.
        """
        placement, parallel = self.division.placement, self.division.parallel
        unit, tensor = placement.unit, parallel.tensor
        site = placement.site[unit[:: parallel.expert]]
        ready = buckets_ready(
            self.division.deciding, parallel.buckets, passed.piece_end, passed.piece_time
        )
        gathered = passed.whole - passed.compute - passed.tensor - passed.expert
        stage = np.arange(placement.stages)
        for at in range(len(self.plan.sites)):
            here = site == at
            end = np.where(here, passed.end, -np.inf)
            last = end.argmax(axis=0)
            found.buckets[:, :, at] = np.where(here, ready, -np.inf).max(axis=1)
            found.last_bucket[:, at] = end[last, stage]
            slowest = passed.compute[last].argmax(axis=1)
            found.slowest_stage[:, at] = slowest
            # Of the replicas that share experts, the one whose operations take longest.
            of = unit.reshape(len(site), parallel.expert, -1)[last, :, slowest]
            of = of[stage, times.compute[of].sum(axis=2).argmax(axis=1)]
            group = placement.group[of]
            found.culprit[:, at] = group
            worst = spent.reshape(-1, tensor)[of].argmax(axis=1)
            found.device[:, at] = of * tensor + worst - self.first_device[group]
            together = (
                passed.compute,
                passed.tensor,
                passed.expert,
                gathered,
                passed.end - without_links,
            )
            found.parts[:, at] = np.stack([values[last, stage] for values in together], axis=-1)


Slowness = tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]
"""Rows, devices and factors of those that are slow, as `Spells.steps` gives them."""


@kernel
def run_pipelines(
    stage: Indices,
    number: Indices,
    before: Indices,
    needs: Indices,
    transferred: NDArray[np.bool_],
    backward: NDArray[np.bool_],
    chunk: Indices,
    unit: Indices,
    expert: int,
    times: Times,
    tensor_time: FloatArray,
    expert_time: FloatArray,
    back: int,
    gather: FloatArray,
    handing: Indices,
    latency: FloatArray,
    busy: FloatArray,
    passed: Passed,
) -> None:
    """The recursion of `model.pipeline.Schedule.ends` for every pipeline: `expert` replicas each.

    stage to chunk: of the schedule's operations, as there; number: of each among its device's.
    unit, handing: shape (replicas, stages). tensor_time, expert_time: shape (units,), s, `back`
    times in a backward pass. gather: shape (stages,), s. latency, busy: shape (ways,), s. passed:
    is filled.
    """
    stages = unit.shape[1]
    end = np.empty(stage.size)
    free = np.empty((2, stages))
    for pipeline in range(passed.end.shape[0]):
        first = pipeline * expert
        free[:] = 0.0
        for values in (passed.compute, passed.tensor, passed.expert, passed.whole):
            values[pipeline] = 0.0
        for i in range(stage.size):
            s, k = stage[i], number[i]
            compute, tensor, routed, late = -np.inf, 0.0, 0.0, 0.0
            for replica in range(first, first + expert):
                u = unit[replica, s]
                compute = max(compute, times.compute[u, k])
                met, sent = tensor_time[u], expert_time[u]
                if backward[i]:
                    met, sent = back * met, back * sent
                if times.tensor.shape[0] > 0:
                    met += times.tensor[u, k]
                if times.expert.shape[0] > 0:
                    sent += times.expert[u, k]
                tensor, routed = max(tensor, met), max(routed, sent)
                if times.handing.shape[0] > 0:
                    late = max(late, times.handing[u, k])
            time = max(compute + tensor + routed, gather[s])
            ready = 0.0
            if before[i] >= 0:
                ready = end[before[i]]
            if needs[i] >= 0:
                there = end[needs[i]]
                if transferred[i]:
                    direction = 1 if backward[i] else 0
                    place = s if backward[i] else (s - 1) % stages
                    way = handing[first, place]
                    free[direction, place] = max(there, free[direction, place]) + busy[way]
                    there = free[direction, place] + latency[way] + late
                ready = max(ready, there)
            end[i] = ready + time
            passed.end[pipeline, s] = end[i]
            if backward[i]:
                # Of the last chunk first: the last microbatch overwrites those before it.
                done = passed.piece_end.shape[2] - 1 - chunk[i]
                passed.piece_end[pipeline, s, done] = end[i]
                passed.piece_time[pipeline, s, done] = time
            passed.compute[pipeline, s] += compute
            passed.tensor[pipeline, s] += tensor
            passed.expert[pipeline, s] += routed
            passed.whole[pipeline, s] += time
