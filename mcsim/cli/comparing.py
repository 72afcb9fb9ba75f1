"""`mcsim compare`: what each remedy returns."""

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
@click.option(
    "--remedy",
    "remedies",
    multiple=True,
    metavar="NAME",
    help="One of `mcsim list remedies`; several joined by +, as shares-by-device+local-sgd; or new"
    " values of keys, as 'sync.policy=local-sgd;sync.inner_steps=4'. May be repeated.",
)
@click.option(
    "--all", "everything", is_flag=True, help="All that apply, and some together; the default."
)
def compare(
    scenario: str,
    settings: dict[str, str],
    seed: str | None,
    engine: str | None,
    remedies: tuple[str, ...],
    everything: bool,
    output: Path | None,
    threads: int | None,
    force: bool,
) -> None:
    """Say what each remedy of lost time returns in SCENARIO, on the same drawn clusters."""
    if everything and remedies:
        raise click.UsageError("give either --all or --remedy")
    from mcsim.api import compare as compare_remedies
    from mcsim.cli.progress import ProgressLine
    from mcsim.results import summarise
    from mcsim.study import applicable, sampled
    from mcsim.threads import available_threads

    asked = scenario_of(scenario, settings, seed, engine)
    require_free(output, "comparison")
    names = list(remedies) or list(applicable(asked))
    if not force:
        each = 1 / (len(names) + 1)
        plain = sampled(asked, "compare")
        refuse_beyond(plain, threads or available_threads(), directory(output), each, 0)
    with ProgressLine(sys.stderr, "remedies") as progress:
        dataset = compare_remedies(asked, names, threads=threads, progress=progress.update)
    give(dataset, output)
    click.echo(summarise(dataset))
