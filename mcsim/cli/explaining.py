"""`mcsim explain`: what each cause of lost time costs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mcsim.cli.asking import (
    directory,
    give,
    refuse_beyond,
    require_free,
    scenario_of,
    study_options,
)


@click.command()
@study_options
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
    from mcsim.results import summarise
    from mcsim.study import sampled
    from mcsim.threads import available_threads

    asked = scenario_of(scenario, settings, seed, engine)
    require_free(output, "explanation")
    if not force:
        causes = Disturbances(asked)
        # Where each device is a replica, who is last does not depend on the network.
        divided = causes.of_network if causes.plan.division else ()
        sets = 2 ** len((*causes.of_devices, *divided))
        plain = sampled(asked, "explain")
        refuse_beyond(plain, threads or available_threads(), directory(output), 1 / sets, 0)
    with ProgressLine(sys.stderr, "tasks") as progress:
        dataset = explain_scenario(asked, threads=threads, progress=progress.update)
    give(dataset, output)
    click.echo(summarise(dataset))
