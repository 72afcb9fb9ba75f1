"""`mcsim submit`: a run for a batch system, in shards, with the merge that waits for them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcsim.cli.asking import (
    as_usage,
    scenario_of,
    scenario_options,
)
from mcsim.cli.quantities import finite
from mcsim.cli.saying import FAILED, USAGE, Failure, say
from mcsim.cli.scripts import MARGIN, Job, pbs, slurm

if TYPE_CHECKING:
    from mcsim.scenario import Scenario

_MOST_SHARDS = 30_000
"""So many names the merge can be given: all arguments of a process have to fit into 2 MB."""
_MOST_SCENARIO = 2 * 1024**2
"""Bytes. Schedulers take scripts of some MB (Slurm: max_script_size, 4 MB)."""

_LONGEST_NAME = 60

_SHORTEST = 3 * MARGIN
"""s. Slurm may signal a minute early, and a start takes some seconds."""


def _limit(context: click.Context, parameter: click.Parameter, given: str | None) -> int | None:
    if given is None:
        return None
    match = re.fullmatch(r"(\d{1,4}):([0-5]\d):([0-5]\d)", given, re.ASCII)
    if match is None:
        raise click.BadParameter(f"{given!r} is not HH:MM:SS, as 12:00:00")
    hours, minutes, seconds = map(int, match.groups())
    limit = 3600 * hours + 60 * minutes + seconds
    if limit < _SHORTEST:
        raise click.BadParameter(
            f"{given} is too short: a task stops at a checkpoint {MARGIN} s before its limit;"
            f" at least 00:0{_SHORTEST // 60}:00"
        )
    return limit


def _memory(context: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    if given is not None and not re.fullmatch(r"[1-9]\d{0,8}[KMGT]", given, re.ASCII):
        raise click.BadParameter(f"{given!r} is not a whole number of K, M, G or T, as 4G")
    return given


def _word(context: click.Context, parameter: click.Parameter, given: str | None) -> str | None:
    # Directives know no quotes that all batch systems agree on.
    if given is not None and not re.fullmatch(r"\w[\w.,:@+-]*", given, re.ASCII):
        raise click.BadParameter(f"{given!r} is no name: letters, digits and _ . , : @ + - only")
    return given


@click.command()
@scenario_options
@click.option("--slurm", "system", flag_value="slurm", help="Write a script for Slurm.")
@click.option("--pbs", "system", flag_value="pbs", help="For OpenPBS or PBS Professional.")
@click.option("--print", "only_print", is_flag=True, help="Print the script; do nothing else.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Result file; default: NAME.nc."
)
@click.option(
    "--shards",
    type=click.IntRange(1, _MOST_SHARDS),
    default=1,
    metavar="N",
    help="Parts that are run side by side and merged; default: 1. The result is the same.",
)
@click.option(
    "--max-array",
    type=click.IntRange(min=2),
    default=1000,
    metavar="N",
    help="Tasks that an array may have; where there are more shards, each task does several."
    " Default: 1000.",
)
@click.option(
    "--time", "seconds", metavar="HH:MM:SS", callback=_limit, help="Limit of a task's time."
)
@click.option("--cpus", type=click.IntRange(1, 4096), default=1, metavar="N", help="Of a task.")
@click.option("--memory", metavar="SIZE", callback=_memory, help="Of a task, as 4G.")
@click.option("--partition", metavar="P", callback=_word, help="Partition, or queue.")
@click.option("--account", metavar="A", callback=_word, help="Who is charged.")
@click.option("--job-name", metavar="NAME", help="Default: the scenario's name.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Of the script, the shards and the logs, seen by all nodes; default: the result's name"
    " with .job.",
)
@click.option(
    "--cache",
    envvar="MCSIM_CACHE_DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Of compiled kernels, for all tasks; default: MCSIM_CACHE_DIR, or each task its own, for"
    " as long as it runs.",
)
@click.option(
    "--restarts",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="How often a task that its limit stopped may go on. Default: 100 with Slurm, which then"
    " queues it again; 2 with PBS, where so many more rounds are sent at once.",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    callback=finite,
    default=60.0,
    metavar="SECONDS",
    help="As of `mcsim run`; default: 60.",
)
@click.option("--force", is_flag=True, help="As of `mcsim run`: even if a day is likely too small.")
def submit(
    scenario: str,
    settings: dict[str, str],
    seed: str | None,
    engine: str | None,
    system: str | None,
    only_print: bool,
    output: Path | None,
    shards: int,
    max_array: int,
    seconds: int | None,
    cpus: int,
    memory: str | None,
    partition: str | None,
    account: str | None,
    job_name: str | None,
    directory: Path | None,
    cache: Path | None,
    restarts: int | None,
    checkpoint_every: float,
    force: bool,
) -> None:
    """Hand SCENARIO to a batch system: an array of shards, and their merge.

    The scenario is taken as it is now. Tasks stop at a checkpoint before their limit and go on
    where they are started again; so does what is submitted once more.
    """
    if system is None:
        raise click.UsageError("say for which batch system: --slurm or --pbs")
    asked = scenario_of(scenario, settings, seed, engine)
    text = _frozen(asked, shards)
    name = _plain(asked.name if job_name is None else job_name)
    if job_name not in (None, name):
        say(f"note: the job is named {name}: directives cannot quote")
    target = Path(f"{_plain(asked.name)}.nc" if output is None else output).absolute()
    if target.is_dir() or not target.name:
        raise click.BadParameter("is a directory; name a file", param_hint="--output")
    if "\\" in str(target):
        message = "the NetCDF library reads backslashes as slashes; name another"
        raise click.BadParameter(message, param_hint="--output")
    if "{shard}" in str(target):
        raise click.BadParameter("is where the shards are merged, without {shard}", param_hint="-o")
    place = (target.with_suffix(".job") if directory is None else directory).absolute()
    write, program, most_restarts = {"slurm": (slurm, "sbatch", 100), "pbs": (pbs, "qsub", 2)}[
        system
    ]
    script = write(
        Job(
            name=name,
            command=(sys.executable, "-P", "-m", "mcsim"),
            scenario=text,
            output=target,
            directory=place,
            shards=shards,
            tasks=min(shards, max_array),
            cpus=cpus,
            restarts=most_restarts if restarts is None else restarts,
            memory=memory,
            seconds=seconds,
            partition=partition,
            account=account,
            cache=None if cache is None else cache.absolute(),
            checkpoint_every=checkpoint_every,
            force=force,
        )
    ).encode("utf-8", "surrogateescape")
    if only_print:
        click.echo(script, nl=False)
        return
    if shutil.which(program) is None:
        raise Failure(f"mcsim: there is no {program} here; --print writes the script", USAGE)
    from mcsim.results import check_output

    as_usage(check_output, target)
    place.mkdir(parents=True, exist_ok=True)
    frozen = place / "scenario.toml"
    if frozen.exists() and frozen.read_bytes() != text.encode():
        raise Failure(
            f"mcsim: {place}: holds the shards of another scenario; give another --directory",
            USAGE,
        )
    (place / "job.sh").write_bytes(script)
    done = subprocess.run(["bash", place / "job.sh", "submit"], check=False)
    if done.returncode != 0:
        raise Failure(f"mcsim: {program} failed", FAILED)


def _plain(name: str) -> str:
    """The name of a job or a file, without what a directive cannot hold."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:_LONGEST_NAME] or "mcsim"


def _frozen(scenario: Scenario, shards: int) -> str:
    """The canonical text; a scenario that cannot be divided so, or handed over, is refused."""
    from mcsim.errors import Problem

    if shards > 1 and scenario.run.target_relative_error is not None:
        message = "a run that goes on until this is reached cannot be divided into shards"
        raise scenario.error([Problem("run.target_relative_error", message)])
    text = scenario.to_toml()
    if len(text.encode()) > _MOST_SCENARIO:
        message = "its values make more than 2 MB, too much for a job script"
        raise scenario.error([Problem("", message)])
    return text
