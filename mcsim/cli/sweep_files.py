"""From a sweep's design to a file, through checkpoints."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcsim.cli.asking import as_usage
from mcsim.cli.saying import USAGE, Failure, say
from mcsim.errors import ResultError, SelfCheckWarning

if TYPE_CHECKING:
    from mcsim.batch import Shard
    from mcsim.cli.session import Session
    from mcsim.results import PartOfSweep, SweepCheckpoints
    from mcsim.study.design import Design


@contextmanager
def telling_of_checks() -> Iterator[None]:
    """Say at the end, once, where the engines disagreed."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", SelfCheckWarning)
        yield
    for warning in said[:1]:
        say(f"WARNING: {warning.message}; do not trust this result")


def sweep_into(
    path: Path,
    asked: Design,
    shard: Shard | None,
    session: Session,
    threads: int | None,
    *,
    resume: bool,
) -> None:
    """Run the points of a sweep, or of a shard of it, into a file, and say what came out."""
    from mcsim.cli.progress import ProgressLine
    from mcsim.results import SweepCheckpoints, label_part, only_writer, summarise, write
    from mcsim.study.sweep import labelled, numbers_of, part_of, run_points

    with only_writer(path):
        if resume and shard is None and _is_whole(path, asked):
            return
        checkpoints = SweepCheckpoints(path)
        earlier = _earlier(path, checkpoints, part_of(asked)) if resume else None
        if not resume and shard is not None:
            _require_no_other_shard(path, asked, shard)
        if not resume and checkpoints.newest.exists():
            what = f"{checkpoints.newest} of an earlier sweep is not gone on from"
            say(f"note: {what}; --resume would")
        if earlier is not None:
            numbers = numbers_of(asked, shard)
            done = sum(number in earlier.points for number in numbers)
            say(f"going on: {done:,} of {len(numbers):,} points are done")
        session.begin(checkpoints, earlier)
        existed = path.exists()

        def watch(part: PartOfSweep) -> None:
            session.watch(lambda: part)

        try:
            with telling_of_checks(), ProgressLine(sys.stderr) as progress:
                part = run_points(
                    asked,
                    threads=threads,
                    progress=progress.update,
                    earlier=earlier,
                    shard=shard,
                    watch=watch,
                )
        except BaseException:
            # What is finished before a point that cannot be run is kept.
            session.save()
            raise
        dataset = labelled(part) if shard is None else label_part(part)
        try:
            write(dataset, path)
        except ResultError as failed:
            session.save()
            where = f"what is done is in {checkpoints.newest}, from which --resume goes on"
            raise ResultError(f"{failed}; {where}") from None
        session.end()
        checkpoints.remove()
    say(f"{'replaced' if existed else 'wrote'} {path}")
    click.echo(summarise(dataset))


def _require_no_other_shard(path: Path, asked: Design, shard: Shard) -> None:
    """Fail where a file has other points of the sweep, which would be lost."""
    from mcsim.results import is_part_of_sweep, read_points
    from mcsim.study.sweep import numbers_of, part_of

    if not path.exists() or path.stat().st_size == 0 or not is_part_of_sweep(path):
        return
    there = as_usage(read_points, path)
    if there.plan == part_of(asked).plan and set(there.points) - set(numbers_of(asked, shard)):
        message = "holds another shard of this sweep; give each a name, as with {shard} in -o"
        raise Failure(f"mcsim: {path}: {message}", USAGE)


def _is_whole(path: Path, asked: Design) -> bool:
    """Whether a file is the result of the sweep that is asked for; says so."""
    from mcsim.api import open as open_result
    from mcsim.results import summarise
    from mcsim.study.sweep import is_result_of

    if not path.exists() or path.stat().st_size == 0:
        return False
    with open_result(path) as there:
        if not is_result_of(there, asked):
            return False
        say(f"{path} is complete already")
        click.echo(summarise(there))
    return True


def merge_sweeps(files: Sequence[Path], output: Path, *, partial: bool) -> None:
    """Join parts of a sweep into a file, and say what came out."""
    from mcsim.results import only_writer, summarise, write
    from mcsim.study.sweep import dataset_of, joined

    with only_writer(output):
        dataset = dataset_of(as_usage(lambda: joined(files, partial=partial)))
        write(dataset, output)
    say(f"wrote {output}")
    click.echo(summarise(dataset))


def _earlier(path: Path, checkpoints: SweepCheckpoints, none: PartOfSweep) -> PartOfSweep | None:
    """What is finished according to the checkpoint, or to the result; the most there is.

    Fails where it is damaged or of another sweep.
    """
    from mcsim.results import is_part_of_sweep, read_points

    found = []
    try:
        kept = checkpoints.load(lambda damaged: say(f"note: {damaged}"))
        found += [] if kept is None else [kept]
        if path.exists() and path.stat().st_size > 0 and is_part_of_sweep(path):
            found.append((path, read_points(path)))
        for source, part in found:
            none.require_same(part, "what is asked for", str(source))
    except ResultError as unusable:
        message = f"mcsim: {unusable}; without --resume the sweep begins anew"
        raise Failure(message, USAGE) from None
    return max((part for _, part in found), key=lambda part: len(part.points), default=None)
