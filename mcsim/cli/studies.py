"""The commands of studies: many runs, one question."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mcsim.cli.asking import (
    as_usage,
    directory,
    refuse_beyond,
    require_own_kind,
    scenario_of,
    scenario_options,
)
from mcsim.cli.comparing import compare
from mcsim.cli.saying import say
from mcsim.cli.sweeping import sweep
from mcsim.cli.verdicts import verdict


@click.command()
@scenario_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write it as NetCDF.")
@click.option("--threads", type=click.IntRange(min=1, max=4096), help="Default: all.")
@click.option("--force", is_flag=True, help="Even if a day is likely too small.")
def explain(
    scenario: str,
    settings: dict[str, str],
    seed: str | None,
    engine: str | None,
    output: Path | None,
    threads: int | None,
    force: bool,
) -> None:
    """Say what each cause of lost time costs in SCENARIO.

    The same clusters and steps are sampled with every set of causes of the devices, on the
    processor, whatever run.keep says; what is done is lost where it is interrupted.
    """
    from mcsim.api import explain as explain_scenario
    from mcsim.cli.progress import ProgressLine
    from mcsim.model.causes import Disturbances
    from mcsim.results import check_output, summarise, write
    from mcsim.study import sampled
    from mcsim.threads import available_threads

    asked = scenario_of(scenario, settings, seed, engine)
    if output is not None:
        as_usage(check_output, output)
        require_own_kind(output, "explanation")
    if not force:
        causes = Disturbances(asked)
        # Where each device is a replica, who is last does not depend on the network.
        divided = causes.of_network if causes.plan.division else ()
        sets = 2 ** len((*causes.of_devices, *divided))
        plain = sampled(asked, "explain")
        refuse_beyond(plain, threads or available_threads(), directory(output), 1 / sets, 0)
    with ProgressLine(sys.stderr, "tasks") as progress:
        dataset = explain_scenario(asked, threads=threads, progress=progress.update)
    if output is not None:
        write(dataset, output)
        say(f"wrote {output}")
    click.echo(summarise(dataset))


STUDIES = (explain, compare, sweep, verdict)
