"""From a scenario to a file, through checkpoints: what `mcsim run` does."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcsim.cli.saying import USAGE, Failure, say
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
        source, earlier = _earlier(path, checkpoints, scenario, shard) if resume else (path, None)
        # A checkpoint of all steps, whose result could not be written, is gone on from too.
        if earlier is not None and source == path and is_whole(earlier, scenario, shard):
            say(f"{path} is complete already")
            click.echo(summarise(label(earlier)))
            return
        if not resume and shard is not None:
            _require_no_other_shard(path, scenario, shard)
        if not resume and checkpoints.newest.exists():
            what = f"{checkpoints.newest} of an earlier run is not gone on from"
            say(f"note: {what}; --resume would")
        if earlier is not None:
            say(f"going on: {earlier.tally.steps:,} steps are done")
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
                raise type(lost)(f"{lost}; {_what_is_saved(checkpoints)}") from None
        dataset = label(part)
        try:
            write(dataset, path, part)
        except ResultError as failed:
            session.save()
            raise ResultError(f"{failed}; {_what_is_saved(checkpoints)}") from None
        session.end()
        checkpoints.remove()
    say(f"{'replaced' if existed else 'wrote'} {path}")
    click.echo(summarise(dataset))
    for warning in said:
        if issubclass(warning.category, SelfCheckWarning):
            say(f"\nWARNING: {warning.message}; do not trust this result")


def _what_is_saved(checkpoints: Checkpoints) -> str:
    if checkpoints.newest.exists():
        return f"what is done is in {checkpoints.newest}, from which --resume goes on"
    return "nothing is saved"


def _require_no_other_shard(path: Path, scenario: Scenario, shard: Shard) -> None:
    """Fail where a file is another shard of the run, which would be lost."""
    from mcsim.results import read_part

    try:
        there = read_part(path)
    except ResultError:
        return
    if there.scenario == scenario and there.shards not in ((), ((shard.number, shard.of),)):
        held = ", ".join(f"{number}/{of}" for number, of in there.shards)
        message = f"holds the shard {held} of this run; give each a name, as with {{shard}} in -o"
        raise Failure(f"mcsim: {path}: {message}", USAGE)


def _earlier(
    target: Path, checkpoints: Checkpoints, scenario: Scenario, shard: Shard | None
) -> tuple[Path, Part | None]:
    """What is done already, as a checkpoint or a result of fewer steps says; the most there is.

    And the file that says so. Raises ScenarioError where there is only what is of another scenario,
    and fails where it is damaged.
    """
    from mcsim.batch import going_on
    from mcsim.results import read_part

    found: list[tuple[Path, Part]] = []
    problems: list[McsimError] = []
    try:
        found += [one for one in [checkpoints.load(problems.append)] if one is not None]
    except ResultError as damaged:
        problems.append(damaged)
    if target.exists() and target.stat().st_size > 0:
        try:
            found.append((target, read_part(target)))
        except ResultError as damaged:
            problems.append(damaged)
    fitting: list[tuple[Path, Part]] = []
    for path, part in found:
        try:
            fitting.append((path, going_on(scenario, part, path, shard)))
        except ScenarioError as foreign:
            problems.append(foreign)
    if not fitting:
        if not problems:
            return target, None
        if isinstance(problems[0], ResultError):
            message = f"mcsim: {problems[0]}; without --resume the run begins anew"
            raise Failure(message, USAGE)
        raise problems[0]
    for problem in problems:
        say(f"note: {problem}")
    # Of as many steps, the result rather than a checkpoint.
    return max(fitting, key=lambda found: (found[1].tally.steps, found[0] == target))
