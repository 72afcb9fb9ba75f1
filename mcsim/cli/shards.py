"""Which shards of a run a process does: as it is told, or as its batch system tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mcsim.batch import Shard

_MOST = 1_000_000


def shards(asked: str, environment: Mapping[str, str]) -> list[Shard]:
    """The shards that `--shard` means: "3/7", "auto" (one a task) or "auto/100" (some a task).

    environment: where the batch system says which task of how many this is.
    Raises click.BadParameter.
    """
    from mcsim.batch import Shard

    if match := re.fullmatch(r"(\d{1,9})/(\d{1,9})", asked, re.ASCII):
        number, of = int(match[1]), int(match[2])
        if of > _MOST:
            raise click.BadParameter(f"{asked}: there are at most {_MOST:,} shards")
        if not 1 <= number <= of:
            raise click.BadParameter(f"{asked}: shards are numbered from 1, as 1/{max(of, 1)}")
        return [Shard(number, of)]
    match = re.fullmatch(r"auto(?:/(\d{1,9}))?", asked, re.ASCII)
    if match is None:
        raise click.BadParameter(f"{asked!r} is neither number/count, as 3/7, nor auto")
    task, tasks = _task(environment)
    of = int(match[1] or tasks)
    if not tasks <= of <= _MOST:
        raise click.BadParameter(f"{asked}: there are {tasks} tasks, each of which has a shard")
    return [Shard(number, of) for number in range(1, of + 1) if (number - 1) % tasks == task]


_SYSTEMS = {
    "Slurm": (
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_MAX",
        "SLURM_ARRAY_TASK_STEP",
    ),
    "LSF": ("LSB_JOBINDEX", "", "LSB_JOBINDEX_END", "LSB_JOBINDEX_STEP"),
    "SGE": ("SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE"),
}
"""Of each batch system: where it says the number of the task, of the first and the last one (the
first is 1 where it does not say), and the step between them."""


def _task(environment: Mapping[str, str]) -> tuple[int, int]:
    """The number of this task, from 0, and how many there are."""
    for system, names in _SYSTEMS.items():
        # Outside an array, LSF says 0 and SGE "undefined".
        said = environment.get(names[0], "")
        if said and (system == "Slurm" or said not in ("0", "undefined")):
            count = environment.get("SLURM_ARRAY_TASK_COUNT") if system == "Slurm" else None
            _, first, last, step = (environment.get(name) for name in names)
            last = count if last is None and first is None else last
            if last is None:
                what = f"{names[0]} is {said}, and {names[2]}, the last task's number, is not there"
                raise click.BadParameter(f"auto: {what}; say which shard, as 3/7")
            return _place(system, (said, first or "1", last, step or "1"), count)
    if "PBS_ARRAY_INDEX" in environment or "PBS_ARRAYID" in environment:
        raise click.BadParameter(
            "auto: PBS does not say how many tasks an array has; say it, as"
            ' --shard "$PBS_ARRAY_INDEX/7"'
        )
    raise click.BadParameter("auto: this is no task of an array of Slurm, LSF or SGE")


def _place(system: str, numbers: Sequence[str], count: str | None) -> tuple[int, int]:
    """The same, from the numbers of this task, the first and the last, and the step between them.

    count: of all tasks, as only Slurm says it: an array may have gaps.
    """
    try:
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise ValueError
        own, first, last, step = map(int, numbers)
        tasks = (last - first) // step + 1
        whole = count in (None, str(tasks))
        if whole and first <= own <= last and (own - first) % step == 0:
            return (own - first) // step, tasks
    except (ValueError, ZeroDivisionError):
        pass
    raise click.BadParameter(
        "auto: {} of {} to {} in steps of {}".format(*numbers)
        + f", as {system} says, is no task of an array without gaps; say which shard, as 3/7"
    )
