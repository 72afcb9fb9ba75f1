"""Many runs of a scenario, each with other values of some keys, as one Dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from mcsim.batch import Shard, advance, anywhere
from mcsim.engine import SelfCheck
from mcsim.errors import ResultError, SimulationError
from mcsim.model import Plan, lower
from mcsim.results import (
    SWEEP,
    Axis,
    Finished,
    PartOfSweep,
    check_output,
    label,
    label_part,
    label_sweep,
    only_writer,
    read_points,
    write,
)
from mcsim.scenario import Scenario
from mcsim.scenario.decode import written
from mcsim.study.design import Design, design
from mcsim.study.sensitivity import require_salib, with_indices

Progress = Callable[[int, int], None]
Watch = Callable[[PartOfSweep], None]
_MOST_NAMED = 3
"""Missing points that an error names."""


def sweep(
    scenario: Scenario,
    over: Mapping[str, str | Sequence[Any]],
    *,
    method: str = "grid",
    points: int | None = None,
    indices: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """A Dataset with the estimates of the runs at all points of a design.

    over, method, points, indices: as of `design`. progress: called with the steps done and all.
    Raises ScenarioError with all that is wrong with any point, before the first is run.
    """
    if indices:
        require_salib()
    asked = design(scenario, over, method, points, indices=indices)
    for _ in plans(asked):
        pass
    return labelled(run_points(asked, threads=threads, progress=progress))


def plans(asked: Design, shard: Shard | None = None) -> Iterator[Plan]:
    """What each point of a design, or of a shard of it, is lowered to. Raises ScenarioError."""
    for number in numbers_of(asked, shard):
        yield lower(asked.scenario(number))


def numbers_of(asked: Design, shard: Shard | None) -> range:
    """The points of a shard: every so manieth, as neighbours take about as long."""
    every = len(asked.points)
    return range(every) if shard is None else range(shard.number - 1, every, shard.of)


def part_of(asked: Design) -> PartOfSweep:
    """The sweep with none of its points finished."""
    plan = {
        "scenario": asked.base.hash,
        "method": asked.method,
        "points": len(asked.points),
        "indices": asked.indices,
        "keys": [axis.key for axis in asked.axes],
        **{
            axis.key: [axis.name, axis.units, axis.long_name, list(axis.values)]
            for axis in asked.axes
        },
    }
    return PartOfSweep(anywhere(asked.base), plan, {})


def labelled(part: PartOfSweep) -> xr.Dataset:
    """The Dataset of a whole sweep. Raises McsimError where indices are asked for without SALib."""
    plan = part.plan
    axes = []
    for key in plan["keys"]:
        name, units, long_name, values = plan[key]
        axes.append(Axis(key, name, units, long_name, tuple(values)))
    dataset = label_sweep(part, plan["method"], axes)
    return with_indices(dataset, part.scenario.run.seed) if plan["indices"] else dataset


def run_points(
    asked: Design,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    earlier: PartOfSweep | None = None,
    shard: Shard | None = None,
    watch: Watch | None = None,
) -> PartOfSweep:
    """The points of a design, or of a shard, one after the other, each on all threads.

    earlier: what is finished already. watch: is told of what is finished, after each point.
    """
    points = {} if earlier is None else dict(earlier.points)
    # One dictionary for all, as it grows: ten thousand of them would take longer than the runs.
    part = replace(part_of(asked), points=points)
    numbers = numbers_of(asked, shard)
    check: SelfCheck | None = None
    for at, number in enumerate(numbers):
        if number in points:
            continue
        told = _of_all(progress, at, len(numbers))
        try:
            finished, found = finish(asked.scenario(number), threads, check, told)
        except SimulationError as error:
            said = ", ".join(
                f"{key} = {written(value)}" for key, value in asked.points[number].items()
            )
            raise SimulationError(f"at {said}: {error}") from None
        # The devices are the same at all points where only the network changes, and so is what a
        # comparison of their law with what is sampled finds: half of the time of a short run.
        check = found if asked.only_network else None
        points[number] = finished
        if watch is not None:
            watch(part)
    return part


def finish(
    scenario: Scenario,
    threads: int | None,
    check: SelfCheck | None,
    progress: Progress | None = None,
) -> tuple[Finished, SelfCheck]:
    """Run a scenario. check: the comparison of the engines, where it is known already."""
    done = advance(anywhere(scenario), threads=threads, progress=progress, check=check)
    assert done.check is not None
    return Finished.of(label(done), done.check.outcome), done.check


def _of_all(progress: Progress | None, at: int, points: int) -> Progress | None:
    """Tells how far all points are, where one is so far; all take as many steps, or about."""
    if progress is None:
        return None
    return lambda done, total: progress(at * total + done, points * total)


def is_result_of(dataset: xr.Dataset, asked: Design) -> bool:
    """Whether a Dataset is of all points of a design."""
    is_sweep = dataset.attrs.get("study") == SWEEP
    return is_sweep and json.loads(dataset.attrs["sweep"]) == part_of(asked).plan


def dataset_of(part: PartOfSweep) -> xr.Dataset:
    """Of a sweep, or of the part of it that is finished."""
    return label_part(part) if part.missing else labelled(part)


def merged(paths: Sequence[Path], output: Path | None, *, partial: bool) -> xr.Dataset:
    """The Dataset of a sweep whose parts are in files, also written where `output` says.

    Of a part of it where points are missing, and may be. Raises ResultError.
    """
    if output is None:
        return dataset_of(joined(paths, partial=partial))
    check_output(output)
    with only_writer(output):
        dataset = dataset_of(joined(paths, partial=partial))
        write(dataset, output)
    return dataset


def joined(paths: Iterable[Path], *, partial: bool = False) -> PartOfSweep:
    """The sweep whose shards, or other parts, are in some files, in any order.

    partial: whether points may be missing. Raises ResultError, naming files and points.
    """
    parts = [(path, read_points(path)) for path in paths]
    if not parts:
        raise ResultError("there are no files to merge")
    (first, whole), *others = parts
    of = dict.fromkeys(whole.points, first)
    for path, part in others:
        whole.require_same(part, str(first), str(path))
        twice = next((number for number in part.points if number in of), None)
        if twice is not None:
            held = f"holds point {twice}, which {of[twice]} holds too"
            raise ResultError(f"{path}: {'is given twice' if of[twice] == path else held}")
        of |= dict.fromkeys(part.points, path)
        whole = replace(whole, points={**whole.points, **part.points})
    if whole.missing and not partial:
        named = ", ".join(map(str, whole.missing[:_MOST_NAMED]))
        more = len(whole.missing) - _MOST_NAMED
        named += f" and {more} more" if more > 0 else ""
        every = whole.plan["points"]
        raise ResultError(f"of points 0 to {every - 1}, {named}: in none of the files")
    return whole
