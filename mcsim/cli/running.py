"""From a scenario to a file, through checkpoints: what `mcsim run` does."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcsim.errors import (
    McsimError,
    ResultError,
    ScenarioError,
    SelfCheckWarning,
    TargetError,
    WorkersError,
)

if TYPE_CHECKING:
    from mcsim.batch import Shard
    from mcsim.cli.executors import Hands
    from mcsim.cli.session import Session
    from mcsim.results import Checkpoints, Part
    from mcsim.scenario import Scenario


def path_of(output: Path | None, scenario: Scenario, shard: Shard | None) -> Path:
    """The file of a result. output: as asked for; `{shard}` in it stands for a shard's number."""
    if shard is None:
        return output or Path(f"{_file_name(scenario.name)}.nc")
    number = str(shard.number).zfill(len(str(shard.of)))
    if output is None:
        return Path(f"{_file_name(scenario.name)}.{number}-of-{shard.of}.nc")
    return Path(str(output).replace("{shard}", number))


def _file_name(name: str) -> str:
    kept = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)
    return kept.lstrip(".-")[:60] or "result"


def run_into(
    path: Path,
    scenario: Scenario,
    shard: Shard | None,
    session: Session,
    who: Hands,
    *,
    resume: bool,
    target: str,
) -> None:
    """Sample a scenario, or a shard of it, into a file, and say what came out.

    target: where devices are sampled.
    """
    from mcsim.batch import advance, is_whole
    from mcsim.cli.progress import ProgressLine
    from mcsim.results import Checkpoints, label, only_writer, summarise, write

    with only_writer(path):
        checkpoints = Checkpoints(path)
        earlier = _earlier(path, checkpoints, scenario, shard) if resume else None
        if earlier is not None and is_whole(earlier, scenario, shard):
            click.echo(f"{path} is complete already", err=True)
            click.echo(summarise(label(earlier)))
            return
        if not resume and checkpoints.newest.exists():
            what = f"{checkpoints.newest} of an earlier run is not gone on from"
            click.echo(f"note: {what}; --resume would", err=True)
        if earlier is not None:
            click.echo(f"going on: {earlier.tally.steps:,} steps are done", err=True)
        session.begin(checkpoints, earlier)
        existed = path.exists()
        with warnings.catch_warnings(record=True) as said, ProgressLine(sys.stderr) as progress:
            warnings.simplefilter("always", SelfCheckWarning)
            try:
                part = advance(
                    scenario,
                    executor=who.executor,
                    threads=who.threads,
                    progress=progress.update,
                    earlier=earlier,
                    shard=shard,
                    watch=session.watch,
                    target=target,
                )
            except (TargetError, WorkersError) as lost:
                session.save()
                saved = checkpoints.newest.exists()
                where = f"what is done is in {checkpoints.newest}, from which --resume goes on"
                raise type(lost)(f"{lost}; {where if saved else 'nothing is done'}") from None
        dataset = label(part)
        try:
            write(dataset, path, part)
        except ResultError:
            session.save()
            raise
        session.end()
        checkpoints.remove()
    click.echo(f"{'replaced' if existed else 'wrote'} {path}", err=True)
    click.echo(summarise(dataset))
    for warning in said:
        if issubclass(warning.category, SelfCheckWarning):
            click.echo(f"\nWARNING: {warning.message}; do not trust this result", err=True)


def _earlier(
    target: Path, checkpoints: Checkpoints, scenario: Scenario, shard: Shard | None
) -> Part | None:
    """What is done already, as a checkpoint or a result of fewer steps says; the most there is.

    Raises ScenarioError where there is only what is of another scenario, ResultError where it is
    damaged.
    """
    from mcsim.batch import going_on
    from mcsim.results import read_part

    found: list[tuple[Path, Part]] = []
    problems: list[McsimError] = []
    try:
        found += [one for one in [checkpoints.load()] if one is not None]
    except ResultError as damaged:
        problems.append(damaged)
    if target.exists() and target.stat().st_size > 0:
        try:
            found.append((target, read_part(target)))
        except ResultError as damaged:
            problems.append(damaged)
    fitting = []
    for path, part in found:
        try:
            fitting.append(going_on(scenario, part, path, shard))
        except ScenarioError as foreign:
            problems.append(foreign)
    if not fitting:
        if problems:
            raise problems[0]
        return None
    part = max(fitting, key=lambda part: part.tally.steps)
    for problem in problems:
        click.echo(f"note: {problem}", err=True)
    return part
