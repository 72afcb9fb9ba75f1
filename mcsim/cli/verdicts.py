"""`mcsim verdict`: training or inference."""

from __future__ import annotations

import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mcsim.cli.asking import (
    directory,
    give,
    refuse_beyond,
    require_free,
    scenario_of,
    study_options,
)
from mcsim.cli.saying import say
from mcsim.errors import SelfCheckWarning

if TYPE_CHECKING:
    import xarray as xr

    from mcsim.scenario import Scenario


@click.command()
@study_options
@click.option("--sources", is_flag=True, help="Also say what each figure follows from.")
@click.option(
    "--remedy",
    "remedies",
    multiple=True,
    metavar="NAME",
    help="Also what it changes in training, as in `mcsim compare`. May be repeated.",
)
def verdict(
    scenario: str,
    settings: dict[str, str],
    seed: str | None,
    engine: str | None,
    output: Path | None,
    threads: int | None,
    sources: bool,
    remedies: tuple[str, ...],
    force: bool,
) -> None:
    """Say what SCENARIO's fleet is worth as a trainer and as an inference service.

    The same drawn devices train in step and serve in independent replicas. Keys: [inference],
    [power], [prices] and [verdict] of the scenario. Of a result that is given without options that
    change it, the steps are not sampled again.
    """
    from mcsim.api import run
    from mcsim.api import verdict as judge
    from mcsim.cli.progress import ProgressLine
    from mcsim.model import lower
    from mcsim.model.economics import cost_of
    from mcsim.model.replicas import service_of
    from mcsim.results.story import summarise_verdict
    from mcsim.study import require_remedies
    from mcsim.threads import available_threads

    asked = scenario_of(scenario, settings, seed, engine)
    # What is not known is said before anything is sampled.
    service_of(asked, lower(asked))
    cost_of(asked)
    if remedies:
        require_remedies(asked, remedies)
    require_free(output, "verdict")
    with ExitStack() as stack:
        said = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always", SelfCheckWarning)
        trained = _trained(stack, Path(scenario), asked)
        if trained is None:
            if not force:
                refuse_beyond(asked, threads or available_threads(), directory(output), 1, 0)
            with ProgressLine(sys.stderr) as progress:
                trained = run(asked, threads=threads, progress=progress.update)
        with ProgressLine(sys.stderr, "clusters") as progress:
            dataset = judge(
                asked,
                trained=trained,
                remedies=remedies,
                threads=threads,
                progress=progress.update,
            )
    give(dataset, output)
    click.echo("\n\n".join(map(str, summarise_verdict(dataset, sources=sources))))
    for warning in said:
        if issubclass(warning.category, SelfCheckWarning):
            say(f"\nWARNING: {warning.message}; do not trust this result")


def _trained(stack: ExitStack, path: Path, asked: Scenario) -> xr.Dataset | None:
    """The result of this scenario's run, if that is what is asked about."""
    from mcsim.api import open as open_result
    from mcsim.signature import is_netcdf

    if not path.is_file() or not is_netcdf(path):
        return None
    there = stack.enter_context(open_result(path))
    whole = "device_time_mean" in there
    return there if whole and there.attrs["scenario_hash"] == asked.hash else None
