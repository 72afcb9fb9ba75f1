"""`mcsim sweep`: runs of a scenario with other values of some keys, or the value that is sought."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcsim.cli.asking import as_usage, require_free, scenario_of, scenario_options, settings
from mcsim.cli.saying import say
from mcsim.cli.sweep_files import sweep_into, telling_of_checks
from mcsim.errors import Problem, ScenarioError

if TYPE_CHECKING:
    from mcsim.batch import Shard
    from mcsim.model import Plan
    from mcsim.scenario import Scenario
    from mcsim.study.design import Design

_MOST_SAVING = 0.2
"""The share of its time that a sweep of short runs may take to write down each of them."""


@click.command()
@scenario_options
@click.option(
    "--over",
    multiple=True,
    metavar="KEY=VALUES",
    callback=settings,
    help="Values as link[*].bandwidth=100Gb/s,400Gb/s, or evenly spaced numbers, ends included:"
    " run.steps=100..500/5, or 1..100/5,log by their logarithms. Repeated: all combinations.",
)
@click.option(
    "--method",
    type=click.Choice(["grid", "lhs", "sobol"]),
    default="grid",
    help="Instead of a grid, --points spread over ranges as 1..100 or 1..100,log: by a Latin"
    " hypercube or Sobol's sequence.",
)
@click.option("--points", type=int, metavar="N", help="Of lhs and sobol.")
@click.option(
    "--indices",
    is_flag=True,
    help="With sobol: estimate what part of the variance is each key's, by N times two more runs"
    " than keys (extra `salib`).",
)
@click.option(
    "--find",
    "sought",
    metavar="KEY=A..B",
    help="Instead of --over: the value of a key at which --reach is reached, as"
    " link[*].bandwidth=100Gb/s..10Tb/s, by logarithms where the range spans a decade.",
)
@click.option(
    "--reach",
    metavar="STATISTIC=VALUE",
    help="Of --find, as efficiency=0.5 or step_time_mean=20s: one of the estimates over all"
    " clusters, which rises or falls throughout the range.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write it as NetCDF.")
@click.option("--threads", type=click.IntRange(min=1, max=4096), help="Default: all.")
@click.option("--resume", is_flag=True, help="Go on from the points that are finished already.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Only this one of N parts of the points, for `mcsim merge`; auto: as of `mcsim run`.",
)
@click.option("--force", is_flag=True, help="Even if the machine or a day is likely too small.")
def sweep(
    scenario: str,
    settings: dict[str, str],
    seed: str | None,
    engine: str | None,
    over: dict[str, str],
    method: str,
    points: int | None,
    indices: bool,
    sought: str | None,
    reach: str | None,
    output: Path | None,
    threads: int | None,
    resume: bool,
    shard: str | None,
    force: bool,
) -> None:
    """Run SCENARIO with other values of some keys, on the same clusters and random numbers.

    With -o each finished point is kept, and a signal ends the sweep with exit code 85: --resume
    goes on.
    """
    if (sought is None) != (reach is None):
        raise click.UsageError("--find and --reach need each other")
    if sought is not None and reach is not None:
        if over or method != "grid" or points or indices or resume or shard is not None:
            raise click.UsageError(
                "--find goes without --over, --method, --points, --indices, --resume and --shard"
            )
        key, within = _pair(sought, "--find", "link[*].bandwidth=100Gb/s..10Tb/s")
        base = _loaded(scenario, settings, seed, engine, {key: within})
        goal = _pair(reach, "--reach", "efficiency=0.5")
        _find(base, key, within, goal, output, threads, force=force)
        return
    from mcsim.cli.session import Session
    from mcsim.cli.shards import shards
    from mcsim.study.design import design
    from mcsim.study.sensitivity import require_salib

    if indices:
        as_usage(require_salib)
    if output is None and (resume or shard is not None):
        raise click.UsageError("--resume and --shard need -o, where points are kept")
    session = None if output is None else Session(1e-3, _MOST_SAVING)
    base = _loaded(scenario, settings, seed, engine, over)
    asked = design(base, over, method, points, indices=indices)
    parts: list[Shard | None] = [None] if shard is None else [*shards(shard, os.environ)]
    if not force:
        _require_room(asked, parts, threads)
    if output is None or session is None:
        _print_only(asked, threads)
        return
    from mcsim.cli.running import path_of

    paths = [path_of(output, asked.base, part) for part in parts]
    if len(set(paths)) < len(paths):
        raise click.UsageError("several shards need {shard} in the name of --output")
    for part, path in zip(parts, paths, strict=True):
        require_free(path, "sweep", "part of a sweep")
        sweep_into(path, asked, part, session, threads, resume=resume)


def _pair(given: str, option: str, example: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise click.BadParameter(f"{given!r} is not as {example}", param_hint=option)
    return key.strip(), value.strip()


def _find(
    base: Scenario,
    key: str,
    within: str,
    goal: tuple[str, str],
    output: Path | None,
    threads: int | None,
    *,
    force: bool,
) -> None:
    """Look for a value, and say and write what was found."""
    from mcsim.cli.progress import ProgressLine
    from mcsim.model import lower
    from mcsim.results import summarise, write
    from mcsim.study.find import LIKELY_RUNS, find, sought

    _, low, span = sought(base, key, within, *goal)
    if not force:
        ends = [lower(low), lower(low.replace({key: span.at(1.0)}))]
        _refuse(base, ends * (LIKELY_RUNS // 2), threads)
    require_free(output, "find")
    with telling_of_checks(), ProgressLine(sys.stderr, "runs, about") as progress:
        dataset = find(base, key, within, *goal, threads=threads, progress=progress.update)
    if output is not None:
        write(dataset, output)
        say(f"wrote {output}")
    click.echo(summarise(dataset))


def _loaded(
    scenario: str,
    settings: dict[str, str],
    seed: str | None,
    engine: str | None,
    over: dict[str, str],
) -> Scenario:
    """The scenario at the first point: without the keys that are swept it may be incomplete."""
    from mcsim.scenario.decode import written
    from mcsim.study.ranges import first_of, read

    for key in over:
        if key in settings:
            raise click.UsageError(f"{key} is both set and swept over")
    first = {key: written(first_of(read(key, given))) for key, given in over.items() if given}
    try:
        return scenario_of(scenario, {**settings, **first}, seed, engine)
    except ScenarioError as error:
        problems = [_as_swept(one, over) for one in error.problems]
        refused = ScenarioError(error.source, problems)
    if scenario == "-":
        raise refused
    try:
        # Where the scenario is sound without them, all values that are not can be told at once.
        return scenario_of(scenario, settings, seed, engine)
    except ScenarioError:
        raise refused from None


def _as_swept(problem: Problem, over: dict[str, str]) -> Problem:
    """A problem of what is swept over, with the option that said so."""
    if problem.setting is not None:
        for key in over:
            said = f"--set {key}="
            if problem.setting.startswith(said):
                changed = problem.setting.replace("--set", "--over", 1)
                return replace(problem, setting=changed)
    return problem


def _require_room(asked: Design, parts: list[Shard | None], threads: int | None) -> None:
    from mcsim.study.sweep import plans

    _refuse(asked.base, (plan for part in parts for plan in plans(asked, part)), threads)


def _refuse(scenario: Scenario, plans: Iterable[Plan], threads: int | None) -> None:
    """Raise ScenarioError where the machine, or a day, is too small for some runs."""
    from mcsim.model.limits import beyond_together
    from mcsim.threads import available_threads

    excess = list(beyond_together(plans, threads or available_threads()))
    if excess:
        said = [Problem("", f"{one}; --force runs them all the same") for one in excess]
        raise scenario.error(said)


def _print_only(asked: Design, threads: int | None) -> None:
    from mcsim.cli.progress import ProgressLine
    from mcsim.results import summarise
    from mcsim.study.sweep import labelled, run_points

    with telling_of_checks(), ProgressLine(sys.stderr) as progress:
        part = run_points(asked, threads=threads, progress=progress.update)
    click.echo(summarise(labelled(part)))
