"""What several commands ask for: the scenario, and the checks before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mcsim.cli.saying import FAILED, USAGE, Failure, say
from mcsim.errors import McsimError, Problem, ScenarioError

if TYPE_CHECKING:
    from mcsim.scenario import Scenario

Command = TypeVar("Command", bound=Callable[..., Any])
Result = TypeVar("Result")


def settings(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    settings = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{one!r} is not key=value, as in run.steps=100")
        settings[key.strip()] = value.strip()
    return settings


def scenario_options(command: Command) -> Command:
    """The argument SCENARIO and the options that change it."""
    engines = click.Choice(["auto", "sampled", "exact"])
    for decorate in (
        click.option("--engine", type=engines, help="Instead of the scenario's run.engine."),
        click.option("--seed", metavar="N", help="Instead of the scenario's run.seed."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            callback=settings,
            help="Change one key, as run.steps=100, fleet.hopper.count=8 or"
            " 'workload.compute=2 s'. May be repeated.",
        ),
        click.argument("scenario"),
    ):
        command = decorate(command)
    return command


def study_options(command: Command) -> Command:
    """Those of `scenario_options`, and where a study's result goes, and what it may take."""
    for decorate in (
        click.option("--force", is_flag=True, help="Even if a day is likely too small."),
        click.option("--threads", type=click.IntRange(min=1, max=4096), help="Default: all."),
        click.option(
            "-o", "--output", type=click.Path(path_type=Path), help="Also write it as NetCDF."
        ),
    ):
        command = decorate(command)
    return scenario_options(command)


def scenario_of(
    scenario: str, settings: dict[str, str], seed: str | None, engine: str | None
) -> Scenario:
    from mcsim.api import load

    settings = dict(settings)
    if seed is not None:
        settings["run.seed"] = seed
    if engine is not None:
        settings["run.engine"] = engine
    return load(scenario, settings)


def refuse_beyond(
    scenario: Scenario, threads: int, directory: Path, shards: float, workers: int
) -> None:
    """Raise ScenarioError where a run, or one of so many shards of it, is too large."""
    from mcsim.model import lower
    from mcsim.model.limits import beyond

    excess = list(beyond(lower(scenario), threads, directory, shards, workers))
    if excess:
        raise scenario.error(
            [Problem("", f"{one}; --force runs it all the same") for one in excess]
        )


def as_usage(read: Callable[..., Result], *arguments: Any) -> Result:
    """What a check of what the user asked for gives; where it fails, it is wrong use."""
    try:
        return read(*arguments)
    except McsimError as error:
        raise Failure(f"mcsim: {error}", USAGE) from None


def directory(output: Path | None) -> Path:
    """Where a result is written, or the nearest above it that there is."""
    wanted = (output or Path("result")).resolve().parent
    return next(place for place in [wanted, *wanted.parents] if place.is_dir())


def existing(file: Path) -> Path:
    if not file.exists():
        raise ScenarioError(str(file), [Problem("", "no such file")])
    return file


def complete(read: Callable[[Any], Result], dataset: Any, file: Path) -> Result:
    """What `read` makes of a result; one that lacks something, or is damaged, is refused."""
    try:
        return read(dataset)
    except (KeyError, AttributeError) as error:
        raise Failure(f"mcsim: {file}: is not a whole result: {error}", FAILED) from None
    except RuntimeError as error:
        # All that the NetCDF library says of damage that it finds as it reads.
        raise Failure(f"mcsim: {file}: cannot be read: {error}", FAILED) from None


def require_free(output: Path | None, *kinds: str) -> None:
    """Fail where a file cannot be written, or is a result of another kind, which would be lost.

    kinds: as of `kind_of`, that may be replaced. What cannot be read is nobody's result.
    """
    from mcsim.api import open as open_result
    from mcsim.results import check_output, kind_of

    if output is None:
        return
    as_usage(check_output, output)
    if not output.exists() or output.stat().st_size == 0:
        return
    try:
        with open_result(output) as there:
            found = kind_of(there)
    except McsimError:
        return
    if found not in kinds:
        message = f"mcsim: {output}: is the result of {named(found)}; it is not replaced"
        raise Failure(message, USAGE)


def named(kind: str) -> str:
    """`an explanation`, `a run`, `a value that was sought`."""
    if kind == "find":
        return "a search for a value"
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def give(dataset: Any, output: Path | None) -> None:
    """Write the result of a study, if it is to be written."""
    from mcsim.results import write

    if output is not None:
        write(dataset, output)
        say(f"wrote {output}")
