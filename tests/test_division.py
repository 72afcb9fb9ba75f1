"""Models divided among devices: placement, pipelines, collectives in operations, gradients."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from scipy import stats

import mcsim
from mcsim.engine.draws import complete
from mcsim.engine.engines import engine_of
from mcsim.engine.philox import Purpose, key_of, word_3
from mcsim.engine.pipelines import Passed, Times, run_pipelines
from mcsim.engine.simulate import simulate
from mcsim.errors import ScenarioError
from mcsim.model import lower
from mcsim.model.barrier import stages_end
from mcsim.model.buckets import buckets_ready, deciding_buckets
from mcsim.model.exchange import Exchange
from mcsim.model.pipeline import Schedule
from mcsim.model.plan import Barrier

CHANCE = 1e-6
LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.1}


def scenario(count=16, *, parallel=None, run=None, fleet=None, **more):
    """Custom devices of 1 s, in nodes of four."""
    group = {"device": "custom", "compute": "1 s", "devices_per_node": 4}
    fleets = fleet or [{"name": "a", "count": count}]
    return mcsim.Scenario.from_dict(
        {
            "name": "divided",
            "run": {"steps": 3, **(run or {})},
            "workload": {"parallel": parallel or {}, **more.pop("workload", {})},
            "fleet": [group | one for one in fleets],
            **more,
        }
    )


def steps_of(given, count=None):
    """The steps of the first cluster."""
    plan = lower(given)
    return plan, engine_of("sampled", plan).draw(0).sample(0, count or plan.steps)


@pytest.mark.parametrize(
    ("tensor", "stages", "microbatches", "chunks"),
    [(1, 1, 1, 1), (2, 4, 8, 1), (4, 2, 3, 1), (1, 4, 8, 2), (2, 2, 4, 3)],
)
def test_undisturbed_a_step_is_the_work_and_the_bubble(tensor, stages, microbatches, chunks):
    parallel = {"tensor": tensor, "pipeline": stages, "microbatches": microbatches}
    if chunks > 1:
        parallel |= {"schedule": "interleaved", "virtual_stages": chunks}
    result = mcsim.run(scenario(parallel=parallel))
    bubble = (stages - 1) / (microbatches * chunks)
    assert result.step_time_mean.item() == pytest.approx(1 + bubble, rel=1e-12)
    found = result.component_time_mean.isel(replicate=0).to_series()
    assert found["compute"] == pytest.approx(1.0, rel=1e-12)
    assert found["bubble"] == pytest.approx(bubble, abs=1e-12)
    assert found.drop(["compute", "bubble"]).abs().max() == 0.0


def test_interleaved_means_two_pieces_unless_it_is_said():
    parallel = {"pipeline": 4, "microbatches": 8, "schedule": "interleaved"}
    found = mcsim.run(scenario(parallel=parallel)).step_time_mean.item()
    assert found == pytest.approx(1 + 3 / 16, rel=1e-12)


def oracle(schedule, unit, number, compute, added):
    """Pipeline by pipeline, from the plain recursion."""
    ends = np.empty(unit.shape)
    for replica, row in enumerate(unit):
        each = row[schedule.stage]
        end = schedule.ends(compute[each, number] + added[each])
        ends[replica] = end[schedule.last_of_stage()]
    return ends


@pytest.mark.parametrize(("stages", "microbatches", "chunks"), [(1, 3, 1), (4, 6, 1), (4, 8, 2)])
def test_the_compiled_recursion_is_the_plain_one_bit_for_bit(stages, microbatches, chunks):
    schedule = Schedule.of(stages, microbatches, chunks)
    operations = schedule.stage.size // stages
    within = schedule.chunk * microbatches + schedule.microbatch
    number = np.where(schedule.backward, within + operations // 2, within)
    random = np.random.default_rng(1)
    unit = random.permutation(5 * stages).reshape(5, stages)
    compute = random.lognormal(0.0, 0.5, (unit.size, operations))
    added = random.exponential(0.1, unit.size)
    none = np.empty((0, operations))
    passed = Passed.of(*unit.shape, chunks)
    run_pipelines(
        schedule.stage,
        number,
        schedule.before,
        schedule.needs,
        schedule.transferred,
        schedule.backward,
        schedule.chunk,
        unit,
        1,
        Times(compute, none, none, none),
        added,
        np.zeros(unit.size),
        1,
        np.zeros(stages),
        np.zeros(unit.shape, np.intp),
        np.zeros(1),
        np.zeros(1),
        passed,
    )
    assert np.array_equal(passed.end, oracle(schedule, unit, number, compute, added))
    assert np.allclose(passed.compute, compute.sum(axis=1)[unit], rtol=1e-12)
    assert np.allclose(passed.whole, passed.compute + passed.tensor, rtol=1e-12)


def test_a_tensor_group_waits_for_its_slowest_device_in_every_operation():
    """Against operations drawn by NumPy: the mean of sums of maxima."""
    given = scenario(
        4,
        parallel={"tensor": 4, "microbatches": 10},
        jitter={"operation": LOGNORMAL},
        run={"steps": 4000, "keep": "steps"},
    )
    result = mcsim.run(given)
    random = np.random.default_rng(1)
    sigma = np.sqrt(np.log1p(0.01))
    share = np.repeat([1 / 30, 2 / 30], 10)
    drawn = random.lognormal(-(sigma**2) / 2, sigma, (100_000, 20, 4))
    expected = (drawn.max(axis=2) * share).sum(axis=1)
    assert stats.ks_2samp(result.step_time[0], expected).pvalue > CHANCE


def test_a_fleet_of_pipelines_is_that_which_numpy_draws():
    given = scenario(
        24,
        parallel={"tensor": 2, "pipeline": 3, "microbatches": 4},
        jitter={
            "operation": LOGNORMAL,
            "step": LOGNORMAL,
            "stall": {"law": "exponential", "mean": 0.05},
        },
        run={"steps": 3000, "keep": "steps"},
    )
    result = mcsim.run(given)
    random = np.random.default_rng(2)
    schedule = Schedule.of(3, 4)
    sigma = np.sqrt(np.log1p(0.01))
    count = 3000

    def factor(*shape):
        return random.lognormal(-(sigma**2) / 2, sigma, shape)

    # Steps, replicas, stages, devices, operations.
    share = np.repeat([1 / 12, 2 / 12], 4)
    time = factor(count, 4, 3, 2, 8) * factor(count, 4, 3, 2, 1) * share
    place = random.integers(0, 8, (count, 4, 3, 2))
    stall = random.exponential(0.05, place.shape)
    time += np.where(np.arange(8) == place[..., None], stall[..., None], 0.0)
    time = time.max(axis=3)
    number = np.where(schedule.backward, 4, 0) + schedule.microbatch
    each = time[:, :, schedule.stage, number]
    expected = schedule.ends(each.transpose(2, 0, 1)).max(axis=(0, 2))
    assert stats.ks_2samp(result.step_time[0], expected).pvalue > CHANCE


def test_one_pipeline_of_one_stage_is_a_device():
    """The same draws, the same barrier: the same steps as without [workload.parallel]."""
    jitter = {
        "persistent": LOGNORMAL,
        "step": LOGNORMAL,
        "slow": {"every": "20 s", "duration": "5 s", "factor": {"law": "constant", "value": 1.5}},
    }
    network = {
        "node": {"bandwidth": "10 GB/s", "latency": "1 ms"},
        "site": {"bandwidth": "1 GB/s", "latency": "2 ms"},
    }
    base = {
        "site": [{"name": "x"}, {"name": "y"}],
        "link": [{"between": ["x", "y"], "bandwidth": "2 GB/s", "distance": "100 km"}],
        "network": network,
        "jitter": jitter,
        "fleet": [
            {
                "name": name,
                "device": "custom",
                "compute": "1 s",
                "count": 8,
                "devices_per_node": 4,
                "site": name,
            }
            for name in "xy"
        ],
        "name": "one",
        "run": {"steps": 50, "keep": "steps", "engine": "sampled"},
    }
    bare = mcsim.run(mcsim.Scenario.from_dict(base | {"workload": {"gradient": "1 GB"}}))
    divided = mcsim.run(
        mcsim.Scenario.from_dict(base | {"workload": {"gradient": "1 GB", "parallel": {}}})
    )
    assert np.allclose(divided.step_time, bare.step_time, rtol=1e-12)
    assert np.allclose(divided.wait_fraction, bare.wait_fraction, rtol=1e-9)
    assert np.array_equal(divided.straggler_share, bare.straggler_share)
    for name in ("compute", "data", "sites"):
        one, other = (r.component_time_mean.sel(component=name).item() for r in (divided, bare))
        assert one == pytest.approx(other, rel=1e-9)


def test_threads_and_tiles_change_no_bit():
    given = scenario(
        32,
        parallel={"tensor": 2, "pipeline": 2, "microbatches": 3},
        jitter={"operation": LOGNORMAL, "stall": {"law": "exponential", "mean": 0.1}},
    )
    plan = lower(given.replace({"run.steps": 1500}))
    tallies = [simulate(plan, threads=t, tile=tile) for t, tile in ((1, None), (3, None), (2, 7))]
    for tally in tallies[1:]:
        for one, other in zip(tallies[0].replicates, tally.replicates, strict=True):
            assert np.array_equal(one.moments.mean, other.moments.mean)
            assert np.array_equal(one.moments.fourth, other.moments.fourth)
            assert np.array_equal(one.stage_culprits, other.stage_culprits)


def test_steps_in_the_middle_are_those_of_the_whole():
    given = scenario(
        16, parallel={"pipeline": 2, "microbatches": 5}, jitter={"operation": LOGNORMAL}
    )
    plan = lower(given.replace({"run.steps": 2_000_000}))
    replicate = engine_of("sampled", plan).draw(0)
    together, alone = replicate.sample(1_000_000, 5), replicate.sample(1_000_003, 1)
    assert together.time[3] == alone.time[0]


def test_draws_of_a_law_with_jumps_come_from_the_law_itself():
    law = {
        "law": "mixture",
        "parts": [
            {"weight": 0.75, "law": "constant", "value": 1.0},
            {"weight": 0.25, "law": "constant", "value": 3.0},
        ],
    }
    given = scenario(
        1, parallel={}, jitter={"operation": law}, run={"steps": 2000, "keep": "steps"}
    )
    time = mcsim.run(given).step_time[0].to_numpy()
    value, count = np.unique(time.round(12), return_counts=True)
    expected = {1.0: 9 / 16, 1 + 2 / 3: 3 / 16, 1 + 4 / 3: 3 / 16, 3.0: 1 / 16}
    assert value == pytest.approx(list(expected), rel=1e-11)
    assert stats.chisquare(count, 2000 * np.array(list(expected.values()))).pvalue > CHANCE


class TestPlacement:
    FLEET = ({"name": "a", "count": 8}, {"name": "b", "count": 8, "compute": "2 s"})

    def placed(self, **parallel):
        placement = lower(scenario(fleet=self.FLEET, parallel=parallel)).division.placement
        return placement, placement.group[placement.unit]

    def test_contiguous_replicas_keep_to_a_group(self):
        placement, group = self.placed(tensor=2, pipeline=2)
        assert np.array_equal(placement.unit, np.arange(8).reshape(4, 2))
        assert np.array_equal(group, [[0, 0], [0, 0], [1, 1], [1, 1]])

    def test_interleaved_replicas_have_all_groups(self):
        _, group = self.placed(tensor=2, pipeline=2, placement="interleaved")
        assert np.array_equal(group, [[0, 1]] * 4)

    def test_explicit_stages_are_where_they_are_said_to_be(self):
        _, group = self.placed(tensor=2, pipeline=2, placement="explicit", stages=["b", "a"])
        assert np.array_equal(group, [[1, 0]] * 4)

    def test_by_generation_the_fast_are_together(self):
        fleet = [
            {"name": "a", "count": 4},
            {"name": "slow", "count": 8, "compute": "2 s"},
            {"name": "c", "count": 4},
        ]
        parallel = {"pipeline": 8, "placement": "by-generation"}
        division = lower(scenario(fleet=fleet, parallel=parallel)).division
        group = division.placement.group[division.placement.unit]
        assert np.array_equal(group, [[0] * 4 + [2] * 4, [1] * 8])

    @pytest.mark.parametrize("placement", ["contiguous", "interleaved", "by-generation"])
    def test_every_unit_has_one_place(self, placement):
        found, _ = self.placed(tensor=1, pipeline=4, placement=placement)
        assert np.array_equal(np.sort(found.unit.ravel()), np.arange(16))

    def test_replicas_that_mix_generations_all_wait_for_the_slow_one(self):
        parallel = {"pipeline": 2, "microbatches": 8}
        apart, mixed = (
            mcsim.run(scenario(fleet=self.FLEET, parallel=parallel | {"placement": one}))
            for one in ("contiguous", "interleaved")
        )
        bubble = 1 / 8
        assert apart.step_time_mean.item() == pytest.approx(2 * (1 + bubble))
        # The fast stage comes first: only its own part of the bubble is short.
        assert mixed.step_time_mean.item() == pytest.approx(2 + bubble)
        assert mixed.straggler_share.sel(group="b").item() == 1.0
        assert mixed.stage_straggler_share.sel(stage=1).item() == 1.0


APART = [{"name": name, "count": 4, "site": name} for name in "xy"]
SITES = {
    "site": [{"name": "x"}, {"name": "y"}],
    "link": [{"between": ["x", "y"], "bandwidth": "1 GB/s", "latency": "10 ms"}],
}


class TestSitesApart:
    def run(self, **parallel):
        parallel = {"pipeline": 2, "microbatches": 4, "activation": "1 MB"} | parallel
        return mcsim.run(scenario(fleet=APART, parallel=parallel, **SITES))

    def test_stages_at_two_sites_pay_for_the_way_there_and_back(self):
        near, far = (self.run(placement=one) for one in ("contiguous", "interleaved"))
        assert near.step_time_mean.item() == pytest.approx(1.25)
        # Four replicas share the link: 4 MB over 1 GB/s, and 10 ms.
        each = 0.010 + 0.004
        schedule = Schedule.of(2, 4)
        end = schedule.ends(np.where(schedule.backward, 2 / 12, 1 / 12), each).max()
        assert far.step_time_mean.item() == pytest.approx(end, rel=1e-12)
        assert end > 1.25

    @pytest.mark.parametrize("pieces", [1, 2])
    def test_what_goes_over_links_is_counted_among_the_sites(self, pieces):
        more = {"schedule": "interleaved"} if pieces > 1 else {}
        found = self.run(placement="interleaved", activation="20 MB", **more)
        schedule = Schedule.of(2, 4, pieces)
        time = np.where(schedule.backward, 2 / 12, 1 / 12) / pieces
        series = found.component_time_mean.isel(replicate=0).to_series()
        # The last stage ends before the first one, which the step waits for.
        bubble = schedule.ends(time).max() - 1.0
        assert series["bubble"] == pytest.approx(bubble, rel=1e-12)
        assert series["sites"] == pytest.approx(found.step_time_mean.item() - 1 - bubble, rel=1e-12)
        assert series["sites"] > 0.05
        # Four replicas send four microbatches of 20 MB, there and, between pieces, back.
        sent = 4 * 4 * (2 * pieces - 1) * 20e6
        assert found.link_time.sel(link="x-y").item() == pytest.approx(sent / 1e9)

    def test_random_delays_of_links_are_waiting_for_the_sites(self):
        late = SITES["link"][0] | {"delay": {"law": "exponential", "mean": "0.1 s"}, "latency": 0}
        given = scenario(
            fleet=APART,
            parallel={"pipeline": 2, "placement": "interleaved", "activation": 1},
            run={"steps": 3000},
            **{**SITES, "link": [late]},
        )
        series = mcsim.run(given).component_time_mean.isel(replicate=0).to_series()
        # One microbatch: two messages, of the slowest of four replicas.
        drawn = np.random.default_rng(1).exponential(0.1, (100_000, 4, 2)).sum(axis=2).max(axis=1)
        assert series["sites"] == pytest.approx(drawn.mean(), rel=0.02)
        assert series["bubble"] == pytest.approx(1.0, rel=1e-9)

    def test_a_link_that_is_too_slow_sets_the_pace(self):
        """Four microbatches of four replicas, 1 s each, one after the other over the link."""
        found = self.run(placement="interleaved", activation="250 MB").step_time_mean.item()
        forth, back = 1.0, 1.0
        assert found > 4 * forth
        assert found < 4 * (forth + back) + 1.5

    def test_a_site_without_a_link_is_refused(self):
        given = scenario(
            fleet=APART,
            parallel={"pipeline": 2, "placement": "interleaved", "activation": "1 MB"},
            site=SITES["site"],
        )
        with pytest.raises(ScenarioError, match=r'no \[\[link\]\] joins "x" and "y"'):
            lower(given)


class TestGradients:
    def run(self, workload=None, **parallel):
        given = scenario(
            16,
            parallel={"tensor": 4} | parallel,
            workload={"gradient": "4 GB"} | (workload or {}),
            network={"site": {"bandwidth": "1 GB/s"}},
        )
        return mcsim.run(given)

    def test_each_device_sums_its_part_among_the_replicas(self):
        # Four nodes of a tensor group each: 1 GB a device, 2 * 3/4 of it at 1 GB/s.
        assert self.run().step_time_mean.item() == pytest.approx(1 + 1.5)

    def test_stages_divide_the_gradient_further(self):
        result = self.run(pipeline=2, microbatches=4)
        # Half a gigabyte a device between two replicas.
        assert result.step_time_mean.item() == pytest.approx(1.25 + 0.5)

    @pytest.mark.parametrize("buckets", [2, 5, 100])
    def test_buckets_hide_all_but_the_last_behind_the_backward_pass(self, buckets):
        # One microbatch: its backward pass takes 2/3 s, the collective 1.5 s.
        found = self.run(buckets=buckets).step_time_mean.item()
        first = 1 - (1 - 1 / buckets) * 2 / 3
        assert found == pytest.approx(max(first + 1.5, 1 + 1.5 / buckets))

    def test_a_short_collective_is_hidden_but_for_its_last_bucket(self):
        found = self.run({"gradient": "400 MB"}, buckets=10).step_time_mean.item()
        assert found == pytest.approx(1 + 0.15 / 10)

    def test_links_serve_one_stage_after_the_other(self):
        given = scenario(
            fleet=APART,
            parallel={"pipeline": 4},
            workload={"gradient": "4 GB"},
            site=[{"name": "x"}, {"name": "y"}],
            link=[{"between": ["x", "y"], "bandwidth": "1 GB/s"}],
        )
        # Stages end as their backward passes do, 1/3 .. apart; each then needs the link for 1 s.
        ends = 4.0 / 1 * (1 / 3) + np.arange(1, 5) * 2 / 3
        free = 0.0
        for end in ends:
            free = max(free, end) + 1.0
        result = mcsim.run(given)
        assert result.step_time_mean.item() == pytest.approx(free)
        series = result.component_time_mean.isel(replicate=0).to_series()
        assert series.sum() == pytest.approx(free)
        assert series["sites"] == pytest.approx(free - ends[-1])


class Gradients:
    """Event by event: stages work, and send each bucket once it is complete and the one before is
    through."""

    def __init__(self, schedule, time, buckets, each):
        self.end = schedule.ends(time)
        self.whole = self.end.max()
        for stage in range(schedule.stages):
            through = 0.0
            for ready in self.complete(schedule, time, stage, buckets):
                through = max(through, ready) + each
            self.whole = max(self.whole, through)

    def complete(self, schedule, time, stage, buckets):
        """When each bucket is: gradients of a piece come evenly over its last backward pass."""
        last = schedule.backward & (schedule.microbatch == schedule.microbatches - 1)
        of_pieces = np.flatnonzero(last & (schedule.stage == stage))
        share, at = [0.0], [-np.inf]
        for number, index in enumerate(sorted(of_pieces, key=lambda i: self.end[i])):
            share += [number + 1e-12, number + 1]
            at += [self.end[index] - time[index], self.end[index]]
        wanted = np.arange(1, buckets + 1) / buckets * schedule.chunks
        return np.interp(wanted, share, at)


class TestBucketsOfPieces:
    def run(self, pieces, buckets, gradient="10 GB"):
        parallel = {"pipeline": 2, "microbatches": 4, "buckets": buckets}
        if pieces > 1:
            parallel |= {"schedule": "interleaved", "virtual_stages": pieces}
        return mcsim.run(
            scenario(
                parallel=parallel,
                fleet=[{"name": "a", "count": 16, "devices_per_node": 1}],
                workload={"gradient": gradient},
                network={"site": {"bandwidth": "50 GB/s", "algorithm": "ring"}},
                run={"steps": 1},
            )
        )

    @pytest.mark.parametrize("pieces", [1, 2, 4, 8])
    def test_with_a_bucket_a_piece_all_but_the_last_are_sent_in_time(self, pieces):
        """Each stage has 5 GB for 8 replicas: 2 * 7/8 * 5 GB / 50 GB/s = 0.175 s in all."""
        found = self.run(pieces, pieces).component_time_mean.sel(component="data").item()
        assert found == pytest.approx(0.175 / pieces, rel=1e-12)

    @pytest.mark.parametrize("gradient", ["1 GB", "10 GB", "100 GB"])
    @pytest.mark.parametrize("pieces", [1, 2, 4, 8])
    @pytest.mark.parametrize("buckets", [1, 2, 3, 5, 8, 12, 64])
    def test_buckets_are_sent_as_events_say(self, pieces, buckets, gradient):
        found = self.run(pieces, buckets, gradient)
        schedule = Schedule.of(2, 4, pieces)
        time = np.where(schedule.backward, 2, 1) / 12 / pieces
        each = 2 * 7 / 8 * float(gradient.split()[0]) / 2 / 50 / buckets
        expected = Gradients(schedule, time, buckets, each).whole
        assert found.step_time_mean.item() == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("pieces", [1, 3, 8])
    def test_random_pieces_of_one_replica_too(self, pieces):
        """Straight from the barrier: of several replicas each bucket waits for the last one."""
        random = np.random.default_rng(pieces)
        schedule = Schedule.of(4, 8, pieces)
        for buckets in (1, 2, 7, 40):
            deciding = deciding_buckets(buckets, pieces)
            times = random.lognormal(0.0, 0.5, (3, schedule.stage.size))
            each = random.lognormal(0.0, 1.0) / buckets
            complete = np.empty((3, 4, buckets))
            ready, last = np.empty((len(deciding), 3, 4)), np.empty((3, 4))
            for replica, time in enumerate(times):
                one = Gradients(schedule, time, buckets, each)
                done = schedule.backward & (schedule.microbatch == 7)
                for stage in range(4):
                    complete[replica, stage] = one.complete(schedule, time, stage, buckets)
                    here = np.flatnonzero(done & (schedule.stage == stage))
                    here = here[np.argsort(one.end[here])]
                    ready[:, replica, stage] = buckets_ready(
                        deciding, buckets, one.end[here], time[here]
                    )
                    last[replica, stage] = one.end[schedule.stage == stage].max()
            through = np.zeros(4)
            for ready_now in complete.max(axis=0).T:
                through = np.maximum(through, ready_now) + each
            barrier = Barrier((each,), (0.0,), Exchange(), 0.0, ())
            none = np.zeros((1, 4, 0))
            found = stages_end(
                [barrier] * 4,
                buckets,
                deciding,
                ready.max(axis=1)[:, None, :, None],
                last.max(axis=0)[None, :, None],
                none,
                none,
                np.zeros((1, 4)),
            )
            assert found.time[0] == pytest.approx(through.max(), rel=1e-9)
            assert found.stage[0] == through.argmax()


class TestRefused:
    @pytest.mark.parametrize(
        ("count", "parallel", "message"),
        [
            (16, {"tensor": 8}, "tensor: 8 devices share a layer, and a node of a has 4"),
            (16, {"tensor": 3}, "tensor: 3 does not divide the 4 devices of a node"),
            (18, {"tensor": 4}, "tensor: 4 does not divide the 18 devices of all of"),
            (16, {"tensor": 2, "pipeline": 3}, "no multiple of 3 stages: 4 device"),
            (16, {"expert": 3}, "expert: 3 does not divide the 16 replicas"),
            (16, {"expert": 4}, "expert: needs a [workload.model] with `experts`"),
            (16, {"pipeline": 2, "placement": "explicit"}, "stages: names 0 group"),
            (16, {"stages": ["a"]}, 'placement is not "explicit"'),
            (16, {"virtual_stages": 2}, 'the schedule is not "interleaved"'),
            (16, {"schedule": "interleaved", "virtual_stages": 1}, "1 must be at least 2"),
            (16, {"tensor": 0}, "tensor: 0 must be at least 1"),
            (2**31 - 1, {}, "at most 20,000,000 can be placed"),
            (1_000, {"pipeline": 1_000, "microbatches": 100_000}, "200,000,000 operations a step"),
            (
                16,
                {"pipeline": 4, "microbatches": 6, "schedule": "interleaved", "virtual_stages": 2},
                "6 is no multiple of the 4 stages",
            ),
            (
                16,
                {"pipeline": 2, "placement": "explicit", "stages": ["a", "b"]},
                '"b" is no group of the fleet',
            ),
        ],
    )
    def test_ranks_that_do_not_divide(self, count, parallel, message):
        with pytest.raises(ScenarioError, match=r"workload\.parallel") as caught:
            lower(scenario(count, parallel=parallel))
        assert message in str(caught.value)

    def test_the_exact_engine_says_that_it_does_not_know_pipelines(self):
        with pytest.raises(ScenarioError, match=r"workload\.parallel"):
            mcsim.run(scenario(run={"engine": "exact"}))
        with pytest.raises(ScenarioError, match=r"workload\.parallel"):
            mcsim.law(scenario())

    def test_what_would_do_nothing(self):
        with pytest.raises(ScenarioError, match=r"workload\.overlap"):
            lower(scenario(workload={"overlap": 0.5}))
        bare = scenario().to_dict() | {"jitter": {"operation": LOGNORMAL}}
        del bare["workload"]["parallel"]
        with pytest.raises(ScenarioError, match=r"jitter\.operation"):
            lower(mcsim.Scenario.from_dict(bare))
        with pytest.raises(ScenarioError, match=r"run\.keep"):
            lower(scenario(run={"keep": "devices"}))

    def test_more_operations_than_can_be_numbered(self):
        with pytest.raises(ScenarioError, match=r"run\.steps"):
            lower(scenario(parallel={"microbatches": 1000}, run={"steps": 3_000_000}))


class TestDelaysOfOperations:
    """Random delays inside operations, against the same drawn by NumPy."""

    DELAY: ClassVar = {"law": "exponential", "mean": "10 ms"}

    def model(self, **more):
        model = {
            "parameters": 1e6,
            "layers": 4,
            "hidden": 64,
            "sequence": 128,
            "batch": 4096,
            "mfu": 0.5,
        }
        return {"model": model | more, "gradient": 0}

    def test_of_tensor_collectives_all_rounds_add_up(self):
        given = scenario(
            8,
            parallel={"tensor": 2, "pipeline": 2},
            workload=self.model(),
            network={"node": {"bandwidth": "1e6 GB/s", "delay": self.DELAY}},
            run={"steps": 3000, "keep": "steps"},
        )
        found = mcsim.run(given)
        random = np.random.default_rng(3)
        # Two all-reduces in each of two layers, of two rounds with two messages each.
        waits = random.exponential(0.01, (3000, 2, 4, 8, 2)).max(axis=4).sum(axis=3)
        schedule = Schedule.of(2, 1)
        number = np.where(schedule.backward, 1, 0) + 2 * schedule.stage
        time = waits[:, :, number] + np.where(schedule.backward, 2 / 3, 1 / 3)
        # What is handed on comes in two parts, and waits for the later one.
        handed = random.exponential(0.01, (schedule.stage.size, 3000, 2, 2)).max(axis=3)
        expected = schedule.ends(time.transpose(2, 0, 1), handed).max(axis=(0, 2))
        assert stats.ks_2samp(found.step_time[0], expected).pvalue > CHANCE
        tensor = found.component_time_mean.sel(component="tensor").item()
        # Of the pipeline that is last, so more than the mean of any.
        assert 2 * 8 * 0.015 < tensor < 1.2 * 2 * 8 * 0.015

    def test_of_what_stages_hand_on(self):
        given = scenario(
            2,
            parallel={"pipeline": 2, "microbatches": 3, "activation": "1 MB"},
            network={
                "node": {"bandwidth": "1e6 GB/s", "delay": {"law": "exponential", "mean": "0.3 s"}}
            },
            run={"steps": 3000, "keep": "steps"},
        )
        found = mcsim.run(given)
        schedule = Schedule.of(2, 3)
        transfer = np.random.default_rng(4).exponential(0.3, (schedule.stage.size, 3000))
        time = np.where(schedule.backward, 2 / 9, 1 / 9)[:, None] + np.zeros(3000)
        expected = schedule.ends(time, transfer).max(axis=0)
        assert stats.ks_2samp(found.step_time[0], expected).pvalue > CHANCE

    def test_delays_that_are_shared_add_to_those_of_their_own(self):
        given = scenario(
            2,
            parallel={"pipeline": 2, "activation": "1 MB"},
            network={
                "node": {
                    "bandwidth": "1e6 GB/s",
                    "delay": self.DELAY | {"mean": "0.2 s"},
                    "shared_node": self.DELAY | {"mean": "0.3 s"},
                    "shared_site": {"law": "constant", "value": "0.5 s"},
                },
            },
            run={"steps": 3000, "keep": "steps"},
        )
        found = mcsim.run(given).step_time[0]
        random = np.random.default_rng(6)
        each = random.exponential(0.2, (2, 3000)) + random.exponential(0.3, (2, 3000)) + 0.5
        assert stats.ks_2samp(found, 2.0 + each.sum(axis=0)).pvalue > CHANCE

    def test_replicas_that_share_experts_meet_in_every_operation(self):
        given = scenario(
            4,
            parallel={"expert": 4, "microbatches": 3},
            workload=self.model(active_parameters=4e5, experts=8, experts_per_token=2),
            jitter={"operation": LOGNORMAL},
            network={"node": {"bandwidth": "1 GB/s", "latency": "1 ms"}},
            run={"steps": 3000, "keep": "steps"},
        )
        found = mcsim.run(given)
        sigma = np.sqrt(np.log1p(0.01))
        drawn = np.random.default_rng(5).lognormal(-(sigma**2) / 2, sigma, (3000, 4, 6)).max(axis=1)
        share = np.repeat([1 / 9, 2 / 9], 3)
        # 2 all-to-alls of 4 layers, three rounds or two; 4096/12 tokens to two experts each.
        payload = 4096 / 12 * 64 * 2 * 2
        best = min(3e-3 + 0.75 * payload / 1e9, 2e-3 + 1.0 * payload / 1e9)
        expected = (drawn * share).sum(axis=1) + 6 * 2 * 4 * best
        time = found.step_time[0] - found.component_time_mean.sel(component="data").item()
        assert stats.ks_2samp(time, expected).pvalue > CHANCE
        expert = found.component_time_mean.sel(component="expert").item()
        assert expert == pytest.approx(6 * 2 * 4 * best)


def test_the_culprit_is_the_slowest_device_of_the_slowest_stage():
    fleet = [{"name": "a", "count": 8}, {"name": "b", "count": 8}]
    given = scenario(
        fleet=fleet,
        parallel={"tensor": 2, "pipeline": 2, "microbatches": 4},
        jitter={"persistent": {"law": "lognormal", "mean": 1, "cv": 0.1}},
        run={"steps": 5},
    )
    plan, steps = steps_of(given)
    base = engine_of("sampled", plan).draw(0).base
    unit = np.concatenate(base).reshape(-1, 2).max(axis=1).reshape(-1, 2)
    worst = (unit.sum(axis=1) + 3 * unit.max(axis=1)).argmax()
    device = np.concatenate(base).reshape(-1, 4)[worst].argmax() + 4 * worst
    assert (steps.culprit == device // 8).all()
    assert (steps.device == device % 8).all()
    assert (steps.stage == device % 4 // 2).all()
    result = mcsim.run(given)
    assert result.device_run_longest.sel(group="ab"[device // 8]).item() == 5


def test_what_sites_share_and_slow_states_reach_pipelines():
    parallel = {"tensor": 2, "pipeline": 2, "microbatches": 4}
    always = {"every": "1e-9 s", "duration": "1e9 s", "factor": {"law": "constant", "value": 2}}
    for key in ("slow", "slow_node", "slow_rack", "slow_site"):
        found = mcsim.run(scenario(parallel=parallel, jitter={key: always}))
        assert found.step_time_mean.item() == pytest.approx(2.5), key
        assert found.component_time_mean.sum().item() == pytest.approx(2.5), key
    shock = {"every": "1e-3 s", "factor": {"law": "constant", "value": 3}}
    for key in ("shock", "shock_node", "shock_site"):
        found = mcsim.run(scenario(parallel=parallel, jitter={key: shock}))
        assert found.step_time_mean.item() == pytest.approx(3.75), key


def test_jitter_that_is_kept_is_kept_in_pipelines():
    jitter = {"step": LOGNORMAL, "correlation": 0.9}
    given = scenario(1, jitter=jitter, run={"steps": 4000, "keep": "steps"})
    time = mcsim.run(given).step_time[0].to_numpy()
    bare = given.to_dict()
    del bare["workload"]["parallel"]
    bare["run"]["engine"] = "sampled"
    assert np.allclose(time, mcsim.run(mcsim.Scenario.from_dict(bare)).step_time[0], rtol=1e-12)
    assert np.corrcoef(time[1:], time[:-1])[0, 1] == pytest.approx(0.9, abs=0.05)


class TestByLevelAndLink:
    def test_levels_and_links_are_told_apart(self):
        fleet = [{"name": name, "count": 8, "site": name} for name in "xy"]
        given = scenario(
            fleet=fleet,
            parallel={"tensor": 2, "pipeline": 2, "microbatches": 4, "buckets": 5},
            workload={"gradient": "4 GB"},
            network={"node": {"bandwidth": "4 GB/s"}, "site": {"bandwidth": "1 GB/s"}},
            **SITES,
        )
        found = mcsim.run(given)
        # A gigabyte a device; each node has one rank of a stage, each site two.
        assert found.level_time.sel(level="node").to_numpy() == pytest.approx([0.0, 0.0])
        assert found.level_time.sel(level="site").to_numpy() == pytest.approx([1.0, 1.0])
        # Two stages, two devices of each: 4 GB there and back between two sites, half each way.
        assert found.link_time.sel(link="x-y").item() == pytest.approx(4.0)
        assert "link_time" not in mcsim.run(scenario(parallel={"pipeline": 2}))

    def test_components_of_a_replica_that_is_a_device(self):
        given = mcsim.Scenario.from_dict(
            {
                "name": "bare",
                "run": {"steps": 3},
                "workload": {"gradient": "1 GB"},
                "fleet": [
                    {"name": n, "device": "custom", "compute": "1 s", "count": 1, "site": n}
                    for n in "xy"
                ],
                **SITES,
            }
        )
        found = mcsim.run(given)
        series = found.component_time_mean.isel(replicate=0).to_series()
        assert dict(series) == pytest.approx({"compute": 1.0, "data": 0.0, "sites": 1.02})
        assert found.group_device.item(0) == "custom"


def test_all_stages_wait_for_a_flap_together():
    """One exponential wait where the link is down, however many stages and buckets there are."""
    flap = {"every": "1e-3 s", "duration": "10 s"}
    given = scenario(
        fleet=APART,
        parallel={"pipeline": 4, "buckets": 8},
        workload={"gradient": 1},
        run={"steps": 3000, "keep": "steps"},
        **{**SITES, "link": [SITES["link"][0] | {"flap": flap, "latency": 0}]},
    )
    # Down in 99.99 % of the time, and again before the next step of 1 s in 9.5 % of the steps.
    down = 1e4 / (1e4 + 1) * -np.expm1(-(1 / 1e-3 + 1 / 10))
    waits = mcsim.run(given).step_time[0].to_numpy() - 4.0
    assert stats.kstest(waits[waits > 1e-6], stats.expon(scale=10).cdf).pvalue > CHANCE
    assert np.mean(waits > 1e-6) == pytest.approx(down, abs=5 * (0.25 / 3000) ** 0.5)


@pytest.mark.parametrize(
    "law",
    [
        LOGNORMAL,
        {"law": "pareto", "scale": 1, "alpha": 3},
        {"law": "empirical", "table": "v100-sgemm"},
        {"law": "exponential", "mean": 1},
    ],
    ids=lambda law: law["law"],
)
def test_operations_are_the_quantiles_of_their_draws(law):
    """Tables in single precision against the law in double, draw by draw, rare ones included."""
    given = scenario(600, parallel={"microbatches": 9}, jitter={"operation": law})
    plan = lower(given)
    group = plan.groups[0]
    (table,) = engine_of("sampled", plan).draw(3).operations
    for step in (0, 1, 10**6):
        found = table.values(3, group.identity, step, 0, 600)
        # Eighteen operations, numbered in eights.
        operation, device = np.divmod(np.arange(18 * 600), 600)
        number = (24 * step + operation).astype(np.uint32)
        last = word_3(3, Purpose.OPERATION)
        drawn, rare = complete(device, number, np.uint32(group.identity), last, *key_of(plan.seed))
        exact = group.operation.quantile(drawn).reshape(18, 600)
        # A word has 32 bits of a draw that is not rare.
        error = 1e-6 * (exact + table.table.scale) + 2e-9
        assert np.all(np.abs(found - exact) <= error)
        assert rare.any()
