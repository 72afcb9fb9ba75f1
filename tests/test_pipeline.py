"""Pipeline schedules: their limits, a slow oracle, and a real job's trace."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from mcsim.model.pipeline import Schedule, bubble_fraction

SHAPES = [(1, 1), (1, 7), (2, 1), (2, 2), (4, 3), (4, 4), (4, 16), (8, 8), (16, 64), (5, 2)]


def times(schedule, forward, backward):
    return np.where(schedule.backward, backward, forward)


@pytest.mark.parametrize(("stages", "microbatches"), SHAPES)
def test_equal_operations_take_m_plus_p_minus_1_of_each(stages, microbatches):
    schedule = Schedule.of(stages, microbatches)
    for forward, backward in ((1.0, 2.0), (3.0, 1.0), (0.5, 0.5)):
        end = schedule.ends(times(schedule, forward, backward)).max()
        assert end == (microbatches + stages - 1) * (forward + backward)


@pytest.mark.parametrize(
    ("stages", "microbatches", "chunks"), [(2, 2, 2), (4, 8, 2), (4, 4, 3), (8, 32, 4), (3, 6, 5)]
)
def test_chunks_divide_the_bubble(stages, microbatches, chunks):
    schedule = Schedule.of(stages, microbatches, chunks)
    work = microbatches * 3.0
    end = schedule.ends(times(schedule, 1.0, 2.0) / chunks).max()
    assert end / work - 1 == pytest.approx(bubble_fraction(stages, microbatches, chunks), rel=1e-12)
    assert bubble_fraction(stages, microbatches, chunks) == (stages - 1) / (chunks * microbatches)


def test_interleaving_needs_a_multiple_of_the_stages():
    with pytest.raises(ValueError, match="no multiple"):
        Schedule.of(4, 6, 2)


@pytest.mark.parametrize(("stages", "microbatches", "chunks"), [(4, 8, 1), (4, 8, 2), (1, 3, 1)])
def test_every_operation_is_done_once(stages, microbatches, chunks):
    schedule = Schedule.of(stages, microbatches, chunks)
    every = set(
        zip(
            schedule.stage.tolist(),
            schedule.microbatch.tolist(),
            schedule.chunk.tolist(),
            schedule.backward.tolist(),
            strict=True,
        )
    )
    assert len(every) == schedule.stage.size == 2 * stages * microbatches * chunks
    assert np.all(schedule.before < np.arange(schedule.stage.size))
    assert np.all(schedule.needs < np.arange(schedule.stage.size))


def test_no_stage_holds_more_microbatches_than_1f1b_allows():
    schedule = Schedule.of(4, 16)
    for stage in range(4):
        held = np.cumsum(np.where(schedule.backward[schedule.stage == stage], -1, 1))
        assert held.max() == 4 - stage


def event_by_event(schedule, time, transfer):
    """Stages as processes that take messages from each other, event by event."""
    of = {
        (s, bool(b), m, c): i
        for i, (s, b, m, c) in enumerate(
            zip(schedule.stage, schedule.backward, schedule.microbatch, schedule.chunk, strict=True)
        )
    }
    queue = {
        s: [i for i in range(len(time)) if schedule.stage[i] == s] for s in range(schedule.stages)
    }
    pieces = schedule.stages * schedule.chunks
    arrived, free, end = {}, dict.fromkeys(queue, 0.0), {}
    events = [(0.0, s) for s in queue]
    while events:
        now, stage = heapq.heappop(events)
        if not queue[stage] or free[stage] > now:
            continue
        here = queue[stage][0]
        microbatch, backward = schedule.microbatch[here], bool(schedule.backward[here])
        piece = schedule.chunk[here] * schedule.stages + stage
        first = not backward and piece == 0
        if not first and arrived.get(here, np.inf) > now:
            continue
        queue[stage].pop(0)
        end[here] = free[stage] = done = now + time[here]
        heapq.heappush(events, (done, stage))
        turns = not backward and piece == pieces - 1
        following = piece if turns else piece + (-1 if backward else 1)
        if 0 <= following < pieces:
            to = following % schedule.stages
            target = of[to, backward or turns, microbatch, following // schedule.stages]
            arrived[target] = done + (transfer[target] if to != stage else 0.0)
            heapq.heappush(events, (arrived[target], to))
    return np.array([end[i] for i in range(len(time))])


@pytest.mark.parametrize(
    ("stages", "microbatches", "chunks"), [(1, 4, 1), (3, 5, 1), (4, 8, 1), (4, 8, 2), (6, 12, 3)]
)
def test_random_operations_end_when_an_event_simulation_says_bit_for_bit(
    stages, microbatches, chunks
):
    schedule = Schedule.of(stages, microbatches, chunks)
    random = np.random.default_rng(stages)
    for _ in range(20):
        time = random.lognormal(0.0, 0.5, schedule.stage.size)
        transfer = random.exponential(0.2, schedule.stage.size)
        assert np.array_equal(
            schedule.ends(time, transfer), event_by_event(schedule, time, transfer)
        )


def test_many_steps_are_evaluated_at_once():
    schedule = Schedule.of(4, 6)
    time = np.random.default_rng(1).random((schedule.stage.size, 7))
    together = schedule.ends(time, 0.1)
    for column in range(7):
        assert np.array_equal(schedule.ends(time[:, column], 0.1), together[:, column])
    last = schedule.last_of_stage()
    assert np.array_equal(together[last].max(axis=0), together.max(axis=0))


def test_the_trace_of_a_real_job_is_slowed_by_its_last_stage(shared_data):
    """What-if of OSDI 2025: all operations of a kind as long as their mean, against measured."""
    import json

    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow reads the trace")
    table = parquet.read_table(shared_data / "training_trace_8ranks.parquet").to_pydict()
    published = json.loads((shared_data / "training_trace_8ranks.published.json").read_text())
    schedule = Schedule.of(4, 4)
    compute = {"forward-compute": False, "backward-compute": True}
    steps = sorted(set(table["step"]))
    place = {step: index for index, step in enumerate(steps)}
    # By data-parallel rank, operation and step.
    time = np.full((2, schedule.stage.size, len(steps)), np.nan)
    number = {
        (s, m, b): i
        for i, (s, m, b) in enumerate(
            zip(
                schedule.stage.tolist(),
                schedule.microbatch.tolist(),
                schedule.backward.tolist(),
                strict=True,
            )
        )
    }
    rows = zip(
        table["dp_rank"],
        table["stage"],
        table["mb_id"],
        table["optype"],
        table["step"],
        table["duration"],
        strict=True,
    )
    for rank, stage, microbatch, kind, step, duration in rows:
        if kind in compute:
            time[rank, number[stage, microbatch, compute[kind]], place[step]] = duration
    assert np.isfinite(time).all()
    measured = np.moveaxis(time, 0, -1)
    backward = schedule.backward
    fair = np.empty_like(measured)
    for kind in (False, True):
        fair[backward == kind] = measured[backward == kind].mean()
    base, ideal = (schedule.ends(t).max(axis=(0, 2)) for t in (measured, fair))
    by_stage = {}
    for stage in range(4):
        mended = np.where((schedule.stage == stage)[:, None, None], fair, measured)
        by_stage[stage] = (base / schedule.ends(mended).max(axis=(0, 2))).mean()
    assert max(by_stage, key=by_stage.get) == 3
    assert base.mean() / ideal.mean() == pytest.approx(published["blocking_slowdown"], rel=0.03)
