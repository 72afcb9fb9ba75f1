"""`mcsim` and its commands."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcsim.cli import quantities
from mcsim.cli.asking import (
    as_usage,
    directory,
    named,
    refuse_beyond,
    require_free,
    scenario_of,
    scenario_options,
)
from mcsim.cli.executors import NAMES as EXECUTORS
from mcsim.cli.saying import FAILED, USAGE, Failure, say
from mcsim.errors import McsimError, ScenarioError

if TYPE_CHECKING:
    from mcsim.cli.executors import Hands
    from mcsim.results import Part
    from mcsim.scenario import Scenario

_LISTS = (
    "scenarios",
    "devices",
    "laws",
    "tables",
    "disturbances",
    "ageing",
    "remedies",
    "serving",
    "prices",
    "keys",
    "targets",
)


class _Group(click.Group):
    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except ScenarioError as error:
            raise Failure(str(error), USAGE) from None
        except McsimError as error:
            raise Failure(f"mcsim: {error}", FAILED) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise Failure(f"mcsim: {error.strerror or error}", FAILED) from None
        except MemoryError:
            raise Failure(
                "mcsim: out of memory; nothing was written. `mcsim check` estimates what a"
                " scenario needs",
                FAILED,
            ) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mcsim")
def main() -> None:
    """Monte Carlo of the straggler effect in synchronous AI training.

    SCENARIO is a TOML file, `-` for standard input, the name of a bundled scenario
    (`mcsim list scenarios`), or an earlier result, whose scenario is taken.
    """


@main.command()
@scenario_options
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Result file; default: NAME.nc. {shard} in it stands for the number of the shard.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1, max=4096),
    help="Default: all that are available; of each worker, its share of them, or 1 with --scheduler"
    " and with mpi. The result does not depend on it.",
)
@click.option(
    "--target",
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Where devices are sampled, instead of the scenario's run.target. auto: on a GPU, where"
    " there is one and enough to do.",
)
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    default=EXECUTORS[0],
    help="Who samples: threads of this process (default), processes of this machine, workers of"
    " Dask, or the processes of an MPI job. The result does not depend on it.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=4096),
    help="Processes that --executor processes, or dask without --scheduler, starts.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS-OR-FILE",
    help="Of Dask, as tcp://head:8786, or the file that it wrote; default: one of this run.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from the checkpoint beside the result, or from a result of fewer steps or"
    " replicates; start where there is neither.",
)
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(min=0),
    callback=quantities.finite,
    default=60.0,
    metavar="SECONDS",
    help="Default: 60; 0: only when a signal ends the run.",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Only this one of N parts, counted from 1, for `mcsim merge`. auto: by the array task of"
    " Slurm, LSF or SGE; auto/N: N parts, dealt out to its tasks.",
)
@click.option("--force", is_flag=True, help="Even if the machine or a day is likely too small.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, as `mcsim check`.")
def run(
    scenario: str,
    settings: dict[str, str],
    seed: str | None,
    engine: str | None,
    output: Path | None,
    threads: int | None,
    target: str | None,
    executor: str,
    workers: int | None,
    scheduler: str | None,
    resume: bool,
    checkpoint_every: float,
    shard: str | None,
    force: bool,
    dry_run: bool,
) -> None:
    """Simulate SCENARIO and write the result as NetCDF.

    A signal (Ctrl-C, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP) ends the run with exit code 85 and a
    checkpoint beside the result, from which --resume goes on.
    """
    from mcsim.cli.session import Session

    session = None if dry_run else Session(checkpoint_every)
    asked = scenario_of(scenario, settings, seed, engine)
    if session is None:
        _explain(asked, threads, output)
        return
    from mcsim.batch import anywhere, require_target
    from mcsim.cli.executors import hands
    from mcsim.cli.running import path_of, run_into
    from mcsim.cli.shards import shards
    from mcsim.model.estimate import before_running

    target = target or asked.run.target
    asked = anywhere(asked)
    if executor == EXECUTORS[0]:
        as_usage(require_target, target)
    parts = [None] if shard is None else shards(shard, os.environ)
    paths = [path_of(output, asked, part) for part in parts]
    if len(set(paths)) < len(paths):
        raise click.UsageError("several shards need {shard} in the name of --output")
    for path in paths:
        require_free(path, "run", "part")
    for remark in before_running(asked):
        say(f"note: {remark}")
    with ExitStack() as stack:
        who = as_usage(stack.enter_context, hands(executor, workers, scheduler, threads))
        if who.helps:
            return
        session.exit_by(who.exit)
        if not force:
            _require_room(asked, paths, who, 1 if parts[0] is None else parts[0].of)
        for part, path in zip(parts, paths, strict=True):
            run_into(path, asked, part, session, who, resume=resume, target=target)


def _require_room(scenario: Scenario, paths: list[Path], who: Hands, shards: int) -> None:
    from mcsim.batch import threads_of

    threads = threads_of(who.executor, who.threads)
    refuse_beyond(scenario, threads, directory(paths[0]), shards / len(paths), who.workers)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Result file.")
@click.option("--partial", is_flag=True, help="Also where parts are missing, to be merged later.")
def merge(files: tuple[Path, ...], output: Path, partial: bool) -> None:
    """Join the parts of a run, or of a sweep, in any order, into the result of the whole.

    FILES are what `mcsim run --shard`, or `mcsim sweep --shard`, wrote, or other merges. They have
    to be of one run, of which nothing may be there twice; the result has the bits of a run that was
    not divided.
    """
    from mcsim.results import (
        is_part_of_sweep,
        label,
        only_writer,
        summarise,
        write,
    )

    if is_part_of_sweep(files[0]):
        from mcsim.cli.sweep_files import merge_sweeps

        merge_sweeps(files, output, partial=partial)
        return
    require_free(output, "run", "part")
    with only_writer(output):
        whole = as_usage(_merged, files, partial)
        dataset = label(whole)
        write(dataset, output, whole)
    say(f"wrote {output}")
    click.echo(summarise(dataset))


def _merged(files: tuple[Path, ...], partial: bool) -> Part:
    """The parts joined; where that fails, and a file is no part of a run at all, that is said."""
    from mcsim.api import open as open_result
    from mcsim.batch import merge
    from mcsim.results import kind_of

    try:
        return merge(files, partial=partial)
    except McsimError:
        for file in files:
            with suppress(McsimError), open_result(file) as there:
                kind = kind_of(there)
                if kind not in ("run", "part"):
                    message = f"mcsim: {file}: is the result of {named(kind)}, no part of a run"
                    raise Failure(message, USAGE) from None
        raise


@main.command()
@scenario_options
@click.option("--threads", type=click.IntRange(min=1, max=4096), help="Assume so many threads.")
def check(
    scenario: str,
    settings: dict[str, str],
    seed: str | None,
    engine: str | None,
    threads: int | None,
) -> None:
    """Say what SCENARIO means and what it would cost, without running it."""
    _explain(scenario_of(scenario, settings, seed, engine), threads)


def _explain(scenario: Scenario, threads: int | None, output: Path | None = None) -> None:
    from mcsim.model import lower
    from mcsim.model.estimate import explain
    from mcsim.model.limits import beyond
    from mcsim.threads import available_threads

    click.echo(explain(scenario, threads))
    for excess in beyond(lower(scenario), threads or available_threads(), directory(output)):
        click.echo(f"too large: {excess}")


@main.command()
def warmup() -> None:
    """Compile all kernels into the cache, so that no later run has to."""
    import time

    from mcsim.api import warm_up

    start = time.perf_counter()
    compiled, place = warm_up()
    seconds = time.perf_counter() - start
    if place is None:
        say(
            "mcsim: no directory for compiled kernels can be written: each process compiles for"
            f" itself ({seconds:.1f} s); set MCSIM_CACHE_DIR"
        )
        raise click.exceptions.Exit(FAILED)
    chosen = os.environ.get("MCSIM_CACHE_DIR")
    if chosen and place.parent != Path(chosen):
        say(f"mcsim: MCSIM_CACHE_DIR={chosen} cannot be written safely; not used")
    click.echo(f"{compiled} kernels ready in {place} ({seconds:.1f} s)")


@main.command()
@click.argument("collective")
@click.option(
    "--payload",
    metavar="DATA",
    required=True,
    callback=quantities.quantity("data"),
    help="What is reduced, gathered or sent, as 1GB.",
)
@click.option("--ranks", metavar="N", callback=quantities.ranks, help="How many take part.")
@click.option(
    "--latency", metavar="TIME", callback=quantities.quantity("time"), help="Of a message, as 5us."
)
@click.option(
    "--bandwidth",
    metavar="RATE",
    callback=quantities.quantity("rate"),
    help="Of a rank, as 50GB/s.",
)
@click.option(
    "--level",
    "levels",
    metavar="RANKS,LATENCY,BANDWIDTH",
    multiple=True,
    callback=quantities.levels,
    help="Instead of these three: one level of a hierarchy, as 8,1us,450GB/s. Repeated, from the"
    " innermost outwards.",
)
@click.option("--algorithm", metavar="NAME", help="Only this one; of a hierarchy, at every level.")
def collective(
    collective: str,
    payload: float,
    ranks: int | None,
    latency: float | None,
    bandwidth: float | None,
    levels: list[tuple[int, float, float]],
    algorithm: str | None,
) -> None:
    """Say what a collective takes, by each algorithm or level by level.

    COLLECTIVE is all-reduce, reduce-scatter, all-gather, all-to-all or broadcast. Nothing is
    sampled: the formulas of the rounds of messages and of their volume.
    """
    flat = (ranks, latency, bandwidth)
    if levels and flat != (None, None, None):
        raise click.UsageError("give either --level or --ranks, --latency and --bandwidth")
    if not levels and None in flat:
        raise click.UsageError("give --ranks, --latency and --bandwidth, or --level")
    from mcsim.cli.collective import among_all, level_by_level
    from mcsim.model.collectives import Level

    if ranks is not None and latency is not None and bandwidth is not None:
        click.echo(among_all(collective, algorithm, Level(ranks, latency, bandwidth), payload))
    else:
        hierarchy = [Level(*level) for level in levels]
        click.echo(level_by_level(collective, algorithm, hierarchy, payload))


@main.command("list")
@click.argument("what", required=False, type=click.Choice(_LISTS))
def list_(what: str | None) -> None:
    """List scenarios, devices, laws, disturbances, remedies, prices, keys and more; or all these.

    And targets, by name only: where devices can be sampled on this machine.
    """
    from mcsim.cli import listing

    wanted = [name for name in _LISTS if name != "targets"] if what is None else [what]
    parts = [getattr(listing, name)() for name in wanted]
    click.echo("\n\n".join(parts))
